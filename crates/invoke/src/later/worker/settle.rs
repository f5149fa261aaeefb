//! Settling: what became of a call, in one commit with everything that follows from it.

use std::time::Duration;

use alula_model::{ErrorCode, InvocationId, Lineage, Timestamp};
use alula_runtime::VersionPlan;
use alula_store::{Batch, Claim, Error, Expect, Settlement};
use tokio::time::Instant;

use super::run::{Fit, Reply, Runner, content_type};
use super::streaks::Bad;
use crate::later::blobs::BlobKind;
use crate::later::envelope::{CallHead, Content};
use crate::later::notice::is_notice;
use crate::later::options::INLINE_BYTES_MAX;
use crate::later::record::{Finished, Verdict};
use crate::later::trail::Trail;
use crate::later::verdict::{self, Hope, Miss, Next, Tried};
use crate::later::{Lane, Outcome, OutcomeStatus};

/// First wait after the store did not take a settlement; doubled up to [`PAUSE_MAX`].
pub(super) const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest such wait.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Results that are kept in the outcome's own record, in bytes: larger ones lie in the blobs.
const RESULT_INLINE_BYTES_MAX: usize = INLINE_BYTES_MAX;

/// The message that an attempt was made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(super) lane: &'a Lane,
    pub(super) claim: &'a Claim,
    /// When the attempt began.
    pub(super) at: Timestamp,
}

/// The call that it holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(super) id: &'a InvocationId,
    pub(super) head: &'a CallHead,
    pub(super) plan: &'a VersionPlan,
    /// The functions that led to it.
    pub(super) lineage: &'a Lineage,
}

impl Call<'_> {
    /// The lineage of what follows from it.
    pub(super) fn lineage_of_follow_ups(&self) -> Lineage {
        self.lineage.with(&self.plan.key.namespace, &self.plan.key.function).led_by(self.id.clone())
    }
}

