//! One event from its first call until every record of it has come to an end.
//!
//! ```text
//! call ──> well: settled as done
//!      ──> failed, attempts left: wait, call again with what failed
//!      ──> failed, none left or hopeless: kept as a dead letter, then settled as done
//! ```
//!
//! A function that reports failures by record gets those again together. Where an event failed as a whole, nobody knows
//! which record it was, so from then on its records are tried one by one: a poison record takes only itself along.
//!
//! A delivery holds its place among the trigger's calls until it has ended, its waits included: a function that fails is
//! given no further records meanwhile, so they stay at the broker.

use std::sync::Arc;
use std::time::Duration;

use alula_invoke::Failed;
use alula_invoke::later::{Hope, Miss, Trail};
use alula_model::{Retry, RetryPolicy, RetryPreset};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::place::Place;
use crate::ports::{LETTERS_MAX, Letter};
use crate::source::{End, KeptBy, Record, Settled};

/// Wait before the second attempt of a record, in milliseconds; each further wait is twice as long.
const RETRY_FIRST_MS: u64 = 500;
/// The longest of these waits: a record holds others up, so it is rather parked than waited for.
const RETRY_LONGEST_MS: u64 = 60_000;
/// Attempts to hand what nobody else keeps to the queue when the platform stops.
const DEFER_ATTEMPTS: u32 = 3;

/// One event on its way.
pub(crate) struct Delivery {
    /// The trigger.
    pub(crate) place: Arc<Place>,
    /// Who has the records meanwhile.
    pub(crate) kept_by: KeptBy,
    /// Is told of the end of each record; nobody listens when their session is over.
    pub(crate) settled: mpsc::Sender<Settled>,
    /// Nothing is begun any more: the platform stops, or the broker will deliver the records again anyway.
    pub(crate) over: CancellationToken,
    /// Ends the whole watch.
    pub(crate) stop: CancellationToken,
}

/// A record that has not come to its end.
struct Open {
    record: Record,
    attempts: u32,
    refusals: u32,
    trail: Trail,
    /// Whether it is tried by itself.
    is_alone: bool,
    /// Why it is given up, once it is.
    given_up: Option<String>,
    wait_ms: u64,
}

impl Open {
    fn new(record: Record) -> Self {
        let trail = Trail::default();
        Self { record, attempts: 0, refusals: 0, trail, is_alone: false, given_up: None, wait_ms: 0 }
    }
}

impl Delivery {
    /// Delivers `records`.
    pub(crate) async fn run(self, records: Vec<Record>) {
        let mut open: Vec<Open> = records.into_iter().map(Open::new).collect();
        while !open.is_empty() && self.may_begin().await {
            open = self.round(open).await;
            let (given_up, again): (Vec<_>, Vec<_>) =
                open.into_iter().partition(|record| record.given_up.is_some());
            open = again;
            open.extend(self.park(given_up).await);
            let wait_ms = open.iter().map(|record| record.wait_ms).max().unwrap_or(0);
            self.wait(wait_ms).await;
        }
        self.leave(open).await;
    }

    /// Whether another call may begin. A pause ends the watch: it is asked for here too, since the operator was told that
    /// nothing begins any more, and whoever follows the pauses learns of those of other nodes only now and then.
    async fn may_begin(&self) -> bool {
        if self.over.is_cancelled() {
            return false;
        }
        let is_paused = self.place.is_paused().await;
        if is_paused {
            self.stop.cancel();
        }
        !is_paused && !self.over.is_cancelled()
    }

    /// Tries every record once; returns those that failed.
    async fn round(&self, open: Vec<Open>) -> Vec<Open> {
        let (alone, together): (Vec<_>, Vec<_>) = open.into_iter().partition(|record| record.is_alone);
        let mut failed = Vec::new();
        if !together.is_empty() {
            failed.extend(self.attempt(together).await);
        }
        for record in alone {
            if !self.may_begin().await {
                failed.push(record);
            } else {
                failed.extend(self.attempt(vec![record]).await);
            }
        }
        failed
    }

    /// Calls the function with these records; returns those that failed.
    async fn attempt(&self, mut records: Vec<Open>) -> Vec<Open> {
        let number = records.iter().map(|open| open.attempts).max().unwrap_or(0) + 1;
        let at = self.place.now();
        let event = self.place.event(records.iter().map(|open| &open.record));
        let (missed, miss) = match self.place.call(number, event).await {
            Err(miss) => {
                let is_alone = miss.hope != Hope::NeverBegan;
                records.iter_mut().for_each(|open| open.is_alone |= is_alone);
                (records, miss)
            }
            Ok(answer) => (self.sort_out(records, &answer).await, told_by_the_function()),
        };
        if missed.is_empty() {
            return missed;
        }
        self.place.failed(missed.len(), &miss);
        let is_single = missed.len() == 1;
        missed
            .into_iter()
            .map(|mut open| {
                open.trail.push(miss.attempt(open.attempts + 1, at));
                self.judge(&mut open, &miss, is_single);
                open
            })
            .collect()
    }

