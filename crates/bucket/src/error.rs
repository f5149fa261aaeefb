//! What can go wrong with buckets.

use alula_model::Fault;

/// An operation on a bucket failed; nothing of it is visible.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace has no bucket of this name.
    #[error("there is no bucket {0:?}")]
    NoSuchBucket(String),
    /// The namespace has a bucket of this name.
    #[error("there is a bucket {0:?} already")]
    BucketExists(String),
    /// The bucket still holds objects or open uploads.
    #[error("bucket {0:?} is not empty: delete its objects and abort its open uploads first")]
    BucketNotEmpty(String),
    /// The bucket has no object under this key.
    #[error("there is no object {0:?}")]
    NoSuchKey(String),
    /// There is no upload of this id.
    #[error("there is no upload {0:?}: it was completed or aborted, or went after a week")]
    NoSuchUpload(String),
    /// A part that is to be completed is not there, or is another one.
    #[error("part {0} was not uploaded, or its ETag is another one")]
    InvalidPart(u16),
    /// The parts are not in ascending order.
    #[error("the parts are not in ascending order")]
    PartOrder,
    /// A part that is not the last is too small.
    #[error("part {0} has under five megabytes and is not the last")]
    PartTooSmall(u16),
    /// A condition of the request does not hold.
    #[error("the condition {0} does not hold")]
    Precondition(&'static str),
    /// The reader has what it asks for already.
    #[error("the object was not changed")]
    NotModified,
    /// The object ends before the range begins.
    #[error("the object has {bytes} bytes and no such range")]
    Range {
        /// The object's size.
        bytes: u64,
    },
    /// Over a limit.
    #[error("{what} is {value}, at most {limit} are allowed{remedy}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size.
        value: u64,
        /// What is allowed.
        limit: u64,
        /// How it is changed; empty where it cannot be.
        remedy: &'static str,
    },
    /// What arrived is not what the client's checksum says.
    #[error("what arrived does not match {0}")]
    Checksum(&'static str),
    /// The content is not as long as the request says.
    #[error("the content is not as long as the request says")]
    Length,
    /// The body ended early.
    #[error("the content ended before it was whole")]
    Incomplete(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A function that is to be called cannot be; the change was not made.
    #[error("the change cannot make the calls that it calls for: {0}")]
    Refused(#[source] Fault),
    /// Somebody else changes the same thing again and again.
    #[error("others changed the same thing at the same time")]
    Contended,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] alula_store::Error),
    /// The disk failed.
    #[error("the disk failed")]
    Disk(#[from] std::io::Error),
}
