//! Run records on their way into the history.
//!
//! A finished run is put into a bounded queue without waiting; a task appends what has gathered to the store's
//! [`History`] in batches, so that a thousand runs cost one commit. While the store does not answer, runs gather; when
//! the queue is full they are dropped and counted. The same task forgets runs by age and number.
//!
//! Deliberately absent: reading runs, which is the history's own business.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{Clock, Run};
use alula_store::History;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;

/// Settings of the recorder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// Age at which runs are forgotten, in milliseconds.
    pub retention_ms: i64,
    /// Runs that are kept at the most.
    pub keep_max: u64,
}

impl Default for RunOptions {
    /// A month, and some ten gigabytes.
    fn default() -> Self {
        Self { retention_ms: 30 * 24 * 3600 * 1000, keep_max: 10_000_000 }
    }
}

/// Runs that wait: a second of more than a machine can run, in some tens of megabytes.
const WAITING_MAX: usize = 32_768;
/// Runs appended in one commit.
const BATCH_LEN_MAX: usize = 2_048;
/// Time in which runs gather before they are appended together: small against what a person notices.
const GATHER: Duration = Duration::from_millis(100);
/// Time between two tries when the store does not answer.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long a reader waits for what was recorded before: the store takes milliseconds, unless it is gone.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);
/// Tries for one batch while the platform is shutting down.
const LAST_TRIES_MAX: u32 = 5;
/// How often old runs are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Takes finished runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RunRecorder {
    shared: Arc<Shared>,
}

/// Appends what the recorder took. Runs until it is cancelled.
#[derive(Debug)]
pub struct RunService {
    options: RunOptions,
    history: Arc<dyn History>,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    settled: watch::Sender<u64>,
}

#[derive(Debug)]
struct Shared {
    /// Locked to push one run or to take a batch. It grows with what gathers: room for the most that may wait would
    /// be megabytes that an idle platform holds for nothing.
    waiting: Mutex<VecDeque<Run>>,
    /// Whether the service has been told that something waits.
    is_told: AtomicBool,
    wake: Notify,
    /// Somebody waits for the runs to be appended: do not gather.
    hurry: Notify,
    /// Runs taken into the queue so far.
    taken: AtomicU64,
    /// Runs that are in the history or were given up.
    settled: watch::Receiver<u64>,
    dropped: Counter,
}

/// Makes the service and its recorder. Runs are taken at once and appended when the service runs.
#[must_use]
pub fn start(
    options: RunOptions,
    history: Arc<dyn History>,
    clock: Arc<dyn Clock>,
) -> (RunService, RunRecorder) {
    let (settled, receiver) = watch::channel(0);
    let shared = Arc::new(Shared {
        waiting: Mutex::default(),
        is_told: AtomicBool::new(false),
        wake: Notify::new(),
        hurry: Notify::new(),
        taken: AtomicU64::new(0),
        settled: receiver,
        dropped: Counter::default(),
    });
    (RunService { options, history, clock, shared: Arc::clone(&shared), settled }, RunRecorder { shared })
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Run>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was room.
    fn push(&self, run: Run) -> bool {
        let mut waiting = self.waiting();
        let has_room = waiting.len() < WAITING_MAX;
        if has_room {
            waiting.push_back(run);
        }
        has_room
    }

    fn take_batch(&self) -> Arc<[Run]> {
        let mut waiting = self.waiting();
        let batch = if waiting.len() > BATCH_LEN_MAX {
            waiting.drain(..BATCH_LEN_MAX).collect()
        } else {
            std::mem::take(&mut *waiting)
        };
        drop(waiting);
        batch.into_iter().collect()
    }
}

impl RunRecorder {
    /// Takes a run. Never waits: when the queue is full the run is dropped and counted.
    pub fn record(&self, run: Run) {
        let shared = &self.shared;
        if !shared.push(run) {
            shared.dropped.inc();
            return;
        }
        shared.taken.fetch_add(1, Ordering::Release);
        if !shared.is_told.swap(true, Ordering::AcqRel) {
            shared.wake.notify_one();
        }
    }

    /// Waits until every run that was recorded before this call is in the history or given up, or the service has
    /// ended; where the store does not answer, no longer than two seconds.
    pub async fn flush(&self) {
        let taken = self.shared.taken.load(Ordering::Acquire);
        let mut settled = self.shared.settled.clone();
        self.shared.hurry.notify_one();
        // An error says that the service has ended, or that the store is gone, which readers are told when they read.
        let settling = settled.wait_for(|settled| *settled >= taken);
        drop(tokio::time::timeout(FLUSH_PATIENCE, settling).await);
    }

    /// Counts the runs that were dropped.
    #[must_use]
    pub fn dropped(&self) -> Counter {
        self.shared.dropped.clone()
    }
}

impl RunService {
    /// Appends runs until `cancel`, and then what was taken before it.
    pub async fn run(self, cancel: CancellationToken) {
        let mut prune = interval_at(Instant::now() + PRUNE_EVERY, PRUNE_EVERY);
        prune.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !cancel.is_cancelled() {
            tokio::select! {
                () = self.shared.wake.notified() => {
                    tokio::select! {
                        () = sleep(GATHER) => {}
                        () = self.shared.hurry.notified() => {}
                        () = cancel.cancelled() => {}
                    }
                    self.append_waiting(&cancel).await;
                }
                _ = prune.tick() => self.prune().await,
                () = cancel.cancelled() => {}
            }
        }
        self.append_waiting(&cancel).await;
    }

    async fn append_waiting(&self, cancel: &CancellationToken) {
        // Cleared before the queue is emptied: a run that comes later tells the service again.
        self.shared.is_told.store(false, Ordering::Release);
        loop {
            let batch = self.shared.take_batch();
            let length = batch.len();
            if length > 0 {
                let count = length as u64;
                if !self.append(batch, cancel).await {
                    self.shared.dropped.inc_by(count);
                }
                self.settled.send_modify(|settled| *settled += count);
            }
            // What came during the append gathers anew: going on until nothing is left would be, under load, an append
            // for every few runs.
            if length < BATCH_LEN_MAX {
                return;
            }
        }
    }

    /// Tries until the store takes the batch, refuses it for good, or the platform has to end. Whether it was taken.
    async fn append(&self, batch: Arc<[Run]>, cancel: &CancellationToken) -> bool {
        let mut last_tries = 0;
        loop {
            let Err(error) = self.history.append(Arc::clone(&batch)).await else { return true };
            tracing::error!(%error, runs = batch.len(), "runs could not be appended to the history");
            last_tries += u32::from(cancel.is_cancelled());
            if !error.is_retryable() || last_tries >= LAST_TRIES_MAX {
                return false;
            }
            sleep(RETRY_AFTER).await;
        }
    }

    async fn prune(&self) {
        let before = self.clock.now().plus_millis(self.options.retention_ms.saturating_neg());
        match self.history.prune(before, self.options.keep_max).await {
            Ok(0) => {}
            Ok(runs) => tracing::debug!(runs, "old runs were forgotten"),
            Err(error) => tracing::warn!(%error, "old runs could not be forgotten"),
        }
    }
}