    /// Settles what went well; returns what the function says failed.
    async fn sort_out(&self, records: Vec<Open>, answer: &Bytes) -> Vec<Open> {
        let failed = Failed::read(answer).among(records.iter().map(|open| open.record.id.as_str()));
        let (failed, well): (Vec<_>, Vec<_>) = records.into_iter().partition(|open| match &failed {
            Failed::None => false,
            Failed::These(ids) => ids.contains(&open.record.id),
            Failed::Unclear => true,
        });
        self.settle(well.iter(), End::Done, "delivered").await;
        failed
    }

    /// Decides what becomes of a record after a miss.
    fn judge(&self, open: &mut Open, miss: &Miss, was_single: bool) {
        let policy = policy();
        let chance = self.place.random();
        open.wait_ms = match miss.hope {
            Hope::NeverBegan => {
                open.refusals = open.refusals.saturating_add(1);
                policy.wait_unstarted_ms(open.refusals, chance)
            }
            Hope::Counts | Hope::None | Hope::TooOld => {
                open.attempts += 1;
                open.refusals = 0;
                policy.wait_ms(open.attempts, chance)
            }
        }
        .max(miss.retry_after_ms.unwrap_or(0));
        // What is hopeless for an event may be so because of one of its records.
        let is_hopeless = miss.hope == Hope::None && was_single;
        if is_hopeless {
            open.given_up = Some(format!("not worth another attempt: {}", miss.message));
        } else if miss.hope != Hope::NeverBegan && open.attempts >= self.place.attempts_max() {
            open.given_up = Some(format!("{} attempts failed, the last: {}", open.attempts, miss.message));
        }
    }

    /// Keeps records as dead letters and settles them; returns them where it stops before they are kept.
    async fn park(&self, mut given_up: Vec<Open>) -> Vec<Open> {
        let mut refusals = 0;
        while !given_up.is_empty() {
            let next = given_up.len().min(LETTERS_MAX);
            let letter = |open: &Open| Letter {
                event: self.place.event(std::iter::once(&open.record)),
                attempts: open.attempts,
                reason: open.given_up.clone().unwrap_or_default(),
                trail: open.trail.clone(),
            };
            match self.place.bury(given_up[..next].iter().map(letter).collect()).await {
                Ok(()) => {
                    let parked: Vec<_> = given_up.drain(..next).collect();
                    self.settle(parked.iter(), End::Done, "parked").await;
                }
                Err(_) if self.over.is_cancelled() => return given_up,
                Err(_) => {
                    refusals += 1;
                    self.wait(policy().wait_unstarted_ms(refusals, self.place.random())).await;
                }
            }
        }
        given_up
    }

    /// Gives back what has not come to its end: to the broker, or else to the queue.
    async fn leave(&self, open: Vec<Open>) {
        match self.kept_by {
            _ if open.is_empty() => {}
            KeptBy::Broker => self.settle(open.iter(), End::Returned, "returned").await,
            KeptBy::Nobody => {
                let records: Vec<_> = open.into_iter().map(|open| open.record).collect();
                self.place.defer(&records, DEFER_ATTEMPTS, &policy()).await;
                self.tell(&records, End::Returned).await;
            }
        }
    }

    async fn settle(&self, records: impl Iterator<Item = &Open>, end: End, told: &'static str) {
        let mut count = 0;
        for open in records {
            count += 1;
            self.tell(std::slice::from_ref(&open.record), end).await;
        }
        self.place.ended(told, count);
    }

    /// Tells the session. Where that is over, the broker delivers the records again, or knew nothing of them.
    async fn tell(&self, records: &[Record], end: End) {
        for record in records {
            let _ = self.settled.send(Settled { token: record.token, end }).await;
        }
    }

    async fn wait(&self, wait_ms: u64) {
        tokio::select! {
            () = self.over.cancelled() => {}
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
        }
    }
}

fn told_by_the_function() -> Miss {
    Miss::reported("the function reported the record as failed")
}

/// Waits between attempts; how many there are is the trigger's.
pub(crate) fn policy() -> RetryPolicy {
    RetryPolicy {
        first_ms: RETRY_FIRST_MS,
        longest_ms: RETRY_LONGEST_MS,
        ..Retry::Named(RetryPreset::Standard).policy()
    }
}
