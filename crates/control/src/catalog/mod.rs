//! The catalog: everything the data plane must know, in one immutable snapshot that is swapped whole.
//!
//! Readers load a snapshot and see one consistent state for as long as they hold it; nothing they do waits for the
//! store or for a deploy. The only writer is the ledger's owner, after its batch is durable.

mod entry;
mod routes;
mod snapshot;

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

pub use entry::{FunctionEntry, PublishedVersion};
pub use routes::RouteMatch;
pub(crate) use routes::{RouteTable, Taken};
pub(crate) use snapshot::EntryChange;
pub use snapshot::Snapshot;

/// The present state. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: ArcSwap<Snapshot>,
    generation: watch::Sender<u64>,
}

impl Catalog {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        let (generation, _) = watch::channel(0);
        Self { shared: Arc::new(Shared { current: ArcSwap::from_pointee(snapshot), generation }) }
    }

    /// The present snapshot. Hold it for one decision, not for the length of a call.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.shared.current.load()
    }

    /// The present snapshot, to be held for longer.
    pub(crate) fn load_full(&self) -> Arc<Snapshot> {
        self.shared.current.load_full()
    }

    /// Tells of every change: the number of swaps so far.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Puts `snapshot` in force.
    pub(crate) fn swap(&self, snapshot: Snapshot) {
        self.shared.current.store(Arc::new(snapshot));
        self.shared.generation.send_modify(|generation| *generation += 1);
    }
}
