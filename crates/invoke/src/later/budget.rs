//! Token buckets: rates of functions and namespaces, and the budget for retries.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::Name;
use tokio::time::Instant;

use super::Lane;

/// Retries that a function has a second whatever it does: what is called rarely may fail and be tried again (the number of
/// Finagle's retry budgets).
const RETRIES_PER_SECOND: f64 = 10.0;
/// Retries that every call that is tried for the first time adds: with so many of a hundred failing, retries add that
/// part to the load and no more.
const RETRIES_PER_CALL: f64 = 0.2;
/// Retries that may be saved up.
const RETRIES_SAVED_MAX: f64 = 100.0;

/// Tokens that come at a rate and may be owed.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    per_second: f64,
    most: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket that holds one second's tokens, one at least.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        let most = per_second.max(1.0);
        Self { per_second, most, tokens: most, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let gone = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + gone * self.per_second).min(self.most);
        self.at = now;
    }

    /// How many whole tokens are there.
    pub(crate) fn available(&mut self, now: Instant) -> usize {
        self.refill(now);
        self.tokens.max(0.0) as usize
    }

    /// Takes `count` tokens, which must be there or are owed.
    pub(crate) fn take(&mut self, count: usize) {
        self.tokens -= count as f64;
    }

    /// Gives back what was taken and not used.
    pub(crate) fn give_back(&mut self, count: usize) {
        self.tokens = (self.tokens + count as f64).min(self.most);
    }

    /// When the next token is there.
    pub(crate) fn next_at(&self) -> Instant {
        let missing = (1.0 - self.tokens).max(0.0);
        self.at + Duration::from_secs_f64((missing / self.per_second).min(3_600.0))
    }
}

/// What a function may spend on retries, so that failures do not multiply load.
#[derive(Debug)]
struct RetryBudget {
    bucket: Bucket,
}

impl RetryBudget {
    fn new(now: Instant) -> Self {
        let bucket = Bucket {
            per_second: RETRIES_PER_SECOND,
            most: RETRIES_SAVED_MAX,
            tokens: RETRIES_SAVED_MAX,
            at: now,
        };
        Self { bucket }
    }

    /// A call is tried for the first time.
    fn first_attempt(&mut self) {
        self.bucket.tokens = (self.bucket.tokens + RETRIES_PER_CALL).min(RETRIES_SAVED_MAX);
    }

    /// A retry is planned. Where the budget is spent, it is put off by what is returned.
    fn retry(&mut self, now: Instant) -> Duration {
        self.bucket.refill(now);
        self.bucket.take(1);
        Duration::from_secs_f64((-self.bucket.tokens).max(0.0) / self.bucket.per_second)
    }
}

/// The budgets of all functions that have retries.
#[derive(Debug, Default)]
pub(crate) struct RetryBudgets {
    of: Mutex<HashMap<(Name, Name), RetryBudget>>,
}

impl RetryBudgets {
    /// A call of a function is tried for the first time.
    pub(crate) fn first_attempt(&self, lane: &Lane) {
        // A function without retries has a full budget, and needs no entry.
        if let Some(budget) = self.locked().get_mut(&function_of(lane)) {
            budget.first_attempt();
        }
    }

    /// A retry is planned; it is put off by what is returned.
    pub(crate) fn retry(&self, lane: &Lane, now: Instant) -> Duration {
        self.locked().entry(function_of(lane)).or_insert_with(|| RetryBudget::new(now)).retry(now)
    }

    /// Forgets budgets that are full again.
    pub(crate) fn forget_full(&self, now: Instant) {
        self.locked().retain(|_, budget| {
            budget.bucket.refill(now);
            budget.bucket.tokens < RETRIES_SAVED_MAX
        });
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<(Name, Name), RetryBudget>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn function_of(lane: &Lane) -> (Name, Name) {
    (lane.namespace.clone(), lane.function.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_bursts_are_a_seconds_worth() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, start);
        assert_eq!(bucket.available(start), 10);
        bucket.take(10);
        assert_eq!(bucket.available(start), 0);
        assert_eq!(bucket.next_at() - start, Duration::from_millis(100));
        assert_eq!(bucket.available(start + Duration::from_millis(350)), 3);
        assert_eq!(bucket.available(start + Duration::from_secs(60)), 10);
    }

    #[test]
    fn retries_are_a_part_of_the_calls_and_the_rest_waits() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        // Everything fails: 1 000 calls and as many retries in one moment.
        let waits: Vec<_> = (0..1_000)
            .map(|_| {
                budget.first_attempt();
                budget.retry(now)
            })
            .collect();
        let at_once = waits.iter().filter(|wait| wait.is_zero()).count();
        assert!((100..=130).contains(&at_once), "{at_once} retries went at once");
        assert!(waits.is_sorted(), "who comes later waits longer");
        assert!(waits[999] > Duration::from_secs(60));
    }
}
