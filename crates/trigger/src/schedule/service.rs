//! The loop: waits for the next slot, admits what has come, follows what is deployed.

use std::sync::Arc;
use std::time::Duration;

use alula_model::{Clock, Timestamp};
use alula_pool::Pool;
use alula_store::Records;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::admit::{Admission, Done, End};
use super::handle::Shared;
use super::look_ahead::LookAhead;
use super::plan::Plan;
use super::states::States;
use super::sync::sync;
use super::table::{Due, Next};
use super::{Accept, Deployed, Handle, Observe, Options};
use crate::Pauses;

/// The wall clock is looked at so often at least: it may jump while the service waits.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(1);
/// Wait after the first failure of the same slot; it doubles with each.
const RETRY_FIRST_MS: i64 = 500;
/// The longest of these waits.
const RETRY_LONGEST_MS: i64 = 30_000;
/// Wait after the store failed while what is deployed was taken in.
const SYNC_RETRY: Duration = Duration::from_secs(1);

/// What schedules work with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Knows which schedules are in force.
    pub deployed: Arc<dyn Deployed>,
    /// Where the next slots are recorded; the messages of calls go into the same store.
    pub records: Arc<dyn Records>,
    /// Takes the calls.
    pub accept: Arc<dyn Accept>,
    /// Is asked for instances ahead.
    pub pool: Pool,
    /// Is told what happens.
    pub observe: Arc<dyn Observe>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Makes schedules fire.
#[derive(Debug)]
pub struct Service {
    shared: Arc<Shared>,
    deployed: Arc<dyn Deployed>,
    admission: Admission,
    look_ahead: LookAhead,
    has_synced: bool,
}

impl Service {
    /// The service and what others hold of it.
    #[must_use]
    pub fn new(options: Options, parts: Parts) -> (Self, Handle) {
        let Parts { deployed, records, accept, pool, observe, clock } = parts;
        let (states, pauses) = (States::new(Arc::clone(&records)), Pauses::new(records));
        let admission = Admission {
            states: states.clone(),
            pauses: pauses.clone(),
            accept,
            observe: Arc::clone(&observe),
            clock: Arc::clone(&clock),
            missed_after_ms: options.missed_after_ms,
        };
        let places = Arc::new(Semaphore::new(options.look_ahead_max));
        let shared = Arc::new(Shared::new(options, states, pauses, clock));
        let look_ahead = LookAhead { pool, places, observe, shared: Arc::clone(&shared) };
        let handle = Handle { shared: Arc::clone(&shared) };
        (Self { shared, deployed, admission, look_ahead, has_synced: false }, handle)
    }

    /// Runs until `stop`; admissions on their way are finished.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut admitting = FuturesUnordered::new();
        let mut sync_at: Option<tokio::time::Instant> = None;
        let mut changed = self.deployed.changed();
        let mut is_outdated = true;
        while !stop.is_cancelled() {
            let may_sync = sync_at.is_none_or(|at| at <= tokio::time::Instant::now());
            if is_outdated && may_sync && admitting.is_empty() {
                is_outdated = !self.sync().await;
                sync_at = is_outdated.then(|| tokio::time::Instant::now() + SYNC_RETRY);
            }
            // While something deployed waits to be taken in, what is on its way ends first.
            if !is_outdated || !may_sync {
                let now = self.shared.clock.now();
                let room = self.shared.options.admitting_max - admitting.len();
                let Due { fire, look_ahead } = self.shared.table().take_due(now, room);
                look_ahead.into_iter().for_each(|entry| self.look_ahead.begin(entry, now));
                admitting.extend(fire.into_iter().map(|entry| self.admission.clone().run(entry, now)));
            }
            let has_room = admitting.len() < self.shared.options.admitting_max;
            tokio::select! {
                () = stop.cancelled() => {}
                Ok(()) = changed.changed() => is_outdated = true,
                Some(done) = admitting.next() => is_outdated |= self.finish(done),
                () = self.shared.rearmed.notified() => {}
                () = tokio::time::sleep(self.wait()), if has_room => {}
            }
        }
        while let Some(done) = admitting.next().await {
            self.finish(done);
        }
    }

    /// Takes in what is deployed; answers whether that worked.
    async fn sync(&mut self) -> bool {
        let declared = self.deployed.schedules();
        match sync(&self.shared, declared, !self.has_synced).await {
            Ok(()) => {
                self.has_synced = true;
                self.look_ahead.observe.in_force(self.shared.table().len());
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the records of schedules cannot be read or written, it is tried again");
                false
            }
        }
    }

    /// Takes in what became of an admission; answers whether what is deployed has to be looked at again.
    fn finish(&self, done: Done) -> bool {
        let Done { key, end } = done;
        let (now, look_ahead_ms) = (self.shared.clock.now(), self.shared.options.look_ahead_ms);
        let mut table = self.shared.table();
        let next = match end {
            End::Moved(stored) => {
                table.learn(&key, Some(stored), None, None);
                Next::Slot
            }
            End::Paused(stored, pause) => {
                table.learn(&key, Some(stored), Some(pause), None);
                let entry = table.get(&key);
                let plan = entry.and_then(|entry| Plan::parse(entry.declared.source()).ok());
                let Some(next) = plan.and_then(|plan| plan.next(now)) else { return false };
                Next::At(next)
            }
            End::Stale => {
                table.remove(&key);
                return true;
            }
            End::Failed(message) => {
                let pause = table.get(&key).and_then(|entry| entry.pause.clone());
                table.learn(&key, None, pause, Some(message));
                let problem = table.get(&key).and_then(|entry| entry.problem.as_ref());
                Next::At(now.plus_millis(retry_wait_ms(problem.map_or(1, |problem| problem.failures))))
            }
        };
        table.arm(&key, next, look_ahead_ms);
        false
    }

    fn wait(&self) -> Duration {
        let now = self.shared.clock.now();
        let next = self.shared.table().next_at();
        next.map_or(LOOK_AT_CLOCK, |next| until(now, next).min(LOOK_AT_CLOCK))
    }
}

fn until(now: Timestamp, next: Timestamp) -> Duration {
    Duration::from_millis(next.millis_since(now))
}

fn retry_wait_ms(failures: u32) -> i64 {
    RETRY_FIRST_MS.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(RETRY_LONGEST_MS)
}
