//! The port for the queue: messages that are done at least once, taken by one worker at a time.
//!
//! Contract:
//! - A message is enqueued by a [`Batch`], so that it and the record of its call are one transaction.
//! - A claim holds a message until its lease runs out; renewing moves the end. After that anybody may claim it.
//! - Settling and renewing take the receipt of the claim, not the message's id: a worker whose lease ran out
//!   cannot settle what somebody else has claimed since ([`Error::ClaimLost`](crate::Error::ClaimLost)).
//! - Within a lane, messages become available at `available_at` and are claimed in that order.
//! - Messages of a lane with the same ordering key are claimed one after another in the order in which they were
//!   enqueued: one that is claimed, delayed or waits for its retry holds back all behind it until it is done or dead.
//! - Dead messages are kept until they are purged or redriven. Nothing disappears.

use std::fmt;

use alula_model::Timestamp;
use bytes::Bytes;

use crate::{Batch, BoxFuture, Result};

/// Largest message, in bytes: what is larger is put into the packages and referred to.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Messages that one claim takes at the most.
pub const CLAIM_LEN_MAX: usize = 1_000;

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
    /// How often it has been claimed, this one included.
    pub attempt: u32,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// When the lease runs out.
    pub lease_until: Timestamp,
    /// The content.
    pub body: Bytes,
}

/// What becomes of a claimed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// It is done and goes.
    Done,
    /// It is to be claimed again, from this moment on.
    Retry {
        /// When.
        available_at: Timestamp,
    },
    /// It is kept as a dead letter.
    Dead {
        /// Why.
        reason: String,
    },
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message.
    pub id: MessageId,
    /// Its lane.
    pub lane: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was enqueued first.
    pub enqueued_at: Timestamp,
    /// When it was given up.
    pub dead_at: Timestamp,
    /// Why.
    pub reason: String,
    /// The content.
    pub body: Bytes,
}

/// What is in one lane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaneStats {
    /// The lane.
    pub lane: String,
    /// Messages that may be claimed now.
    pub available: u64,
    /// Messages whose time has not come.
    pub delayed: u64,
    /// Messages whose time has come but that an earlier one with the same ordering key holds back.
    pub held_back: u64,
    /// Messages that are claimed.
    pub claimed: u64,
    /// Messages that were given up.
    pub dead: u64,
    /// When the oldest message that is not dead was enqueued.
    pub oldest_at: Option<Timestamp>,
}

/// Messages, claims and dead letters.
pub trait Queue: Send + Sync + fmt::Debug {
    /// Takes up to `limit` messages of `lane` until `now + lease_ms`, the longest available first.
    fn claim(
        &self,
        lane: &str,
        limit: usize,
        now: Timestamp,
        lease_ms: i64,
    ) -> BoxFuture<'_, Result<Vec<Claim>>>;

    /// Moves the end of a claim's lease to `now + lease_ms`.
    fn renew(&self, receipt: &Receipt, now: Timestamp, lease_ms: i64) -> BoxFuture<'_, Result<()>>;

    /// Ends a claim, together with a batch of other changes.
    fn settle(
        &self,
        receipt: &Receipt,
        now: Timestamp,
        settlement: Settlement,
        with: Batch,
    ) -> BoxFuture<'_, Result<()>>;

    /// Every lane that holds messages.
    fn stats(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<LaneStats>>>;

    /// Dead letters of a lane after `after`, in the order of their ids.
    fn dead_letters(
        &self,
        lane: &str,
        after: Option<&MessageId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>>>;

    /// Makes a dead letter available again, with its attempts counted from zero.
    fn redrive(&self, id: &MessageId, now: Timestamp) -> BoxFuture<'_, Result<()>>;

    /// Forgets a dead letter.
    fn purge(&self, id: &MessageId) -> BoxFuture<'_, Result<()>>;
}
