//! The instances of one version, and the line of calls that wait for one of them.
//!
//! All state is behind one lock that is never held across an await. A slot that becomes free goes to the first in line
//! under that lock; if that one has left before it took the lease up, dropping the lease hands the slot on.

mod breeding;
mod ends;
mod entry;
mod holding;
mod renewal;
mod starting;

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{Fault, Tier};
use alula_runtime::{Instance, Started, VersionPlan};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::demand::Observed;
use crate::lease::{Lease, Place, Released};
use crate::options::PoolOptions;
use crate::prewarm::Announced;
use crate::view::{InstanceCounts, InstanceView};

use entry::Entry;
use starting::{RETRY_PAUSE_MAX, StartFailure};

pub(crate) use breeding::Forking;
pub use breeding::ZygoteEnd;
pub(crate) use holding::Idle;
pub(crate) use starting::Retry;

/// A pause in calls that is shorter than this is not worth remembering: nothing would be decided by it.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Memory that an instance is expected to take before one has been seen: what a small interpreter does.
const MEMORY_EXPECTED: u64 = 32 * 1024 * 1024;

/// The instances of one version on this node.
#[derive(Debug)]
pub(crate) struct VersionPool {
    pub(crate) plan: Arc<VersionPlan>,
    start_estimate: Duration,
    waiting_max: usize,
    /// Instances that are held whatever happens.
    floor: AtomicUsize,
    /// Told when a start has ended, well or not.
    changed: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    line: VecDeque<Waiter>,
    starting: usize,
    observed: Observed,
    failure: Option<StartFailure>,
    /// When a call came after a pause; taken by the next sweep.
    woken_at: Option<Instant>,
    /// Calls that were announced.
    announced: Vec<Announced>,
    /// Memory of an instance as it was seen last, in bytes.
    memory_bytes: u64,
    breeding: breeding::Breeding,
    /// Counts how often everything was outdated.
    era: u64,
    ends: ends::Ends,
    is_closed: bool,
}

#[derive(Debug)]
struct Waiter {
    since: Instant,
    grant: oneshot::Sender<Result<Lease, Fault>>,
}

/// What asking for a slot led to.
pub(crate) enum Asked {
    /// A slot.
    Granted(Box<Lease>),
    /// A place in the line.
    InLine(oneshot::Receiver<Result<Lease, Fault>>),
    /// No.
    Refused(Fault),
    /// This pool has been taken down; ask its successor.
    Closed,
}

