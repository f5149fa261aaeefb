//! The path of one call, step by step.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alula_control::Catalog;
use alula_guard::{Admission, Ask, Guard, Origin};
use alula_model::{Caller, Clock, ErrorCode, Fault, FunctionRef, Qualifier};
use alula_pool::{Lease, Place, Pool, Released};
use alula_runtime::{Ahead, Answer, CALLER_HEADER, Call, CallEvents, VersionPlan, Waiters, next_turn};
use http::HeaderValue;
use tokio::time::Instant;

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
        Self { catalog, pool, clock, sink, seal, guard: Guard::default(), in_flight: Arc::default() }
    }

    /// The same with `guard`, which every call passes.
    #[must_use]
    pub fn guarded_by(self, guard: Guard) -> Self {
        Self { guard, ..self }
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
        let refused = |fault| Failure { fault, key: None, retry_after_ms: None };
        let plan = self.plan(&invocation).map_err(refused)?;
        let admission = self.admit(&plan, &invocation)?;
        let finisher = Finisher::new(&self.sink, &self.in_flight, &invocation, &plan, admission);
        self.run(&plan, invocation, finisher).await.map_err(|fault| {
            let retry_after_ms = fault.is_retryable().then_some(RETRY_AFTER_MS);
            Failure { fault, key: Some(plan.key.clone()), retry_after_ms }
        })
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
    fn admit(&self, plan: &VersionPlan, invocation: &Invocation) -> Result<Admission, Failure> {
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
            self.sink.refused(&plan, &refusal.fault);
            Failure { key: Some(plan.key.clone()), ..Failure::of_refusal(refusal) }
        })
    }

    async fn run(
        &self,
        plan: &Arc<VersionPlan>,
        mut invocation: Invocation,
        mut finisher: Finisher,
    ) -> Result<Outcome, Fault> {
        if let Err(fault) = self.extend_lineage(plan, &mut invocation) {
            return Err(finisher.fail(fault));
        }
        if let Err(fault) = check_waiters(plan, &invocation.waiters) {
            return Err(finisher.fail(fault));
        }
        let spec = &plan.spec;
        let received = invocation.received;
        let patience_ends = received + Duration::from_millis(spec.timeout_ms.max(spec.init_timeout_ms));
        let mut leased = self.pool.lease(plan, patience_ends).await;
        tell_caller(&mut invocation);
        let mut call = Self::call(invocation, &mut finisher);
        loop {
            let lease = match leased {
                Ok(lease) => lease,
                Err(fault) => return Err(finisher.fail(fault)),
            };
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
            return match result {
                Ok(answer) => Ok(finish(answer, lease, finisher).await),
                Err(fault) => Err(finisher.fail(fault)),
            };
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
        instance: lease.instance.id().clone(),
        tier: lease.tier,
        phases: finisher.phases_so_far(),
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
