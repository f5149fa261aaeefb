//! What alarms look at besides calls: instances, the queue, schedules, the disk, the certificate, what was dropped.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alula_alarm::{Measure, Round, Sample, Subject};
use alula_invoke::later::{Calls, LaneClass, QueueInfo};
use alula_model::alarm::Signal;
use alula_model::{Clock, Name, Timestamp};
use alula_pool::{Pool, VersionHealth};
use alula_runtime::BoxFuture;
use alula_telemetry::metrics::AlarmMetrics;
use alula_telemetry::{logs::LogHandle, runs::RunRecorder};
use alula_trigger::schedule::{Filter, Handle, Readiness};
use tokio::time::Instant;

use crate::assembly::Core;

/// How long it counts that something was dropped.
const SHED_SPAN: Duration = Duration::from_secs(300);
/// Changes of one counter that are noted within it.
const SHED_NOTED_MAX: usize = 1_000;
const DAY_MS: f64 = 24.0 * 3_600_000.0;

/// Everything that is measured.
#[derive(Debug)]
pub(super) struct Machine {
    pool: Pool,
    calls: Calls,
    schedules: Handle,
    data_dir: PathBuf,
    certificate_ends: Option<Timestamp>,
    clock: Arc<dyn Clock>,
    logs: LogHandle,
    recorder: RunRecorder,
    messages: AlarmMetrics,
    shed: Mutex<BTreeMap<&'static str, VecDeque<(Instant, u64)>>>,
}

impl Machine {
    pub(super) fn new(core: &Core, calls: Calls, schedules: Handle, messages: AlarmMetrics) -> Self {
        // The certificate is read once, as by the gateway.
        let tls = core.config.gateway.tls.as_ref();
        Self {
            pool: core.pool.clone(),
            calls,
            schedules,
            data_dir: core.data_dir.path().to_owned(),
            certificate_ends: tls.and_then(alula_gateway::certificate::ends_at),
            clock: Arc::clone(&core.clock),
            logs: core.telemetry.logs.clone(),
            recorder: core.telemetry.recorder.clone(),
            messages,
            shed: Mutex::default(),
        }
    }

    fn schedules(&self) -> Vec<Sample> {
        let short = self.schedules.not_ready(&Filter::default());
        let sample = |view: alula_trigger::schedule::ScheduleView| {
            let subject =
                Subject::function(&view.key.namespace, &view.key.function).part(view.key.trigger.as_str());
            let reason = match view.readiness {
                Readiness::NotReady { reason } => reason,
                _ => String::new(),
            };
            Sample::new(Signal::ScheduleNotReady, subject, 1.0).with(reason)
        };
        short.into_iter().map(sample).collect()
    }

    fn disk(&self) -> Option<Sample> {
        let found = rustix::fs::statvfs(&self.data_dir).ok()?;
        let used = found.f_blocks.saturating_sub(found.f_bfree);
        // As `df` has it: what only root may use is neither used nor free.
        let percent = used as f64 * 100.0 / (used + found.f_bavail).max(1) as f64;
        let left_mb = found.f_bavail.saturating_mul(found.f_frsize) / (1024 * 1024);
        let detail = format!("{left_mb} MB are left for {}", self.data_dir.display());
        Some(Sample::new(Signal::DiskPercent, Subject::default(), percent).with(detail))
    }

    fn certificate(&self) -> Option<Sample> {
        let ends = self.certificate_ends?;
        let days = (ends.as_millis() - self.clock.now().as_millis()) as f64 / DAY_MS;
        Some(Sample::new(Signal::CertificateDays, Subject::default().part("public listener"), days))
    }

