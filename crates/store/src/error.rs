//! What can go wrong in a store.

use crate::records::Key;

/// An operation of a port failed. Nothing of a failed commit is visible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A record is not in the state that the batch expected. Read again and decide anew.
    #[error("record {key} was changed by somebody else")]
    Conflict {
        /// The record.
        key: Key,
    },
    /// The receipt is not that of the present claim: its lease ran out and somebody else took the message, or it
    /// is settled already. Whatever the caller did must not be recorded as this message's outcome.
    #[error("the claim is no longer held")]
    ClaimLost,
    /// What was asked for is not there.
    #[error("{what} is not in the store")]
    NotFound {
        /// What.
        what: String,
    },
    /// The content's digest is not the one that was announced.
    #[error("the content does not match its digest")]
    DigestMismatch,
    /// A message with an ordering key was to be moved out of its lane, where others may wait behind it.
    #[error("message {id} has an ordering key and keeps its lane")]
    KeepsLane {
        /// The message.
        id: String,
    },
    /// A key, an id or a lane is empty or holds a zero character, which not every back end can keep.
    #[error("{text:?} is empty or holds a zero character")]
    Malformed {
        /// The key, id or lane.
        text: String,
    },
    /// Over a limit of the store.
    #[error("{what} is {value}, at most {limit} are allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The disk is full. Nothing was changed; a retry is safe once there is room.
    #[error("no space is left for the store")]
    Full,
    /// The data was written by a newer version of the platform.
    #[error(
        "the data directory has format {found}, this binary knows formats up to {known}: use the newer binary"
    )]
    TooNew {
        /// The format found.
        found: u32,
        /// The newest format that this binary knows.
        known: u32,
    },
    /// Another process has opened the same data directory.
    #[error("the data directory {path} is in use by another process")]
    InUse {
        /// The directory.
        path: String,
    },
    /// What is stored cannot be read.
    #[error("the store is damaged: {detail}")]
    Damaged {
        /// What was found, for the log.
        detail: String,
    },
    /// The store does not answer. Nothing is known about the outcome.
    #[error("the store does not answer: {detail}")]
    Unavailable {
        /// What the back end said, for the log.
        detail: String,
    },
}

impl Error {
    /// Whether the same operation may succeed when tried again unchanged.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Full | Self::Unavailable { .. })
    }

    /// An error of the file system: a full disk is [`Error::Full`], all else leaves the outcome unknown.
    pub(crate) fn from_io(doing: &str, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Unavailable { detail: format!("{doing}: {error}") },
        }
    }
}
