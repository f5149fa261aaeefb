//! What is counted for connections to the outside, by namespace.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{names, register};

/// The handles of connections to the outside. Cheap to clone; all clones count the same.
#[derive(Debug, Clone)]
pub struct EgressMetrics {
    open: Family<NamespaceLabels, Gauge>,
    opened: Family<NamespaceLabels, Counter>,
    refused: Family<RefusalLabels, Counter>,
    bytes: Family<ByteLabels, Counter>,
    shed: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NamespaceLabels {
    namespace: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    namespace: String,
    rule: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByteLabels {
    namespace: String,
    direction: &'static str,
}

impl EgressMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let (open, opened) = (Family::default(), Family::default());
        let (refused, bytes) = (Family::default(), Family::default());
        let metrics = Self { open, opened, refused, bytes, shed: Counter::default() };
        register(registry, names::EGRESS_OPEN, &metrics.open);
        register(registry, names::EGRESS_OPENED, &metrics.opened);
        register(registry, names::EGRESS_REFUSED, &metrics.refused);
        register(registry, names::EGRESS_BYTES, &metrics.bytes);
        register(registry, names::EGRESS_SHED, &metrics.shed);
        metrics
    }

    /// A connection was opened.
    pub fn opened(&self, namespace: &str) {
        let labels = NamespaceLabels { namespace: namespace.to_owned() };
        self.open.get_or_create(&labels).inc();
        self.opened.get_or_create(&labels).inc();
    }

    /// A connection has ended.
    pub fn closed(&self, namespace: &str, bytes_out: u64, bytes_in: u64) {
        self.open.get_or_create(&NamespaceLabels { namespace: namespace.to_owned() }).dec();
        for (direction, bytes) in [("out", bytes_out), ("in", bytes_in)] {
            self.bytes
                .get_or_create(&ByteLabels { namespace: namespace.to_owned(), direction })
                .inc_by(bytes);
        }
    }

    /// A connection was refused.
    pub fn refused(&self, namespace: &str, rule: &'static str) {
        self.refused.get_or_create(&RefusalLabels { namespace: namespace.to_owned(), rule }).inc();
    }

    /// A line about a connection was left out of the log.
    pub fn shed(&self) {
        self.shed.inc();
    }
}