    /// What was dropped within the last minutes, by what it was.
    fn shed(&self) -> Vec<Sample> {
        let dropped = [
            ("log lines", self.logs.dropped().get()),
            ("run records", self.recorder.dropped().get()),
            ("alarm messages", self.messages.lost()),
        ];
        let now = Instant::now();
        let mut shed = self.shed.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = dropped.into_iter().map(|(what, count)| {
            let seen = shed.entry(what).or_default();
            // The first is how things stood before the span.
            while seen.len() > 1 && now.duration_since(seen[1].0) > SHED_SPAN {
                seen.pop_front();
            }
            let before = seen.front().map_or(0, |(_, count)| *count);
            // Only changes are noted, so that looking often takes no more memory than looking seldom.
            if seen.back().is_none_or(|(_, last)| *last != count) && seen.len() < SHED_NOTED_MAX {
                seen.push_back((now, count));
            }
            Sample::new(Signal::Shed, Subject::default().part(what), count.saturating_sub(before) as f64)
        });
        samples.collect()
    }
}

impl Measure for Machine {
    fn measure(&self) -> BoxFuture<'_, Round> {
        Box::pin(async move {
            let mut round = Round::default();
            round.samples.extend(self.pool.health().iter().flat_map(of_version));
            round.samples.extend(self.schedules());
            round.samples.extend(self.disk());
            round.samples.extend(self.certificate());
            round.samples.extend(self.shed());
            match self.calls.queue().await {
                Ok(info) => round.samples.extend(of_queue(&info)),
                Err(fault) => {
                    tracing::debug!("the queue cannot be looked at: {fault}");
                    round.unknown.extend([Signal::QueueAgeSeconds, Signal::QueueDepth, Signal::DeadLetters]);
                }
            }
            round
        })
    }
}

fn of_version(health: &VersionHealth) -> Vec<Sample> {
    let subject = || {
        let key = &health.key;
        Subject::function(&key.namespace, &key.function).part(format!("version {}", key.version))
    };
    let (failures, fault) = &health.failed_starts;
    let why = fault.as_ref().map(|fault| format!("{}: {fault}", fault.code)).unwrap_or_default();
    let missing = health.min_instances.saturating_sub(health.instances);
    let mut samples = vec![
        Sample::new(Signal::InstanceRestarts, subject(), health.ended_lately as f64),
        Sample::new(Signal::FailedStarts, subject(), f64::from(*failures)).with(why.as_str()),
    ];
    if health.min_instances > 0 {
        let detail = format!("{} of {} are there; {why}", health.instances, health.min_instances);
        samples.push(Sample::new(Signal::InstancesMissing, subject(), missing as f64).with(detail));
    }
    if health.instances > 0 {
        let percent = health.memory_bytes as f64 * 100.0 / health.memory_bytes_max.max(1) as f64;
        samples.push(Sample::new(Signal::MemoryPercent, subject(), percent));
    }
    samples
}

/// What lies in the lanes of one function.
#[derive(Debug, Default)]
struct Waiting {
    messages: u64,
    dead: u64,
    oldest_ms: u64,
}

fn of_queue(info: &QueueInfo) -> Vec<Sample> {
    let mut functions: BTreeMap<(&Name, &Name), Waiting> = BTreeMap::new();
    for lane in &info.lanes {
        let waiting = functions.entry((&lane.lane.namespace, &lane.lane.function)).or_default();
        let stats = &lane.stats;
        waiting.messages += stats.available + stats.delayed + stats.held_back + stats.claimed;
        waiting.dead += stats.dead;
        // What waits because somebody wants it to has no age; who may be the oldest of a lane is not told apart.
        let is_due = stats.delayed == 0 && stats.available + stats.held_back + stats.claimed > 0;
        if is_due && lane.lane.class != LaneClass::Delivery {
            waiting.oldest_ms = waiting.oldest_ms.max(lane.oldest_ms);
        }
    }
    let samples = functions.into_iter().flat_map(|((namespace, function), waiting)| {
        let subject = || Subject::function(namespace, function);
        [
            Sample::new(Signal::QueueDepth, subject(), waiting.messages as f64),
            Sample::new(Signal::QueueAgeSeconds, subject(), waiting.oldest_ms as f64 / 1_000.0),
            Sample::new(Signal::DeadLetters, subject(), waiting.dead as f64),
        ]
    });
    samples.collect()
}
