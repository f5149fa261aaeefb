//! What lies in the queue: messages, claims of them, dead letters, and how large they may be.
//!
//! What may be done with them stands in `queue`. Deliberately absent: what a body or a trail means, which is the
//! callers' business.

use alula_model::Timestamp;
use bytes::Bytes;

use crate::records::{KEY_BYTES_MAX, check_text, within};
use crate::{Error, Result};

/// Largest message, in bytes: what is larger is put into the packages and referred to.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Longest trail of a message, in bytes: room for a few lines about each of some dozen attempts.
pub const TRAIL_BYTES_MAX: usize = 16 * 1024;
/// Longest reason of a dead letter, in bytes: a message and the start of a stack, which people read in lists.
pub const REASON_BYTES_MAX: usize = 16 * 1024;

/// Identifies a message. Chosen by the producer and unique: enqueuing an id that the queue holds, alive or dead, is
/// a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub String);

/// A message to enqueue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Its id.
    pub id: MessageId,
    /// The lane: messages of different lanes do not wait for each other.
    pub lane: String,
    /// Messages with the same ordering key run one after another.
    pub ordering_key: Option<String>,
    /// When it is enqueued, by the producer's clock.
    pub enqueued_at: Timestamp,
    /// From when on it may be claimed.
    pub available_at: Timestamp,
    /// The content.
    pub body: Bytes,
}

/// A message that is a dead letter from the start: what an outside source delivered and nobody could handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeadLetter {
    /// The message; it is dead since its `available_at`.
    pub message: NewMessage,
    /// How often it was tried before it came here.
    pub attempts: u32,
    /// Why it is dead; at most [`REASON_BYTES_MAX`] bytes.
    pub reason: String,
    /// What its attempts left behind; at most [`TRAIL_BYTES_MAX`] bytes.
    pub trail: Bytes,
}

/// Proves the right to settle a claimed message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The message.
    pub id: MessageId,
    /// Which claim of it this is; every claim has a number that was never given before.
    pub claim: u64,
}

/// A message taken for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Proves this claim.
    pub receipt: Receipt,
    /// The lane it came from.
    pub lane: String,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// How often it has been claimed, this one included and released ones not.
    pub attempt: u32,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// When the lease runs out.
    pub lease_until: Timestamp,
    /// What earlier attempts left behind.
    pub trail: Bytes,
    /// The content.
    pub body: Bytes,
}

/// What one claim took, and when it makes sense to ask again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// What was taken.
    pub claims: Vec<Claim>,
    /// When the next message of this lane may be claimed, were nothing to happen until then; past where there was more
    /// than the limit. A claimed message counts with the end of its lease. `None`: the lane is empty.
    pub next_ready_at: Option<Timestamp>,
}

/// What becomes of a claimed message. A trail takes the place of the one that the message had; it is at most
/// [`TRAIL_BYTES_MAX`] bytes long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It is done and goes.
    Done,
    /// It is to be claimed again; the attempt counts.
    Retry {
        /// From when on.
        available_at: Timestamp,
        /// The lane that it moves to, if it does. A message with an ordering key keeps its lane
        /// ([`Error::KeepsLane`]).
        lane: Option<String>,
        /// What its attempts left behind.
        trail: Bytes,
    },
    /// It is given back as if this claim had not been: the attempt does not count.
    Release {
        /// From when on it may be claimed.
        available_at: Timestamp,
        /// What its attempts left behind.
        trail: Bytes,
    },
    /// It is kept as a dead letter.
    Dead {
        /// Why; at most [`REASON_BYTES_MAX`] bytes.
        reason: String,
        /// What its attempts left behind.
        trail: Bytes,
    },
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message.
    pub id: MessageId,
    /// Its lane.
    pub lane: String,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was enqueued first.
    pub enqueued_at: Timestamp,
    /// When it was given up.
    pub dead_at: Timestamp,
    /// Why.
    pub reason: String,
    /// What its attempts left behind.
    pub trail: Bytes,
    /// The content.
    pub body: Bytes,
}

/// A message that was looked up by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its lane.
    pub lane: String,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// What it waits for.
    pub state: MessageState,
    /// How often it has been claimed, released claims not counted.
    pub attempts: u32,
    /// When it was enqueued first.
    pub enqueued_at: Timestamp,
    /// What its attempts left behind.
    pub trail: Bytes,
    /// The content.
    pub body: Bytes,
}

/// What a message waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageState {
    /// For somebody to claim it; a lease that ran out is over.
    Waiting {
        /// From when on it may be claimed.
        available_at: Timestamp,
    },
    /// For an earlier message with the same ordering key, whatever its own time.
    HeldBack,
    /// For its claim to be settled.
    Claimed {
        /// When the lease runs out.
        lease_until: Timestamp,
    },
    /// For a person: it is a dead letter.
    Dead {
        /// When it was given up.
        at: Timestamp,
        /// Why.
        reason: String,
    },
}

impl NewMessage {
    pub(crate) fn check_limits(&self) -> Result<()> {
        check_text("the length of a message id", &self.id.0)?;
        check_text("the length of a lane", &self.lane)?;
        let ordering_key = self.ordering_key.as_ref().map_or(0, String::len);
        within("the length of an ordering key", ordering_key, KEY_BYTES_MAX)?;
        within("the size of a message", self.body.len(), MESSAGE_BYTES_MAX)
    }
}

impl NewDeadLetter {
    pub(crate) fn check_limits(&self) -> Result<()> {
        self.message.check_limits()?;
        check_reason(&self.reason)?;
        check_trail(&self.trail)
    }
}

impl Settlement {
    /// Refuses what is over a limit of the port: every back end asks this first.
    pub(crate) fn check_limits(&self) -> Result<()> {
        match self {
            Self::Done => Ok(()),
            Self::Retry { lane, trail, .. } => {
                lane.as_deref().map_or(Ok(()), |lane| check_text("the length of a lane", lane))?;
                check_trail(trail)
            }
            Self::Release { trail, .. } => check_trail(trail),
            Self::Dead { reason, trail } => {
                check_reason(reason)?;
                check_trail(trail)
            }
        }
    }

    /// Refuses to move a message with an ordering key out of `lane`: who waits behind it waits in that lane.
    pub(crate) fn check_move(&self, id: &MessageId, lane: &str, ordering_key: Option<&str>) -> Result<()> {
        match self {
            Self::Retry { lane: Some(to), .. } if ordering_key.is_some() && to != lane => {
                Err(Error::KeepsLane { id: id.0.clone() })
            }
            _ => Ok(()),
        }
    }
}

fn check_reason(reason: &str) -> Result<()> {
    within("the length of a reason", reason.len(), REASON_BYTES_MAX)
}

pub(crate) fn check_trail(trail: &Bytes) -> Result<()> {
    within("the size of a trail", trail.len(), TRAIL_BYTES_MAX)
}
