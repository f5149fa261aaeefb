//! What buckets need from others, besides those who are told of changes ([`Announce`](crate::Announce)).

use std::fmt;

use alula_control::Control;
use alula_model::AuditEntry;
use alula_store::Batch;

/// Keeps the record of who did what.
pub trait Audit: Send + Sync + fmt::Debug {
    /// Adds `entry` to a batch that changes what it tells of, so that both are there or neither.
    fn audited(&self, batch: Batch, entry: &AuditEntry) -> Batch;
}

impl Audit for Control {
    fn audited(&self, batch: Batch, entry: &AuditEntry) -> Batch {
        Self::audited(self, batch, entry)
    }
}

/// Is told what happens to buckets. Must not block.
pub trait Observe: Send + Sync + fmt::Debug {
    /// A request of an S3 client was answered with this HTTP status.
    fn answered(&self, _method: &str, _status: u16) {}

    /// So many bytes of a content came.
    fn received(&self, _bytes: u64) {}

    /// So many bytes of a content went out.
    fn sent(&self, _bytes: u64) {}

    /// A change of an object, `put` or `delete`, made so many calls.
    fn told(&self, _change: &'static str, _calls: usize) {}
}

/// Keeps nothing and counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Audit for Nobody {
    fn audited(&self, batch: Batch, _entry: &AuditEntry) -> Batch {
        batch
    }
}

impl Observe for Nobody {}
