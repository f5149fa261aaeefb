//! Looking up, waiting for, cancelling and running again: what people and callers do with calls after they were accepted.

use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, InvocationId, Name, Timestamp, TriggerKind};
use alula_store::{Batch, DeadLetter, Expect, Found, LaneStats, MessageId, MessageState, Totals};
use bytes::Bytes;

use super::envelope::{Content, Envelope, Head};
use super::outcome::{Outcome, OutcomeStatus};
use super::trail::Trail;
use super::worker::{Ends, Service, WorkerParts};
use super::{Acceptor, Flow, FlowKey, Lane, LaneClass, WholeQueue, error};

/// How often a call is looked at again that nobody here will tell about: it may run in another process.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Dead letters that are made claimable with one look at the list.
const REDRIVE_PAGE: usize = 100;

/// What is known of calls. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Calls {
    acceptor: Acceptor,
    queue: Arc<dyn WholeQueue>,
    ends: Ends,
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

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadFilter {
    /// Only of this namespace.
    pub namespace: Option<Name>,
    /// Only of this function; needs the namespace.
    pub function: Option<Name>,
}

/// A call that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadCall {
    /// Where it lay.
    pub lane: Lane,
    /// The call, as far as it can be read.
    pub id: String,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it was given up.
    pub dead_at: Timestamp,
    /// Attempts that it had.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// What became of each attempt.
    pub trail: Trail,
    /// Bytes of its content.
    pub content_bytes: u64,
}

/// What is in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueInfo {
    /// What ever went in and what became of it.
    pub totals: Totals,
    /// Every lane that holds messages.
    pub lanes: Vec<LaneInfo>,
    /// What is paused or drained.
    pub flows: Vec<(FlowKey, Flow)>,
}

/// One lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneInfo {
    /// The lane.
    pub lane: Lane,
    /// What is in it.
    pub stats: LaneStats,
    /// Age of the oldest message that is not dead, in milliseconds.
    pub oldest_ms: u64,
}

impl Calls {
    /// What is known of the calls of `acceptor`, and the worker that runs them.
    #[must_use]
    pub fn with_worker(parts: WorkerParts) -> (Self, Service) {
        let ends = Ends::default();
        let calls =
            Self { acceptor: parts.acceptor.clone(), queue: Arc::clone(&parts.queue), ends: ends.clone() };
        (calls, Service::new(parts, ends))
    }

