//! Looking up, waiting for and cancelling: what people and callers do with calls after they were accepted; and the queue
//! as a whole. What was given up stands in `dead`.

use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, InvocationId, Name, Timestamp, TriggerKind};
use alula_store::{Batch, Expect, Found, LaneStats, MessageId, MessageState, Totals};
use bytes::Bytes;

use super::envelope::{Envelope, Head};
use super::outcome::{Outcome, OutcomeStatus};
use super::rates::Rates;
use super::trail::Trail;
use super::worker::{Ends, Service, WorkerParts};
use super::{Acceptor, Flow, FlowKey, Lane, error};

/// How often a call is looked at again that nobody here will tell about: it may run in another process.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is known of calls. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Calls {
    pub(super) acceptor: Acceptor,
    pub(super) queue: Arc<dyn alula_store::WholeQueue>,
    ends: Ends,
    rates: Rates,
}

/// One call and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The call.
    pub id: InvocationId,
    /// The tenant.
    pub namespace: Name,
    /// The function.
    pub function: Name,
    /// The version that it runs on.
    pub version: u64,
    /// What caused it.
    pub trigger: Option<TriggerKind>,
    /// Where it stands.
    pub state: CallState,
    /// Attempts that have begun.
    pub attempts: u32,
    /// What became of the ones that did not end well.
    pub trail: Trail,
    /// When it was accepted.
    pub accepted_at: Timestamp,
}

/// Where a call stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallState {
    /// It waits until this moment, or for others before it.
    Waiting {
        /// From when on it may run.
        available_at: Timestamp,
    },
    /// An earlier one with the same ordering key must end first.
    HeldBack,
    /// It runs.
    Running,
    /// It was given up.
    Dead {
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
    /// It has ended.
    Ended(Box<Outcome>),
}

impl CallState {
    /// Whether nothing will change any more unless somebody acts.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Dead { .. } | Self::Ended(_))
    }
}

/// What is in the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueInfo {
    /// What ever went in and what became of it.
    pub totals: Totals,
    /// Every lane that holds messages.
    pub lanes: Vec<LaneInfo>,
    /// What is paused or drained.
    pub flows: Vec<(FlowKey, Flow)>,
}

/// One lane.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneInfo {
    /// The lane.
    pub lane: Lane,
    /// What is in it.
    pub stats: LaneStats,
    /// Age of the oldest message that is not dead, in milliseconds.
    pub oldest_ms: u64,
    /// Attempts that ended in a second in this process, over the last minute.
    pub ended_per_second: f64,
}

impl Calls {
    /// What is known of the calls of `acceptor`, and the worker that runs them.
    #[must_use]
    pub fn with_worker(parts: WorkerParts) -> (Self, Service) {
        let (ends, rates) = (Ends::default(), Rates::default());
        let calls = Self {
            acceptor: parts.acceptor.clone(),
            queue: Arc::clone(&parts.queue),
            ends: ends.clone(),
            rates: rates.clone(),
        };
        (calls, Service::new(parts, ends, rates))
    }

    /// Accepts calls.
    #[must_use]
    pub fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    pub(super) fn now(&self) -> Timestamp {
        self.acceptor.parts().clock.now()
    }

    /// Where a call stands, as long as anything is known of it.
    pub async fn find(&self, id: &InvocationId) -> Result<Option<Call>, Fault> {
        // A message goes in the commit that the outcome comes in, so looking in this order misses nothing.
        let message = MessageId(id.as_str().to_owned());
        let found = self.queue.find(&message, self.now()).await.map_err(|error| error::of_store(&error))?;
        if let Some(found) = found {
            return Ok(waiting_call(id, found));
        }
        Ok(self.outcome(id).await?.map(|(outcome, _)| ended_call(outcome)))
    }

    async fn outcome(&self, id: &InvocationId) -> Result<Option<(Outcome, Bytes)>, Fault> {
        let record = self.acceptor.parts().records.get(&Outcome::key(id)).await;
        let record = record.map_err(|error| error::of_store(&error))?;
        let read = record.and_then(|record| Outcome::read(&record.value));
        Ok(read.filter(|(outcome, _)| outcome.kept_until > self.now()))
    }

    /// The result of a call that has ended: its outcome and what the function answered.
    pub async fn result(&self, id: &InvocationId) -> Result<Option<(Outcome, Bytes)>, Fault> {
        let Some((outcome, inline)) = self.outcome(id).await? else { return Ok(None) };
        let Some(blob) = &outcome.blob else { return Ok(Some((outcome, inline))) };
        let result = self.acceptor.blobs().get(blob).await.map_err(|error| error::of_store(&error))?;
        Ok(Some((outcome, result)))
    }

    /// Waits until a call has come to an end, for `patience` at the most, and tells where it stands then.
    pub async fn wait(&self, id: &InvocationId, patience: Duration) -> Result<Option<Call>, Fault> {
        let until = tokio::time::Instant::now() + patience;
        let waiting = self.ends.wait_for(id);
        loop {
            let mut told = std::pin::pin!(waiting.notified());
            told.as_mut().enable();
            let call = self.find(id).await?;
            let is_over = tokio::time::Instant::now() >= until;
            if is_over || call.as_ref().is_none_or(|call| call.state.is_final()) {
                return Ok(call);
            }
            let look = (tokio::time::Instant::now() + LOOK_EVERY).min(until);
            tokio::select! {
                () = told => {}
                () = tokio::time::sleep_until(look) => {}
            }
        }
    }

