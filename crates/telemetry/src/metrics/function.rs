//! What is counted for one function.

use std::sync::{Arc, OnceLock};

use alula_model::{Blame, ErrorCode, Phases, Run, RunStatus};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{names, register};

/// Upper ends of the buckets, in seconds: from a warm call over the starts of interpreters to the default timeout.
/// Chosen once, since changing them breaks what people have drawn.
const BUCKETS_SECONDS: [f64; 14] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// The handles of one function. Counting through them takes no lookup.
#[derive(Debug)]
pub struct FunctionMetrics {
    labels: FunctionLabels,
    calls: Family<CallLabels, Counter>,
    /// Made at the first call of their kind, so that nothing is exported that never happened.
    calls_by_kind: [[OnceLock<Counter>; BLAMES.len()]; STATUSES.len()],
    in_flight: Gauge,
    duration: Histogram,
    run_time: Histogram,
    queue_time: Histogram,
    cold_starts: Counter,
    start_time: Histogram,
    init_time: Histogram,
    request_bytes: Counter,
    response_bytes: Counter,
    async_ended: Lazy,
    async_dead: Lazy,
}

/// A counter that is made when it first counts, so that nothing is exported that never happened.
#[derive(Debug)]
struct Lazy {
    family: Family<FunctionLabels, Counter>,
    made: OnceLock<Counter>,
}

impl Lazy {
    fn of(family: &Family<FunctionLabels, Counter>) -> Self {
        Self { family: family.clone(), made: OnceLock::new() }
    }

    fn inc(&self, labels: &FunctionLabels) {
        self.made.get_or_init(|| self.family.get_or_create_owned(labels)).inc();
    }
}

/// Counts a call as in flight until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<FunctionMetrics>);

/// The order of [`FunctionMetrics::calls_by_kind`].
const STATUSES: [RunStatus; 5] =
    [RunStatus::Done, RunStatus::Failed, RunStatus::Timeout, RunStatus::Rejected, RunStatus::Cancelled];
