//! Threads that help with guests when more calls are ready to run than one thread of the data plane can run.
//!
//! A guest runs in the task of its caller, which is cheapest as long as there is one at a time: nobody is woken. But few
//! threads serve all calls, so that cores are left to functions that are processes, and guests are not processes. So a
//! call that is ready is first put into a line, and its task goes behind the others that are ready. When its turn
//! comes, it runs its guest itself, unless a thread of the crew has taken it by then.
//!
//! ```text
//! Waiting -> Queued -> Taken -> (Waiting | Done | Broken)
//!    guest's waker  by its task or the crew, for one turn
//! ```
//!
//! The crew runs a guest until it waits, or for as long as guests compute without letting others run. Whatever comes
//! after, such as the body of a long answer, belongs to the caller's task.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Handle;

use crate::engine::GUESTS_MAX;

/// Threads of the crew: with the data plane's own, more than the gateway can keep busy.
const THREADS_MAX: usize = 8;
/// Calls in line from which on waking a thread costs less than it saves: whoever has put the last one there runs the
/// first one next.
const CALLS_WORTH_WAKING: usize = 2;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The threads' handle; they end with it.
pub(crate) struct Crew<T> {
    line: Arc<Line<T>>,
}

/// What task and crew share.
struct Line<T> {
    state: Mutex<LineState<T>>,
    more: Condvar,
    threads: usize,
}

struct LineState<T> {
    queued: VecDeque<Arc<Slot<T>>>,
    asleep: usize,
    is_closed: bool,
}

/// A call's place.
struct Slot<T> {
    state: Mutex<SlotState<T>>,
    /// The runtime whose timers and sockets it uses.
    runtime: Handle,
}

struct SlotState<T> {
    stage: Stage<T>,
    /// Whether the guest was woken since it ran last.
    is_woken: bool,
    owner: Option<Waker>,
}

enum Stage<T> {
    /// For its guest to be woken.
    Waiting(Boxed<T>),
    /// In line, or about to be.
    Queued(Boxed<T>),
    /// It runs.
    Taken,
    Done(T),
    /// It panicked, which is passed on to its task.
    Broken(Box<dyn Any + Send>),
    /// Its task has gone, or has the answer.
    Over,
}

impl<T: Send + 'static> Crew<T> {
    /// A crew for a machine with so many cores, of which one is the data plane's.
    pub(crate) fn start(cores: usize) -> io::Result<Self> {
        let threads = cores.saturating_sub(1).min(THREADS_MAX);
        let state = LineState { queued: VecDeque::new(), asleep: 0, is_closed: false };
        let line = Arc::new(Line { state: Mutex::new(state), more: Condvar::new(), threads });
        let crew = Self { line };
        for _ in 0..threads {
            let line = Arc::clone(&crew.line);
            std::thread::Builder::new().name("wasm-guests".to_owned()).spawn(move || line.work())?;
        }
        Ok(crew)
    }

    /// Runs a call, by itself or with the crew's help. Only within a runtime.
    pub(crate) fn run(&self, call: impl Future<Output = T> + Send + 'static) -> Shared<T> {
        let state = SlotState { stage: Stage::Waiting(Box::pin(call)), is_woken: true, owner: None };
        let slot = Arc::new(Slot { state: Mutex::new(state), runtime: Handle::current() });
        Shared { line: Arc::clone(&self.line), slot }
    }
}

impl<T> Drop for Crew<T> {
    fn drop(&mut self) {
        self.line.state().is_closed = true;
        self.line.more.notify_all();
    }
}

