//! The port for records: small values under keys, with compare-and-set and atomic batches.
//!
//! Contract:
//! - A commit is all or nothing, durable when it returns, and visible to every later read.
//! - Every change of a record gives it a revision that is higher than any before in the whole store.
//! - `expect` is checked for every write of a batch before any is applied.
//! - Messages and dead letters of a batch come into the queue in the same transaction as its writes.
//! - A record may have a time at which it goes. It is there until it is swept ([`Records::expire`]); a put gives it a new
//!   time, or none.

use std::fmt;

use alula_model::Timestamp;
use bytes::Bytes;

use crate::message::{NewDeadLetter, NewMessage};
use crate::{BoxFuture, Error, Result};

/// Longest key, in bytes: names of objects have up to 1024, each of which may take two here. What one page of PostgreSQL's
/// index holds is just above it.
pub const KEY_BYTES_MAX: usize = 2_304;
/// Largest value, in bytes: records are small, bodies go to the packages.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Writes, messages and dead letters in one batch.
pub const BATCH_LEN_MAX: usize = 1_000;
/// Records that one scan returns at the most.
pub const SCAN_LEN_MAX: usize = 1_000;
/// Records that one sweep removes at the most, so that it delays nobody for long.
pub const EXPIRE_LEN_MAX: usize = 1_000;

/// A record's key: segments joined by `/`, ordered by bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// A key of these segments. A segment must not hold `/`: names cannot, numbers are zero-padded by the caller.
    #[must_use]
    pub fn new(segments: &[&str]) -> Self {
        debug_assert!(segments.iter().all(|segment| !segment.contains('/')), "a segment holds a slash");
        Self(segments.join("/"))
    }

    /// A key read back from a store.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether this key is `prefix` or continues it by whole segments.
    pub(crate) fn begins_with(&self, prefix: &Self) -> bool {
        prefix.0.is_empty()
            || self.0.strip_prefix(&prefix.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Orders all changes of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u64);

/// A stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: Key,
    /// Its value.
    pub value: Bytes,
    /// When it was last changed.
    pub revision: Revision,
}

/// Which state a write requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Any.
    Any,
    /// The record is not there.
    Absent,
    /// The record is there and was last changed at this revision.
    At(Revision),
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which record.
    pub key: Key,
    /// Its new value, or `None` to delete it.
    pub value: Option<Bytes>,
    /// The state that is required.
    pub expect: Expect,
    /// When it goes by itself; never, if `None`.
    pub expires_at: Option<Timestamp>,
}

/// Changes that happen together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Changes of records.
    pub writes: Vec<Write>,
    /// Messages to enqueue.
    pub messages: Vec<NewMessage>,
    /// Messages that are dead from the start.
    pub dead_letters: Vec<NewDeadLetter>,
}

impl Batch {
    /// Adds a put of a record that stays.
    #[must_use]
    pub fn put(mut self, key: Key, value: impl Into<Bytes>, expect: Expect) -> Self {
        self.writes.push(Write { key, value: Some(value.into()), expect, expires_at: None });
        self
    }

    /// Adds a put of a record that goes at `expires_at`.
    #[must_use]
    pub fn put_until(
        mut self,
        key: Key,
        value: impl Into<Bytes>,
        expect: Expect,
        expires_at: Timestamp,
    ) -> Self {
        self.writes.push(Write { key, value: Some(value.into()), expect, expires_at: Some(expires_at) });
        self
    }

    /// Adds a delete.
    #[must_use]
    pub fn delete(mut self, key: Key, expect: Expect) -> Self {
        self.writes.push(Write { key, value: None, expect, expires_at: None });
        self
    }

    /// Adds a message.
    #[must_use]
    pub fn enqueue(mut self, message: NewMessage) -> Self {
        self.messages.push(message);
        self
    }

    /// Adds a message that is dead from the start.
    #[must_use]
    pub fn bury(mut self, letter: NewDeadLetter) -> Self {
        self.dead_letters.push(letter);
        self
    }

    /// Refuses a batch that is over a limit of the port: every back end asks this first.
    pub(crate) fn check_limits(&self) -> Result<()> {
        let length = self.writes.len() + self.messages.len() + self.dead_letters.len();
        within("the number of changes in one batch", length, BATCH_LEN_MAX)?;
        for write in &self.writes {
            check_text("the length of a key", write.key.as_str())?;
            within("the size of a value", write.value.as_ref().map_or(0, Bytes::len), VALUE_BYTES_MAX)?;
        }
        self.messages.iter().try_for_each(NewMessage::check_limits)?;
        self.dead_letters.iter().try_for_each(NewDeadLetter::check_limits)
    }
}

/// Refuses a key, an id or a lane that a back end could not hold.
pub(crate) fn check_text(what: &'static str, text: &str) -> Result<()> {
    if text.is_empty() || text.contains('\0') {
        return Err(Error::Malformed { text: text.to_owned() });
    }
    within(what, text.len(), KEY_BYTES_MAX)
}

pub(crate) fn within(what: &'static str, value: usize, limit: usize) -> Result<()> {
    if value <= limit {
        return Ok(());
    }
    Err(Error::TooLarge { what, value: value as u64, limit: limit as u64 })
}

/// What a commit gave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The revision that every write of the batch got.
    pub revision: Revision,
}

/// Small values under keys.
pub trait Records: Send + Sync + fmt::Debug {
    /// The record under `key`.
    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Record>>>;

    /// Records whose keys begin with `prefix` (whole segments; every key begins with the empty prefix) and come
    /// after `after`, in the order of their keys, `limit` at the most (itself at most [`SCAN_LEN_MAX`]).
    fn scan(&self, prefix: &Key, after: Option<&Key>, limit: usize) -> BoxFuture<'_, Result<Vec<Record>>>;

    /// Applies a batch.
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed>>;

    /// Removes records whose time has come by `now`, those first whose time came first, `limit` at the most (itself at
    /// most [`EXPIRE_LEN_MAX`]). Returns how many.
    fn expire(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64>>;
}
