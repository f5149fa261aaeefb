//! What a policy of keeping instances would have done: traces of arrivals replayed, and the outcomes side by side.
//!
//! Runs the very code that the pool decides with (`keep_alive`), a fixed time for comparison, and the published hybrid
//! histogram. A policy can always have fewer cold starts by holding more memory, so the comparison is made at equal
//! memory: for each of the others the price of memory is sought at which ours wastes as much as that one does.
//!
//! Deliberately absent: how many instances a function needs at once, how long starts take, and where instances run.

mod csv;
mod generate;
mod policies;
mod replay;
mod trace;

use crate::keep_alive::KeepAliveOptions;
use policies::{Fixed, Hybrid, Priced};

pub use csv::{Inputs, TraceError, read, write};
pub use generate::{Mix, Recipe, generate};
pub use replay::Outcome;
pub use trace::{Trace, Traits};

/// Times of the fixed policies that ours is compared with, in minutes.
pub const FIXED_MINUTES: [u32; 3] = [1, 5, 10];

/// Replays of one search for the price: each one comes closer.
const SEARCH_MAX: usize = 14;
/// How much less memory than allowed is close enough.
const SEARCH_TOLERANCE: f64 = 0.005;
/// The same where a replay takes long: a difference that nobody sees in the outcome.
const SEARCH_TOLERANCE_LARGE: f64 = 0.02;
/// Below this price everything is held for as long as the bounds allow.
const PRICE_MIN: f32 = 1e-9;
/// Above this price everything goes as soon as the bounds allow.
const PRICE_MAX: f32 = 1e3;
/// How far a search jumps at the most and at the least while it knows one side only.
const PRICE_STEP: f64 = 8.0;
const PRICE_STEP_MIN: f64 = 1.1;
/// Functions from which on prices are first sought for a sample of so many.
const SAMPLE: usize = 20_000;

/// A policy and what it did.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Which policy.
    pub policy: PolicyName,
    /// What it did.
    pub outcome: Outcome,
}

/// The policies of a report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PolicyName {
    /// The pool's own at its usual price.
    Ours,
    /// The pool's own at the price of memory at which it wastes no more than another one.
    OursAt {
        /// Cold starts avoided for a gigabyte second.
        price: f32,
    },
    /// So many minutes for everything.
    Fixed(u32),
    /// The published hybrid histogram.
    Hybrid,
}

/// Another policy and ours at equal memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The other one.
    pub other: Line,
    /// Ours, wasting no more memory than the other one.
    pub ours: Line,
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Functions of the trace.
    pub functions: usize,
    /// Its length in minutes.
    pub minutes: usize,
    /// Ours at its usual price.
    pub usual: Line,
    /// The others, each with ours at equal memory.
    pub comparisons: Vec<Comparison>,
}

/// How far it is: a replay has come to a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Replays that are done. How many there will be is not known before.
    pub replays: usize,
    /// Minutes of the current replay that are done.
    pub minute: usize,
}

/// Replays `trace` under every policy, on so many threads.
pub fn simulate(
    trace: &Trace,
    options: KeepAliveOptions,
    threads: usize,
    tell: &mut dyn FnMut(Step),
) -> Report {
    let every = trace.functions() / SAMPLE;
    let sample = (every > 1).then(|| trace.sample(every));
    let hints = sample.map(|sample| Simulation::new(&sample, options, threads, tell).compare(&[]));
    let hints: Vec<f32> = hints.unwrap_or_default().iter().filter_map(Comparison::price).collect();
    let mut simulation = Simulation::new(trace, options, threads, tell);
    let usual = Line { policy: PolicyName::Ours, outcome: simulation.ours(options.price) };
    let comparisons = simulation.compare(&hints);
    Report { functions: trace.functions(), minutes: trace.minutes(), usual, comparisons }
}

/// Replays `trace` under our policy with at most this much memory held on average, in gigabytes; `None` where the calls
/// themselves need more.
pub fn within_budget(
    trace: &Trace,
    options: KeepAliveOptions,
    average_gb: f64,
    threads: usize,
    tell: &mut dyn FnMut(Step),
) -> Option<Line> {
    let mut simulation = Simulation::new(trace, options, threads, tell);
    let busy = simulation.replay(|_| Fixed(0));
    let wasted_gb_s = (average_gb - busy.average_gb) * trace.minutes() as f64 * 60.0;
    (wasted_gb_s >= 0.0).then(|| simulation.ours_within(wasted_gb_s, None))
}

struct Simulation<'a> {
    trace: &'a Trace,
    options: KeepAliveOptions,
    threads: usize,
    /// How much less memory than allowed is close enough.
    tolerance: f64,
    tell: &'a mut dyn FnMut(Step),
    replays: usize,
    /// Prices that were tried and what came out, by rising price, so by falling waste.
    curve: Vec<(f32, Outcome)>,
}

impl Comparison {
    /// The price that ours had.
    fn price(&self) -> Option<f32> {
        match self.ours.policy {
            PolicyName::OursAt { price } => Some(price),
            _ => None,
        }
    }
}

