//! A trace under a policy: which calls found no instance, and what holding instances cost.
//!
//! The rules, the same for every policy: the calls of a minute are spread evenly from its start, an idle time is from
//! the end of one call to the start of the next, and a function has one instance, which takes all calls at once. How
//! long a start takes is left out. A minute in which nobody is called costs nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::policies::Policy;
use super::trace::{Called, MINUTE_MS, Part, Trace};

/// Minutes that are done and not told yet; who tells is faster than who replays.
const TOLD_MAX: usize = 64;

/// What a policy did with a trace.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outcome {
    /// Calls.
    pub calls: u64,
    /// Calls that found no instance.
    pub cold_starts: u64,
    /// Instances that were started ahead of a call.
    pub ahead_starts: u64,
    /// Memory held by instances that ran nothing, in gigabyte seconds.
    pub wasted_gb_s: f64,
    /// Memory held by instances that ran calls, in gigabyte seconds.
    pub used_gb_s: f64,
    /// Memory held on average, in gigabytes.
    pub average_gb: f64,
    /// Memory held in the fullest minute, in gigabytes.
    pub peak_gb: f64,
    /// Share of cold calls of the function that is better off than a quarter of all: the third quartile.
    pub cold_share_p75: f64,
}

impl Outcome {
    /// Share of the calls that found no instance.
    #[must_use]
    pub fn cold_share(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.cold_starts as f64 / self.calls as f64 }
    }
}

/// One function in a replay.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// When its last call ends; nothing before the first call.
    busy_until_ms: Option<u64>,
    calls: u64,
    cold: u32,
}

/// Replays `trace`, each of its parts under a policy of its own that `policy` makes for so many functions, `threads` at a
/// time; `tell` is called with every minute that is done.
pub(crate) fn replay<P: Policy>(
    trace: &Trace,
    policy: impl Fn(usize) -> P + Sync,
    threads: usize,
    tell: &mut dyn FnMut(usize),
) -> Outcome {
    let parts = trace.parts();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Replay<'_>)>> = Mutex::default();
    let (told, minutes_done) = sync_channel(TOLD_MAX);
    let work = |told: SyncSender<()>| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(index) else { break };
            let mut policy = policy(part.functions.len());
            // Who is told may have lost interest; the replay goes on.
            let replay = Replay::run(part, trace.minutes(), &mut policy, &mut || {
                let _ = told.send(());
            });
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, replay));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, parts.len().max(1)) {
            let told = told.clone();
            scope.spawn(|| work(told));
        }
        drop(told);
        let mut minutes = 0;
        while minutes_done.recv().is_ok() {
            minutes += 1;
            tell(minutes / parts.len().max(1));
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Sums of fractions depend on the order.
    done.sort_by_key(|(index, _)| *index);
    together(trace.minutes(), done.into_iter().map(|(_, replay)| replay))
}

/// The outcome of all parts.
fn together<'a>(minutes: usize, parts: impl Iterator<Item = Replay<'a>>) -> Outcome {
    let (mut outcome, mut held, mut shares) = (Outcome::default(), Occupancy::new(minutes), Vec::new());
    for part in parts {
        outcome.calls += part.outcome.calls;
        outcome.cold_starts += part.outcome.cold_starts;
        outcome.ahead_starts += part.outcome.ahead_starts;
        outcome.wasted_gb_s += part.outcome.wasted_gb_s;
        outcome.used_gb_s += part.outcome.used_gb_s;
        held.join(&part.held);
        let called = part.states.iter().filter(|state| state.calls > 0);
        shares.extend(called.map(|state| f64::from(state.cold) / state.calls as f64));
    }
    outcome.cold_share_p75 = third_quartile(&mut shares);
    (outcome.average_gb, outcome.peak_gb) = held.average_and_peak();
    outcome
}

fn third_quartile(shares: &mut [f64]) -> f64 {
    if shares.is_empty() {
        return 0.0;
    }
    let at = (shares.len() * 3 / 4).min(shares.len() - 1);
    *shares.select_nth_unstable_by(at, f64::total_cmp).1
}

struct Replay<'a> {
    part: &'a Part,
    states: Vec<State>,
    held: Occupancy,
    outcome: Outcome,
    end_ms: u64,
}

impl<'a> Replay<'a> {
    /// Replays a part; `tell` is called after every minute.
    fn run<P: Policy>(part: &'a Part, minutes: usize, policy: &mut P, tell: &mut dyn FnMut()) -> Self {
        let mut replay = Self {
            part,
            states: vec![State::default(); part.functions.len()],
            held: Occupancy::new(minutes),
            outcome: Outcome::default(),
            end_ms: minutes as u64 * MINUTE_MS,
        };
        for (minute, called) in part.minutes.iter().enumerate() {
            for called in called.called() {
                replay.calls(policy, minute as u64 * MINUTE_MS, called);
            }
            tell();
        }
        replay.finish(policy);
        replay
    }
}

