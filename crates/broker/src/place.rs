//! One trigger: what it says, whom it calls, and where it stands. Shared by whatever works for it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_invoke::later::Miss;
use alula_model::trigger::Batching;
use alula_model::{Clock, Fault, FunctionRef, RetryPolicy, Timestamp};
use bytes::Bytes;

use crate::event::Shape;
use crate::network::Network;
use crate::ports::{Call, Gate, Keep, Letter, Observe};
use crate::source::{Record, SourceError};
use alula_trigger::TriggerKey;

/// What brokers are watched with.
#[derive(Clone)]
pub struct Parts {
    /// Calls functions.
    pub call: Arc<dyn Call>,
    /// Keeps what is not delivered.
    pub keep: Arc<dyn Keep>,
    /// Knows what is paused.
    pub gate: Arc<dyn Gate>,
    /// Leads to brokers.
    pub network: Network,
    /// Is told what happens.
    pub observe: Arc<dyn Observe>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Gives random numbers.
    pub random: fn() -> u64,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("call", &self.call).field("keep", &self.keep).finish_non_exhaustive()
    }
}

/// One trigger.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) key: TriggerKey,
    pub(crate) kind: &'static str,
    pub(crate) target: FunctionRef,
    pub(crate) batching: Batching,
    pub(crate) shape: Shape,
    pub(crate) parts: Parts,
    state: Mutex<State>,
}

/// Where a trigger stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Since when it is connected; `None` while it is not.
    pub connected_since: Option<Timestamp>,
    /// When the last record came.
    pub last_record_at: Option<Timestamp>,
    /// The last thing that went wrong, with its broker or its function.
    pub last_error: Option<Problem>,
    /// Records that wait at the broker, where it tells.
    pub lag: Option<u64>,
    /// Records that were delivered since the platform watches this trigger.
    pub delivered: u64,
    /// Records that were kept as dead letters since then.
    pub parked: u64,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// When.
    pub at: Timestamp,
    /// What, in words; no address, user or password is in it.
    pub message: String,
}

impl Place {
    pub(crate) fn new(
        key: TriggerKey,
        kind: &'static str,
        target: FunctionRef,
        batching: Batching,
        shape: Shape,
        parts: Parts,
    ) -> Self {
        Self { key, kind, target, batching, shape, parts, state: Mutex::default() }
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> State {
        self.locked().clone()
    }

    /// Held for single changes only, and never across a wait.
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an operator has paused it. Where that cannot be read, it goes on as before.
    pub(crate) async fn is_paused(&self) -> bool {
        match self.parts.gate.is_shut(&self.key).await {
            Ok(is_shut) => is_shut,
            Err(error) => {
                tracing::warn!(trigger = %self.key, %error, "whether a trigger is paused cannot be read");
                false
            }
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    pub(crate) fn random(&self) -> u64 {
        (self.parts.random)()
    }

    pub(crate) fn attempts_max(&self) -> u32 {
        self.batching.attempts
    }

    /// The event with these records.
    pub(crate) fn event<'a>(&self, records: impl Iterator<Item = &'a Record> + Clone) -> Bytes {
        self.shape.event(records)
    }

    pub(crate) async fn call(&self, attempt: u32, event: Bytes) -> Result<Bytes, Miss> {
        self.parts.call.call(&self.target, attempt, event).await
    }

    pub(crate) async fn bury(&self, letters: Vec<Letter>) -> Result<(), Fault> {
        let buried = self.parts.keep.bury(&self.target, letters).await;
        if let Err(fault) = &buried {
            tracing::warn!(trigger = %self.key, %fault, "records cannot be kept as dead letters, it is tried again");
            self.went_wrong(format!("dead letters cannot be kept: {fault}"));
        }
        buried
    }

    /// Hands records that nobody else keeps to the queue.
    pub(crate) async fn defer(&self, records: &[Record], attempts: u32, policy: &RetryPolicy) {
        let event = self.event(records.iter());
        for attempt in 1..=attempts {
            match self.parts.keep.defer(&self.target, event.clone()).await {
                Ok(()) => return self.ended("deferred", records.len()),
                Err(fault) => {
                    tracing::warn!(trigger = %self.key, %fault, "records cannot be put into the queue")
                }
            }
            tokio::time::sleep(Duration::from_millis(policy.wait_ms(attempt, self.random()))).await;
        }
        tracing::error!(trigger = %self.key, records = records.len(), "records were lost: no broker keeps them, \
                        and the store did not answer while the platform stopped");
        self.ended("lost", records.len());
    }

    pub(crate) fn received(&self) {
        self.locked().last_record_at = Some(self.now());
        self.parts.observe.received(&self.key, self.kind);
    }

    pub(crate) fn ended(&self, end: &'static str, records: usize) {
        let count = records as u64;
        match end {
            "delivered" => self.locked().delivered += count,
            "parked" => self.locked().parked += count,
            _ => {}
        }
        if records > 0 {
            self.parts.observe.ended(&self.key, self.kind, end, records);
        }
    }

    pub(crate) fn failed(&self, records: usize, miss: &Miss) {
        tracing::debug!(trigger = %self.key, records, message = %miss.message, "an event failed");
        self.went_wrong(miss.message.clone());
        self.parts.observe.failed(&self.key, self.kind, records);
    }

    pub(crate) fn connected(&self) {
        tracing::info!(trigger = %self.key, kind = self.kind, "connected to the broker");
        self.locked().connected_since = Some(self.now());
        self.parts.observe.connected(&self.key, self.kind, true);
    }

    /// There is no connection any more, in good order.
    pub(crate) fn parted(&self) {
        {
            let mut state = self.locked();
            state.connected_since = None;
            state.lag = None;
        }
        self.parts.observe.lag(&self.key, self.kind, None);
        self.parts.observe.connected(&self.key, self.kind, false);
    }

    /// There is no connection because of `error`; another is tried for after `wait`.
    pub(crate) fn broke(&self, error: &SourceError, wait: Duration) {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(trigger = %self.key, kind = self.kind, %error, wait_ms, "no connection to the broker");
        self.parted();
        self.went_wrong(error.to_string());
    }

    pub(crate) fn lags(&self, lag: Option<u64>) {
        self.locked().lag = lag;
        self.parts.observe.lag(&self.key, self.kind, lag);
    }

    fn went_wrong(&self, message: String) {
        self.locked().last_error = Some(Problem { at: self.now(), message });
    }
}
