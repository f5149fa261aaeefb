//! The state machine of one breaker: no lock, no clock, no randomness of its own.

use std::time::Duration;

use alula_model::BreakerSpec;
use tokio::time::Instant;

use super::event::{State, Why};
use super::window::{Counts, Window};

/// However much is refused while throttled, one call gets through in this time.
pub const LAST_CHANCE: Duration = Duration::from_secs(1);

/// Probes of the first stage, and how many times more each next one has.
const FIRST_PROBES: u32 = 1;
const PROBES_GROWTH: u32 = 2;
/// After a stage of so many it is closed: 15 probes in all, of which the last eight ran side by side.
const LAST_PROBES: u32 = 8;
/// Calls that must have ended since throttling began before it may open: a handful of late failures is no proof.
const OPENING_CALLS: u32 = 5;

/// How a call went, as far as a breaker is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sample {
    Good,
    Failed,
    Slow,
    /// The platform failed.
    Platform,
    /// It says nothing: the caller's fault, or it never ran.
    Nothing,
}

impl Sample {
    const fn counts(self) -> Counts {
        let mut counts = Counts { good: 0, failed: 0, slow: 0, platform: 0, refused: 0 };
        match self {
            Self::Good => counts.good = 1,
            Self::Failed => counts.failed = 1,
            Self::Slow => counts.slow = 1,
            Self::Platform => counts.platform = 1,
            Self::Nothing => {}
        }
        counts
    }
}

/// Which round of probes a call belongs to; none, where it is no probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ticket(Option<u64>);

/// The answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass(Ticket),
    /// Refused; another try makes sense after this time.
    Refuse(Duration),
}

/// A change that has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: State,
    pub(super) to: State,
    pub(super) why: Why,
    pub(super) counts: Counts,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Throttled {
        since: Instant,
        /// When a call was last let through.
        passed: Instant,
        /// What has ended since.
        counts: Counts,
    },
    Open {
        until: Instant,
    },
    HalfOpen(Stage),
}

/// One stage of probes.
#[derive(Debug)]
struct Stage {
    size: u32,
    /// Probes that run.
    running: u32,
    counts: Counts,
    /// When one was last let through.
    passed: Instant,
}

impl Stage {
    const fn new(size: u32, passed: Instant) -> Self {
        let counts = Counts { good: 0, failed: 0, slow: 0, platform: 0, refused: 0 };
        Self { size, running: 0, counts, passed }
    }
}

/// One breaker.
#[derive(Debug)]
pub(super) struct Machine {
    phase: Phase,
    window: Window,
    /// How long it is open the next time.
    wait: Duration,
    /// Counts the stages of probes, so that what began in an earlier one is not taken for one of this.
    round: u64,
}

impl Machine {
    pub(super) fn new(spec: &BreakerSpec, now: Instant) -> Self {
        Self {
            phase: Phase::Closed,
            window: Window::new(Duration::from_millis(spec.window_ms), now),
            wait: Duration::from_millis(spec.open_ms),
            round: 0,
        }
    }

