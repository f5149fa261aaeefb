//! Triggers, assembled: who checks them at deploy, who watches them.

use std::sync::Arc;

use alula_control::{Catalog, CheckTriggers};
use alula_invoke::later::Calls;
use alula_model::trigger::Trigger;
use alula_model::{Clock, SpecError};
use alula_pool::Pool;
use alula_store::SqliteStore;
use alula_telemetry::metrics::{Metrics, ScheduleMetrics};
use alula_trigger::schedule::{self, Handle, Observe, Service};

/// The triggers that this program can watch.
#[derive(Debug)]
pub(crate) struct KnownTriggers;

impl CheckTriggers for KnownTriggers {
    fn check(&self, triggers: &[Trigger]) -> Result<(), SpecError> {
        alula_trigger::check::check(triggers)
    }
}

/// What schedules are made from.
pub(crate) struct Base<'a> {
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) catalog: Catalog,
    pub(crate) calls: Calls,
    pub(crate) pool: Pool,
    pub(crate) metrics: &'a Metrics,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Makes the scheduler.
pub(crate) fn assemble(base: Base<'_>) -> (Service, Handle) {
    let parts = schedule::Parts {
        deployed: Arc::new(base.catalog),
        records: base.store,
        accept: Arc::new(base.calls),
        pool: base.pool,
        observe: Arc::new(SlotMetrics(base.metrics.schedules())),
        clock: base.clock,
    };
    Service::new(schedule::Options::default(), parts)
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
