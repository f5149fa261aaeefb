//! What is counted of functions beyond metrics, assembled: golden signals and usage.

use std::sync::Arc;

use alula_model::{Clock, Qualifier};
use alula_store::Store;
use alula_telemetry::signals::Signals;
use alula_telemetry::usage::{Ledger, Service, ServiceParts};

use crate::config::Config;

/// What counts calls, and what writes down what they used.
pub(crate) fn count(config: &Config, store: &Arc<dyn Store>, clock: &Arc<dyn Clock>) -> (Signals, Service) {
    let ledger = Ledger::default();
    let signals = Signals::new(Arc::clone(clock), ledger.clone());
    let parts = ServiceParts {
        signals: signals.clone(),
        ledger,
        records: store.clone(),
        clock: Arc::clone(clock),
        writer: uuid::Uuid::now_v7().simple().to_string(),
        keep_days: config.usage.keep_days,
    };
    (signals, Service::new(parts))
}

/// Gives the signals what earlier runs have counted for the objectives of functions that are deployed.
pub(crate) async fn recall_objectives(control: &alula_control::Control, usage: &Service) {
    let snapshot = Arc::clone(&control.catalog().load());
    for entry in snapshot.entries() {
        let plan = entry.plan(&Qualifier::Latest).ok();
        let Some((plan, slo)) = plan.and_then(|plan| Some((plan, plan.spec.slo.as_ref()?))) else { continue };
        let function = (&plan.key.namespace, &plan.key.function);
        if let Err(error) = usage.recall(function, slo.window_days).await {
            tracing::warn!(%error, version = %plan.key, "what its objective has used of its budget cannot be read");
        }
    }
}
