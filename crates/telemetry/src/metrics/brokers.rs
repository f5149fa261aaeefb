//! What is counted for brokers: records over all triggers of a kind, connections and lag by trigger.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{names, register};

/// The handles of brokers. Cheap to clone; all clones count the same.
#[derive(Debug, Clone)]
pub struct BrokerMetrics {
    received: Family<KindLabels, Counter>,
    ended: Family<EndLabels, Counter>,
    failed: Family<KindLabels, Counter>,
    connected: Family<TriggerLabels, Gauge>,
    lag: Family<TriggerLabels, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    kind: &'static str,
    end: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TriggerLabels {
    trigger: String,
    kind: &'static str,
}

impl BrokerMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            received: Family::default(),
            ended: Family::default(),
            failed: Family::default(),
            connected: Family::default(),
            lag: Family::default(),
        };
        register(registry, names::BROKER_RECEIVED, &metrics.received);
        register(registry, names::BROKER_ENDED, &metrics.ended);
        register(registry, names::BROKER_FAILED, &metrics.failed);
        register(registry, names::BROKER_CONNECTED, &metrics.connected);
        register(registry, names::BROKER_LAG, &metrics.lag);
        metrics
    }

    /// A record came.
    pub fn received(&self, kind: &'static str) {
        self.received.get_or_create(&KindLabels { kind }).inc();
    }

    /// Records came to an end: `delivered`, `parked`, `returned`, `deferred` or `lost`.
    pub fn ended(&self, kind: &'static str, end: &'static str, records: u64) {
        self.ended.get_or_create(&EndLabels { kind, end }).inc_by(records);
    }

    /// An attempt of so many records failed.
    pub fn failed(&self, kind: &'static str, records: u64) {
        self.failed.get_or_create(&KindLabels { kind }).inc_by(records);
    }

    /// A trigger is connected to its broker, or is not any more.
    pub fn connected(&self, trigger: &str, kind: &'static str, is_connected: bool) {
        let labels = TriggerLabels { trigger: trigger.to_owned(), kind };
        self.connected.get_or_create(&labels).set(is_connected.into());
    }

    /// A trigger is no longer watched here.
    pub fn gone(&self, trigger: &str, kind: &'static str) {
        let labels = TriggerLabels { trigger: trigger.to_owned(), kind };
        self.connected.remove(&labels);
        self.lag.remove(&labels);
    }

    /// So many records wait at a trigger's broker; `None` where it no longer says.
    pub fn lag(&self, trigger: &str, kind: &'static str, records: Option<u64>) {
        let labels = TriggerLabels { trigger: trigger.to_owned(), kind };
        match records {
            Some(records) => {
                self.lag.get_or_create(&labels).set(i64::try_from(records).unwrap_or(i64::MAX));
            }
            None => {
                self.lag.remove(&labels);
            }
        }
    }
}
