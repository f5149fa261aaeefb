//! Triggers, assembled: who checks them at deploy, who watches them.

use std::collections::BTreeMap;
use std::sync::Arc;

use alula_control::CheckTriggers;
use alula_invoke::later::Calls;
use alula_model::SpecError;
use alula_model::trigger::Trigger;
use alula_telemetry::metrics::ScheduleMetrics;
use alula_trigger::schedule::{self, Handle, Observe, Service};

use crate::assembly::Core;
use crate::sources::Sources;

/// The triggers that this program can watch.
#[derive(Debug)]
pub(crate) struct KnownTriggers;

impl CheckTriggers for KnownTriggers {
    fn check(&self, triggers: &[Trigger], env: &BTreeMap<String, String>) -> Result<(), SpecError> {
        alula_trigger::check::check(triggers)?;
        alula_broker::check(triggers, env)
    }
}

/// Makes the scheduler.
pub(crate) fn schedules(core: &Core, calls: &Calls, sources: &mut Sources) -> Handle {
    let parts = schedule::Parts {
        deployed: Arc::new(core.control.catalog().clone()),
        records: core.store.clone(),
        accept: Arc::new(calls.clone()),
        pool: core.pool.clone(),
        observe: Arc::new(SlotMetrics(core.telemetry.metrics.schedules())),
        clock: Arc::clone(&core.clock),
    };
    let (service, schedules) = Service::new(schedule::Options::default(), parts);
    sources.add(|stop| service.run(stop));
    schedules
}

/// Counts slots.
#[derive(Debug)]
struct SlotMetrics(ScheduleMetrics);

impl Observe for SlotMetrics {
    fn admitted(&self, lateness_ms: u64) {
        self.0.admitted(lateness_ms);
    }

    fn skipped(&self, reason: &'static str) {
        self.0.skipped(reason);
    }

    fn failed(&self) {
        self.0.failed();
    }

    fn not_ready(&self) {
        self.0.not_ready();
    }

    fn in_force(&self, schedules: usize) {
        self.0.in_force(schedules);
    }
}
