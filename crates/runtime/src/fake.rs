//! A back end that runs closures instead of programs, for the tests of whatever stands above the port.
//!
//! Starts take as long as the script says, calls do what the script's closure says, and everything is counted.
//! Time is the runtime's monotonic clock only, so a test that pauses it needs no real time. The fake keeps to the
//! contract of [`crate::Backend`], and passes the conformance suite.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, InstanceId, SpecError, Tier};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Ahead, Answer, Backend, Body, BoxFuture, Bred, Call, Instance, Started, StopGrace, Usage, VersionPlan,
    Zygote,
};

/// What a fake instance does with a call.
#[derive(Debug)]
pub enum Does {
    /// Answers with this.
    Answers(Answer),
    /// Sends the request's body back.
    Echoes,
    /// Fails with this, and can be used again.
    Fails(Fault),
    /// Ends in the middle of the call.
    Crashes,
    /// Never answers.
    Hangs,
}

impl Does {
    /// Answers 200 with `content`.
    #[must_use]
    pub fn answers(content: impl Into<Bytes>) -> Self {
        Self::Answers(Answer::new(StatusCode::OK, HeaderMap::new(), Body::full(content)))
    }
}

/// Decides what a call does, after [`Script::call`] has passed.
pub type Handler = Arc<dyn Fn(&Call) -> Does + Send + Sync>;

/// How a fake back end behaves. May be changed at any time; what has begun goes on as it was.
#[derive(Clone)]
pub struct Script {
    /// Time to make the sandbox.
    pub start: Duration,
    /// Time to load the code.
    pub init: Duration,
    /// What the next starts fail with, one each, after `start` and `init`.
    pub start_faults: VecDeque<Fault>,
    /// Time from a call's arrival until its handler decides.
    pub call: Duration,
    /// What a call does.
    pub handler: Handler,
    /// What every instance uses.
    pub usage: Usage,
    /// Time that user code runs on after its call timed out or was dropped.
    pub settle: Duration,
    /// Time that stopping takes, if the grace is not shorter.
    pub stop: Duration,
    /// How long a call lies behind another one before it is given back. Without it no call is taken ahead; with it
    /// every instance runs one call at a time.
    pub ahead: Option<Duration>,
    /// What comes of making a zygote, which takes `start` and `init`.
    pub breeds: Breeds,
}

/// What a start from a fake zygote takes.
pub const FORK: Duration = Duration::from_millis(3);

/// What comes of making a zygote.
#[derive(Debug, Clone)]
pub enum Breeds {
    /// A zygote, whose forks take [`FORK`]; they fail with what is here.
    Zygote(Option<Fault>),
    /// None, because the version cannot be forked.
    Unfit,
    /// None this time.
    Fails(Fault),
}

impl Default for Script {
    fn default() -> Self {
        Self {
            start: Duration::ZERO,
            init: Duration::ZERO,
            start_faults: VecDeque::new(),
            call: Duration::ZERO,
            handler: Arc::new(|_| Does::Echoes),
            usage: Usage::default(),
            settle: Duration::ZERO,
            stop: Duration::ZERO,
            ahead: None,
            breeds: Breeds::Unfit,
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("start", &self.start).field("call", &self.call).finish_non_exhaustive()
    }
}

/// What has happened at a fake back end so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Starts that were asked for.
    pub starts: usize,
    /// Starts that failed or were dropped before they were ready.
    pub starts_lost: usize,
    /// Stops that were asked for.
    pub stops: usize,
    /// Calls that arrived.
    pub calls: usize,
    /// Zygotes that were asked for.
    pub breeds: usize,
    /// Zygotes that are there.
    pub zygotes: usize,
    /// Instances that are ready and not gone.
    pub instances: usize,
    /// Most instances at once.
    pub instances_max: usize,
    /// Calls that run, their answers' bodies included.
    pub running: usize,
    /// Most calls at once, over all instances.
    pub running_max: usize,
    /// Most calls at once in one instance.
    pub running_in_one_max: usize,
}

/// See the module. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct FakeBackend {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<Script>,
    counts: Mutex<Counts>,
    instances: Mutex<Vec<(InstanceId, CancellationToken)>>,
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn instances(&self) -> MutexGuard<'_, Vec<(InstanceId, CancellationToken)>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends an instance; false where it had ended before.
    fn end(&self, id: &InstanceId) -> bool {
        let mut instances = self.instances();
        let Some(at) = instances.iter().position(|(other, _)| other == id) else { return false };
        let (_, gone) = instances.swap_remove(at);
        self.counts().instances -= 1;
        gone.cancel();
        true
    }
}

