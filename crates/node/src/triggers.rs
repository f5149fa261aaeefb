//! Triggers, assembled: who checks them at deploy, who watches them.

use std::collections::BTreeMap;
use std::sync::Arc;

use alula_control::CheckTriggers;
use alula_invoke::later::Calls;
use alula_model::trigger::Trigger;
use alula_model::{AccessSpec, SpecError};
use alula_telemetry::metrics::{FolderMetrics, ScheduleMetrics};
use alula_trigger::folder::{self, Allowed};
use alula_trigger::schedule::{self, Handle, Observe, Service};

use crate::assembly::Core;
use crate::sources::Sources;

/// The triggers that this program can watch.
#[derive(Debug)]
pub(crate) struct KnownTriggers {
    /// The folders that may be watched.
    pub(crate) folders: Allowed,
}

impl CheckTriggers for KnownTriggers {
    fn check(&self, triggers: &[Trigger], env: &BTreeMap<String, String>) -> Result<(), SpecError> {
        alula_trigger::check::check(triggers)?;
        self.folders.check(triggers)?;
        alula_broker::check(triggers, env)
    }

    fn check_access(&self, access: &AccessSpec) -> Result<(), SpecError> {
        alula_identity::calling::check(access).map_err(|reason| SpecError { field: "access", reason })
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

/// Makes what watches folders.
pub(crate) fn folders(core: &Core, calls: &Calls, sources: &mut Sources) -> folder::Handle {
    let parts = folder::Parts {
        catalog: core.control.catalog().clone(),
        allowed: Allowed::new(&core.config.triggers.folders),
        records: core.store.clone(),
        deliver: Arc::new(calls.acceptor().clone()),
        observe: Arc::new(CountedFiles(core.telemetry.metrics.folders())),
        clock: Arc::clone(&core.clock),
    };
    let (service, folders) = folder::Service::new(parts);
    sources.add(|stop| service.run(stop));
    folders
}

/// Counts files.
#[derive(Debug)]
struct CountedFiles(FolderMetrics);

impl folder::Observe for CountedFiles {
    fn told(&self, change: &'static str) {
        self.0.told(change);
    }

    fn failed(&self) {
        self.0.failed();
    }

    fn in_force(&self, triggers: usize) {
        self.0.in_force(triggers);
    }
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
