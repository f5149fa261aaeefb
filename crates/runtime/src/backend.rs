//! The two ports every way of running functions implements.
//!
//! The contract, held by one conformance suite for all implementations:
//!
//! - An instance runs one version for its whole life and no other.
//! - At most `spec.concurrency` calls are given to it at once; the pool counts, the instance may rely on it.
//! - A call that fails leaves the instance usable unless [`Instance::is_gone`] says otherwise afterwards.
//! - At the deadline of a call the instance answers [`ErrorCode::FunctionTimeout`](alula_model::ErrorCode). User code
//!   may run on until [`Instance::settled`] returns and no longer; where it cannot be stopped the instance is gone.
//! - Dropping the future of a call cancels the call in the same way.
//! - Faults name whose fault it is: what user code did is never reported as the platform's.

use std::sync::Arc;
use std::time::Duration;

use alula_model::{Fault, InstanceId, SpecError, Tier};

use crate::{Answer, BoxFuture, Call, VersionPlan};

/// A way of running functions: sandboxed processes, WebAssembly, a fake for tests.
pub trait Backend: Send + Sync + std::fmt::Debug {
    /// Refuses at deploy time what could only fail at the first call, and resolves the runtime's alias:
    /// the answer is the canonical name of the runtime (`python` becomes `python3.11`).
    fn validate(&self, plan: &VersionPlan) -> Result<(), SpecError>;

    /// Makes at publish what every start would otherwise wait for, such as machine code. `plan` has passed
    /// [`validate`](Self::validate); a fault refuses the deploy.
    fn prepare<'a>(&'a self, _plan: &'a VersionPlan) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Starts an instance of `plan` and waits until it is ready or has failed. Dropping the future stops it.
    fn start(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>>;

    /// Makes a process of `plan` that has loaded its code and that further instances are forked from, where there is such
    /// a thing. It serves no calls. Dropping the future stops it.
    fn breed(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Bred, Fault>> {
        drop((plan, id));
        let reason = "instances of its runtime are not forked".to_owned();
        Box::pin(std::future::ready(Ok(Bred::Unfit { reason })))
    }
}

/// What came of [`Backend::breed`].
#[derive(Debug)]
pub enum Bred {
    /// A zygote of the version.
    Zygote(Arc<dyn Zygote>),
    /// This version can have none.
    Unfit {
        /// Why, for the function's owner.
        reason: String,
    },
}

/// A process of one version that instances of this version are forked from. Dropping it ends it, not the instances.
pub trait Zygote: Send + Sync + std::fmt::Debug {
    /// Its id, among those of instances.
    fn id(&self) -> &InstanceId;

    /// Starts an instance, as [`Backend::start`] does.
    fn start(&self, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>>;

    /// What it uses now.
    fn usage(&self) -> Usage;

    /// Whether it has ended, so that nothing can be forked from it. Once true, always true.
    fn is_gone(&self) -> bool;
}

/// A ready instance and what its start took.
#[derive(Debug)]
pub struct Started {
    /// The instance.
    pub instance: Arc<dyn Instance>,
    /// What it was made from.
    pub tier: Tier,
    /// Time to make the sandbox and start the process.
    pub start: Duration,
    /// Time to load the function's code.
    pub init: Duration,
}

/// One sandbox with one version loaded.
pub trait Instance: Send + Sync + std::fmt::Debug {
    /// Its id.
    fn id(&self) -> &InstanceId;

    /// Runs one call. The answer's body may still be coming when this returns; the slot is free when the body
    /// has ended or is dropped.
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, Fault>>;

    /// Whether one call may be given to it with [`call_ahead`](Self::call_ahead) while another one runs.
    fn takes_ahead(&self) -> bool {
        false
    }

    /// Runs one call after the one that runs now: it lies ready inside the instance, so that nobody sleeps between
    /// the two. Where its turn does not come soon it is given back.
    fn call_ahead(&self, call: Call) -> BoxFuture<'_, Ahead> {
        Box::pin(async move { Ahead::at_once(self.call(call).await) })
    }

    /// Says that calls are queued for a slot of this instance, so that it may poll instead of sleeping.
    fn hint_waiting(&self, _waiting: usize) {}

    /// Waits until no user code runs of a call that has been answered already: until then its slot is not free.
    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Says that no call has come for a while: it may stop using the CPU until the next one comes. Calls need not know.
    fn rest(&self) {}

    /// Gives it another weight where it competes for the CPU, in percent of what follows from its memory.
    fn weigh(&self, _percent: u32) {}

    /// What it uses now.
    fn usage(&self) -> Usage;

    /// Whether it has ended and must not be given calls. Once true, always true.
    fn is_gone(&self) -> bool;

    /// Waits until it has ended, by itself or stopped.
    fn gone(&self) -> BoxFuture<'_, ()>;

    /// Stops it: politely within `grace`, then by force. Returns when nothing of it is left.
    fn stop(&self, grace: StopGrace) -> BoxFuture<'_, ()>;
}

/// What became of a call that was sent ahead.
#[derive(Debug)]
pub enum Ahead {
    /// It ran, and did so after `waited`, which is not its own time.
    Ended {
        /// What [`Instance::call`] would have given.
        result: Result<Answer, Fault>,
        /// From when it was sent until it began.
        waited: Duration,
    },
    /// No user code has seen it; it can be run elsewhere.
    Returned(Box<Call>),
}

impl Ahead {
    /// The end of a call that waited for no other.
    #[must_use]
    pub fn at_once(result: Result<Answer, Fault>) -> Self {
        Self::Ended { result, waited: Duration::ZERO }
    }
}

/// How long a stopping instance may take to finish by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopGrace(pub Duration);

/// What an instance uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// CPU time so far, in microseconds.
    pub cpu_us: u64,
}
