//! Golden signals: how many calls succeeded, by whose fault the others failed, how long they took; per function, app,
//! namespace and for the node, over windows up to a day.
//!
//! ```text
//! run -> FunctionCounts (numbers that only grow) -> gather, every few seconds -> Windows of each subject -> who asks
//!                                                                             -> usage
//! ```
//!
//! A call touches the numbers of its function and nothing else. What apps and namespaces have done is the sum of what
//! their functions have. All of it is in memory: a restart begins anew, except for what objectives need, which is read
//! back from the usage that was kept.
//!
//! Deliberately absent: any judgement. Whether a figure is bad is decided by who asks.

mod counts;
mod ring;
mod tally;
mod windows;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use alula_model::alarm::Window;
use alula_model::{Clock, FunctionSpec, Name};

use crate::usage::{Ledger, Whose};
use counts::Seen;
pub use counts::{FunctionCounts, Terms};
pub use tally::{End, Kept, Tally};
pub use windows::Span;
use windows::Windows;

/// Functions with numbers of their own: a kilobyte each, and some more while they are called. Further ones are counted for
/// their namespace, as the function [`OTHER`].
pub const FUNCTIONS_MAX: usize = 16_384;
/// Stands for the functions beyond [`FUNCTIONS_MAX`]; no function can have this name.
pub const OTHER: &str = "_other";

/// What figures are of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// The node.
    Node,
    /// A namespace.
    Namespace(Name),
    /// An app of a namespace.
    App(Name, Name),
    /// A function of a namespace.
    Function(Name, Name),
}

/// Counts and tells. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Signals {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    functions: RwLock<Functions>,
    gathered: Mutex<Gathered>,
    ledger: Ledger,
}

/// The numbers by namespace and function.
#[derive(Debug, Default)]
struct Functions {
    counts: HashMap<Name, HashMap<Name, Arc<FunctionCounts>>>,
    others: HashMap<Name, Arc<FunctionCounts>>,
    length: usize,
    /// Made since the last gathering.
    new: Vec<Arc<FunctionCounts>>,
}

#[derive(Debug, Default)]
struct Gathered {
    tracked: Vec<(Arc<FunctionCounts>, Seen)>,
    windows: HashMap<Subject, Windows>,
}

