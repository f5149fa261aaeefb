//! The path of one call, step by step.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alula_control::Catalog;
use alula_guard::breaker::Called;
use alula_guard::{Admission, Ask, Guard, Origin};
use alula_model::{Caller, Clock, Degraded, ErrorCode, Fault, FunctionRef, Qualifier, Tier};
use alula_pool::{Lease, Place, Pool, Released};
use alula_runtime::{Ahead, Answer, CALLER_HEADER, Call, CallEvents, VersionPlan, Waiters, next_turn};
use http::{HeaderValue, StatusCode};
use tokio::time::{Instant, timeout_at};

use crate::degraded::{Degrader, Spare};
use crate::finish::{Finisher, HeldBody, HeldUpgrade, counted};
use crate::{Failure, Invocation, LINEAGE_HEADER, LineageSeal, Outcome, RunSink, Served};

/// When a caller that was refused for want of a slot may try again: about what a start takes.
const RETRY_AFTER_MS: u64 = 1_000;

/// Runs calls. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Invoker {
    catalog: Catalog,
    pool: Pool,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn RunSink>,
    seal: LineageSeal,
    guard: Guard,
    degrader: Degrader,
    in_flight: Arc<AtomicUsize>,
}

impl Invoker {
    /// An invoker over what is deployed (`catalog`) and what runs (`pool`); finished runs go to `sink`, lineages are
    /// signed with `seal`.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        pool: Pool,
        clock: Arc<dyn Clock>,
        sink: Arc<dyn RunSink>,
        seal: LineageSeal,
    ) -> Self {
        let (guard, degrader, in_flight) = (Guard::default(), Degrader::default(), Arc::default());
        Self { catalog, pool, clock, sink, seal, guard, degrader, in_flight }
    }

    /// The same with `guard`, which every call passes.
    #[must_use]
    pub fn guarded_by(self, guard: Guard) -> Self {
        Self { guard, ..self }
    }

    /// The same with `degrader`, which answers where functions cannot.
    #[must_use]
    pub fn degraded_by(self, degrader: Degrader) -> Self {
        Self { degrader, ..self }
    }

    /// Whether a call of this caller would be refused whatever it is of. It counts nothing, so that an edge may ask before it
    /// does work for a request.
    pub fn peek(&self, caller: &Caller, source: Option<IpAddr>) -> Result<(), Failure> {
        let origin = Origin { caller, source };
        self.guard.peek(origin, Instant::now(), self.clock.now()).map_err(Failure::of_refusal)
    }

    /// Whether whoever comes from this address is blocked.
    pub fn peek_source(&self, source: IpAddr) -> Result<(), Failure> {
        self.guard.peek_source(source, self.clock.now()).map_err(Failure::of_refusal)
    }

    /// Counts a request of this caller that is no call of one function, or refuses it.
    pub fn arrive(&self, caller: &Caller, source: Option<IpAddr>) -> Result<(), Failure> {
        let origin = Origin { caller, source };
        self.guard.arrive(origin, Instant::now(), self.clock.now()).map_err(Failure::of_refusal)
    }

    /// What every call passes.
    #[must_use]
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// What signs lineages.
    #[must_use]
    pub const fn seal(&self) -> &LineageSeal {
        &self.seal
    }

    /// Calls that are running now, their answers' bodies included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Runs one call. Dropping the future cancels it and records it as cancelled.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Outcome, Failure> {
        let plan = self.plan(&invocation).map_err(unplanned)?;
        match Spare::of(&plan, &invocation) {
            None => self.run(&plan, invocation, None).await.map_err(|unanswered| unanswered.fail()),
            Some(spare) => self.run_or_degrade(&plan, invocation, spare).await,
        }
    }

    /// Runs a call whose caller is given something else where it cannot be answered.
    async fn run_or_degrade(
        &self,
        plan: &Arc<VersionPlan>,
        invocation: Invocation,
        spare: Spare,
    ) -> Result<Outcome, Failure> {
        let fallback = spare.fallback(&plan.key, &invocation);
        let qualifier = invocation.target.qualifier.clone();
        let unanswered = match self.run(plan, invocation, spare.overdue_at()).await {
            Ok(outcome) => return Ok(self.degrader.keep(plan, &spare, outcome)),
            Err(unanswered) => unanswered,
        };
        let call = Called { key: &plan.key, qualifier: &qualifier, spec: &plan.spec };
        let is_switched = self.guard.functions().is_some_and(|functions| functions.is_switched(&call));
        let Some(reason) = spare.reason(&unanswered.failure.fault, is_switched) else {
            return Err(unanswered.fail());
        };
        let outcome = match (self.degrader.answer(plan, &spare).await, fallback) {
            (Some(answer), _) => Some(unanswered.outcome(plan, answer)),
            (None, Some(fallback)) => self.fall_back(fallback).await,
            (None, None) => None,
        };
        let Some(mut outcome) = outcome else { return Err(unanswered.fail()) };
        outcome.served.degraded = Some(reason);
        self.sink.degraded(&plan.key, reason);
        unanswered.degraded(reason, outcome.answer.status);
        Ok(outcome)
    }

    /// Calls the function that answers instead. Nothing stands in for that one.
    async fn fall_back(&self, invocation: Invocation) -> Option<Outcome> {
        let plan = self.plan(&invocation).ok()?;
        let ran = Box::pin(self.run(&plan, invocation, None)).await;
        ran.map_err(|unanswered| unanswered.fail()).ok()
    }

    fn plan(&self, invocation: &Invocation) -> Result<Arc<VersionPlan>, Fault> {
        let catalog = self.catalog.load();
        match invocation.version {
            None => catalog.resolve(&invocation.target),
            Some(version) => {
                let qualifier = Qualifier::Version(version);
                catalog.resolve(&FunctionRef { qualifier, ..invocation.target.clone() })
            }
        }
    }

    /// Asks the guard. A call that it refuses has no run.
    fn admit(&self, plan: &VersionPlan, invocation: &Invocation) -> Result<Admission, Box<Unanswered>> {
        // Whose version was decided before was accepted then, and its caller asked for; now it is the platform that calls.
        let origin = match invocation.version {
            Some(_) => Origin { caller: &Caller::Platform, source: None },
            None => Origin { caller: &invocation.caller, source: invocation.remote },
        };
        let qualifier = &invocation.target.qualifier;
        let ask = Ask {
            origin,
            key: &plan.key,
            qualifier,
            spec: &plan.spec,
            now: Instant::now(),
            at: invocation.received_at,
        };
        self.guard.admit(&ask).map_err(|refusal| {
            self.sink.refused(plan, &refusal.fault);
            let failure = Failure { key: Some(plan.key.clone()), ..Failure::of_refusal(refusal) };
            Box::new(Unanswered { failure, finisher: None })
        })
    }

    /// Runs a call on a version, until `overdue_at` at the latest where there is such a moment.
    async fn run(
        &self,
        plan: &Arc<VersionPlan>,
        invocation: Invocation,
        overdue_at: Option<Instant>,
    ) -> Result<Outcome, Box<Unanswered>> {
        let admission = self.admit(plan, &invocation)?;
        let mut finisher = Finisher::new(&self.sink, &self.in_flight, &invocation, plan, admission);
        let attempt = self.attempt(plan, invocation, &mut finisher);
        let answered = match overdue_at {
            None => attempt.await,
            Some(at) => timeout_at(at, attempt).await.unwrap_or_else(|_| Err(overdue(plan))),
        };
        match answered {
            Ok((answer, lease)) => Ok(finish(answer, lease, finisher).await),
            Err(fault) => {
                let retry_after_ms = fault.is_retryable().then_some(RETRY_AFTER_MS);
                let failure = Failure { fault, key: Some(plan.key.clone()), retry_after_ms };
                Err(Box::new(Unanswered { failure, finisher: Some(finisher) }))
            }
        }
    }

    async fn attempt(
        &self,
        plan: &Arc<VersionPlan>,
        mut invocation: Invocation,
        finisher: &mut Finisher,
    ) -> Result<(Answer, Lease), Fault> {
        self.extend_lineage(plan, &mut invocation)?;
        check_waiters(plan, &invocation.waiters)?;
        let spec = &plan.spec;
        let received = invocation.received;
        let patience_ends = received + Duration::from_millis(spec.timeout_ms.max(spec.init_timeout_ms));
        let mut leased = self.pool.lease(plan, patience_ends).await;
        tell_caller(&mut invocation);
        let mut call = Self::call(invocation, finisher);
        loop {
            let lease = leased?;
            finisher.leased(&lease);
            self.start_clock(&mut call, spec.timeout_ms);
            let result = match lease.place {
                Place::Slot => lease.instance.call(call).await,
                Place::Ahead => match lease.instance.call_ahead(call).await {
                    Ahead::Ended { result, waited } => {
                        finisher.waited(waited);
                        result
                    }
                    Ahead::Returned(returned) => {
                        lease.release_unused();
                        call = *returned;
                        leased = self.pool.lease_again(plan, received, patience_ends).await;
                        continue;
                    }
                },
            };
            return result.map(|answer| (answer, lease));
        }
    }

    /// Tells the function the lineage of what it calls, or stops a chain that goes on for too long.
    fn extend_lineage(&self, plan: &VersionPlan, invocation: &mut Invocation) -> Result<(), Fault> {
        let key = &plan.key;
        let header = if invocation.lineage.is_empty() {
            self.seal.sign_first_step(key)
        } else {
            let policy = plan.spec.asynchronous.loops;
            let entered = invocation.lineage.enter(&key.namespace, &key.function, policy);
            let entered = entered.map_err(|found| Fault::new(ErrorCode::LoopDetected, found.to_string()))?;
            self.seal.sign(&entered)
        };
        invocation.headers.insert(LINEAGE_HEADER, header);
        Ok(())
    }

    fn call(invocation: Invocation, finisher: &mut Finisher) -> Call {
        Call {
            id: invocation.id,
            method: invocation.method,
            target: invocation.uri,
            headers: invocation.headers,
            body: counted(invocation.body, finisher),
            remote: invocation.remote,
            parameters: invocation.parameters,
            is_event: invocation.is_event,
            deadline: invocation.received,
            deadline_at: invocation.received_at,
            events: CallEvents { started: invocation.began },
            waiters: invocation.waiters,
        }
    }

    /// The attempt's clock starts when it has its slot: waiting for others is not the function's time.
    fn start_clock(&self, call: &mut Call, timeout_ms: u64) {
        call.deadline = Instant::now() + Duration::from_millis(timeout_ms);
        call.deadline_at = self.clock.now().plus_millis(i64::try_from(timeout_ms).unwrap_or(i64::MAX));
    }
}

