//! What is counted for alarms.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{names, register};

/// The handles of alarms. Cheap to clone; all clones count the same.
#[derive(Debug, Clone)]
pub struct AlarmMetrics {
    firing: Family<SeverityLabels, Gauge>,
    messages: Family<OutcomeLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SeverityLabels {
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl AlarmMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self { firing: Family::default(), messages: Family::default() };
        register(registry, names::ALARMS_FIRING, &metrics.firing);
        register(registry, names::ALARM_MESSAGES, &metrics.messages);
        metrics
    }

    /// So many alarms of a severity are firing.
    pub fn firing(&self, severity: &'static str, alarms: usize) {
        let gauge = self.firing.get_or_create(&SeverityLabels { severity });
        gauge.set(i64::try_from(alarms).unwrap_or(i64::MAX));
    }

    /// A message about alarms ended: `sent`, `failed` or `dropped`.
    pub fn message(&self, outcome: &'static str) {
        self.messages.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Messages that were given up or dropped so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let of = |outcome| self.messages.get_or_create(&OutcomeLabels { outcome }).get();
        of("failed") + of("dropped")
    }
}