impl Replay<'_> {
    /// The calls of one function in one minute.
    fn calls<P: Policy>(&mut self, policy: &mut P, from_ms: u64, called: Called) {
        let function = called.function as usize;
        let mut state = self.states[function];
        let took_ms = f64::from(self.part.functions[function].duration_ms);
        let spacing_ms = MINUTE_MS as f64 / f64::from(called.times);
        state.calls += u64::from(called.times);
        match state.busy_until_ms {
            None => {
                state.cold += 1;
                policy.first_call(function);
            }
            Some(busy_until_ms) if busy_until_ms < from_ms => {
                let idle = Duration::from_millis(from_ms - busy_until_ms);
                state.cold += u32::from(!self.idled(policy, function, busy_until_ms, idle));
                policy.called_after(function, idle);
            }
            Some(_) => {}
        }
        let last_ms = from_ms as f64 + spacing_ms * f64::from(called.times - 1);
        let pause_ms = spacing_ms - took_ms;
        if called.times > 1 && pause_ms >= 1.0 {
            let pause = Duration::from_micros((pause_ms * 1_000.0) as u64);
            let windows = policy.windows(function, self.memory_mb(function));
            let pauses = f64::from(called.times - 1);
            if !windows.is_held_at(pause) {
                state.cold += called.times - 1;
            }
            self.waste(function, windows.held(pause).as_secs_f64() * pauses);
            policy.called_after(function, pause);
        }
        let until_ms = ((last_ms + took_ms) as u64).max(state.busy_until_ms.unwrap_or(0));
        self.outcome.used_gb_s +=
            self.gigabytes(function) * f64::from(called.times) * took_ms.min(spacing_ms) / 1_000.0;
        self.hold(function, from_ms.max(state.busy_until_ms.unwrap_or(0)), until_ms);
        state.busy_until_ms = Some(until_ms);
        self.states[function] = state;
    }

    /// Accounts for an idle time that has ended; says whether an instance was there at its end.
    fn idled<P: Policy>(&mut self, policy: &mut P, function: usize, from_ms: u64, idle: Duration) -> bool {
        let windows = policy.windows(function, self.memory_mb(function));
        for (index, span) in windows.spans().iter().enumerate() {
            let until = span.until().min(idle);
            if span.from() > idle {
                break;
            }
            self.outcome.ahead_starts += u64::from(index > 0);
            let ms = |moment: Duration| from_ms + u64::try_from(moment.as_millis()).unwrap_or(u64::MAX);
            self.hold(function, ms(span.from()), ms(until));
        }
        self.waste(function, windows.held(idle).as_secs_f64());
        windows.is_held_at(idle)
    }

    /// Accounts for the idle times that the end of the trace cuts off.
    fn finish<P: Policy>(&mut self, policy: &mut P) {
        for function in 0..self.states.len() {
            if let Some(busy_until_ms) = self.states[function].busy_until_ms
                && busy_until_ms < self.end_ms
            {
                let idle = Duration::from_millis(self.end_ms - busy_until_ms);
                self.idled(policy, function, busy_until_ms, idle);
            }
        }
        self.outcome.calls = self.states.iter().map(|state| state.calls).sum();
        self.outcome.cold_starts = self.states.iter().map(|state| u64::from(state.cold)).sum();
    }

    fn memory_mb(&self, function: usize) -> f32 {
        self.part.functions[function].memory_mb
    }

    fn gigabytes(&self, function: usize) -> f64 {
        f64::from(self.memory_mb(function)) / 1024.0
    }

    fn waste(&mut self, function: usize, seconds: f64) {
        self.outcome.wasted_gb_s += self.gigabytes(function) * seconds;
    }

    fn hold(&mut self, function: usize, from_ms: u64, until_ms: u64) {
        self.held.add(from_ms, until_ms.min(self.end_ms), self.gigabytes(function));
    }
}

/// Memory held in every minute, from intervals in any order, each added in constant time.
struct Occupancy {
    /// What changes at the start of each minute.
    steps: Vec<f64>,
    /// Gigabyte minutes of intervals that begin or end within a minute.
    partial: Vec<f64>,
}

impl Occupancy {
    fn new(minutes: usize) -> Self {
        Self { steps: vec![0.0; minutes + 2], partial: vec![0.0; minutes + 2] }
    }

    fn add(&mut self, from_ms: u64, until_ms: u64, gigabytes: f64) {
        if until_ms <= from_ms {
            return;
        }
        let minute = |ms: u64| (usize::try_from(ms / MINUTE_MS).unwrap_or(0), (ms % MINUTE_MS) as f64);
        let ((first, into_first), (last, into_last)) = (minute(from_ms), minute(until_ms));
        // Whole minutes from `first` to `last`, less what lies before the start, plus what reaches into the last one.
        self.steps[first] += gigabytes;
        self.steps[last] -= gigabytes;
        self.partial[first] -= gigabytes * into_first / MINUTE_MS as f64;
        self.partial[last] += gigabytes * into_last / MINUTE_MS as f64;
    }

    fn join(&mut self, other: &Self) {
        let add = |ours: &mut [f64], theirs: &[f64]| {
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours += theirs);
        };
        add(&mut self.steps, &other.steps);
        add(&mut self.partial, &other.partial);
    }

    fn average_and_peak(&self) -> (f64, f64) {
        let minutes = self.steps.len() - 2;
        let (mut level, mut sum, mut peak) = (0.0, 0.0, 0.0_f64);
        for minute in 0..minutes {
            level += self.steps[minute];
            let held = level + self.partial[minute];
            sum += held;
            peak = peak.max(held);
        }
        (sum / minutes.max(1) as f64, peak)
    }
}

#[cfg(test)]
mod tests;