    /// Accepts calls.
    #[must_use]
    pub fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    fn now(&self) -> Timestamp {
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
        let outcome = cancelled(&call, now);
        let with = Batch::default().put_until(
            Outcome::key(id),
            outcome.to_bytes(&[]),
            Expect::Any,
            outcome.kept_until,
        );
        let message = MessageId(id.as_str().to_owned());
        match self.queue.cancel(&message, now, with).await {
            Ok(true) => {
                self.ends.tell(id);
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

    /// Dead letters, from the one behind `after`.
    pub async fn dead(
        &self,
        filter: &DeadFilter,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<DeadCall>, Fault> {
        let letters = self.letters(filter, after, limit).await?;
        Ok(letters.into_iter().filter_map(dead_call).collect())
    }

    async fn letters(
        &self,
        filter: &DeadFilter,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Fault> {
        let prefix = Lane::prefix(filter.namespace.as_ref(), filter.function.as_ref());
        let after = after.map(|(lane, id)| (lane, MessageId(id.to_owned())));
        let after = after.as_ref().map(|(lane, id)| (*lane, id));
        self.queue.dead_letters(&prefix, after, limit).await.map_err(|error| error::of_store(&error))
    }

    /// Makes a dead letter run again, on what its qualifier means now.
    pub async fn redrive(&self, id: &str) -> Result<(), Fault> {
        let message = MessageId(id.to_owned());
        let found = self.queue.find(&message, self.now()).await.map_err(|error| error::of_store(&error))?;
        let dead = found.filter(|found| matches!(found.state, MessageState::Dead { .. }));
        let Some(dead) = dead else {
            return Err(Fault::new(ErrorCode::NotFound, format!("there is no dead letter {id}")));
        };
        self.redrive_one(&message, &dead.lane, &dead.trail, self.now()).await
    }

    async fn redrive_one(
        &self,
        id: &MessageId,
        lane: &str,
        trail: &Bytes,
        at: Timestamp,
    ) -> Result<(), Fault> {
        let lane = Lane::parse(lane).map(|lane| Lane {
            class: if lane.class == LaneClass::Retry { LaneClass::General } else { lane.class },
            ..lane
        });
        let Some(lane) = lane else {
            return Err(Fault::new(ErrorCode::Internal, format!("dead letter {} has no lane", id.0)));
        };
        let mut trail = Trail::read(trail);
        trail.redriven_at = Some(self.now());
        let redriven = self.queue.redrive(id, &lane.to_string(), at, trail.to_bytes()).await;
        redriven.map_err(|error| error::of_store(&error))?;
        self.acceptor.bell().ring(lane, at);
        Ok(())
    }

    /// Makes all dead letters run again that `filter` means and that are there now, `per_second` of them in a second.
    /// Returns how many.
    pub async fn redrive_all(&self, filter: &DeadFilter, per_second: u32) -> Result<u64, Fault> {
        let began = self.now();
        let (mut count, mut after): (u64, Option<(String, String)>) = (0, None);
        loop {
            let from = after.as_ref().map(|(lane, id)| (lane.as_str(), id.as_str()));
            let letters = self.letters(filter, from, REDRIVE_PAGE).await?;
            let Some(last) = letters.last() else { return Ok(count) };
            after = Some((last.lane.clone(), last.id.0.clone()));
            // What dies again meanwhile is not taken a second time.
            for letter in letters.iter().filter(|letter| letter.dead_at <= began) {
                let wait_ms = count * 1_000 / u64::from(per_second.max(1));
                let at = began.plus_millis(i64::try_from(wait_ms).unwrap_or(i64::MAX));
                self.redrive_one(&letter.id, &letter.lane, &letter.trail, at.max(self.now())).await?;
                count += 1;
            }
        }
    }

    /// Forgets a dead letter.
    pub async fn purge(&self, id: &str) -> Result<(), Fault> {
        self.queue.purge(&MessageId(id.to_owned())).await.map_err(|error| error::of_store(&error))
    }

    /// Forgets all dead letters that `filter` means. Returns how many.
    pub async fn purge_all(&self, filter: &DeadFilter) -> Result<u64, Fault> {
        let mut count = 0;
        loop {
            let letters = self.letters(filter, None, REDRIVE_PAGE).await?;
            if letters.is_empty() {
                return Ok(count);
            }
            for letter in &letters {
                self.purge(&letter.id.0).await?;
                count += 1;
            }
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
        let info = |stats: LaneStats| {
            let lane = Lane::parse(&stats.lane)?;
            let oldest_ms = stats.oldest_at.map_or(0, |oldest| now.millis_since(oldest));
            Some(LaneInfo { lane, stats, oldest_ms })
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

fn cancelled(call: &Call, now: Timestamp) -> Outcome {
    /// How long it can be looked up that a call was cancelled: a day.
    const KEEP_MS: i64 = 86_400_000;
    Outcome {
        id: call.id.clone(),
        namespace: call.namespace.clone(),
        function: call.function.clone(),
        version: call.version,
        trigger: call.trigger.unwrap_or(TriggerKind::Api),
        status: OutcomeStatus::Cancelled,
        attempts: call.attempts,
        accepted_at: call.accepted_at,
        finished_at: now,
        kept_until: now.plus_millis(KEEP_MS),
        http_status: None,
        content_type: None,
        error: None,
        message: None,
        result_bytes: 0,
        blob: None,
    }
}

fn dead_call(letter: DeadLetter) -> Option<DeadCall> {
    let content_bytes = match Envelope::read(&letter.body) {
        Ok(Envelope { content: Content::Blob(blob), .. }) => blob.bytes,
        Ok(Envelope { content: Content::Inline(content), .. }) => content.len() as u64,
        Err(_) => letter.body.len() as u64,
    };
    Some(DeadCall {
        lane: Lane::parse(&letter.lane)?,
        id: letter.id.0,
        accepted_at: letter.enqueued_at,
        dead_at: letter.dead_at,
        attempts: letter.attempts,
        reason: letter.reason,
        trail: Trail::read(&letter.trail),
        content_bytes,
    })
}
