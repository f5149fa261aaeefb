//! What is counted on the path of a call: numbers that only grow, one set for each function.
//!
//! Counting is some additions without a lock and without a look at a clock. What happened in which span of time follows
//! from looking at the numbers now and then, which is done elsewhere.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use alula_model::{Blame, ErrorCode, FunctionSpec, Name, Run, RunStatus};

use super::tally::{BINS, ENDS, End, Tally, bin_of};
use crate::usage::{Amounts, Whose};

/// The status of an answer that says that a limit was hit.
const TOO_MANY: u16 = 429;

/// The numbers of one function.
#[derive(Debug)]
pub struct FunctionCounts {
    pub(super) whose: Whose,
    /// Whether somebody has an objective for it.
    has_objective: AtomicBool,
    ends: [AtomicU64; ENDS],
    slow: AtomicU64,
    answered_us: AtomicU64,
    /// They wrap; what was added since the last look is told all the same.
    bins: [AtomicU32; BINS],
    invocations: AtomicU64,
    refused: AtomicU64,
    billed_ms: AtomicU64,
    memory_mb_ms: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
}

/// What the version that ran says about how its calls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    memory_mb: u64,
    /// From when on an answer is slow, in microseconds.
    slow_after_us: u64,
}

impl Terms {
    /// As `spec` has it.
    #[must_use]
    pub fn of(spec: &FunctionSpec) -> Self {
        let latency_ms = spec.slo.as_ref().and_then(|slo| slo.latency_ms);
        let slow_after_us = latency_ms.map_or(u64::MAX, |ms| ms.saturating_mul(1_000));
        Self { memory_mb: spec.memory_mb.into(), slow_after_us }
    }
}

impl FunctionCounts {
    pub(super) fn new(whose: Whose) -> Self {
        Self {
            whose,
            has_objective: AtomicBool::new(false),
            ends: Default::default(),
            slow: AtomicU64::new(0),
            answered_us: AtomicU64::new(0),
            bins: std::array::from_fn(|_| AtomicU32::new(0)),
            invocations: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            billed_ms: AtomicU64::new(0),
            memory_mb_ms: AtomicU64::new(0),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn is_of(&self, app: Option<&Name>) -> bool {
        self.whose.app.as_ref() == app
    }

    pub(super) fn notes_objective(&self, has_objective: bool) {
        if self.has_objective.load(Relaxed) != has_objective {
            self.has_objective.store(has_objective, Relaxed);
        }
    }

    pub(super) fn has_objective(&self) -> bool {
        self.has_objective.load(Relaxed)
    }

    /// Counts a finished run.
    pub fn record(&self, run: &Run, terms: Terms) {
        let end = end_of(run);
        self.ends[end as usize].fetch_add(1, Relaxed);
        if run.status == RunStatus::Done {
            let us = run.phases.total_us;
            self.bins[bin_of(us)].fetch_add(1, Relaxed);
            self.answered_us.fetch_add(us, Relaxed);
            if us > terms.slow_after_us && end == End::Good {
                self.slow.fetch_add(1, Relaxed);
            }
        }
        if run.instance.is_some() {
            let billed_ms = run.phases.run_us.div_ceil(1_000).max(1);
            self.invocations.fetch_add(1, Relaxed);
            self.billed_ms.fetch_add(billed_ms, Relaxed);
            self.memory_mb_ms.fetch_add(billed_ms * terms.memory_mb, Relaxed);
        } else {
            self.refused.fetch_add(1, Relaxed);
        }
        self.request_bytes.fetch_add(run.request_bytes, Relaxed);
        self.response_bytes.fetch_add(run.response_bytes, Relaxed);
    }

    /// Counts a call that a guard has refused, of which there is no run.
    pub fn refused(&self, code: ErrorCode) {
        self.ends[end_of_fault(code) as usize].fetch_add(1, Relaxed);
        self.refused.fetch_add(1, Relaxed);
    }

    /// What has been counted since `seen`, which then is up to now; `None` where nothing was.
    pub(super) fn since(&self, seen: &mut Seen) -> Option<(Tally, Amounts)> {
        let ends: [u64; ENDS] = std::array::from_fn(|end| self.ends[end].load(Relaxed));
        let amounts = Amounts {
            invocations: self.invocations.load(Relaxed),
            refused: self.refused.load(Relaxed),
            billed_ms: self.billed_ms.load(Relaxed),
            memory_mb_ms: self.memory_mb_ms.load(Relaxed),
            request_bytes: self.request_bytes.load(Relaxed),
            response_bytes: self.response_bytes.load(Relaxed),
        };
        if ends == seen.ends && amounts == seen.amounts {
            return None;
        }
        let (slow, answered_us) = (self.slow.load(Relaxed), self.answered_us.load(Relaxed));
        let mut tally = Tally {
            ends: std::array::from_fn(|end| ends[end] - seen.ends[end]),
            slow: slow - seen.slow,
            answered_us: answered_us - seen.answered_us,
            bins: Vec::new(),
        };
        for (bin, (count, before)) in (0_u8..).zip(self.bins.iter().zip(&mut seen.bins)) {
            let now = count.load(Relaxed);
            if now != *before {
                tally.bins.push((bin, now.wrapping_sub(*before)));
                *before = now;
            }
        }
        let used = amounts.less(&seen.amounts);
        (seen.ends, seen.slow, seen.answered_us, seen.amounts) = (ends, slow, answered_us, amounts);
        Some((tally, used))
    }
}

/// How far the numbers of a function have been looked at.
#[derive(Debug)]
pub(super) struct Seen {
    ends: [u64; ENDS],
    slow: u64,
    answered_us: u64,
    bins: [u32; BINS],
    amounts: Amounts,
}

impl Default for Seen {
    fn default() -> Self {
        Self { ends: [0; ENDS], slow: 0, answered_us: 0, bins: [0; BINS], amounts: Amounts::default() }
    }
}

/// Who has to act on how a run ended. What a function answers counts as it says: 5xx is its own failure.
fn end_of(run: &Run) -> End {
    match (run.error, run.http_status.unwrap_or(200)) {
        (Some(code), _) => end_of_fault(code),
        (None, 500..) => End::Function,
        (None, 400..) => End::Caller,
        (None, _) => End::Good,
    }
}

fn end_of_fault(code: ErrorCode) -> End {
    match code.blame() {
        Blame::Caller if code.http_status() == TOO_MANY => End::Throttled,
        Blame::Caller => End::Caller,
        Blame::Function => End::Function,
        Blame::Platform => End::Platform,
    }
}