    /// Cancels a call that waits, or stops one that runs here.
    pub async fn cancel(&self, id: &InvocationId) -> Result<Call, Fault> {
        let gone = || Fault::new(ErrorCode::NotFound, format!("no asynchronous call {id} is known"));
        let call = self.find(id).await?.ok_or_else(gone)?;
        if call.state.is_final() {
            return Err(Fault::new(ErrorCode::Conflict, format!("call {id} has ended already")));
        }
        let now = self.now();
        let outcome = call.outcome(OutcomeStatus::Cancelled, now);
        let with = Batch::default().put_until(
            Outcome::key(id),
            outcome.to_bytes(&[]),
            Expect::Any,
            outcome.kept_until,
        );
        let message = MessageId(id.as_str().to_owned());
        let content = self.content_of(&message).await;
        match self.queue.cancel(&message, now, with).await {
            Ok(true) => {
                self.ends.tell(id);
                self.discard(content).await;
                Ok(ended_call(outcome))
            }
            Ok(false) if self.ends.stop(id) => self.wait(id, Duration::from_secs(5)).await?.ok_or_else(gone),
            Ok(false) => Err(Fault::new(ErrorCode::Conflict, format!("call {id} runs on another node"))),
            Err(alula_store::Error::NotFound { .. }) => {
                Err(Fault::new(ErrorCode::Conflict, format!("call {id} has ended already")))
            }
            Err(error) => Err(error::of_store(&error)),
        }
    }

    /// Pauses, drains or opens.
    pub async fn set_flow(&self, key: &FlowKey, flow: Flow) -> Result<(), Fault> {
        self.acceptor.flows().set(key, flow).await.map_err(|error| error::of_store(&error))?;
        // What was left alone while it was paused is found by looking.
        for head in self.queue.heads().await.map_err(|error| error::of_store(&error))? {
            if let Some(lane) = Lane::parse(&head.lane) {
                self.acceptor.bell().ring(lane, head.ready_at);
            }
        }
        Ok(())
    }

    /// What is in the queue.
    pub async fn queue(&self) -> Result<QueueInfo, Fault> {
        let now = self.now();
        let totals = self.queue.totals(now).await.map_err(|error| error::of_store(&error))?;
        let stats = self.queue.stats(now).await.map_err(|error| error::of_store(&error))?;
        let clock = tokio::time::Instant::now();
        let info = |stats: LaneStats| {
            let lane = Lane::parse(&stats.lane)?;
            let oldest_ms = stats.oldest_at.map_or(0, |oldest| now.millis_since(oldest));
            let ended_per_second = self.rates.of(&lane, clock);
            Some(LaneInfo { lane, stats, oldest_ms, ended_per_second })
        };
        let lanes = stats.into_iter().filter_map(info).collect();
        Ok(QueueInfo { totals, lanes, flows: self.acceptor.flows().all() })
    }
}

fn waiting_call(id: &InvocationId, found: Found) -> Option<Call> {
    let lane = Lane::parse(&found.lane)?;
    let head = match Envelope::read(&found.body) {
        Ok(Envelope { head: Head::Call(head), .. }) => Some(head),
        _ => None,
    };
    let state = match found.state {
        MessageState::Waiting { available_at } => CallState::Waiting { available_at },
        MessageState::HeldBack => CallState::HeldBack,
        MessageState::Claimed { .. } => CallState::Running,
        MessageState::Dead { at, reason } => CallState::Dead { at, reason },
    };
    Some(Call {
        id: id.clone(),
        namespace: lane.namespace,
        function: lane.function,
        version: head.as_ref().map_or(0, |head| head.version),
        trigger: head.as_ref().map(|head| head.trigger),
        state,
        attempts: found.attempts,
        trail: Trail::read(&found.trail),
        accepted_at: found.enqueued_at,
    })
}

fn ended_call(outcome: Outcome) -> Call {
    Call {
        id: outcome.id.clone(),
        namespace: outcome.namespace.clone(),
        function: outcome.function.clone(),
        version: outcome.version,
        trigger: Some(outcome.trigger),
        attempts: outcome.attempts,
        trail: Trail::default(),
        accepted_at: outcome.accepted_at,
        state: CallState::Ended(Box::new(outcome)),
    }
}

impl Call {
    /// What is kept of a call that somebody takes out of the queue.
    pub(super) fn outcome(&self, status: OutcomeStatus, now: Timestamp) -> Outcome {
        /// How long it can be looked up: a day.
        const KEEP_MS: i64 = 86_400_000;
        let message = match &self.state {
            CallState::Dead { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        Outcome {
            id: self.id.clone(),
            namespace: self.namespace.clone(),
            function: self.function.clone(),
            version: self.version,
            trigger: self.trigger.unwrap_or(TriggerKind::Api),
            status,
            attempts: self.attempts,
            accepted_at: self.accepted_at,
            finished_at: now,
            kept_until: now.plus_millis(KEEP_MS),
            http_status: None,
            content_type: None,
            error: None,
            message,
            result_bytes: 0,
            blob: None,
        }
    }
}