/// Tells the function who calls, where somebody is known. What a request says itself does not come this far.
fn tell_caller(invocation: &mut Invocation) {
    if let Some(name) = invocation.caller.shared_name()
        && let Ok(name) = HeaderValue::from_str(name)
    {
        invocation.headers.insert(CALLER_HEADER, name);
    }
}

/// A call that was not answered, and is not recorded yet.
#[derive(Debug)]
struct Unanswered {
    failure: Failure,
    /// Its run; a call that a guard refused has none.
    finisher: Option<Finisher>,
}

impl Unanswered {
    /// Records it as the failure that it is.
    fn fail(self) -> Failure {
        let Self { failure, finisher } = self;
        match finisher {
            Some(finisher) => Failure { fault: finisher.fail(failure.fault), ..failure },
            None => failure,
        }
    }

    /// Another answer in its place.
    fn outcome(&self, plan: &VersionPlan, answer: Answer) -> Outcome {
        let phases = self.finisher.as_ref().map(Finisher::phases_so_far).unwrap_or_default();
        let (key, tier) = (plan.key.clone(), Tier::default());
        Outcome { answer, served: Served { key, instance: None, tier, phases, degraded: None } }
    }

    /// Records it as a failure whose caller was given another answer.
    fn degraded(self, reason: Degraded, status: StatusCode) {
        if let Some(mut finisher) = self.finisher {
            finisher.degraded(reason, status);
            drop(finisher.fail(self.failure.fault));
        }
    }
}

