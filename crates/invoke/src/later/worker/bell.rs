//! The bell: who makes work rings it, the worker listens.
//!
//! It keeps one moment for each lane, so that a million rings cost no more than the lanes that they are for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use alula_model::Timestamp;
use tokio::sync::Notify;

use crate::later::Lane;

/// Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bell {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    rung: Mutex<HashMap<Lane, Timestamp>>,
    notify: Notify,
}

impl Bell {
    /// A message of `lane` may be claimed from `at` on.
    pub(crate) fn ring(&self, lane: Lane, at: Timestamp) {
        let mut rung = self.shared.rung.lock().unwrap_or_else(PoisonError::into_inner);
        rung.entry(lane).and_modify(|earlier| *earlier = at.min(*earlier)).or_insert(at);
        drop(rung);
        self.shared.notify.notify_one();
    }

    /// Waits until it has been rung.
    pub(crate) async fn wait(&self) {
        self.shared.notify.notified().await;
    }

    /// What it was rung for.
    pub(crate) fn take(&self) -> HashMap<Lane, Timestamp> {
        std::mem::take(&mut *self.shared.rung.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
