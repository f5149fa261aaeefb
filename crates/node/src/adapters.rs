//! Where one component's port meets another component's handle.

use std::sync::Arc;

use alula_control::Control;
use alula_gateway::Observe;
use alula_invoke::later::{LaneClass, LoopWatch};
use alula_invoke::{OpenRun, RunSink};
use alula_model::{Degraded, ErrorCode, Fault, InstanceId, SpecError, VersionKey};
use alula_runtime::{Backend, BoxFuture, Bred, Started, VersionPlan};
use alula_telemetry::metrics::{BreakerMetrics, ClassMetrics, Listener, Metrics};
use alula_telemetry::runs::RunRecorder;
use alula_telemetry::signals::{Signals, Terms};

use crate::backends::Backends;
use crate::network::WithinCeiling;
use crate::secrets::WithSecrets;

/// Counts the gateway's connections.
#[derive(Debug)]
pub(crate) struct GatewayMetrics(pub(crate) Metrics);

impl Observe for GatewayMetrics {
    fn connection_opened(&self) {
        self.0.http_connections(Listener::Public).inc();
    }

    fn connection_closed(&self) {
        self.0.http_connections(Listener::Public).dec();
    }
}

/// Counts what happens to asynchronous calls.
#[derive(Debug)]
pub(crate) struct QueueMetrics {
    metrics: Metrics,
    classes: [ClassMetrics; LaneClass::ALL.len()],
}

impl QueueMetrics {
    pub(crate) fn new(metrics: Metrics) -> Self {
        let classes = LaneClass::ALL.map(|class| metrics.queue_class(class.as_str()));
        Self { metrics, classes }
    }

    fn class(&self, class: LaneClass) -> &ClassMetrics {
        &self.classes[LaneClass::ALL.iter().position(|known| *known == class).unwrap_or(0)]
    }
}

impl alula_invoke::later::Observe for QueueMetrics {
    fn accepted(&self, class: LaneClass) {
        self.class(class).accepted.inc();
    }

    fn refused(&self) {
        self.metrics.async_refused().inc();
    }

    fn claimed(&self, class: LaneClass, waited_ms: u64) {
        self.class(class).waited.observe(waited_ms as f64 / 1_000.0);
    }

    fn ended(&self, key: &VersionKey) {
        self.metrics.function(&key.namespace, &key.function).async_ended();
    }

    fn retried(&self, class: LaneClass) {
        self.class(class).retried.inc();
    }

    fn died(&self, key: &VersionKey) {
        self.metrics.function(&key.namespace, &key.function).async_dead();
    }

    fn depth(&self, class: LaneClass, messages: u64, oldest_ms: u64) {
        let class = self.class(class);
        class.depth.set(i64::try_from(messages).unwrap_or(i64::MAX));
        class.oldest.set(oldest_ms as f64 / 1_000.0);
    }

    fn imbalance(&self, messages: i64) {
        self.metrics.async_imbalance().set(messages);
        if messages != 0 {
            tracing::error!(
                messages,
                "the books of the queue do not balance: this is a defect of the platform"
            );
        }
    }
}

/// A back end whose versions have their code unpacked before they start.
#[derive(Debug)]
pub(crate) struct UnpackFirst {
    pub(crate) control: Control,
    pub(crate) inner: WithSecrets<WithinCeiling<Backends>>,
}

impl Backend for UnpackFirst {
    fn validate(&self, plan: &VersionPlan) -> Result<(), SpecError> {
        self.inner.validate(plan)
    }

    fn prepare<'a>(&'a self, plan: &'a VersionPlan) -> BoxFuture<'a, Result<(), Fault>> {
        self.inner.prepare(plan)
    }

    fn start(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        Box::pin(async move {
            self.control.ensure_code(&plan).await?;
            self.inner.start(plan, id).await
        })
    }

