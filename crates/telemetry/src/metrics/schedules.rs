//! What is counted for schedules, over all of them: a hundred thousand would be too many series.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{names, register};

/// Upper ends of the buckets for lateness, in seconds: from what a commit takes to what counts as missed.
const LATENESS_SECONDS: [f64; 11] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0, 60.0];

/// The handles of schedules. Cheap to clone; all clones count the same.
#[derive(Debug, Clone)]
pub struct ScheduleMetrics {
    slots: Family<SlotLabels, Counter>,
    lateness: Histogram,
    failures: Counter,
    not_ready: Counter,
    in_force: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SlotLabels {
    outcome: &'static str,
}

impl ScheduleMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            slots: Family::default(),
            lateness: Histogram::new(LATENESS_SECONDS),
            failures: Counter::default(),
            not_ready: Counter::default(),
            in_force: Gauge::default(),
        };
        register(registry, names::SCHEDULE_SLOTS, &metrics.slots);
        register(registry, names::SCHEDULE_LATENESS, &metrics.lateness);
        register(registry, names::SCHEDULE_FAILURES, &metrics.failures);
        register(registry, names::SCHEDULE_NOT_READY, &metrics.not_ready);
        register(registry, names::SCHEDULES, &metrics.in_force);
        metrics
    }

    /// A slot was admitted so long after its moment.
    pub fn admitted(&self, lateness_ms: u64) {
        self.slots.get_or_create(&SlotLabels { outcome: "admitted" }).inc();
        self.lateness.observe(lateness_ms as f64 / 1e3);
    }

    /// Slots were skipped, for `reason`: `missed`, `overlap` or `refused`.
    pub fn skipped(&self, reason: &'static str) {
        self.slots.get_or_create(&SlotLabels { outcome: reason }).inc();
    }

    /// A slot could not be admitted and is tried again.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// No instance will be ready for a slot.
    pub fn not_ready(&self) {
        self.not_ready.inc();
    }

    /// So many schedules are in force.
    pub fn in_force(&self, schedules: usize) {
        self.in_force.set(i64::try_from(schedules).unwrap_or(i64::MAX));
    }
}