impl Signals {
    /// Signals that have counted nothing yet; what was used goes to `ledger`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, ledger: Ledger) -> Self {
        let shared = Shared { clock, functions: RwLock::default(), gathered: Mutex::default(), ledger };
        Self { shared: Arc::new(shared) }
    }

    /// The numbers of a function whose version has this spec; to be asked for when a call begins.
    #[must_use]
    pub fn function(&self, namespace: &Name, name: &Name, spec: &FunctionSpec) -> Arc<FunctionCounts> {
        let functions = self.shared.functions.read().unwrap_or_else(PoisonError::into_inner);
        let known = functions.counts.get(namespace).and_then(|functions| functions.get(name));
        let known = known.filter(|counts| counts.is_of(spec.app.as_ref())).cloned();
        drop(functions);
        let counts = known.unwrap_or_else(|| self.add_function(namespace, name, spec.app.as_ref()));
        counts.notes_objective(spec.slo.is_some());
        counts
    }

    fn add_function(&self, namespace: &Name, name: &Name, app: Option<&Name>) -> Arc<FunctionCounts> {
        let mut functions = self.shared.functions.write().unwrap_or_else(PoisonError::into_inner);
        let Functions { counts, others, length, new } = &mut *functions;
        let of_namespace = counts.entry(namespace.clone()).or_default();
        let known = of_namespace.get(name);
        if let Some(same) = known.filter(|counts| counts.is_of(app)) {
            return Arc::clone(same);
        }
        if known.is_none() && *length >= FUNCTIONS_MAX {
            let make = || {
                let other = Arc::new(FunctionCounts::new(Whose::other(namespace)));
                new.push(Arc::clone(&other));
                other
            };
            return Arc::clone(others.entry(namespace.clone()).or_insert_with(make));
        }
        *length += usize::from(known.is_none());
        let whose = Whose { namespace: namespace.clone(), app: app.cloned(), function: Some(name.clone()) };
        let made = Arc::new(FunctionCounts::new(whose));
        new.push(Arc::clone(&made));
        of_namespace.insert(name.clone(), Arc::clone(&made));
        made
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.shared.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the windows and the ledger of usage up to now. To be called every few seconds; who asks for figures does so
    /// too.
    pub fn gather(&self) {
        drop(self.gathered_now());
    }

    fn gathered_now(&self) -> (MutexGuard<'_, Gathered>, i64) {
        let now = self.shared.clock.now();
        let mut gathered = self.gathered();
        let new =
            std::mem::take(&mut self.shared.functions.write().unwrap_or_else(PoisonError::into_inner).new);
        let Gathered { tracked, windows } = &mut *gathered;
        tracked.extend(new.into_iter().map(|counts| (counts, Seen::default())));
        for (counts, seen) in tracked {
            let Some((tally, used)) = counts.since(seen) else { continue };
            let kept = counts.has_objective().then(|| tally.kept());
            self.shared.ledger.add(now, &counts.whose, used, kept);
            for subject in counts.whose.subjects() {
                let is_function = matches!(subject, Subject::Function(..));
                let windows = windows.entry(subject).or_insert_with(Windows::new);
                if is_function && counts.has_objective() {
                    windows.keep_objective();
                }
                windows.add(now.as_millis(), &tally);
            }
        }
        (gathered, now.as_millis())
    }

    /// Forgets subjects about which nothing is known any more, and functions that nobody has called for as long.
    pub fn forget_quiet(&self) {
        let (mut gathered, now_ms) = self.gathered_now();
        gathered.windows.retain(|_, windows| !windows.is_empty(now_ms));
        let Gathered { tracked, windows } = &mut *gathered;
        let mut functions = self.shared.functions.write().unwrap_or_else(PoisonError::into_inner);
        let Functions { counts, length, .. } = &mut *functions;
        tracked.retain(|(one, _)| {
            let Some(function) = &one.whose.function else { return true };
            let Some(of_namespace) = counts.get_mut(&one.whose.namespace) else { return false };
            let is_current = of_namespace.get(function).is_some_and(|current| Arc::ptr_eq(current, one));
            // Held by the list, and by the map where it is the current one: by no running call.
            let is_held = Arc::strong_count(one) > 1 + usize::from(is_current);
            let subject = Subject::Function(one.whose.namespace.clone(), function.clone());
            if is_held || (is_current && windows.contains_key(&subject)) {
                return true;
            }
            if is_current {
                of_namespace.remove(function);
                *length -= 1;
            }
            false
        });
        counts.retain(|_, functions| !functions.is_empty());
    }

    /// What happened to a subject within a window; nothing where nothing is known of it.
    #[must_use]
    pub fn tally(&self, subject: &Subject, window: Window) -> Tally {
        let (gathered, now_ms) = self.gathered_now();
        gathered.windows.get(subject).map(|windows| windows.over(now_ms, window)).unwrap_or_default()
    }

    /// The same for every subject that `is_meant` of which anything happened, in no order.
    #[must_use]
    pub fn tallies(&self, window: Window, is_meant: impl Fn(&Subject) -> bool) -> Vec<(Subject, Tally)> {
        let (gathered, now_ms) = self.gathered_now();
        let meant = gathered.windows.iter().filter(|(subject, _)| is_meant(subject));
        let tallies = meant.map(|(subject, windows)| (subject.clone(), windows.over(now_ms, window)));
        tallies.filter(|(_, tally)| tally.calls() > 0).collect()
    }

    /// What an objective of a function is about, over each of these spans.
    #[must_use]
    pub fn kept(&self, namespace: &Name, function: &Name, spans: &[Span]) -> Vec<Kept> {
        let (gathered, now_ms) = self.gathered_now();
        let subject = Subject::Function(namespace.clone(), function.clone());
        let windows = gathered.windows.get(&subject);
        spans
            .iter()
            .map(|span| windows.map(|windows| windows.kept(now_ms, *span)).unwrap_or_default())
            .collect()
    }

    /// Takes in what an earlier process has counted for a function's objective in the hour of `at_ms`.
    pub fn remember(&self, namespace: &Name, function: &Name, at_ms: i64, kept: Kept) {
        let subject = Subject::Function(namespace.clone(), function.clone());
        self.gathered().windows.entry(subject).or_insert_with(Windows::new).remember(at_ms, kept);
    }

    /// Functions with numbers of their own.
    #[must_use]
    pub fn functions(&self) -> usize {
        self.shared.functions.read().unwrap_or_else(PoisonError::into_inner).length
    }
}

impl Whose {
    /// The subjects that a call counts for.
    fn subjects(&self) -> impl Iterator<Item = Subject> {
        let namespace = &self.namespace;
        let function = self.function.as_ref().map(|name| Subject::Function(namespace.clone(), name.clone()));
        let app = self.app.as_ref().map(|app| Subject::App(namespace.clone(), app.clone()));
        [Subject::Node, Subject::Namespace(namespace.clone())].into_iter().chain(app).chain(function)
    }
}