impl FakeBackend {
    /// A back end that behaves like `script`.
    #[must_use]
    pub fn new(script: Script) -> Self {
        let fake = Self::default();
        *fake.shared.script() = script;
        fake
    }

    /// Changes the script for what begins from now on.
    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script());
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.shared.counts()
    }

    /// Ends the instance `id` as if its process had died; false where there is none.
    pub fn kill(&self, id: &InstanceId) -> bool {
        self.shared.end(id)
    }

    async fn start_instance(&self, id: InstanceId) -> Result<Started, Fault> {
        let Script { start, init, .. } = self.shared.script().clone();
        let mut lost = LostStart(Some(&self.shared));
        self.shared.counts().starts += 1;
        tokio::time::sleep(start + init).await;
        if let Some(fault) = self.shared.script().start_faults.pop_front() {
            return Err(fault);
        }
        lost.0 = None;
        Ok(self.ready(id, Tier::Cold, start, init))
    }

    /// An instance that is ready.
    fn ready(&self, id: InstanceId, tier: Tier, start: Duration, init: Duration) -> Started {
        let gone = CancellationToken::new();
        self.shared.instances().push((id.clone(), gone.clone()));
        let mut counts = self.shared.counts();
        counts.instances += 1;
        counts.instances_max = counts.instances_max.max(counts.instances);
        drop(counts);
        let instance = FakeInstance {
            id,
            shared: Arc::clone(&self.shared),
            gone,
            running: Arc::new(AtomicUsize::new(0)),
            turn: tokio::sync::Mutex::new(()),
            settled_at: Mutex::new(Instant::now()),
        };
        Started { instance: Arc::new(instance), tier, start, init }
    }
}

/// Counts a start that does not become an instance.
struct LostStart<'a>(Option<&'a Shared>);

impl Drop for LostStart<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.counts().starts_lost += 1;
        }
    }
}

impl Backend for FakeBackend {
    fn validate(&self, plan: &VersionPlan) -> Result<(), SpecError> {
        plan.spec.validate()
    }

    fn start(&self, _plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        Box::pin(self.start_instance(id))
    }

    fn breed(&self, _plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Bred, Fault>> {
        Box::pin(async move {
            self.shared.counts().breeds += 1;
            let (taken, breeds) = {
                let script = self.shared.script();
                (script.start + script.init, script.breeds.clone())
            };
            tokio::time::sleep(taken).await;
            match breeds {
                Breeds::Zygote(fault) => {
                    self.shared.counts().zygotes += 1;
                    Ok(Bred::Zygote(Arc::new(FakeZygote { id, backend: self.clone(), fault })))
                }
                Breeds::Unfit => Ok(Bred::Unfit { reason: "the fake is told so".to_owned() }),
                Breeds::Fails(fault) => Err(fault),
            }
        })
    }
}

/// A zygote of the fake back end.
#[derive(Debug)]
struct FakeZygote {
    id: InstanceId,
    backend: FakeBackend,
    fault: Option<Fault>,
}

impl Zygote for FakeZygote {
    fn id(&self) -> &InstanceId {
        &self.id
    }

    fn start(&self, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        Box::pin(async move {
            tokio::time::sleep(FORK).await;
            match &self.fault {
                Some(fault) => Err(fault.clone()),
                None => Ok(self.backend.ready(id, Tier::Zygote, FORK, Duration::ZERO)),
            }
        })
    }

    fn usage(&self) -> Usage {
        self.backend.shared.script().usage
    }