impl Runner {
    /// Settles a claim, however long the store takes to come back. Answers whether it was still this claim's to settle.
    pub(super) async fn settle(&self, claim: &Claim, settlement: Settlement, with: Batch) -> bool {
        let mut pause = PAUSE_FIRST;
        loop {
            let now = self.clock().now();
            match self.queue().settle(&claim.receipt, now, settlement.clone(), with.clone()).await {
                Ok(()) => {
                    self.announce_all(&with);
                    return true;
                }
                Err(Error::ClaimLost) => {
                    tracing::warn!(message = %claim.receipt.id.0, "a claim was lost before it was settled");
                    return false;
                }
                // Another replica has told the owner already: the only thing of a settlement that may be in the way.
                Err(Error::Conflict { .. }) if has_notices(&with) => {
                    return Box::pin(self.settle(claim, settlement, without_notices(with))).await;
                }
                Err(error) => {
                    tracing::warn!(%error, message = %claim.receipt.id.0, "a call cannot be settled yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    pub(super) async fn settle_done(&self, job: &Job<'_>, call: &Call<'_>, reply: &Reply, content: &Content) {
        let mut outcome = self.outcome(job, call, OutcomeStatus::Done);
        outcome.http_status = Some(reply.status.as_u16());
        outcome.content_type = content_type(&reply.headers);
        outcome.result_bytes = reply.body.len() as u64;
        let mut inline = &reply.body[..];
        if reply.body.len() > RESULT_INLINE_BYTES_MAX {
            match self
                .acceptor()
                .blobs()
                .put(call.id.as_str(), BlobKind::Result, &reply.body, outcome.kept_until)
                .await
            {
                Ok(blob) => outcome.blob = Some(blob),
                Err(error) => {
                    tracing::warn!(%error, invocation = %call.id, "a result could not be kept");
                    outcome.message = Some("its result could not be kept".to_owned());
                }
            }
            inline = &[];
        }
        let record = outcome.to_bytes(inline);
        let batch =
            Batch::default().put_until(Outcome::key(call.id), record, Expect::Any, outcome.kept_until);
        let batch = self.streaks.end(job.lane, batch);
        let finished =
            Finished { job, call, outcome: &outcome, verdict: Verdict::Success { body: &reply.body } };
        let batch = self.follow_ups(&finished, content, batch).await;
        if self.settle(job.claim, Settlement::Done, batch).await {
            self.observe().ended(&call.plan.key);
            self.discard(content).await;
        }
    }

    pub(super) async fn settle_stopped(&self, job: &Job<'_>, call: &Call<'_>, content: &Content) {
        let outcome = self.outcome(job, call, OutcomeStatus::Cancelled);
        let batch = Batch::default().put_until(
            Outcome::key(call.id),
            outcome.to_bytes(&[]),
            Expect::Any,
            outcome.kept_until,
        );
        if self.settle(job.claim, Settlement::Done, batch).await {
            self.observe().ended(&call.plan.key);
            self.discard(content).await;
        }
    }

    pub(super) async fn settle_missed(
        &self,
        job: &Job<'_>,
        call: &Call<'_>,
        miss: &Miss,
        content: &Content,
        trail: &mut Trail,
    ) -> Fit {
        let policy = call.plan.spec.asynchronous.retry.policy();
        let tried = self.tried(job, since(job, call.head, trail));
        let mut next = verdict::next(miss, &policy, tried, trail, (self.parts.random)());
        if let Next::Dead { reason } = &next
            && stops_its_stream(job, call)
        {
            tracing::warn!(invocation = %call.id, reason, "an ordered stream is stopped by a call that fails");
            next = Next::Back { wait_ms: STOPPED_RETRY_MS };
            let batch =
                self.tell_owner(job, call, "its stream is stopped until somebody acts", Batch::default());
            let settlement = next.settlement(tried.now, None, trail);
            if self.settle(job.claim, settlement.clone(), batch).await {
                self.announce(&settlement, job.lane, None);
            }
            return Fit::Yes;
        }
        let batch = match &mut next {
            Next::Dead { reason } => {
                let reason = reason.clone();
                let mut outcome = self.outcome(job, call, OutcomeStatus::Dead);
                (outcome.error, outcome.http_status) = (miss.code, miss.http_status);
                let verdict = Verdict::Failure { reason: &reason };
                let finished = Finished { job, call, outcome: &outcome, verdict };
                let batch = self.follow_ups(&finished, content, Batch::default()).await;
                match miss.code {
                    // Whoever watches for loops tells of it, whether a call waits in the queue or not.
                    Some(ErrorCode::LoopDetected) => batch,
                    _ => self.tell_owner(job, call, &reason, batch),
                }
            }
            Next::Again { wait_ms } => {
                let pause = self.budgets.retry(job.lane, Instant::now());
                *wait_ms += u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                Batch::default()
            }
            Next::Back { .. } => Batch::default(),
        };
        // What is ordered keeps its place, so that the rest of its key waits for it.
        let retries = job.claim.ordering_key.is_none().then(|| job.lane.of_retries());
        let (is_dead, is_retry) = (matches!(next, Next::Dead { .. }), matches!(next, Next::Again { .. }));
        let settlement = next.settlement(tried.now, retries.as_ref().map(Lane::to_string), trail);
        if self.settle(job.claim, settlement.clone(), batch).await {
            self.announce(&settlement, job.lane, retries);
            if is_dead {
                self.observe().died(&call.plan.key);
            } else if is_retry {
                self.observe().retried(job.lane.class);
            }
        }
        if is_dead {
            self.ends.tell(call.id);
        }
        if miss.hope == Hope::NeverBegan { Fit::No } else { Fit::Yes }
    }

    /// Tells the worker of the messages that a commit has brought.
    fn announce_all(&self, committed: &Batch) {
        for message in &committed.messages {
            if let Some(lane) = Lane::parse(&message.lane) {
                self.observe().accepted(lane.class);
                self.acceptor().bell().ring(lane, message.available_at);
            }
        }
    }

    /// Tells the worker when and where a message that is not done can be claimed again.
    fn announce(&self, settlement: &Settlement, lane: &Lane, retries: Option<Lane>) {
        match settlement {
            Settlement::Retry { available_at, .. } => {
                self.acceptor().bell().ring(retries.unwrap_or_else(|| lane.clone()), *available_at);
            }
            Settlement::Release { available_at, .. } => {
                self.acceptor().bell().ring(lane.clone(), *available_at);
            }
            Settlement::Done | Settlement::Dead { .. } => {}
        }
    }

    fn tried(&self, job: &Job<'_>, since: Timestamp) -> Tried {
        Tried { number: job.claim.attempt, at: job.at, since, now: self.clock().now() }
    }

    fn tell_owner(&self, job: &Job<'_>, call: &Call<'_>, reason: &str, batch: Batch) -> Batch {
        let bad = Bad { lane: job.lane, id: call.id, reason, at: self.clock().now() };
        self.streaks.begin(bad, &call.plan.spec.asynchronous.notify, batch)
    }

    pub(super) async fn settle_undelivered(&self, job: &Job<'_>, miss: &Miss, trail: &mut Trail) {
        let policy = alula_model::Retry::default().policy();
        let tried = self.tried(job, trail.redriven_at.unwrap_or(job.claim.enqueued_at));
        let next = verdict::next(miss, &policy, tried, trail, (self.parts.random)());
        let settlement = next.settlement(tried.now, None, trail);
        if self.settle(job.claim, settlement.clone(), Batch::default()).await {
            self.announce(&settlement, job.lane, None);
        }
    }

    /// Gives up what cannot even be tried.
    pub(super) async fn bury(&self, job: &Job<'_>, reason: String, trail: &Trail) -> Fit {
        let settlement = Settlement::Dead { reason, trail: trail.to_bytes() };
        self.settle(job.claim, settlement, Batch::default()).await;
        if let Some(id) = InvocationId::new(&job.claim.receipt.id.0) {
            self.ends.tell(&id);
        }
        Fit::Yes
    }

    fn outcome(&self, job: &Job<'_>, call: &Call<'_>, status: OutcomeStatus) -> Outcome {
        let now = self.clock().now();
        let keep_ms = i64::try_from(call.plan.spec.asynchronous.result_keep_ms).unwrap_or(i64::MAX);
        Outcome {
            id: call.id.clone(),
            namespace: call.plan.key.namespace.clone(),
            function: call.plan.key.function.clone(),
            version: call.plan.key.version,
            trigger: call.head.trigger,
            status,
            attempts: job.claim.attempt,
            accepted_at: job.claim.enqueued_at,
            finished_at: now,
            kept_until: now.plus_millis(keep_ms),
            http_status: None,
            content_type: None,
            error: None,
            message: None,
            result_bytes: 0,
            blob: None,
        }
    }

    pub(super) async fn discard(&self, content: &Content) {
        if let Content::Blob(blob) = content {
            self.acceptor().blobs().remove(blob).await;
        }
    }
}

/// Since when a call could have run: what its age is counted from.
pub(super) fn since(job: &Job<'_>, head: &CallHead, trail: &Trail) -> Timestamp {
    let first = head.available_at.map_or(job.claim.enqueued_at, |at| at.max(job.claim.enqueued_at));
    trail.redriven_at.unwrap_or(first)
}

/// Whether a call that fails for good keeps those behind it waiting.
pub(super) fn stops_its_stream(job: &Job<'_>, call: &Call<'_>) -> bool {
    let poison = call.plan.spec.asynchronous.poison;
    job.claim.ordering_key.is_some() && poison == alula_model::Poison::Stop
}

/// How often a call that stops its stream is tried again, in milliseconds: it may have been mended.
const STOPPED_RETRY_MS: u64 = 60_000;

fn has_notices(batch: &Batch) -> bool {
    batch.writes.iter().any(|write| write.expect == Expect::Absent)
}

/// The batch without what tells the owner.
fn without_notices(mut batch: Batch) -> Batch {
    batch.messages.retain(|message| !is_notice(&message.id));
    batch.writes.retain(|write| write.expect == Expect::Any);
    batch
}