impl<T: Send + 'static> Line<T> {
    /// The life of a thread.
    fn work(&self) {
        let mut state = self.state();
        while !state.is_closed {
            // From the end, since tasks take theirs from the beginning.
            if let Some(slot) = state.queued.pop_back() {
                drop(state);
                if let Some(call) = slot.take() {
                    let _runtime = slot.runtime.enter();
                    slot.step(call);
                    slot.tell_owner();
                }
                state = self.state();
            } else {
                state.asleep += 1;
                state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.asleep -= 1;
            }
        }
    }

    /// Puts a call into line; false where nobody would take it.
    fn offer(&self, slot: &Arc<Slot<T>>) -> bool {
        let mut state = self.state();
        if self.threads == 0 || state.queued.len() >= GUESTS_MAX as usize {
            return false;
        }
        state.queued.push_back(Arc::clone(slot));
        if state.asleep > 0 && state.queued.len() >= CALLS_WORTH_WAKING {
            self.more.notify_one();
        }
        true
    }

    /// Takes a call out of the line, if it is there.
    fn withdraw(&self, slot: &Arc<Slot<T>>) {
        let mut state = self.state();
        if let Some(at) = state.queued.iter().position(|queued| Arc::ptr_eq(queued, slot)) {
            state.queued.remove(at);
        }
    }
}

impl<T> Line<T> {
    fn state(&self) -> MutexGuard<'_, LineState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Slot<T> {
    /// The call, to be run by whoever asks first.
    fn take(&self) -> Option<Boxed<T>> {
        let mut state = self.state();
        match std::mem::replace(&mut state.stage, Stage::Taken) {
            Stage::Queued(call) => {
                state.is_woken = false;
                Some(call)
            }
            other => {
                state.stage = other;
                None
            }
        }
    }

    /// Runs the call until it waits.
    fn step(self: &Arc<Self>, mut call: Boxed<T>) {
        let waker = Waker::from(Arc::clone(self));
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut Context::from_waker(&waker))));
        let next = match polled {
            Ok(Poll::Ready(value)) => Stage::Done(value),
            Ok(Poll::Pending) => Stage::Waiting(call),
            Err(panic) => Stage::Broken(panic),
        };
        let mut state = self.state();
        let unwanted = match state.stage {
            Stage::Over => next,
            _ => std::mem::replace(&mut state.stage, next),
        };
        // A guest that nobody waits for any more ends here, which may take a while.
        drop(state);
        drop(unwanted);
    }

    /// Wakes the task where there is something for it to do.
    fn tell_owner(&self) {
        let mut state = self.state();
        let is_waiting = matches!(state.stage, Stage::Waiting(_)) && !state.is_woken;
        let owner = if is_waiting { None } else { state.owner.take() };
        drop(state);
        if let Some(owner) = owner {
            owner.wake();
        }
    }
}

impl<T> Slot<T> {
    fn state(&self) -> MutexGuard<'_, SlotState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Wake for Slot<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state();
        state.is_woken = true;
        // While it runs, whoever runs it looks afterwards.
        let owner = if matches!(state.stage, Stage::Waiting(_)) { state.owner.take() } else { None };
        drop(state);
        if let Some(owner) = owner {
            owner.wake();
        }
    }
}

/// A call that its task runs unless the crew does. See [`Crew::run`].
pub(crate) struct Shared<T: Send + 'static> {
    line: Arc<Line<T>>,
    slot: Arc<Slot<T>>,
}

impl<T: Send + 'static> Future for Shared<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if !self.queue(cx) {
            return self.outcome(cx);
        }
        if self.line.offer(&self.slot) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.run_here();
        self.outcome(cx)
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Whether it is to be put into line now: its guest was woken. Where its turn has come, it is run.
    fn queue(&self, cx: &Context<'_>) -> bool {
        let mut state = self.slot.state();
        if state.owner.as_ref().is_none_or(|owner| !owner.will_wake(cx.waker())) {
            state.owner = Some(cx.waker().clone());
        }
        match std::mem::replace(&mut state.stage, Stage::Taken) {
            Stage::Waiting(call) if state.is_woken => {
                state.stage = Stage::Queued(call);
                return true;
            }
            other => state.stage = other,
        }
        let is_queued = matches!(state.stage, Stage::Queued(_));
        drop(state);
        if is_queued {
            self.line.withdraw(&self.slot);
            self.run_here();
        }
        false
    }

    fn run_here(&self) {
        if let Some(call) = self.slot.take() {
            self.slot.step(call);
        }
    }

    /// What has come of it so far.
    fn outcome(&self, cx: &Context<'_>) -> Poll<T> {
        let mut state = self.slot.state();
        match std::mem::replace(&mut state.stage, Stage::Over) {
            Stage::Done(value) => Poll::Ready(value),
            Stage::Broken(panic) => {
                drop(state);
                resume_unwind(panic)
            }
            other => {
                if matches!(other, Stage::Waiting(_)) && state.is_woken {
                    cx.waker().wake_by_ref();
                }
                state.stage = other;
                Poll::Pending
            }
        }
    }
}