const BLAMES: [Option<Blame>; 4] = [None, Some(Blame::Caller), Some(Blame::Function), Some(Blame::Platform)];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FunctionLabels {
    namespace: String,
    function: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    namespace: String,
    function: String,
    status: &'static str,
    blame: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    namespace: String,
    function: String,
    phase: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The series of all functions.
#[derive(Debug)]
pub(super) struct FunctionFamilies {
    calls: Family<CallLabels, Counter>,
    in_flight: Family<FunctionLabels, Gauge>,
    duration: Histograms<FunctionLabels>,
    run_time: Histograms<FunctionLabels>,
    queue_time: Histograms<FunctionLabels>,
    cold_starts: Family<FunctionLabels, Counter>,
    start_time: Histograms<PhaseLabels>,
    request_bytes: Family<FunctionLabels, Counter>,
    response_bytes: Family<FunctionLabels, Counter>,
    async_ended: Family<FunctionLabels, Counter>,
    async_dead: Family<FunctionLabels, Counter>,
}

impl FunctionMetrics {
    /// Counts an asynchronous call that ended well or was stopped.
    pub fn async_ended(&self) {
        self.async_ended.inc(&self.labels);
    }

    /// Counts an asynchronous call that was given up.
    pub fn async_dead(&self) {
        self.async_dead.inc(&self.labels);
    }

    /// Counts one call as in flight for as long as the answer lives.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.inc();
        InFlight(Arc::clone(self))
    }

    /// Counts a finished run: its status, its phases and its bytes.
    pub fn record(&self, run: &Run) {
        self.calls(run.status, run.error.map(alula_model::ErrorCode::blame)).inc();
        self.request_bytes.inc_by(run.request_bytes);
        self.response_bytes.inc_by(run.response_bytes);
        let Phases { queue_us, start_us, init_us, run_us, total_us } = run.phases;
        self.duration.observe(seconds(total_us));
        if run.instance.is_some() {
            self.run_time.observe(seconds(run_us));
            self.queue_time.observe(seconds(queue_us));
        }
        if run.tier.is_start() {
            self.cold_starts.inc();
            self.start_time.observe(seconds(start_us));
            self.init_time.observe(seconds(init_us));
        }
    }

    /// Counts a call that was refused before it had a run.
    pub fn refused(&self, code: ErrorCode) {
        self.calls(RunStatus::Rejected, Some(code.blame())).inc();
    }

    fn calls(&self, status: RunStatus, blame: Option<Blame>) -> &Counter {
        let row = STATUSES.iter().position(|known| *known == status).unwrap_or(0);
        let column = BLAMES.iter().position(|known| *known == blame).unwrap_or(0);
        self.calls_by_kind[row][column].get_or_init(|| {
            let FunctionLabels { namespace, function } = self.labels.clone();
            let labels =
                CallLabels { namespace, function, status: status.as_str(), blame: blame_label(blame) };
            self.calls.get_or_create_owned(&labels)
        })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

impl FunctionFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            calls: Family::default(),
            in_flight: Family::default(),
            duration: Family::new_with_constructor(histogram),
            run_time: Family::new_with_constructor(histogram),
            queue_time: Family::new_with_constructor(histogram),
            cold_starts: Family::default(),
            start_time: Family::new_with_constructor(histogram),
            request_bytes: Family::default(),
            response_bytes: Family::default(),
            async_ended: Family::default(),
            async_dead: Family::default(),
        };
        register(registry, names::CALLS, &families.calls);
        register(registry, names::IN_FLIGHT, &families.in_flight);
        register(registry, names::DURATION, &families.duration);
        register(registry, names::RUN_TIME, &families.run_time);
        register(registry, names::QUEUE_TIME, &families.queue_time);
        register(registry, names::COLD_STARTS, &families.cold_starts);
        register(registry, names::START_TIME, &families.start_time);
        register(registry, names::REQUEST_BYTES, &families.request_bytes);
        register(registry, names::RESPONSE_BYTES, &families.response_bytes);
        register(registry, names::ASYNC_ENDED, &families.async_ended);
        register(registry, names::ASYNC_DEAD, &families.async_dead);
        families
    }

    pub(super) fn handles(&self, namespace: &str, function: &str) -> FunctionMetrics {
        let labels = FunctionLabels { namespace: namespace.to_owned(), function: function.to_owned() };
        let phase = |phase| self.start_time.get_or_create_owned(&labels.phase(phase));
        FunctionMetrics {
            calls: self.calls.clone(),
            calls_by_kind: Default::default(),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            duration: self.duration.get_or_create_owned(&labels),
            run_time: self.run_time.get_or_create_owned(&labels),
            queue_time: self.queue_time.get_or_create_owned(&labels),
            cold_starts: self.cold_starts.get_or_create_owned(&labels),
            start_time: phase("start"),
            init_time: phase("init"),
            request_bytes: self.request_bytes.get_or_create_owned(&labels),
            response_bytes: self.response_bytes.get_or_create_owned(&labels),
            async_ended: Lazy::of(&self.async_ended),
            async_dead: Lazy::of(&self.async_dead),
            labels,
        }
    }

    pub(super) fn remove(&self, namespace: &str, function: &str) {
        let labels = FunctionLabels { namespace: namespace.to_owned(), function: function.to_owned() };
        self.in_flight.remove(&labels);
        for histograms in [&self.duration, &self.run_time, &self.queue_time] {
            histograms.remove(&labels);
        }
        let with_bytes = [&self.cold_starts, &self.request_bytes, &self.response_bytes];
        for counters in with_bytes.into_iter().chain([&self.async_ended, &self.async_dead]) {
            counters.remove(&labels);
        }
        for phase in ["start", "init"] {
            self.start_time.remove(&labels.phase(phase));
        }
        for (status, blame) in STATUSES.iter().flat_map(|status| BLAMES.map(|blame| (status, blame))) {
            let FunctionLabels { namespace, function } = labels.clone();
            let labels =
                CallLabels { namespace, function, status: status.as_str(), blame: blame_label(blame) };
            self.calls.remove(&labels);
        }
    }
}

impl FunctionLabels {
    fn phase(&self, phase: &'static str) -> PhaseLabels {
        let Self { namespace, function } = self.clone();
        PhaseLabels { namespace, function, phase }
    }
}

const fn blame_label(blame: Option<Blame>) -> &'static str {
    match blame {
        None => "none",
        Some(Blame::Caller) => "caller",
        Some(Blame::Function) => "function",
        Some(Blame::Platform) => "platform",
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS_SECONDS)
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}
