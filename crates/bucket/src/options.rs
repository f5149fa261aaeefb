//! Limits and settings of buckets.

use serde::{Deserialize, Serialize};

/// What the operator sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Largest object, in bytes.
    pub object_bytes_max: u64,
    /// Buckets of one namespace.
    pub buckets_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // Far above what one machine's functions work with, and below what fills its disk by one slip.
            object_bytes_max: 100 * 1024 * 1024 * 1024,
            // What S3 gives to a new account.
            buckets_max: 100,
        }
    }
}

/// Longest key of an object, in bytes of UTF-8 (S3's).
pub(crate) const KEY_BYTES_MAX: usize = 1024;
/// User metadata of one object, names and values together, in bytes (S3's).
pub(crate) const METADATA_BYTES_MAX: usize = 2 * 1024;
/// What one request may bring as content, in bytes: one put or one part (S3's).
pub(crate) const CONTENT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// Smallest part that is not the last, in bytes (S3's).
pub(crate) const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// Parts of one upload (S3's); they are listed in one record.
pub(crate) const PARTS_MAX: u16 = 10_000;
/// Uploads that are open in one bucket; a client that never finishes any would fill the disk.
pub(crate) const UPLOADS_MAX: usize = 1_000;
/// An upload that nobody finished goes after this long: a week, as is usual for clean-up rules of S3.
pub(crate) const UPLOAD_KEEP_MS: i64 = 7 * 86_400_000;
/// Entries of one page of a listing (S3's).
pub(crate) const PAGE_LEN_MAX: usize = 1_000;
/// Keys of one request that deletes several (S3's).
pub(crate) const DELETE_LEN_MAX: usize = 1_000;
/// Deletes of such a request that run at once: they share the store's next write to the disk.
pub(crate) const DELETES_AT_ONCE: usize = 32;
/// Calls that one change makes: each takes a message and a write of one batch.
pub(crate) const SUBSCRIBERS_MAX: usize = 400;
/// Access keys of one namespace.
pub(crate) const ACCESS_KEYS_MAX: usize = 100;
/// A commit that lost against another change of the same object is made anew this often.
pub(crate) const COMMITS_MAX: usize = 100;

/// A content that was stored and that no record names after this long belongs to nobody: its process has ended.
pub(crate) const UNNAMED_KEEP_MS: i64 = 3_600_000;
/// A content that was replaced or removed stays for so long, for those who are reading it.
pub(crate) const REMOVED_KEEP_MS: i64 = 60_000;
/// How often what nobody refers to is removed.
pub(crate) const SWEEP_INTERVAL: std::time::Duration = std::time::Duration::from_secs(30);

/// Connections to the endpoint at once; each holds half a megabyte of contents at the most.
pub(crate) const CONNECTIONS_MAX: usize = 512;
/// Time for the headers of a request.
pub(crate) const HEADER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// XML that a request may bring, in bytes: the longest list of keys to delete or parts to complete.
pub(crate) const XML_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a presigned address may hold, in seconds (S3's): a week.
pub(crate) const PRESIGNED_SECONDS_MAX: u64 = 7 * 86_400;
