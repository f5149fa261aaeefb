//! What buckets need from others, besides those who are told of changes ([`Announce`](crate::Announce)).

use std::fmt;

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

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Observe for Nobody {}
