//! What is counted for watched folders, over all of them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{names, register};

/// The handles of watched folders. Cheap to clone; all clones count the same.
#[derive(Debug, Clone)]
pub struct FolderMetrics {
    events: Family<EventLabels, Counter>,
    failures: Counter,
    in_force: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    change: &'static str,
}

impl FolderMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics =
            Self { events: Family::default(), failures: Counter::default(), in_force: Gauge::default() };
        register(registry, names::FOLDER_EVENTS, &metrics.events);
        register(registry, names::FOLDER_FAILURES, &metrics.failures);
        register(registry, names::FOLDERS, &metrics.in_force);
        metrics
    }

    /// A file became a call, for `change`: `put` or `delete`.
    pub fn told(&self, change: &'static str) {
        self.events.get_or_create(&EventLabels { change }).inc();
    }

    /// A folder could not be watched or a call not be handed in.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// So many triggers are in force.
    pub fn in_force(&self, triggers: usize) {
        self.in_force.set(i64::try_from(triggers).unwrap_or(i64::MAX));
    }
}