    fn breed(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Bred, Fault>> {
        Box::pin(async move {
            self.control.ensure_code(&plan).await?;
            self.inner.breed(plan, id).await
        })
    }
}

/// Counts running calls, and hands finished runs to the metrics, the signals, the history, and to who watches for loops.
#[derive(Debug)]
pub(crate) struct RunFanOut {
    pub(crate) metrics: Metrics,
    pub(crate) signals: Signals,
    pub(crate) recorder: RunRecorder,
    pub(crate) loops: LoopWatch,
    pub(crate) breakers: BreakerMetrics,
}

impl RunSink for RunFanOut {
    fn degraded(&self, key: &VersionKey, reason: Degraded) {
        self.breakers.degraded(&key.namespace, &key.function, reason);
    }

    fn begin(&self, plan: &VersionPlan) -> OpenRun {
        let (key, spec) = (&plan.key, &plan.spec);
        let function = self.metrics.function(&key.namespace, &key.function);
        let counts = self.signals.function(&key.namespace, &key.function, spec);
        let terms = Terms::of(spec);
        let (in_flight, recorder, loops) = (function.begin(), self.recorder.clone(), self.loops.clone());
        OpenRun::new(move |run| {
            function.record(&run);
            counts.record(&run, terms);
            drop(in_flight);
            if run.error == Some(ErrorCode::LoopDetected) {
                loops.stopped(&run);
            }
            recorder.record(run);
        })
    }

    fn refused(&self, plan: &VersionPlan, fault: &Fault) {
        let key = &plan.key;
        self.metrics.function(&key.namespace, &key.function).refused(fault.code);
        self.signals.function(&key.namespace, &key.function, &plan.spec).refused(fault.code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alula_model::alarm::Window;
    use alula_model::{
        FunctionSpec, InvocationId, Name, Phases, Run, RunStatus, Tier, Timestamp, TriggerKind,
    };
    use alula_telemetry::runs::{self, RunOptions};
    use alula_telemetry::signals::Subject;
    use alula_telemetry::usage::Ledger;

    fn run(key: &VersionKey) -> Run {
        Run {
            id: InvocationId::new("call-1").unwrap(),
            key: key.clone(),
            qualifier: "latest".to_owned(),
            trigger: TriggerKind::Http,
            attempt: 1,
            status: RunStatus::Done,
            http_status: None,
            error: None,
            message: None,
            started_at: Timestamp(0),
            phases: Phases::default(),
            tier: Tier::Warm,
            instance: None,
            request_bytes: 0,
            response_bytes: 0,
            parent: None,
            caller: None,
            degraded: None,
        }
    }

    #[test]
    fn a_call_is_in_flight_until_its_run_is_recorded_or_nobody_will() {
        let history = Arc::new(alula_store::MemoryStore::new());
        let (_service, recorder) =
            runs::start(RunOptions::default(), history, Arc::new(crate::clock::SystemClock));
        let (loops, _reports) = alula_invoke::later::watch_loops();
        let signals = Signals::new(Arc::new(crate::clock::SystemClock), Ledger::default());
        let metrics = Metrics::new();
        let sink = RunFanOut { breakers: metrics.breakers(), metrics, signals, recorder, loops };
        let shows = |count: usize| {
            let text = sink.metrics.render();
            let line = format!("in_flight{{namespace=\"default\",function=\"hello\"}} {count}");
            assert!(text.contains(&line), "{text}");
        };
        let key = VersionKey {
            namespace: Name::default_namespace(),
            function: Name::new("hello").unwrap(),
            version: 1,
        };
        let plan = VersionPlan::new(key.clone(), FunctionSpec::new("exec"), std::path::PathBuf::new());
        let (one, other) = (sink.begin(&plan), sink.begin(&plan));
        shows(2);
        one.close(run(&key));
        shows(1);
        drop(other);
        shows(0);
        assert_eq!(
            sink.signals.tally(&Subject::Node, Window::Hour).calls(),
            1,
            "who never ended says nothing"
        );
    }
}