impl<T: Send + 'static> Drop for Shared<T> {
    fn drop(&mut self) {
        let stage = std::mem::replace(&mut self.slot.state().stage, Stage::Over);
        if matches!(stage, Stage::Queued(_)) {
            self.line.withdraw(&self.slot);
        }
        // The call, where there is one, ends here.
        drop(stage);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    async fn soon<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), future).await.unwrap()
    }

    #[tokio::test]
    async fn calls_run_with_a_crew_of_any_size() {
        for cores in [1, 2, 4] {
            let crew = Crew::start(cores).unwrap();
            let calls = (0..200).map(|number| crew.run(async move { number }));
            let ended = soon(futures_util::future::join_all(calls)).await;
            assert_eq!(ended, (0..200).collect::<Vec<_>>());
        }
    }

    /// The test has one thread, which cannot stand in two places.
    #[tokio::test]
    async fn two_calls_that_compute_run_at_the_same_time() {
        let (crew, barrier) = (Crew::start(2).unwrap(), Arc::new(Barrier::new(2)));
        let meet = || {
            let barrier = Arc::clone(&barrier);
            crew.run(async move { barrier.wait().is_leader() })
        };
        let (one, two) = soon(async { tokio::join!(meet(), meet()) }).await;
        assert!(one != two, "one of them came last");
    }

    #[tokio::test]
    async fn a_call_that_waits_goes_on_when_it_is_woken() {
        let crew = Crew::start(3).unwrap();
        let (tell, told): (Vec<_>, Vec<_>) = (0..100).map(|_| oneshot::channel()).unzip();
        let calls = told.into_iter().map(|told| {
            crew.run(async move {
                tokio::task::yield_now().await;
                let value: u32 = told.await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
                value
            })
        });
        let tell_all = async {
            for (value, tell) in (0..).zip(tell) {
                tokio::task::yield_now().await;
                tell.send(value).unwrap();
            }
        };
        let (ended, ()) = soon(async { tokio::join!(futures_util::future::join_all(calls), tell_all) }).await;
        assert_eq!(ended, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_panic_reaches_the_task_of_its_call_and_nobody_else() {
        let crew = Arc::new(Crew::start(2).unwrap());
        let calls = (0..50).map(|number| {
            let crew = Arc::clone(&crew);
            tokio::spawn(async move { crew.run(async move { assert_ne!(number, 20, "on purpose") }).await })
        });
        let ended = soon(futures_util::future::join_all(calls)).await;
        let broken: Vec<_> = (0..50).filter(|number: &usize| ended[*number].is_err()).collect();
        assert_eq!(broken, [20]);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_dropped() {
        let crew = Crew::start(2).unwrap();
        let held = Arc::new(());
        for _ in 0..20 {
            let (own, other) = (Arc::clone(&held), Arc::clone(&held));
            let waits = crew.run(async move {
                std::future::pending::<()>().await;
                drop(own);
            });
            let ends = crew.run(async move { drop(other) });
            tokio::select! {
                () = waits => panic!("it waits for ever"),
                () = ends => {}
            }
        }
        let gone = async {
            while Arc::strong_count(&held) > 1 {
                tokio::task::yield_now().await;
            }
        };
        soon(gone).await;
    }
}
