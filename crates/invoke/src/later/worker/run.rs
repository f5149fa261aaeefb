//! One claimed message, from the claim to its settlement.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alula_model::{Clock, FunctionRef, InvocationId, Lineage, Qualifier, Timestamp, TriggerKind};
use alula_runtime::{Body, VersionPlan, Waiters};
use alula_store::{Batch, Claim, EXPIRE_LEN_MAX, Settlement};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::ends::Ends;
use super::load::Went;
use super::settle::{since, stops_its_stream};
use super::streaks::Streaks;
use super::{WorkerParts, settle};
use crate::later::budget::RetryBudgets;
use crate::later::envelope::{CallHead, Content, Envelope, Head};
use crate::later::options::{RENEW_MS, StoreUse};
use crate::later::trail::{AttemptEnd, Trail};
use crate::later::verdict::{Hope, Miss};
use crate::later::{Acceptor, Lane, LaneClass, Observe};
use crate::{Failed, Failure, Invocation};

/// Runs messages. Shared by all attempts of one worker.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) parts: WorkerParts,
    pub(super) ends: Ends,
    pub(super) budgets: RetryBudgets,
    pub(super) streaks: Streaks,
    /// When the depths of all lanes may be looked at again.
    next_depths: Mutex<Instant>,
}

/// Whether there was room for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    No,
}

/// The depths are looked at for one part of the time in so many.
const DEPTHS_REST: u32 = 100;

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Came {
    /// The call was answered, and well.
    Answer(Reply),
    /// It was not.
    Missed(Miss),
    /// Somebody cancelled it.
    Stopped,
    /// The claim was lost: whatever this attempt did, another one decides.
    ClaimLost,
}

