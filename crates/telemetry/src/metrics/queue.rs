//! What is counted for the queue of asynchronous calls.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{names, register};

/// Upper ends of the buckets for waiting, in seconds: from what is claimed at once to what waited out an outage.
const WAIT_BUCKETS_SECONDS: [f64; 12] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 21_600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    class: &'static str,
}

/// The handles of one class of lanes. Counting through them takes no lookup.
#[derive(Debug)]
pub struct ClassMetrics {
    /// Calls that were accepted.
    pub accepted: Counter,
    /// Calls that are to be tried again.
    pub retried: Counter,
    /// Time from when a call could first have been claimed until it was, in seconds.
    pub waited: Histogram,
    /// What waits or runs.
    pub depth: Gauge,
    /// Age of the oldest of it, in seconds.
    pub oldest: Gauge<f64, AtomicU64>,
}

/// The series of the queue.
#[derive(Debug)]
pub(super) struct QueueFamilies {
    accepted: Family<ClassLabels, Counter>,
    retried: Family<ClassLabels, Counter>,
    waited: Family<ClassLabels, Histogram, fn() -> Histogram>,
    depth: Family<ClassLabels, Gauge>,
    oldest: Family<ClassLabels, Gauge<f64, AtomicU64>>,
    pub(super) refused: Counter,
    pub(super) imbalance: Gauge,
}

impl QueueFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let families = Self {
            accepted: Family::default(),
            retried: Family::default(),
            waited: Family::new_with_constructor(|| Histogram::new(WAIT_BUCKETS_SECONDS)),
            depth: Family::default(),
            oldest: Family::default(),
            refused: Counter::default(),
            imbalance: Gauge::default(),
        };
        register(registry, names::ASYNC_ACCEPTED, &families.accepted);
        register(registry, names::ASYNC_REFUSED, &families.refused);
        register(registry, names::ASYNC_WAIT_TIME, &families.waited);
        register(registry, names::ASYNC_RETRIED, &families.retried);
        register(registry, names::ASYNC_DEPTH, &families.depth);
        register(registry, names::ASYNC_OLDEST, &families.oldest);
        register(registry, names::ASYNC_IMBALANCE, &families.imbalance);
        families
    }

    pub(super) fn class(&self, class: &'static str) -> ClassMetrics {
        let labels = ClassLabels { class };
        ClassMetrics {
            accepted: self.accepted.get_or_create_owned(&labels),
            retried: self.retried.get_or_create_owned(&labels),
            waited: self.waited.get_or_create_owned(&labels),
            depth: self.depth.get_or_create_owned(&labels),
            oldest: self.oldest.get_or_create_owned(&labels),
        }
    }
}
