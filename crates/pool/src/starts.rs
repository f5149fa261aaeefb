//! Starts on this node take turns: so many at once, and so many a second.
//!
//! A start costs CPU that running calls would have. The bound on starts at once keeps those that run quick; the rate keeps
//! a storm of calls of many different functions from taking all the time there is, for as long as it lasts. Who waits is
//! served first come, first served. Calls that find an instance never come here.
//!
//! The rate is a token bucket: it fills by `per_second`, holds `burst`, and every start takes one out. Only the first in
//! line waits for the next token, and takes it when it is there: who is not wanted any more by then costs nobody's time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Gate, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

/// Starts that wait for their turn; each holds some hundred bytes. At the usual rate the last of more would come to its
/// turn after the deadlines of the calls that it is for.
pub(crate) const WAITING_MAX: usize = 10_000;

/// The turns.
#[derive(Debug)]
pub(crate) struct Starts {
    at_once: Semaphore,
    waiting: AtomicUsize,
    /// Held by the one that waits for the next token.
    gate: Gate<()>,
    bucket: Mutex<Bucket>,
}

/// The right to start an instance, given back on drop. Nothing may be started before [`Turn::comes`] has returned.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    starts: &'a Starts,
    _permit: SemaphorePermit<'a>,
}

/// Too many starts wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineFull;

/// Counts a waiting start for as long as it waits, however that ends.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Starts {
    /// `burst` starts may follow each other without a pause, then `per_second`; neither is less than one.
    pub(crate) fn new(at_once: usize, per_second: u32, burst: u32) -> Self {
        let bucket = Bucket::new(per_second, burst, Instant::now());
        Self {
            at_once: Semaphore::new(at_once.max(1)),
            waiting: AtomicUsize::new(0),
            gate: Gate::new(()),
            bucket: Mutex::new(bucket),
        }
    }

    /// Waits in the line until fewer than the allowed starts run.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>, LineFull> {
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return Err(LineFull);
        }
        let permit = self.at_once.acquire().await.map_err(|_closed| LineFull)?;
        drop(waiting);
        Ok(Turn { starts: self, _permit: permit })
    }

    fn with_bucket<T>(&self, act: impl FnOnce(&mut Bucket) -> T) -> T {
        act(&mut self.bucket.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Turn<'_> {
    /// Waits until the rate allows a start, and asks then whether it is wanted still. Says how long it waited, or nothing
    /// where it is not wanted: the next in line has the turn.
    pub(crate) async fn comes(&self, is_wanted: impl FnOnce() -> bool) -> Option<Duration> {
        let began = Instant::now();
        let _first = self.starts.gate.lock().await;
        let at = self.starts.with_bucket(|bucket| bucket.next(Instant::now()));
        if at > Instant::now() {
            sleep_until(at).await;
        }
        is_wanted().then(|| {
            self.starts.with_bucket(|bucket| bucket.take(Instant::now()));
            began.elapsed()
        })
    }

    /// Ends a turn without a start: the next in line has it.
    pub(crate) fn pass(self) {
        self.starts.with_bucket(Bucket::put_back);
    }
}

/// A token bucket as one moment: the one at which the next token is there. What is not taken out moves it into the past,
/// by no more than the bucket holds.
#[derive(Debug)]
struct Bucket {
    /// A moment before any other, so that the bucket is full at the start.
    since: Instant,
    interval: Duration,
    holds: Duration,
    /// When the next token is there, from `since`.
    next: Duration,
}

impl Bucket {
    fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        let holds = interval.saturating_mul(burst.max(1) - 1);
        Self { since: now, interval, holds, next: Duration::ZERO }
    }

    /// When a token is there.
    fn next(&self, now: Instant) -> Instant {
        // On this scale the bucket was full when it was made.
        now.max(self.since + self.next.saturating_sub(self.holds))
    }

    /// Takes a token out that is there.
    fn take(&mut self, now: Instant) {
        self.next = self.next.max(now.saturating_duration_since(self.since)) + self.interval;
    }

    /// Puts a token back that was not used.
    fn put_back(&mut self) {
        self.next = self.next.saturating_sub(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for a turn; says how long the rate held it back.
    async fn came(starts: &Starts) -> Duration {
        starts.turn().await.unwrap().comes(|| true).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_then_the_rate_holds() {
        let starts = Starts::new(1, 10, 3);
        let began = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..6 {
            waits.push(came(&starts).await.as_millis());
        }
        assert_eq!(waits, [0, 0, 0, 100, 100, 100]);
        assert_eq!(began.elapsed(), Duration::from_millis(300));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(came(&starts).await.as_millis());
        }
        assert_eq!(waits, [0, 0, 0, 100, 100], "a long pause fills the bucket and no more than that");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_is_passed_goes_to_the_next_in_line() {
        let starts = Starts::new(2, 1, 1);
        came(&starts).await;
        let passed = starts.turn().await.unwrap();
        assert_eq!(passed.comes(|| true).await, Some(Duration::from_secs(1)));
        passed.pass();
        assert_eq!(came(&starts).await, Duration::ZERO);
        assert_eq!(came(&starts).await, Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_wanted_any_more_when_its_turn_comes_takes_none() {
        let starts = Starts::new(4, 1, 1);
        came(&starts).await;
        let unwanted = async || starts.turn().await.unwrap().comes(|| false).await;
        let (first, second, last) = tokio::join!(unwanted(), unwanted(), came(&starts));
        assert_eq!((first, second, last), (None, None, Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_is_bounded_and_whoever_leaves_it_makes_room() {
        use futures_util::FutureExt as _;
        let starts = Starts::new(1, 1_000, 1_000);
        let turn = starts.turn().await.unwrap();
        let mut line: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(starts.turn())).collect();
        assert!(line.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        assert_eq!(starts.turn().await.unwrap_err(), LineFull);
        drop(line);
        drop(turn);
        assert!(starts.turn().await.is_ok());
    }
}
