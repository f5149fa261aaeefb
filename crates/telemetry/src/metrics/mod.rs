//! Metrics in the format of Prometheus (OpenMetrics text).
//!
//! A function's handles are made once and kept by whoever counts, so counting on the path of a call looks nothing
//! up. The number of functions with series of their own is bounded; those beyond share one series named
//! [`OVERFLOW`], so that neither this process nor whoever scrapes it can be flooded by deploying.
//!
//! Metrics are an export: nothing in the platform reads them back. Names and meanings are in `names`, what is counted
//! for a function in `function`, for the queue in `queue`.

mod alarms;
mod breakers;
mod brokers;
mod buckets;
mod egress;
mod folders;
mod function;
mod names;
mod queue;
mod schedules;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use alula_model::Name;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use alarms::AlarmMetrics;
pub use breakers::BreakerMetrics;
pub use brokers::BrokerMetrics;
pub use buckets::BucketMetrics;
pub use egress::EgressMetrics;
pub use folders::FolderMetrics;
use function::FunctionFamilies;
pub use function::{FunctionMetrics, InFlight};
pub use queue::ClassMetrics;
use queue::QueueFamilies;
pub use schedules::ScheduleMetrics;

/// Functions with series of their own.
pub const FUNCTIONS_MAX: usize = 1_000;
/// Stands for the namespace and name of all functions beyond [`FUNCTIONS_MAX`]; no function can have this name.
pub const OVERFLOW: &str = "_other";
/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    registry: Mutex<Registry>,
    families: FunctionFamilies,
    functions: RwLock<HashMap<(Name, Name), Arc<FunctionMetrics>>>,
    overflow: Arc<FunctionMetrics>,
    instances: Family<InstanceLabels, Gauge>,
    connections: Family<ListenerLabels, Gauge>,
    builds: Family<BuildLabels, Counter>,
    alarms: AlarmMetrics,
    schedules: ScheduleMetrics,
    breakers: BreakerMetrics,
    brokers: BrokerMetrics,
    egress: EgressMetrics,
    folders: FolderMetrics,
    buckets: BucketMetrics,
    queue: QueueFamilies,
    functions_called: Gauge,
    functions_sharing: Gauge,
    render_size: AtomicU64,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstanceState {
    /// Being made.
    Starting,
    /// Ready and without a call.
    Idle,
    /// Running at least one call.
    Busy,
    /// Serving no calls, for instances to be forked from.
    Zygote,
    /// Ending after its last call.
    Draining,
}

/// A listening socket of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listener {
    /// Where functions are called.
    Public,
    /// The control API.
    Control,
}

/// How a build step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BuildOutcome {
    /// It ran and succeeded.
    Built,
    /// An earlier build was used again.
    Cached,
    /// It ran and failed.
    Failed,
}

impl InstanceState {
    const fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Zygote => "zygote",
            Self::Draining => "draining",
        }
    }
}

impl Listener {
    const fn label(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Control => "control",
        }
    }
}

impl BuildOutcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Cached => "cached",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InstanceLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    outcome: &'static str,
}

impl Metrics {
    /// Metrics that have counted nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let families = FunctionFamilies::register(&mut registry);
        let overflow = Arc::new(families.handles(OVERFLOW, OVERFLOW));
        let (instances, connections, builds) = (Family::default(), Family::default(), Family::default());
        register(&mut registry, names::INSTANCES, &instances);
        register(&mut registry, names::HTTP_CONNECTIONS, &connections);
        register(&mut registry, names::BUILDS, &builds);
        let alarms = AlarmMetrics::registered(&mut registry);
        let schedules = ScheduleMetrics::registered(&mut registry);
        let breakers = BreakerMetrics::registered(&mut registry);
        let brokers = BrokerMetrics::registered(&mut registry);
        let egress = EgressMetrics::registered(&mut registry);
        let folders = FolderMetrics::registered(&mut registry);
        let buckets = BucketMetrics::registered(&mut registry);
        let queue = QueueFamilies::register(&mut registry);
        let (functions_called, functions_sharing) = (Gauge::default(), Gauge::default());
        register(&mut registry, names::FUNCTIONS_CALLED, &functions_called);
        register(&mut registry, names::FUNCTIONS_SHARING, &functions_sharing);
        let (registry, functions) = (Mutex::new(registry), RwLock::default());
        let render_size = AtomicU64::new(0);
        let shared = Shared {
            registry,
            families,
            functions,
            overflow,
            instances,
            connections,
            builds,
            alarms,
            schedules,
            breakers,
            brokers,
            egress,
            folders,
            buckets,
            queue,
            functions_called,
            functions_sharing,
            render_size,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The handles of a function; the same ones each time. To be kept, not asked for at every call.
    #[must_use]
    pub fn function(&self, namespace: &Name, name: &Name) -> Arc<FunctionMetrics> {
        let key = (namespace.clone(), name.clone());
        let known = self.shared.functions.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| self.add_function(key))
    }

