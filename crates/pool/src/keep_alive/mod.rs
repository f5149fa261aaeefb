//! How long an instance is kept after a call and when one is made ready ahead of the next, from the history of calls.
//!
//! Memory has a price: so many cold starts avoided for a gigabyte held for a second. For every moment of an idle time
//! the policy knows the chance that the call comes just then, from the function's own past and, as long as that is
//! short, from what functions like it do. It holds an instance exactly while that chance, over the memory that the
//! instance takes, is worth the price. So
//!
//! - what is called again soon is kept, what is hardly ever called again soon is not;
//! - a timer's instance goes after the call and is back just before the next;
//! - of two functions that are as likely to be called the smaller one is kept longer;
//! - when memory gets short the price rises, and everywhere the least useful goes first.
//!
//! Plain code without clock, lock or task: durations are passed in. The pool runs it, and so does the simulator.
//! It decides about the last instance of a function; how many a function needs while it is called is decided
//! elsewhere.
//!
//! The idea of a histogram of idle times for each function, with a window for holding and one for getting ready, is
//! that of Shahrad et al., *Serverless in the Wild* (USENIX ATC 2020); theirs takes percentiles of the histogram
//! rather than a price, knows minutes up to four hours, and starts from nothing with every function.

mod history;
mod plan;
mod population;
mod scale;
mod windows;

use std::time::Duration;

pub use history::{History, HistoryRecord};
pub use windows::{Span, Windows};

use plan::Terms;
use population::{Like, Population};

/// A memo is good until a function has been idle this part of the remembered times again.
const MEMO_PART: u16 = 3;
/// Windows in a memo: most functions are idle for times within a few doublings.
const MEMO_PLACES: usize = 8;

/// The bounds of the policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeepAliveOptions {
    /// An instance is kept for at least this long after a call.
    pub min: Duration,
    /// An instance is held idle for at most this long in one go.
    pub max: Duration,
    /// The price of memory where there is enough of it: cold starts avoided for a gigabyte held for a second.
    pub price: f32,
}

impl Default for KeepAliveOptions {
    /// Ten seconds let a person at a terminal call twice. Four hours are what the best published policy looks ahead. The
    /// price takes about as much memory as ten minutes for every function do on mixed loads.
    fn default() -> Self {
        Self { min: Duration::from_secs(10), max: Duration::from_secs(4 * 3_600), price: 1.5e-3 }
    }
}

/// The policy: its bounds and what it has learned of all functions. What it knows of each one is a [`History`] that
/// the caller keeps.
#[derive(Debug, Clone, Default)]
pub struct KeepAlive {
    options: KeepAliveOptions,
    population: Population,
}

impl KeepAlive {
    /// A policy that knows nothing yet.
    #[must_use]
    pub fn new(options: KeepAliveOptions) -> Self {
        Self { options, population: Population::default() }
    }

    /// The bounds.
    #[must_use]
    pub fn options(&self) -> KeepAliveOptions {
        self.options
    }

    /// A function was called for the first time.
    pub fn first_call(&mut self, history: &History) {
        self.population.begun(history.like());
    }

    /// A function was called after it had been idle for `idle`.
    pub fn called_after(&mut self, history: &mut History, idle: Duration) {
        let like = history.like();
        history.record(idle);
        self.population.ended(like, scale::bin_of(idle));
        self.population.begun(history.like());
    }

    /// When an instance of `memory_bytes` is to be there while the function is idle, at a price of memory that is
    /// `scarcity` times the usual one.
    #[must_use]
    pub fn windows(&self, history: &History, memory_bytes: u64, scarcity: f32) -> Windows {
        let gigabytes = memory_bytes as f32 / (1 << 30) as f32;
        let terms = Terms {
            worth_min: self.options.price * scarcity * gigabytes,
            min_s: seconds(self.options.min),
            max_s: seconds(self.options.max),
        };
        plan::choose(history, self.population.shares(history.like()), terms)
    }
}

/// Windows of one function that are taken again as long as they would hardly be others: for who asks very often.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memo([Remembered; MEMO_PLACES]);

#[derive(Debug, Clone, Copy, Default)]
struct Remembered {
    windows: Windows,
    like: Option<Like>,
    remembered: u16,
}

impl Memo {
    /// What [`KeepAlive::windows`] says, or said when a little less was known.
    pub(crate) fn windows(&mut self, policy: &KeepAlive, history: &History, memory_bytes: u64) -> Windows {
        let (like, remembered) = (history.like(), history.remembered());
        let place = &mut self.0[like.level() % MEMO_PLACES];
        let good = place.remembered..=place.remembered + place.remembered / MEMO_PART;
        if place.like != Some(like) || !good.contains(&remembered) {
            let windows = policy.windows(history, memory_bytes, 1.0);
            *place = Remembered { windows, like: Some(like), remembered };
        }
        place.windows
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
