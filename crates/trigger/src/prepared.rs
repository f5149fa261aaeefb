//! A call on its way into the queue, for sources that commit it with a record of their own.

use std::fmt;

use alula_store::Batch;

/// A call that was checked and is to be committed with the record of whoever makes it.
pub struct Prepared {
    /// The message, and whatever belongs to it.
    pub batch: Batch,
    /// To be called when the batch is committed.
    pub committed: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("batch", &self.batch).finish_non_exhaustive()
    }
}