    fn add_function(&self, key: (Name, Name)) -> Arc<FunctionMetrics> {
        let mut functions = self.shared.functions.write().unwrap_or_else(PoisonError::into_inner);
        if functions.len() >= FUNCTIONS_MAX && !functions.contains_key(&key) {
            return Arc::clone(&self.shared.overflow);
        }
        let make = |(namespace, name): &(Name, Name)| {
            self.shared.families.handles(namespace.as_str(), name.as_str())
        };
        Arc::clone(functions.entry(key).or_insert_with_key(|key| Arc::new(make(key))))
    }

    /// Removes the series of a function that is no more. Handles that somebody still has count into nothing.
    pub fn forget_function(&self, namespace: &Name, name: &Name) {
        let mut functions = self.shared.functions.write().unwrap_or_else(PoisonError::into_inner);
        if functions.remove(&(namespace.clone(), name.clone())).is_some() {
            self.shared.families.remove(namespace.as_str(), name.as_str());
        }
    }

    /// The number of instances in a state.
    #[must_use]
    pub fn instances(&self, state: InstanceState) -> Gauge {
        self.shared.instances.get_or_create_owned(&InstanceLabels { state: state.label() })
    }

    /// The number of open connections of a listener.
    #[must_use]
    pub fn http_connections(&self, listener: Listener) -> Gauge {
        self.shared.connections.get_or_create_owned(&ListenerLabels { listener: listener.label() })
    }

    /// The number of builds that ended so.
    #[must_use]
    pub fn builds(&self, outcome: BuildOutcome) -> Counter {
        self.shared.builds.get_or_create_owned(&BuildLabels { outcome: outcome.label() })
    }

    /// The handles of alarms.
    #[must_use]
    pub fn alarms(&self) -> AlarmMetrics {
        self.shared.alarms.clone()
    }

    /// The handles of breakers and degraded answers.
    #[must_use]
    pub fn breakers(&self) -> BreakerMetrics {
        self.shared.breakers.clone()
    }

    /// The handles of brokers.
    #[must_use]
    pub fn brokers(&self) -> BrokerMetrics {
        self.shared.brokers.clone()
    }

    /// The handles of connections to the outside.
    #[must_use]
    pub fn egress(&self) -> EgressMetrics {
        self.shared.egress.clone()
    }

    /// The handles of schedules.
    #[must_use]
    pub fn schedules(&self) -> ScheduleMetrics {
        self.shared.schedules.clone()
    }

    /// The handles of watched folders.
    #[must_use]
    pub fn folders(&self) -> FolderMetrics {
        self.shared.folders.clone()
    }

    /// The handles of buckets.
    #[must_use]
    pub fn buckets(&self) -> BucketMetrics {
        self.shared.buckets.clone()
    }

    /// The handles of one class of lanes of the queue. To be kept, not asked for at every call.
    #[must_use]
    pub fn queue_class(&self, class: &'static str) -> ClassMetrics {
        self.shared.queue.class(class)
    }

    /// The number of asynchronous calls that were refused.
    #[must_use]
    pub fn async_refused(&self) -> &Counter {
        &self.shared.queue.refused
    }

    /// What the books of the queue are out by.
    #[must_use]
    pub fn async_imbalance(&self) -> &Gauge {
        &self.shared.queue.imbalance
    }

    /// Shows how many functions were called within the last day, and how many of them have no series of their own.
    pub fn show_functions(&self, called: usize) {
        let with_series = self.shared.functions.read().unwrap_or_else(PoisonError::into_inner).len();
        let sharing = if with_series < FUNCTIONS_MAX { 0 } else { called.saturating_sub(with_series) };
        let shown = [(&self.shared.functions_called, called), (&self.shared.functions_sharing, sharing)];
        for (gauge, count) in shown {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Shows the ledger's count of amounts that were lost. To be called once.
    pub fn show_dropped_usage(&self, count: &Counter) {
        self.show(names::USAGE_DROPPED, count);
    }

    /// Shows the log service's count of dropped lines. To be called once.
    pub fn show_dropped_log_lines(&self, count: &Counter) {
        self.show(names::LOG_LINES_DROPPED, count);
    }

    /// Shows the recorder's count of dropped runs. To be called once.
    pub fn show_dropped_runs(&self, count: &Counter) {
        self.show(names::RUNS_DROPPED, count);
    }

    /// Every metric as text, of the type [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let size = &self.shared.render_size;
        let mut text = String::with_capacity(usize::try_from(size.load(Ordering::Relaxed)).unwrap_or(0));
        let registry = self.shared.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
            tracing::error!(%error, "the metrics could not be rendered");
        }
        size.store(text.len() as u64, Ordering::Relaxed);
        text
    }

    fn show(&self, description: names::Description, metric: &Counter) {
        let mut registry = self.shared.registry.lock().unwrap_or_else(PoisonError::into_inner);
        register(&mut registry, description, metric);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers a metric that the caller keeps a handle of.
fn register<M>(registry: &mut Registry, (name, help): names::Description, metric: &M)
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register(name, help, metric.clone());
}
