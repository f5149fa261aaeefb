//! Where one component's port meets another component's handle.

use std::sync::Arc;

use alula_control::Control;
use alula_gateway::Observe;
use alula_invoke::RunSink;
use alula_model::{Fault, InstanceId, Run, SpecError};
use alula_runtime::{Backend, BoxFuture, Started, VersionPlan};
use alula_telemetry::metrics::{Listener, Metrics};
use alula_telemetry::runs::RunRecorder;

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

/// A back end whose versions have their code unpacked before they start.
#[derive(Debug)]
pub(crate) struct UnpackFirst<B> {
    pub(crate) control: Control,
    pub(crate) inner: B,
}

impl<B: Backend> Backend for UnpackFirst<B> {
    fn validate(&self, plan: &VersionPlan) -> Result<(), SpecError> {
        self.inner.validate(plan)
    }

    fn start(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        Box::pin(async move {
            self.control.ensure_code(&plan).await?;
            self.inner.start(plan, id).await
        })
    }
}

/// Hands finished runs to the metrics and to the history.
#[derive(Debug)]
pub(crate) struct RunFanOut {
    pub(crate) metrics: Metrics,
    pub(crate) recorder: RunRecorder,
}

impl RunSink for RunFanOut {
    fn record(&self, run: Run) {
        self.metrics.function(&run.key.namespace, &run.key.function).record(&run);
        self.recorder.record(run);
    }
}
