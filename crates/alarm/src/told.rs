//! What is told rather than measured: parts of the platform that know of a change the moment it happens say so here, and it
//! holds until they say otherwise.
//!
//! A circuit breaker, for one, tells of every transition:
//!
//! ```
//! # use alula_alarm::{Subject, Told};
//! # use alula_model::{Name, alarm::Signal};
//! # let (namespace, function) = (Name::default_namespace(), Name::new("hello").unwrap());
//! let told = Told::default();
//! let subject = Subject::function(&namespace, &function).part("version 3");
//! told.set(Signal::BreakerOpen, subject.clone(), 1.0, "closed -> open: 80 % of 50 calls failed");
//! told.clear(Signal::BreakerOpen, &subject);
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::alarm::Signal;

use crate::sample::{Sample, Subject};

/// Figures that hold at once; further ones are not taken.
const HELD_MAX: usize = 10_000;

/// Figures with a word on how they came to be.
type Held = HashMap<(Signal, Subject), (f64, String)>;

/// Takes figures. Cheap to clone; all clones are the same. Never blocks for longer than it takes to note one.
#[derive(Debug, Clone, Default)]
pub struct Told {
    held: Arc<Mutex<Held>>,
}

impl Told {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the figure is `value`.
    pub fn set(&self, signal: Signal, subject: Subject, value: f64, detail: &str) {
        let mut held = self.held();
        let key = (signal, subject);
        if held.len() < HELD_MAX || held.contains_key(&key) {
            held.insert(key, (value, detail.to_owned()));
        }
    }

    /// There is nothing to tell any more.
    pub fn clear(&self, signal: Signal, subject: &Subject) {
        self.held().remove(&(signal, subject.clone()));
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        let held = self.held();
        let sample = |((signal, subject), (value, detail)): (&(Signal, Subject), &(f64, String))| {
            Sample::new(*signal, subject.clone(), *value).with(detail.as_str())
        };
        held.iter().map(sample).collect()
    }
}