impl<'a> Simulation<'a> {
    fn new(
        trace: &'a Trace,
        options: KeepAliveOptions,
        threads: usize,
        tell: &'a mut dyn FnMut(Step),
    ) -> Self {
        let is_large = trace.functions() > SAMPLE * 2;
        let tolerance = if is_large { SEARCH_TOLERANCE_LARGE } else { SEARCH_TOLERANCE };
        Self { trace, options, threads, tolerance, tell, replays: 0, curve: Vec::new() }
    }

    /// Every other policy, and ours with as much memory. `hints` are prices to begin with, in the same order.
    fn compare(&mut self, hints: &[f32]) -> Vec<Comparison> {
        let mut others: Vec<Line> = Vec::new();
        for minutes in FIXED_MINUTES {
            let outcome = self.replay(|_| Fixed(minutes * 60));
            others.push(Line { policy: PolicyName::Fixed(minutes), outcome });
        }
        let outcome = self.replay(Hybrid::new);
        others.push(Line { policy: PolicyName::Hybrid, outcome });
        let compare = |(index, other): (usize, Line)| {
            let ours = self.ours_within(other.outcome.wasted_gb_s, hints.get(index).copied());
            Comparison { other, ours }
        };
        others.into_iter().enumerate().map(compare).collect()
    }

    fn replay<P: policies::Policy>(&mut self, policy: impl Fn(usize) -> P + Sync) -> Outcome {
        let replays = self.replays;
        let mut tell = |minute| (self.tell)(Step { replays, minute });
        let outcome = replay::replay(self.trace, policy, self.threads, &mut tell);
        self.replays += 1;
        outcome
    }

    fn ours(&mut self, price: f32) -> Outcome {
        let options = KeepAliveOptions { price, ..self.options };
        let outcome = self.replay(|functions| Priced::new(functions, options));
        let at = self.curve.partition_point(|(other, _)| *other < price);
        self.curve.insert(at, (price, outcome));
        outcome
    }

    /// Ours at the lowest price at which it wastes no more than `allowed`; the search begins at `hint`.
    fn ours_within(&mut self, allowed: f64, hint: Option<f32>) -> Line {
        let first = hint.or(self.curve.is_empty().then_some(self.options.price));
        if let Some(price) = first {
            self.ours(price);
        }
        for _ in 0..SEARCH_MAX {
            match self.next_price(allowed) {
                Some(price) if (PRICE_MIN..=PRICE_MAX).contains(&price) => self.ours(price),
                _ => break,
            };
        }
        let within = self.curve.iter().find(|(_, outcome)| outcome.wasted_gb_s <= allowed);
        // Where even the highest price is not high enough, the least that the bounds allow is what there is.
        let (price, outcome) =
            *within.or(self.curve.last()).unwrap_or(&(self.options.price, Outcome::default()));
        Line { policy: PolicyName::OursAt { price }, outcome }
    }

    /// The price to try next; `None` where one that was tried is good enough.
    fn next_price(&self, allowed: f64) -> Option<f32> {
        let at = self.curve.partition_point(|(_, outcome)| outcome.wasted_gb_s > allowed);
        let dear = self.curve.get(at);
        if dear.is_some_and(|(_, outcome)| outcome.wasted_gb_s >= allowed * (1.0 - self.tolerance)) {
            return None;
        }
        let cheap = at.checked_sub(1).and_then(|at| self.curve.get(at));
        match (cheap, dear) {
            (Some(cheap), Some(dear)) => Some(between(cheap, dear, self.aim(allowed))),
            (Some(one), None) | (None, Some(one)) => Some(beyond(one, self.aim(allowed))),
            (None, None) => None,
        }
    }
}

impl Simulation<'_> {
    /// The waste to aim at, so that what is a little off is close enough still.
    fn aim(&self, allowed: f64) -> f64 {
        allowed * (1.0 - self.tolerance / 2.0)
    }
}

/// A price on the other side of one that was tried, as far away as its waste is from what is allowed.
fn beyond((price, outcome): &(f32, Outcome), aim: f64) -> f32 {
    let factor = outcome.wasted_gb_s / aim.max(f64::MIN_POSITIVE);
    let factor = if factor >= 1.0 {
        factor.powf(1.5).clamp(PRICE_STEP_MIN, PRICE_STEP)
    } else {
        factor.powf(1.5).clamp(1.0 / PRICE_STEP, 1.0 / PRICE_STEP_MIN)
    };
    price * factor as f32
}

/// A price between two at which the waste is likely to be what is allowed: on a straight line in logarithms, away from
/// both ends so that the distance shrinks in any case.
fn between(cheap: &(f32, Outcome), dear: &(f32, Outcome), aim: f64) -> f32 {
    let log = |waste: f64| waste.max(f64::MIN_POSITIVE).ln();
    let (cheap_log, dear_log) = (log(cheap.1.wasted_gb_s), log(dear.1.wasted_gb_s));
    let aim = log(aim);
    let part = ((cheap_log - aim) / (cheap_log - dear_log)).clamp(0.05, 0.95) as f32;
    let part = if part.is_nan() { 0.5 } else { part };
    (cheap.0.ln() * (1.0 - part) + dear.0.ln() * part).exp()
}

#[cfg(test)]
mod tests;
