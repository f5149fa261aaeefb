//! The ports for the queue: messages that are done at least once, taken by one worker at a time.
//!
//! Contract:
//! - A message is enqueued by a [`Batch`], so that it and the record of its call are one transaction.
//! - A claim holds a message until its lease runs out; renewing moves the end. After that anybody may claim it.
//! - Settling and renewing take the receipt of the claim, not the message's id: a worker whose lease ran out
//!   cannot settle what somebody else has claimed or cancelled since ([`Error::ClaimLost`](crate::Error::ClaimLost)).
//! - Within a lane, messages become available at `available_at` and are claimed in that order.
//! - Messages of a lane with the same ordering key are claimed one after another in the order in which they were
//!   enqueued: one that is claimed, delayed or waits for its retry holds back all behind it until it is done, dead or
//!   cancelled.
//! - Dead messages are kept until they are purged or redriven. Nothing disappears: at every moment, whatever crashed
//!   before, all that was ever accepted is waiting, claimed or dead, or was counted as done, cancelled or purged.
//! - Lanes are texts that the store compares and orders by bytes.
//!
//! Three traits by who calls them: workers the [`Queue`], people the [`DeadLetters`], watchers the [`QueueCounts`].

use std::fmt;

use alula_model::Timestamp;
use bytes::Bytes;

use crate::message::{Claims, DeadLetter, Found, MessageId, Receipt, Settlement};
use crate::{Batch, BoxFuture, Result};

/// Messages that one claim takes, and dead letters that one page holds, at the most.
pub const CLAIM_LEN_MAX: usize = 1_000;

/// When the first message of a lane may be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneHead {
    /// The lane.
    pub lane: String,
    /// The moment; it may be past. A claimed message counts with the end of its lease.
    pub ready_at: Timestamp,
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

/// What ever went in and what became of it, read at one moment. What was enqueued or buried counts as accepted; a redrive
/// makes a dead message a waiting one and counts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Messages and dead letters that came in, since the store was made.
    pub accepted: u64,
    /// Messages that were settled as done.
    pub done: u64,
    /// Messages that were cancelled.
    pub cancelled: u64,
    /// Dead letters that were purged.
    pub purged: u64,
    /// Messages that are here and that nobody holds, counted.
    pub waiting: u64,
    /// Messages that are claimed, counted.
    pub claimed: u64,
    /// Dead letters that are here, counted.
    pub dead: u64,
}

impl Totals {
    /// What was accepted and is neither here nor accounted for: zero, always.
    #[must_use]
    pub fn imbalance(&self) -> i64 {
        let here = self.waiting + self.claimed + self.dead;
        let gone = self.done + self.cancelled + self.purged;
        self.accepted.wrapping_sub(here + gone).cast_signed()
    }
}

/// Messages and claims, for those who work on them.
pub trait Queue: Send + Sync + fmt::Debug {
    /// Takes up to `limit` messages of `lane` until `now + lease_ms`, the longest available first.
    fn claim(&self, lane: &str, limit: usize, now: Timestamp, lease_ms: i64)
    -> BoxFuture<'_, Result<Claims>>;

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

    /// Ends every claim at once and returns how many there were; the attempts count. For a process that has the store for
    /// itself, when it starts: whoever held a claim is gone.
    fn end_claims(&self, now: Timestamp) -> BoxFuture<'_, Result<u64>>;

    /// Looks a message up, alive or dead.
    fn find(&self, id: &MessageId, now: Timestamp) -> BoxFuture<'_, Result<Option<Found>>>;

    /// Removes a message that nobody has claimed (a lease that ran out counts as nobody), together with a batch of other
    /// changes. `false`: it is claimed now, and nothing was changed.
    ///
    /// Fails with [`Error::NotFound`](crate::Error::NotFound) where there is no such message, or it is dead.
    fn cancel(&self, id: &MessageId, now: Timestamp, with: Batch) -> BoxFuture<'_, Result<bool>>;

    /// Every lane that has messages that can become claimable, with the moment, in the order of their names. The work is
    /// by the lane, not by the message.
    fn heads(&self) -> BoxFuture<'_, Result<Vec<LaneHead>>>;

    /// Resolves when another process may have enqueued or released something since the last call resolved; never, where
    /// only this process can. For one caller at a time.
    fn arrivals(&self) -> BoxFuture<'_, ()>;
}

/// Messages that were given up, for those who look after them.
pub trait DeadLetters: Send + Sync + fmt::Debug {
    /// Dead letters whose lane begins with `lane_prefix`, by lane and id, from behind `after`; `limit` at the most (itself
    /// at most [`CLAIM_LEN_MAX`]).
    fn dead_letters(
        &self,
        lane_prefix: &str,
        after: Option<(&str, &MessageId)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>>>;

    /// Makes a dead letter claimable again in `lane`, behind those that wait there with its ordering key, with its attempts
    /// counted from zero and `trail` in place of its own.
    fn redrive(&self, id: &MessageId, lane: &str, now: Timestamp, trail: Bytes) -> BoxFuture<'_, Result<()>>;

    /// Forgets a dead letter, together with a batch of other changes.
    fn purge(&self, id: &MessageId, with: Batch) -> BoxFuture<'_, Result<()>>;
}

/// What is in the queue, for those who watch it.
pub trait QueueCounts: Send + Sync + fmt::Debug {
    /// Every lane that holds messages, in the order of their names. Reads every message.
    fn stats(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<LaneStats>>>;

    /// All lanes together, and what has gone.
    fn totals(&self, now: Timestamp) -> BoxFuture<'_, Result<Totals>>;
}

/// The smallest text that is behind every text that begins with `prefix`, by bytes; `None` where there is none.
pub(crate) fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut end: Vec<char> = prefix.chars().collect();
    while let Some(last) = end.pop() {
        // The next character; a range of them steps over the gap of the surrogates.
        if let Some(next) = (last..=char::MAX).nth(1) {
            return Some(end.into_iter().chain([next]).collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_behind_all_that_begins_with_it() {
        assert_eq!(end_of_prefix("a/b").as_deref(), Some("a/c"));
        assert_eq!(end_of_prefix("a\u{10ffff}\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(end_of_prefix("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!((end_of_prefix(""), end_of_prefix("\u{10ffff}")), (None, None));
    }

    #[test]
    fn totals_that_do_not_balance_say_by_how_much() {
        let totals =
            Totals { accepted: 5, done: 1, cancelled: 1, purged: 1, waiting: 1, claimed: 0, dead: 1 };
        assert_eq!(totals.imbalance(), 0);
        assert_eq!(Totals { accepted: 7, ..totals }.imbalance(), 2);
        assert_eq!(Totals { accepted: 4, ..totals }.imbalance(), -1);
    }
}
