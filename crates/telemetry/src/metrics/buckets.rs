//! What is counted for buckets, over all of them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{names, register};

/// The handles of buckets. Cheap to clone; all clones count the same.
#[derive(Debug, Clone)]
pub struct BucketMetrics {
    requests: Family<RequestLabels, Counter>,
    received: Counter,
    sent: Counter,
    events: Family<EventLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    change: &'static str,
}

impl BucketMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            received: Counter::default(),
            sent: Counter::default(),
            events: Family::default(),
        };
        register(registry, names::BUCKET_REQUESTS, &metrics.requests);
        register(registry, names::BUCKET_RECEIVED, &metrics.received);
        register(registry, names::BUCKET_SENT, &metrics.sent);
        register(registry, names::BUCKET_EVENTS, &metrics.events);
        metrics
    }

    /// A request of an S3 client was answered with this HTTP status.
    pub fn answered(&self, method: &str, status: u16) {
        // Clients choose the method: what S3 does not know is one series.
        let method = match method {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "PUT" => "PUT",
            "POST" => "POST",
            "DELETE" => "DELETE",
            _ => "other",
        };
        let status = match status / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&RequestLabels { method, status }).inc();
    }

    /// So many bytes of an object came.
    pub fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    /// So many bytes of an object went out.
    pub fn sent(&self, bytes: u64) {
        self.sent.inc_by(bytes);
    }

    /// A change of an object, `put` or `delete`, made so many calls.
    pub fn told(&self, change: &'static str, calls: u64) {
        self.events.get_or_create(&EventLabels { change }).inc_by(calls);
    }
}