/// A function's whole answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Runner {
    pub(super) fn new(parts: WorkerParts, ends: Ends) -> Self {
        let streaks = Streaks::new(Arc::clone(&parts.acceptor.parts().records));
        let next_depths = Mutex::new(Instant::now());
        Self { parts, ends, budgets: RetryBudgets::default(), streaks, next_depths }
    }

    pub(super) fn acceptor(&self) -> &Acceptor {
        &self.parts.acceptor
    }

    pub(super) fn queue(&self) -> &dyn alula_store::WholeQueue {
        &*self.parts.queue
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.acceptor().parts().clock
    }

    pub(super) fn observe(&self) -> &dyn Observe {
        &*self.acceptor().parts().observe
    }

    /// Runs what `claim` holds and settles it.
    pub(super) async fn run(&self, lane: &Lane, claim: Claim) -> Went {
        let began = Instant::now();
        match self.run_to_the_end(lane, claim).await {
            Fit::Yes => Went::Through(began.elapsed()),
            Fit::No => Went::Refused,
        }
    }

    async fn run_to_the_end(&self, lane: &Lane, claim: Claim) -> Fit {
        let mut trail = Trail::read(&claim.trail);
        trail.note_lost(claim.attempt, claim.enqueued_at);
        let at = self.clock().now();
        let job = settle::Job { lane, claim: &claim, at };
        let envelope = match Envelope::read(&claim.body) {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::error!(%error, message = %claim.receipt.id.0, "a message cannot be read");
                return self.bury(&job, format!("it cannot be read: {error}"), &trail).await;
            }
        };
        match envelope.head {
            Head::Deliver(dispatch) => {
                self.run_delivery(job, &dispatch.delivery, &envelope.content, trail).await
            }
            Head::Call(head) => self.run_call(job, &head, &envelope.content, trail).await,
        }
    }

    async fn run_call(
        &self,
        job: settle::Job<'_>,
        head: &CallHead,
        content: &Content,
        mut trail: Trail,
    ) -> Fit {
        let Some(id) = InvocationId::new(&job.claim.receipt.id.0) else {
            return self.bury(&job, "its id is not one of an invocation".to_owned(), &trail).await;
        };
        let plan = match self.plan_of(head, &trail) {
            Ok(plan) => plan,
            Err(failure) => return self.bury(&job, failure.fault.message, &trail).await,
        };
        let lineage = lineage_of(head, &trail);
        let call = settle::Call { id: &id, head, plan: &plan, lineage: &lineage };
        if let Some(miss) = self.too_old(&job, &call, &trail) {
            return self.settle_missed(&job, &call, &miss, content, &mut trail).await;
        }
        if job.claim.attempt == 1 {
            self.observe().claimed(job.lane.class, job.at.millis_since(since(&job, head, &trail)));
            self.budgets.first_attempt(job.lane);
        }
        let came = self.attempt(&job, &call, content).await;
        match came {
            Came::Answer(reply) => self.settle_done(&job, &call, &reply, content).await,
            Came::Missed(miss) => return self.settle_missed(&job, &call, &miss, content, &mut trail).await,
            Came::Stopped => self.settle_stopped(&job, &call, content).await,
            Came::ClaimLost => tracing::warn!(invocation = %id, "a claim was lost while its call ran"),
        }
        self.ends.tell(&id);
        Fit::Yes
    }

    /// What becomes of a call whose turn comes after its age is over. One that stops its stream waits for somebody however
    /// old it is.
    fn too_old(&self, job: &settle::Job<'_>, call: &settle::Call<'_>, trail: &Trail) -> Option<Miss> {
        if stops_its_stream(job, call) {
            return None;
        }
        let policy = call.plan.spec.asynchronous.retry.policy();
        Miss::of_age(&policy, since(job, call.head, trail), job.at)
    }

    /// The version that the call began on; the one that its qualifier means now where that version is gone, or where
    /// somebody runs the call again after it was given up, which is done when the function has been mended.
    fn plan_of(&self, head: &CallHead, trail: &Trail) -> Result<Arc<VersionPlan>, Failure> {
        let refuse = |fault| Failure { fault, key: None, retry_after_ms: None };
        let snapshot = self.acceptor().parts().catalog.load();
        let target = head.target().map_err(|error| {
            refuse(alula_model::Fault::new(alula_model::ErrorCode::InvalidRequest, error.to_string()))
        })?;
        if trail.redriven_at.is_some() {
            return snapshot.resolve(&target).map_err(refuse);
        }
        let pinned = FunctionRef { qualifier: Qualifier::Version(head.version), ..target.clone() };
        snapshot.resolve(&pinned).or_else(|_| snapshot.resolve(&target)).map_err(refuse)
    }

    /// Runs one attempt, with its claim renewed for as long as it takes.
    async fn attempt(&self, job: &settle::Job<'_>, call: &settle::Call<'_>, content: &Content) -> Came {
        let running = self.ends.begin(call.id);
        tokio::select! {
            came = self.call(job, call, content) => came,
            () = running.stop.cancelled() => Came::Stopped,
            () = self.renew(job.claim) => Came::ClaimLost,
        }
    }

    /// Renews the claim; ends only when it is lost.
    pub(super) async fn renew(&self, claim: &Claim) {
        use crate::later::options::LEASE_MS;
        let mut every = tokio::time::interval(Duration::from_millis(RENEW_MS));
        every.tick().await;
        loop {
            every.tick().await;
            match self.queue().renew(&claim.receipt, self.clock().now(), LEASE_MS).await {
                Err(alula_store::Error::ClaimLost) => return,
                Err(error) => tracing::warn!(%error, "a claim could not be renewed; it is tried again"),
                Ok(()) => {}
            }
        }
    }

    async fn call(&self, job: &settle::Job<'_>, call: &settle::Call<'_>, content: &Content) -> Came {
        let settle::Call { id, head, plan, lineage } = *call;
        let body = match self.content(content).await {
            Ok(body) => body,
            Err(miss) => return Came::Missed(miss),
        };
        let recalled = match head.recall() {
            Ok(recalled) => recalled,
            Err(error) => return Came::Missed(Miss::hopeless(format!("it cannot be read: {error}"))),
        };
        let began = Arc::new(AtomicBool::new(false));
        let invocation = Invocation {
            id: id.clone(),
            target: recalled.target,
            version: Some(plan.key.version),
            trigger: head.trigger,
            lineage: lineage.clone(),
            attempt: job.claim.attempt,
            method: recalled.method,
            uri: recalled.uri,
            headers: recalled.headers,
            body: Body::full(body),
            caller: recalled.caller,
            remote: recalled.remote,
            parameters: recalled.parameters,
            is_event: head.is_event,
            received: Instant::now(),
            received_at: job.at,
            waiters: Waiters::default(),
            began: Some(Arc::clone(&began)),
        };
        let outcome = match self.parts.invoker.invoke(invocation).await {
            Ok(outcome) => outcome,
            Err(failure) => return Came::Missed(Miss::of_failure(&failure, began.load(Ordering::Relaxed))),
        };
        let (status, headers) = (outcome.answer.status, outcome.answer.headers);
        let limit_bytes = plan.spec.response_bytes_max;
        let body = outcome.answer.body.collect(limit_bytes).await;
        match (Miss::of_answer(status, &headers), body) {
            (Some(miss), _) => Came::Missed(miss),
            // An event of a broker came here because it was given up; its function speaks of records as it did before.
            (None, Ok(body))
                if head.trigger == TriggerKind::Broker && Failed::read(&body) != Failed::None =>
            {
                Came::Missed(Miss::reported("the function reported that records of the event failed"))
            }
            (None, Ok(body)) => Came::Answer(Reply { status, headers, body }),
            (None, Err(error)) => Came::Missed(of_body(&error)),
        }
    }

    /// The content of a call, wherever it lies.
    pub(super) async fn content(&self, content: &Content) -> Result<Bytes, Miss> {
        match content {
            Content::Inline(bytes) => Ok(bytes.clone()),
            Content::Blob(blob) => match self.acceptor().blobs().get(blob).await {
                Ok(bytes) => Ok(bytes),
                Err(alula_store::Error::NotFound { .. }) => {
                    Err(Miss::hopeless("its content is gone".to_owned()))
                }
                Err(error) => Err(Miss {
                    end: AttemptEnd::Platform,
                    hope: Hope::NeverBegan,
                    message: format!("its content cannot be read: {error}"),
                    ..Miss::hopeless(String::new())
                }),
            },
        }
    }

    /// Ends the claims that an earlier process has left, where none but this one can have any.
    pub(super) async fn take_over(&self) -> alula_store::Result<()> {
        if self.acceptor().options().store == StoreUse::Alone {
            let ended = self.queue().end_claims(self.clock().now()).await?;
            if ended > 0 {
                tracing::info!(ended, "calls that were running when the platform ended are tried again");
            }
        }
        Ok(())
    }

    /// Reads what others have set.
    pub(super) async fn refresh(&self) -> alula_store::Result<()> {
        self.acceptor().flows().load().await?;
        self.streaks.load().await
    }

    /// What is to be done now and then: books, sweeping, what other processes have changed.
    pub(super) async fn keep_house(&self) {
        let now = self.clock().now();
        self.budgets.forget_full(Instant::now());
        let kept: alula_store::Result<()> = async {
            self.refresh().await?;
            let records = &self.acceptor().parts().records;
            while records.expire(now, EXPIRE_LEN_MAX).await? == EXPIRE_LEN_MAX as u64 {}
            self.acceptor().blobs().sweep(now).await?;
            self.observe().imbalance(self.queue().totals(now).await?.imbalance());
            self.show_depths(now).await
        }
        .await;
        if let Err(error) = kept {
            tracing::warn!(%error, "the queue's housekeeping was cut short");
        }
    }

    /// Tells how much waits, by class. The store reads every message for it, so where that takes long it is done rarely.
    async fn show_depths(&self, now: Timestamp) -> alula_store::Result<()> {
        let began = Instant::now();
        if *self.next_depths.lock().unwrap_or_else(PoisonError::into_inner) > began {
            return Ok(());
        }
        let mut depths = LaneClass::ALL.map(|class| (class, 0, 0));
        for stats in self.queue().stats(now).await? {
            let Some(lane) = Lane::parse(&stats.lane) else { continue };
            let oldest_ms = stats.oldest_at.map_or(0, |oldest| now.millis_since(oldest));
            for (class, messages, age_ms) in &mut depths {
                if *class == lane.class {
                    *messages += stats.available + stats.delayed + stats.held_back + stats.claimed;
                    *age_ms = oldest_ms.max(*age_ms);
                }
            }
        }
        for (class, messages, oldest_ms) in depths {
            self.observe().depth(class, messages, oldest_ms);
        }
        let rest = began.elapsed() * DEPTHS_REST;
        *self.next_depths.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + rest;
        Ok(())
    }

    /// Gives claims back that have not begun.
    pub(super) fn give_back(self: &Arc<Self>, claims: Vec<Claim>, tasks: &TaskTracker) {
        for claim in claims {
            let runner = Arc::clone(self);
            tasks.spawn(async move {
                let available_at = runner.clock().now();
                let settlement = Settlement::Release { available_at, trail: claim.trail.clone() };
                runner.settle(&claim, settlement, Batch::default()).await;
            });
        }
    }
}

/// The functions that led to a call; none where somebody runs it again who has seen what became of it.
fn lineage_of(head: &CallHead, trail: &Trail) -> Lineage {
    if trail.redriven_at.is_some() { Lineage::default() } else { head.lineage() }
}

/// An answer whose body broke off: the function's code has run.
fn of_body(error: &alula_runtime::BodyError) -> Miss {
    let hope = match error {
        alula_runtime::BodyError::TooLarge { .. } => Hope::None,
        _ => Hope::Counts,
    };
    Miss { hope, ..Miss::hopeless(format!("the answer broke off: {error}")) }
}

/// The type that a function said its answer has.
pub(super) fn content_type(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(header::CONTENT_TYPE)?.to_str().ok()?.to_owned())
}