/// The failure of a call whose version is not known.
fn unplanned(fault: Fault) -> Failure {
    Failure { fault, key: None, retry_after_ms: None }
}

fn overdue(plan: &VersionPlan) -> Fault {
    let after_ms = plan.spec.degraded.as_ref().and_then(|degraded| degraded.overdue_ms).unwrap_or_default();
    let message = format!("{} gave no answer within {after_ms} ms", plan.key.function);
    Fault::limit(
        ErrorCode::FunctionTimeout,
        message,
        "overdue_ms",
        after_ms,
        "degraded.overdue_ms in alula.toml",
    )
}

/// Refuses a call that could only wait for itself: every slot that the version may have is held by a call that waits, over
/// however many others, for this one.
fn check_waiters(plan: &VersionPlan, waiters: &Waiters) -> Result<(), Fault> {
    let slots = u64::from(plan.spec.max_instances) * u64::from(plan.spec.concurrency);
    let waiting = waiters.of(&plan.key) as u64;
    if waiting < slots {
        return Ok(());
    }
    let function = &plan.key.function;
    let message = format!(
        "{function} waits for itself: all {slots} calls that it may run at once wait for this one; raise max_instances, or \
         call it without waiting at /async-function/{function}"
    );
    Err(Fault::new(ErrorCode::CallDeadlock, message))
}

/// Arranges that the slot is given back and the run recorded when the answer has been passed on.
async fn finish(mut answer: Answer, lease: Lease, mut finisher: Finisher) -> Outcome {
    finisher.answered(answer.status);
    let served = Served {
        key: finisher.key().clone(),
        instance: Some(lease.instance.id().clone()),
        tier: lease.tier,
        phases: finisher.phases_so_far(),
        degraded: None,
    };
    if let Some(upgraded) = answer.upgraded.take() {
        answer.upgraded = Some(HeldUpgrade::hold(upgraded, lease, finisher));
    } else if let Some(whole) = answer.body.as_full() {
        let response_bytes = whole.len() as u64;
        let released = lease.release();
        finisher.complete(response_bytes);
        if released == Released::HandedOver {
            // The instance idles until the next call is sent, so that goes first: writing this answer to its caller
            // takes longer than the guest looks out for more work.
            next_turn().await;
        }
    } else {
        answer.body = HeldBody::hold(answer.body, lease, finisher);
    }
    Outcome { answer, served }
}
