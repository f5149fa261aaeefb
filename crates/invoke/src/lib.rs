//! The invocation core: from "call this function" to an answer and a run record.
//!
//! ```text
//! resolve -> admit -> lease -> call -> answer, body passed on -> record
//! control    guard    pool     runtime
//! ```
//!
//! It knows no transport: HTTP requests, calls through the control API and, later, schedules and messages all come
//! through [`Invoker::invoke`]. It holds the one deadline of a call, decides nothing about instances (that is the
//! pool's) and writes no record itself: finished runs go to a [`RunSink`], which must not block.

pub mod cloudevents;
pub mod degraded;
mod finish;
mod hands;
mod invoker;
pub mod later;
mod lineage;
mod partial;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use alula_guard::Refusal;
use alula_model::{
    Caller, Degraded, Fault, FunctionRef, InstanceId, InvocationId, Lineage, Phases, Run, Tier, Timestamp,
    TriggerKind, VersionKey,
};
use alula_runtime::{Answer, Body, VersionPlan, Waiters};
use http::{HeaderMap, Method, Uri};
use tokio::time::Instant;

pub use alula_guard::Guard;
pub use hands::Hands;
pub use invoker::Invoker;
pub use lineage::{LINEAGE_HEADER, LineageSeal};
pub use partial::Failed;

/// One logical call, as an edge hands it in.
#[derive(Debug)]
pub struct Invocation {
    /// Its id, stable over retries.
    pub id: InvocationId,
    /// What is called, as the caller said it.
    pub target: FunctionRef,
    /// The version that it is to run on, where that was decided before; the one that the qualifier means now, otherwise.
    pub version: Option<u64>,
    /// What caused it.
    pub trigger: TriggerKind,
    /// The functions that led to it.
    pub lineage: Lineage,
    /// Which attempt of the call this is, from 1.
    pub attempt: u32,
    /// The method; `POST` where the call did not come over HTTP.
    pub method: Method,
    /// Path and query below the function's own prefix; begins with `/`.
    pub uri: Uri,
    /// End-to-end headers.
    pub headers: HeaderMap,
    /// The content.
    pub body: Body,
    /// Who calls.
    pub caller: Caller,
    /// The peer, where there is one.
    pub remote: Option<IpAddr>,
    /// Values of the route's parameters.
    pub parameters: Vec<(String, String)>,
    /// Whether the body is an event of its own rather than an HTTP request.
    pub is_event: bool,
    /// When it arrived, by the monotonic clock.
    pub received: Instant,
    /// When it arrived, by the wall clock.
    pub received_at: Timestamp,
    /// The functions that wait for it.
    pub waiters: Waiters,
    /// Set once the function's code has begun to run, for who must know whether a retry may run something twice.
    pub began: Option<Arc<AtomicBool>>,
}

impl Invocation {
    /// Whether somebody waits for the answer, and not somebody who calls again later by themselves.
    #[must_use]
    pub const fn is_waited_for(&self) -> bool {
        self.began.is_none() && matches!(self.trigger, TriggerKind::Http | TriggerKind::Api)
    }
}

/// Who served a call and where the time went until the head of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The version.
    pub key: VersionKey,
    /// The instance, where one answered.
    pub instance: Option<InstanceId>,
    /// How the instance came to be.
    pub tier: Tier,
    /// Phases up to the head of the answer.
    pub phases: Phases,
    /// Why it is a degraded answer, where it is one.
    pub degraded: Option<Degraded>,
}

/// A call that was answered. The run is recorded when the body has ended or is dropped.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// Who gave it.
    pub served: Served,
}

/// A call that was not answered. It is recorded already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub fault: Fault,
    /// Which version failed, where one was resolved; the instance where one was reached.
    pub key: Option<VersionKey>,
    /// When a retry makes sense, where that is known.
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A call that a guard refused: nothing has run.
    pub(crate) fn of_refusal(refusal: Refusal) -> Self {
        Self { fault: refusal.fault, key: None, retry_after_ms: refusal.retry_after_ms }
    }
}

/// Is told of every call that begins and takes its run when it has ended. Must not block: over its capacity it drops
/// and counts.
pub trait RunSink: Send + Sync + std::fmt::Debug {
    /// A call of this version has begun; its run goes to what is returned, whatever becomes of it.
    fn begin(&self, plan: &VersionPlan) -> OpenRun;

    /// A call of this version was refused by a guard. Such calls have no run: whoever floods would else push the runs of
    /// others out of the history.
    fn refused(&self, plan: &VersionPlan, fault: &Fault) {
        let _ = (plan, fault);
    }

    /// A caller of this version was given a degraded answer.
    fn degraded(&self, key: &VersionKey, reason: Degraded) {
        let _ = (key, reason);
    }
}

/// Takes the run of one call that has begun.
pub struct OpenRun(Box<dyn FnOnce(Run) + Send + Sync>);

impl OpenRun {
    /// Hands the run to `close`.
    #[must_use]
    pub fn new(close: impl FnOnce(Run) + Send + Sync + 'static) -> Self {
        Self(Box::new(close))
    }

    /// The call has ended as `run` says.
    pub fn close(self, run: Run) {
        (self.0)(run);
    }
}

impl std::fmt::Debug for OpenRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenRun").finish_non_exhaustive()
    }
}