impl VersionPool {
    pub(crate) fn new(plan: Arc<VersionPlan>, options: &PoolOptions) -> Self {
        let PoolOptions { start_estimate, waiting_max, .. } = *options;
        Self {
            plan,
            start_estimate,
            waiting_max,
            floor: AtomicUsize::new(0),
            changed: Notify::new(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn concurrency(&self) -> usize {
        self.plan.spec.concurrency as usize
    }

    /// Takes a free slot or a place in the line.
    pub(crate) fn ask(self: &Arc<Self>, now: Instant) -> Asked {
        let mut state = self.state();
        if state.is_closed {
            return Asked::Closed;
        }
        if state.line.is_empty()
            && let Some((index, place)) = state.find_place(self.plan.spec.concurrency, now)
        {
            let entry = &mut state.entries[index];
            let is_after_pause = entry.taken == 0 && now.duration_since(entry.idle_since) >= PAUSE_MIN;
            let instance = entry.take(now);
            if is_after_pause {
                state.woken(now);
            }
            drop(state);
            return Asked::Granted(Box::new(self.lease(instance, place, Duration::ZERO, now, None)));
        }
        if let Some(refused) = state.refusal(&self.plan, self.waiting_max, now) {
            return Asked::Refused(refused);
        }
        if state.entries.is_empty() && state.starting == 0 && state.line.is_empty() {
            state.woken_at.get_or_insert(now);
        }
        let (grant, granted) = oneshot::channel();
        state.line.push_back(Waiter { since: now, grant });
        let waiting = state.line.len();
        for entry in state.entries.iter().filter(|entry| entry.taken > 0) {
            entry.instance.hint_waiting(waiting);
        }
        Asked::InLine(granted)
    }

    /// Takes a free slot or the first place in the line, for a call that was given back and has waited since `since`.
    pub(crate) fn ask_again(self: &Arc<Self>, since: Instant, now: Instant) -> Asked {
        let mut state = self.state();
        if state.is_closed {
            return Asked::Closed;
        }
        if let Some((index, Place::Slot)) = state.find_place(self.plan.spec.concurrency, now) {
            let instance = state.entries[index].take(now);
            drop(state);
            let waited = now.saturating_duration_since(since);
            return Asked::Granted(Box::new(self.lease(instance, Place::Slot, waited, now, None)));
        }
        let (grant, granted) = oneshot::channel();
        state.line.push_front(Waiter { since, grant });
        Asked::InLine(granted)
    }

    /// Gives a place back that was taken at `taken_at`: to the first in line, or to the idle ones.
    pub(crate) fn give_back(self: &Arc<Self>, instance: &Arc<dyn Instance>, taken_at: Instant) -> Released {
        let now = Instant::now();
        let mut state = self.state();
        let Some(index) = state.index_of(instance) else { return Released::Idle };
        let entry = &mut state.entries[index];
        // A call that was sent ahead has its own time only from the end of the one before it.
        let began_at = if self.concurrency() == 1 { taken_at.max(entry.idle_since) } else { taken_at };
        entry.idle_since = now;
        entry.is_held_up = false;
        state.observed.call_took(now.saturating_duration_since(began_at));
        self.pass_on(state, index, now)
    }

    /// Gives a place back whose call the instance did not come to: it is busy for longer than was expected.
    pub(crate) fn give_back_unused(self: &Arc<Self>, instance: &Arc<dyn Instance>) -> Released {
        let mut state = self.state();
        let Some(index) = state.index_of(instance) else { return Released::Idle };
        state.entries[index].is_held_up = true;
        self.pass_on(state, index, Instant::now())
    }

    /// Frees a place of an instance and fills what is free with the first in line.
    fn pass_on(self: &Arc<Self>, mut state: MutexGuard<'_, State>, index: usize, now: Instant) -> Released {
        let entry = &mut state.entries[index];
        if entry.instance.is_gone() {
            state.entries.swap_remove(index);
            state.ends.add(now);
            return Released::Idle;
        }
        entry.taken -= 1;
        let mut released = Released::Idle;
        while let Some(place) = state.place_in(index, self.plan.spec.concurrency, now)
            && let Some(waiter) = state.line.pop_front()
        {
            let instance = state.entries[index].take(now);
            instance.hint_waiting(state.line.len());
            let waited = now.saturating_duration_since(waiter.since);
            let lease = self.lease(instance, place, waited, now, None);
            if let Err(Ok(mut unwanted)) = waiter.grant.send(Ok(lease)) {
                // The waiter has left. Its lease must not come back through this lock.
                unwanted.pool = None;
                state.entries[index].taken -= 1;
                state.entries[index].calls -= 1;
            } else if place == Place::Slot {
                released = Released::HandedOver;
            }
        }
        released
    }

    /// Forgets an instance that has ended.
    pub(crate) fn ended(&self, instance: &Arc<dyn Instance>) {
        let mut state = self.state();
        let before = state.entries.len();
        state.entries.retain(|entry| !Arc::ptr_eq(&entry.instance, instance));
        if state.entries.len() < before {
            // Whoever lets an instance go takes it out first, so this one went by itself.
            state.ends.add(Instant::now());
        }
    }

    /// Takes the pool down if nothing is in it that must be remembered; from then on it answers [`Asked::Closed`].
    pub(crate) fn close_if_empty(&self, now: Instant) -> bool {
        let mut state = self.state();
        let has_zygote = !matches!(state.breeding, breeding::Breeding::None);
        let is_empty =
            state.entries.is_empty() && state.line.is_empty() && state.starting == 0 && !has_zygote;
        // A failure is remembered for a while, or the next start would not know that it follows others.
        let has_failed =
            state.failure.as_ref().is_some_and(|failure| now < failure.retry_at + RETRY_PAUSE_MAX);
        let has_ended = state.ends.lately(now) > 0;
        state.is_closed |= is_empty && !has_failed && !has_ended && state.held(self, now) == 0;
        state.is_closed
    }

    /// Takes the pool down whatever is in it and returns its instances; the line is told `fault`.
    pub(crate) fn close(&self, fault: &Fault) -> Vec<Arc<dyn Instance>> {
        let mut state = self.state();
        state.is_closed = true;
        state.breeding = breeding::Breeding::None;
        let line = std::mem::take(&mut state.line);
        let entries = std::mem::take(&mut state.entries);
        drop(state);
        for waiter in line {
            drop(waiter.grant.send(Err(fault.clone())));
        }
        entries.into_iter().map(|entry| entry.instance).collect()
    }

    /// How long a start is expected to take.
    pub(crate) fn start_estimate(&self) -> Duration {
        self.state().start_estimate(self)
    }

    /// Whether any instance is there.
    pub(crate) fn has_instances(&self) -> bool {
        !self.state().entries.is_empty()
    }

    pub(crate) fn counts(&self) -> InstanceCounts {
        let state = self.state();
        let busy = state.entries.iter().filter(|entry| entry.taken > 0).count();
        let zygotes = usize::from(matches!(state.breeding, breeding::Breeding::Ready(_)));
        InstanceCounts { starting: state.starting, idle: state.entries.len() - busy, busy, zygotes }
    }

    pub(crate) fn view(&self, now: Instant) -> Vec<InstanceView> {
        let state = self.state();
        let seen =
            state.entries.iter().map(|entry| (entry.view(&self.plan, now), Arc::clone(&entry.instance)));
        let seen: Vec<_> = seen.collect();
        drop(state);
        // What an instance uses is asked of the kernel: not under the lock that calls need.
        let seen = seen.into_iter().map(|(view, instance)| InstanceView { usage: instance.usage(), ..view });
        seen.chain(self.zygote_view(now)).collect()
    }

    fn lease(
        self: &Arc<Self>,
        instance: Arc<dyn Instance>,
        place: Place,
        waited: Duration,
        now: Instant,
        fresh: Option<&Started>,
    ) -> Lease {
        let (tier, start, init) = match fresh {
            Some(started) => (started.tier, started.start.min(waited), started.init.min(waited)),
            None => (Tier::Warm, Duration::ZERO, Duration::ZERO),
        };
        let queue = waited.saturating_sub(start).saturating_sub(init);
        Lease { instance, place, tier, queue, start, init, taken_at: now, pool: Some(Arc::clone(self)) }
    }
}

impl State {
    fn index_of(&self, instance: &Arc<dyn Instance>) -> Option<usize> {
        self.entries.iter().position(|entry| Arc::ptr_eq(&entry.instance, instance))
    }

    /// A call has come; remembers it where nothing else was running.
    fn woken(&mut self, now: Instant) {
        let running: u32 = self.entries.iter().map(|entry| entry.taken).sum();
        if running == 1 && self.entries.iter().all(|entry| now.duration_since(entry.idle_since) >= PAUSE_MIN)
        {
            self.woken_at.get_or_insert(now);
        }
    }
}
