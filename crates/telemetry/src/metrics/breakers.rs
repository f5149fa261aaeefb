//! What is counted for breakers and degraded answers: by function, for those that have ever needed one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use alula_model::{Degraded, Name};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{FUNCTIONS_MAX, OVERFLOW, names, register};

/// The handles of breakers. Cheap to clone; all clones count the same.
#[derive(Debug, Clone, Default)]
pub struct BreakerMetrics {
    state: Family<BreakerLabels, Gauge>,
    changes: Family<ChangeLabels, Counter>,
    degraded: Family<DegradedLabels, Counter>,
    /// Breakers that have a series of their own.
    shown: Arc<Mutex<HashSet<BreakerLabels>>>,
    /// Functions whose changes and degraded answers have series of their own.
    functions: Arc<Mutex<HashSet<(String, String)>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BreakerLabels {
    namespace: String,
    function: String,
    version: u64,
    scope: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    namespace: String,
    function: String,
    to: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DegradedLabels {
    namespace: String,
    function: String,
    reason: &'static str,
}

impl BreakerMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        register(registry, names::BREAKER_STATE, &metrics.state);
        register(registry, names::BREAKER_CHANGES, &metrics.changes);
        register(registry, names::DEGRADED, &metrics.degraded);
        metrics
    }

    /// A breaker has changed its state, to one of this level and name.
    pub fn changed(
        &self,
        (namespace, function, version): (&Name, &Name, u64),
        scope: &str,
        to: (u8, &'static str),
    ) {
        let (namespace_label, function_label) = self.labels(namespace, function);
        let labels = ChangeLabels { namespace: namespace_label, function: function_label, to: to.1 };
        self.changes.get_or_create(&labels).inc();
        let labels = breaker_labels(namespace, function, version, scope);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        // Beyond the bound a breaker is seen in the list and the changes, and has no series.
        if shown.len() < FUNCTIONS_MAX || shown.contains(&labels) {
            self.state.get_or_create(&labels).set(to.0.into());
            shown.insert(labels);
        }
    }

    /// A breaker is no longer kept.
    pub fn gone(&self, (namespace, function, version): (&Name, &Name, u64), scope: &str) {
        let labels = breaker_labels(namespace, function, version, scope);
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).remove(&labels);
        self.state.remove(&labels);
    }

    /// A degraded answer was given.
    pub fn degraded(&self, namespace: &Name, function: &Name, reason: Degraded) {
        let (namespace, function) = self.labels(namespace, function);
        let labels = DegradedLabels { namespace, function, reason: reason.as_str() };
        self.degraded.get_or_create(&labels).inc();
    }

    fn labels(&self, namespace: &Name, function: &Name) -> (String, String) {
        let labels = (namespace.to_string(), function.to_string());
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if functions.len() >= FUNCTIONS_MAX && !functions.contains(&labels) {
            return (OVERFLOW.to_owned(), OVERFLOW.to_owned());
        }
        functions.insert(labels.clone());
        labels
    }
}

fn breaker_labels(namespace: &Name, function: &Name, version: u64, scope: &str) -> BreakerLabels {
    let (namespace, function) = (namespace.to_string(), function.to_string());
    BreakerLabels { namespace, function, version, scope: scope.to_owned() }
}
