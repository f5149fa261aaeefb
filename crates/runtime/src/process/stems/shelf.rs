//! The stems of one runtime: those that are ready and how many are being made.

use std::collections::VecDeque;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::StemOptions;
use super::demand::Demand;
use super::make::Stem;

/// The stems of one runtime.
#[derive(Debug)]
pub(super) struct Shelf {
    ready: VecDeque<Shelved>,
    making: usize,
    demand: Demand,
    /// Whether there is no function in its language.
    is_closed: bool,
    is_surplus_watched: bool,
    /// Attempts to make one that failed since the last that did not.
    failures: u32,
    last: u64,
}

#[derive(Debug)]
struct Shelved {
    number: u64,
    stem: Stem,
    /// The task that waits for the end of its process.
    watch: Option<AbortHandle>,
}

impl Shelved {
    fn into_stem(self) -> Stem {
        if let Some(watch) = self.watch {
            watch.abort();
        }
        self.stem
    }
}

impl Shelf {
    pub(super) fn new(options: StemOptions, now: Instant) -> Self {
        Self {
            ready: VecDeque::new(),
            making: 0,
            demand: Demand::new(options.per_runtime, options.per_runtime_max, now),
            is_closed: false,
            is_surplus_watched: false,
            failures: 0,
            last: 0,
        }
    }

    /// There is a function in its language.
    pub(super) fn open(&mut self, options: StemOptions, now: Instant) {
        if std::mem::take(&mut self.is_closed) {
            self.demand = Demand::new(options.per_runtime, options.per_runtime_max, now);
        }
    }

    /// There is no function in its language: no more are made, and those that are there go.
    pub(super) fn close(&mut self) -> Vec<Stem> {
        self.is_closed = true;
        self.ready.drain(..).map(Shelved::into_stem).collect()
    }

    fn target(&self, now: Instant) -> usize {
        if self.is_closed { 0 } else { self.demand.target(now) }
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether one has ever been made.
    pub(super) fn has_made(&self) -> bool {
        self.last > 0
    }

    /// Takes the one that was made last: what it touched is likeliest to be in the processor's caches.
    pub(super) fn take(&mut self, now: Instant) -> Option<Stem> {
        let found = self.ready.pop_back();
        // The very first start finds none because nobody had asked before.
        if found.is_none() && self.has_made() {
            self.demand.missed(now);
        }
        found.map(Shelved::into_stem)
    }

    /// Counts as many as are missing as being made.
    pub(super) fn claim_missing(&mut self, now: Instant) -> usize {
        let missing = self.target(now).saturating_sub(self.ready.len() + self.making);
        self.making += missing;
        missing
    }

    /// A stem that was claimed is here; the answer names it.
    pub(super) fn made(&mut self, stem: Stem) -> u64 {
        self.making -= 1;
        self.failures = 0;
        self.last += 1;
        self.ready.push_back(Shelved { number: self.last, stem, watch: None });
        self.last
    }

    /// The task that waits for the end of the stem's process; needless where the stem has been taken meanwhile.
    pub(super) fn watched_by(&mut self, number: u64, watch: AbortHandle) {
        match self.ready.iter_mut().find(|shelved| shelved.number == number) {
            Some(shelved) => shelved.watch = Some(watch),
            None => watch.abort(),
        }
    }

    /// A stem that was claimed could not be made; it stays claimed until [`Shelf::give_up`]. The answer is how often
    /// that has happened before.
    pub(super) fn failed(&mut self) -> u32 {
        let before = self.failures;
        self.failures = self.failures.saturating_add(1);
        before
    }

    /// A claimed stem is not being made any more.
    pub(super) fn give_up(&mut self) {
        self.making -= 1;
    }

    /// Removes a stem whose process has ended.
    pub(super) fn remove(&mut self, number: u64) -> Option<Stem> {
        let at = self.ready.iter().position(|shelved| shelved.number == number)?;
        self.ready.remove(at).map(|shelved| shelved.stem)
    }

    /// Whether somebody has to begin to look for a surplus.
    pub(super) fn claim_watch(&mut self, now: Instant) -> bool {
        let begins = !self.is_surplus_watched && !self.demand.is_at_floor(now);
        self.is_surplus_watched |= begins;
        begins
    }

    /// Removes the oldest of those that are too many, and says whether there may be more of them later.
    pub(super) fn take_surplus(&mut self, now: Instant) -> (Vec<Stem>, bool) {
        let surplus = self.ready.len().saturating_sub(self.target(now));
        let taken = self.ready.drain(..surplus).map(Shelved::into_stem).collect();
        // What is being made now may still be too many.
        self.is_surplus_watched = !self.demand.is_at_floor(now) || self.making > 0;
        (taken, self.is_surplus_watched)
    }
}
