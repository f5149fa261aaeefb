//! When a key was used last: noted in memory with every use, stored now and then.

use std::sync::atomic::{AtomicI64, Ordering};

use alula_model::Timestamp;

/// Never used.
const NEVER: i64 = i64::MIN;

/// One key's last use. What a crash takes is at most the time between two savings.
#[derive(Debug)]
pub(crate) struct LastUse {
    at: AtomicI64,
    saved: AtomicI64,
}

impl LastUse {
    pub(crate) const fn stored(at: Option<Timestamp>) -> Self {
        let at = match at {
            Some(at) => at.0,
            None => NEVER,
        };
        Self { at: AtomicI64::new(at), saved: AtomicI64::new(at) }
    }

    pub(crate) fn note(&self, now: Timestamp) {
        self.at.fetch_max(now.0, Ordering::Relaxed);
    }

    pub(crate) fn at(&self) -> Option<Timestamp> {
        Some(self.at.load(Ordering::Relaxed)).filter(|at| *at != NEVER).map(Timestamp)
    }

    /// What is to be stored, where that has changed.
    pub(crate) fn unsaved(&self) -> Option<Timestamp> {
        self.at().filter(|at| at.0 != self.saved.load(Ordering::Relaxed))
    }

    pub(crate) fn saved(&self, at: Timestamp) {
        self.saved.store(at.0, Ordering::Relaxed);
    }
}