    pub(super) const fn state(&self) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Throttled { .. } => State::Throttled,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen(_) => State::HalfOpen,
        }
    }

    /// The window as it is now.
    pub(super) fn counts(&mut self, now: Instant) -> Counts {
        self.window.counts(now)
    }

    /// Whether it knows nothing that a new one would not know.
    pub(super) fn is_forgettable(&mut self, now: Instant) -> bool {
        matches!(self.phase, Phase::Closed) && self.window.counts(now) == Counts::default()
    }

    /// When the next call passes for sure, where it is open.
    pub(super) fn open_for(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Open { until } => Some(until.saturating_duration_since(now)),
            _ => None,
        }
    }

    /// The share of calls that are refused now, from 0 to 1.
    pub(super) fn refused_share(&mut self, spec: &BreakerSpec, now: Instant) -> f64 {
        match self.phase {
            Phase::Closed => 0.0,
            Phase::Throttled { .. } => share(spec, &self.window.counts(now)),
            Phase::Open { .. } | Phase::HalfOpen(_) => 1.0,
        }
    }

    /// Decides about a call. `chance` is a random number from 0 to 1.
    pub(super) fn admit(
        &mut self,
        spec: &BreakerSpec,
        now: Instant,
        chance: f64,
    ) -> (Verdict, Option<Change>) {
        let change = self.pass_time(spec, now);
        let verdict = match &mut self.phase {
            Phase::Closed => Verdict::Pass(Ticket::default()),
            Phase::Throttled { passed, .. } => {
                let is_due = now.saturating_duration_since(*passed) >= LAST_CHANCE;
                if is_due || chance >= share(spec, &self.window.counts(now)) {
                    *passed = now;
                    Verdict::Pass(Ticket::default())
                } else {
                    Verdict::Refuse(LAST_CHANCE)
                }
            }
            Phase::Open { until } => Verdict::Refuse(until.saturating_duration_since(now)),
            Phase::HalfOpen(stage) => {
                let has_room = stage.running + stage.counts.ended() < stage.size;
                // Probes that never end must not keep others from being tried.
                let is_due = now.saturating_duration_since(stage.passed) >= self.wait.max(LAST_CHANCE);
                if has_room || is_due {
                    stage.running += 1;
                    stage.passed = now;
                    Verdict::Pass(Ticket(Some(self.round)))
                } else {
                    Verdict::Refuse(LAST_CHANCE)
                }
            }
        };
        if matches!(verdict, Verdict::Refuse(_)) {
            self.window.count(now, &Counts { refused: 1, ..Counts::default() });
        }
        (verdict, change)
    }

    /// A call that was let through has ended.
    pub(super) fn ended(
        &mut self,
        spec: &BreakerSpec,
        now: Instant,
        ticket: Ticket,
        sample: Sample,
    ) -> Option<Change> {
        let one = sample.counts();
        self.window.count(now, &one);
        let total = self.window.counts(now);
        match &mut self.phase {
            Phase::Closed if total.ended() >= spec.min_calls && total.is_bad(spec.failure_percent) => {
                let counts = Counts::default();
                Some(self.enter(Phase::Throttled { since: now, passed: now, counts }, Why::Failing, total))
            }
            Phase::Throttled { since, counts, .. } => {
                counts.good += one.good;
                counts.failed += one.failed;
                counts.slow += one.slow;
                let has_lasted = now.saturating_duration_since(*since) >= self.window.step();
                let fails = counts.ended() >= OPENING_CALLS && counts.is_bad(spec.open_percent);
                (has_lasted && fails).then(|| self.open(spec, now, Why::StillFailing, total))
            }
            Phase::HalfOpen(stage) if ticket == Ticket(Some(self.round)) => {
                stage.running = stage.running.saturating_sub(1);
                stage.counts.good += one.good;
                stage.counts.failed += one.failed;
                stage.counts.slow += one.slow;
                stage.counts.platform += one.platform;
                self.judge_probes(spec, now)
            }
            _ => None,
        }
    }

    /// What follows from time alone.
    fn pass_time(&mut self, spec: &BreakerSpec, now: Instant) -> Option<Change> {
        let total = self.window.counts(now);
        match self.phase {
            Phase::Open { until } if now >= until => {
                self.round += 1;
                Some(self.enter(Phase::HalfOpen(Stage::new(FIRST_PROBES, now)), Why::Waited, total))
            }
            Phase::Throttled { since, .. } => {
                let has_lasted = now.saturating_duration_since(since) >= self.window.step();
                let is_well = has_lasted && !total.is_bad(spec.failure_percent);
                is_well.then(|| self.enter(Phase::Closed, Why::Recovered, total))
            }
            _ => None,
        }
    }

    /// A stage is over when its probes have ended, and lost as soon as it cannot be won any more.
    fn judge_probes(&mut self, spec: &BreakerSpec, now: Instant) -> Option<Change> {
        let Phase::HalfOpen(stage) = &self.phase else { return None };
        let (counts, size) = (stage.counts, stage.size);
        let is_lost = u64::from(counts.bad()) * 100 >= u64::from(size) * u64::from(spec.failure_percent);
        if is_lost {
            self.wait = (self.wait * 2).min(Duration::from_millis(spec.open_ms_max));
            return Some(self.open_for_wait(now, Why::ProbesFailed, counts));
        }
        if counts.ended() < size {
            return None;
        }
        self.round += 1;
        if size < LAST_PROBES {
            self.phase = Phase::HalfOpen(Stage::new(size * PROBES_GROWTH, now));
            return None;
        }
        // What it knew is of another time; the first failures after it shall weigh no more than they do anew.
        self.window.clear();
        self.wait = Duration::from_millis(spec.open_ms);
        Some(self.enter(Phase::Closed, Why::ProbesPassed, counts))
    }

    fn open(&mut self, spec: &BreakerSpec, now: Instant, why: Why, counts: Counts) -> Change {
        self.wait = Duration::from_millis(spec.open_ms);
        self.open_for_wait(now, why, counts)
    }

    fn open_for_wait(&mut self, now: Instant, why: Why, counts: Counts) -> Change {
        self.round += 1;
        self.enter(Phase::Open { until: now + self.wait }, why, counts)
    }

    fn enter(&mut self, phase: Phase, why: Why, counts: Counts) -> Change {
        let from = self.state();
        self.phase = phase;
        Change { from, to: self.state(), why, counts }
    }
}

/// The share to refuse, by what was asked for and what went well: `(requests - K * accepts) / (requests + 1)`. K is such that
/// it is nothing as long as fewer than `failure_percent` fail. What is refused counts as asked for, so while it does
/// not get better the share grows.
fn share(spec: &BreakerSpec, counts: &Counts) -> f64 {
    let requests = f64::from(counts.ended()) + f64::from(counts.refused);
    let factor = 100.0 / f64::from(100 - spec.failure_percent.min(99));
    ((requests - factor * f64::from(counts.good)) / (requests + 1.0)).max(0.0)
}