    fn is_gone(&self) -> bool {
        false
    }
}

impl Drop for FakeZygote {
    fn drop(&mut self) {
        self.backend.shared.counts().zygotes -= 1;
    }
}

/// An instance of the fake back end.
#[derive(Debug)]
struct FakeInstance {
    id: InstanceId,
    shared: Arc<Shared>,
    gone: CancellationToken,
    running: Arc<AtomicUsize>,
    /// Held by the call that runs, where calls are taken ahead.
    turn: tokio::sync::Mutex<()>,
    /// When the user code of all calls that nobody wants any more has stopped.
    settled_at: Mutex<Instant>,
}

/// A call that is counted as running until this is dropped.
struct Counted {
    shared: Arc<Shared>,
    running: Arc<AtomicUsize>,
}

impl Counted {
    fn new(instance: &FakeInstance) -> Self {
        let here = instance.running.fetch_add(1, Ordering::SeqCst) + 1;
        let mut counts = instance.shared.counts();
        counts.calls += 1;
        counts.running += 1;
        counts.running_max = counts.running_max.max(counts.running);
        counts.running_in_one_max = counts.running_in_one_max.max(here);
        drop(counts);
        Self { shared: Arc::clone(&instance.shared), running: Arc::clone(&instance.running) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.shared.counts().running -= 1;
    }
}

/// A call whose user code runs on for a while unless it ends before this is dropped.
struct Unsettled<'a>(Option<&'a FakeInstance>);

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if let Some(instance) = self.0 {
            let settled_at = Instant::now() + instance.shared.script().settle;
            let mut latest = instance.settled_at();
            *latest = settled_at.max(*latest);
        }
    }
}

impl FakeInstance {
    fn settled_at(&self) -> MutexGuard<'_, Instant> {
        self.settled_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, call: Call) -> Result<Answer, Fault> {
        let counted = Counted::new(self);
        let mut unsettled = Unsettled(Some(self));
        let deadline = call.deadline;
        let script = self.shared.script().clone();
        let work = Box::pin(self.work(call, &script));
        let crash = Box::pin(self.gone.cancelled());
        let worked = tokio::time::timeout_at(deadline, select(work, crash)).await;
        let crashed = || Err(Fault::new(ErrorCode::FunctionCrashed, "the fake instance ended"));
        if worked.is_ok() {
            unsettled.0 = None;
        }
        let answer = match worked {
            Ok(Either::Left((Some(result), _))) => result?,
            Ok(Either::Left((None, _))) => {
                self.shared.end(&self.id);
                return crashed();
            }
            Ok(Either::Right(_)) => return crashed(),
            Err(_) => return Err(Fault::new(ErrorCode::FunctionTimeout, "the fake did not answer in time")),
        };
        Ok(Answer { body: answer.body.holding(counted), ..answer })
    }

    /// `None` where the instance crashes.
    async fn work(&self, call: Call, script: &Script) -> Option<Result<Answer, Fault>> {
        if let Some(started) = &call.events.started {
            started.store(true, Ordering::Relaxed);
        }
        tokio::time::sleep(script.call).await;
        match (script.handler)(&call) {
            Does::Answers(answer) => Some(Ok(answer)),
            Does::Echoes => Some(Ok(Answer::new(StatusCode::OK, HeaderMap::new(), call.body))),
            Does::Fails(fault) => Some(Err(fault)),
            Does::Crashes => None,
            Does::Hangs => std::future::pending().await,
        }
    }
}

impl Instance for FakeInstance {
    fn id(&self) -> &InstanceId {
        &self.id
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(async move {
            let _turn = if self.takes_ahead() { Some(self.turn.lock().await) } else { None };
            self.run(call).await
        })
    }

    fn takes_ahead(&self) -> bool {
        self.shared.script().ahead.is_some()
    }

    fn call_ahead(&self, call: Call) -> BoxFuture<'_, Ahead> {
        Box::pin(async move {
            let asked_at = Instant::now();
            let patience = self.shared.script().ahead.unwrap_or_default();
            let Ok(_turn) = tokio::time::timeout(patience, self.turn.lock()).await else {
                return Ahead::Returned(Box::new(call));
            };
            let waited = asked_at.elapsed();
            Ahead::Ended { result: self.run(call).await, waited }
        })
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let settled_at = *self.settled_at();
                if settled_at <= Instant::now() {
                    return;
                }
                tokio::time::sleep_until(settled_at).await;
            }
        })
    }

    fn usage(&self) -> Usage {
        self.shared.script().usage
    }

    fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.gone.cancelled())
    }

    fn stop(&self, grace: StopGrace) -> BoxFuture<'_, ()> {
        self.shared.counts().stops += 1;
        Box::pin(async move {
            let takes = self.shared.script().stop;
            tokio::time::sleep(takes.min(grace.0)).await;
            self.shared.end(&self.id);
        })
    }
}

impl Drop for FakeInstance {
    fn drop(&mut self) {
        self.shared.end(&self.id);
    }
}

#[cfg(test)]
#[path = "fake_tests.rs"]
mod tests;
