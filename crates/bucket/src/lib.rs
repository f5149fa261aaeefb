//! Buckets inside the platform: objects by key, an S3-compatible endpoint, and calls of functions when objects change.
//!
//! ```text
//! s3        the endpoint: requests of S3 clients, their signatures, its listener
//!   |
//! Buckets   buckets, objects, uploads in parts, access keys
//!   |- contents   bytes on the disk, streamed in and out; what nobody refers to any more goes
//!   |- records    what is known of an object; its key is encoded so that keys sort as S3 sorts them
//!   `- announce   the functions that want to know of a change
//! ```
//!
//! An object is a record and a content. The content comes first and is durable before the record names it; the messages
//! that call functions are committed with the record, so that there is no change without its event and no event without
//! its change. A content belongs to one object and is never changed, so a reader needs no lock.
//!
//! Deliberately absent: versions of objects, policies and access lists (a key reaches all buckets of its namespace),
//! encryption at rest, and running functions (`alula-invoke`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod access;
mod announce;
mod buckets;
mod contents;
mod error;
mod event;
mod key;
mod listing;
mod multipart;
mod objects;
mod options;
mod ports;
mod record;
mod s3;
mod sweep;

pub use access::{AccessKey, NewAccessKey};
pub use announce::{Announce, Change, Silent, Subscribers};
pub use buckets::{BucketInfo, Buckets, Parts};
pub use error::Error;
pub use options::Options;
pub use ports::{Nobody, Observe};
pub use s3::{BoxError, Insider, Service, serve};

/// A boxed future that may cross threads: what the object-safe ports return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
/// What every operation on buckets returns.
pub type Result<T> = std::result::Result<T, Error>;
