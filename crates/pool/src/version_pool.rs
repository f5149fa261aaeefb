//! The instances of one version, and the line of calls that wait for one of them.
//!
//! All state is behind one lock that is never held across an await. A slot that becomes free goes to the first in line
//! under that lock; if that one has left before it took the lease up, dropping the lease hands the slot on.

mod holding;

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, Tier};
use alula_runtime::{Instance, Started, VersionPlan};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::demand::{Observed, Situation};
use crate::lease::{Lease, Place, Released};
use crate::ledger::Share;
use crate::options::PoolOptions;
use crate::view::{InstanceCounts, InstanceState, InstanceView};

pub(crate) use holding::Idle;

/// First pause after a failed start; doubled with every further failure, so that a version that cannot start is
/// not started anew by every call.
const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause after failed starts: a version whose cause has gone is back within seconds.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A pause in calls that is shorter than this is not worth remembering: nothing would be decided by it.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Share of an instance's memory, or of a core, from which on it is under load.
const LOAD_SHARE: f64 = 0.8;
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
    /// So many instances are there for announced calls until then.
    announced: Option<(usize, Instant)>,
    /// Memory of an instance as it was seen last, in bytes.
    memory_bytes: u64,
    is_closed: bool,
}

#[derive(Debug)]
struct Entry {
    instance: Arc<dyn Instance>,
    taken: u32,
    calls: u64,
    ready_at: Instant,
    /// When its last call ended.
    idle_since: Instant,
    /// Whether a call that was sent ahead came back, and no other has ended since.
    is_held_up: bool,
    share: Share,
    /// CPU time at the last look.
    cpu_us: u64,
    /// Whether it used most of its memory or of a core at the last look.
    is_loaded: bool,
    /// Whether it was told that no call comes, and none has come since.
    is_resting: bool,
}

#[derive(Debug)]
struct Waiter {
    since: Instant,
    grant: oneshot::Sender<Result<Lease, Fault>>,
}

#[derive(Debug)]
struct StartFailure {
    fault: Fault,
    count: u32,
    retry_at: Instant,
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
        Self { plan, start_estimate, waiting_max, floor: AtomicUsize::new(0), state: Mutex::default() }
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
            && let Some((index, place)) = state.find_place(self.plan.spec.concurrency)
        {
            let entry = &mut state.entries[index];
            let is_after_pause = entry.taken == 0 && now.duration_since(entry.idle_since) >= PAUSE_MIN;
            let instance = entry.take();
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
        if let Some((index, Place::Slot)) = state.find_place(self.plan.spec.concurrency) {
            let instance = state.entries[index].take();
            drop(state);
            let waited = now.saturating_duration_since(since);
            return Asked::Granted(Box::new(self.lease(instance, Place::Slot, waited, now, None)));
        }
        let (grant, granted) = oneshot::channel();
        state.line.push_front(Waiter { since, grant });
        Asked::InLine(granted)
    }

    /// Decides whether another instance is to be started, and counts it as starting if so. Tells how many calls wait,
    /// and for how many slots.
    pub(crate) fn claim_start(&self, now: Instant) -> Option<(usize, usize)> {
        let mut state = self.state();
        let wanted = state.wants_instance(self, 0, now);
        if wanted {
            state.starting += 1;
        }
        wanted.then(|| (state.line.len(), state.entries.len() * self.concurrency()))
    }

    /// Whether a start that was claimed earlier is still wanted; if not, the claim is gone.
    pub(crate) fn confirm_start(&self, now: Instant) -> bool {
        let mut state = self.state();
        let wanted = state.wants_instance(self, 1, now);
        if !wanted {
            state.starting -= 1;
        }
        wanted
    }

    /// Takes in the instance of a claimed start and serves the line with it. Returns what must be stopped instead,
    /// where the pool was taken down meanwhile.
    pub(crate) fn started(
        self: &Arc<Self>,
        started: &Started,
        share: Share,
        now: Instant,
    ) -> Option<Arc<dyn Instance>> {
        let mut state = self.state();
        state.starting -= 1;
        state.failure = None;
        state.observed.start_took(started.start + started.init);
        let instance = Arc::clone(&started.instance);
        if state.is_closed {
            return Some(instance);
        }
        let served = state.line.len().min(self.concurrency());
        let waiters: Vec<Waiter> = state.line.drain(..served).collect();
        state.entries.push(Entry {
            instance: Arc::clone(&instance),
            taken: u32::try_from(served).unwrap_or(u32::MAX),
            calls: served as u64,
            ready_at: now,
            idle_since: now,
            is_resting: false,
            is_held_up: false,
            share,
            cpu_us: 0,
            is_loaded: false,
        });
        drop(state);
        for waiter in waiters {
            let waited = now.saturating_duration_since(waiter.since);
            let lease = self.lease(Arc::clone(&instance), Place::Slot, waited, now, Some(started));
            // A waiter that has left drops the lease, which hands the slot on.
            drop(waiter.grant.send(Ok(lease)));
        }
        None
    }

    /// A claimed start failed. Where no instance is left to serve the line, the line is told; nobody starts
    /// another until the pause is over.
    pub(crate) fn start_failed(&self, fault: &Fault, now: Instant) {
        let mut state = self.state();
        state.starting -= 1;
        let count = state.failure.as_ref().map_or(0, |failure| failure.count) + 1;
        let pause = RETRY_PAUSE_FIRST.saturating_mul(1 << (count - 1).min(10)).min(RETRY_PAUSE_MAX);
        state.failure = Some(StartFailure { fault: fault.clone(), count, retry_at: now + pause });
        if !state.entries.is_empty() {
            return;
        }
        let line = std::mem::take(&mut state.line);
        drop(state);
        for waiter in line {
            drop(waiter.grant.send(Err(fault.clone())));
        }
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
            return Released::Idle;
        }
        entry.taken -= 1;
        let mut released = Released::Idle;
        while let Some(place) = state.place_in(index, self.plan.spec.concurrency)
            && let Some(waiter) = state.line.pop_front()
        {
            let instance = state.entries[index].take();
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
        self.state().entries.retain(|entry| !Arc::ptr_eq(&entry.instance, instance));
    }

    /// Takes the pool down if nothing is in it that must be remembered; from then on it answers [`Asked::Closed`].
    pub(crate) fn close_if_empty(&self, now: Instant) -> bool {
        let mut state = self.state();
        let is_empty = state.entries.is_empty() && state.line.is_empty() && state.starting == 0;
        // A failure is remembered for a while, or the next start would not know that it follows others.
        let has_failed =
            state.failure.as_ref().is_some_and(|failure| now < failure.retry_at + RETRY_PAUSE_MAX);
        state.is_closed |= is_empty && !has_failed && state.held(self, now) == 0;
        state.is_closed
    }

    /// Takes the pool down whatever is in it and returns its instances; the line is told `fault`.
    pub(crate) fn close(&self, fault: &Fault) -> Vec<Arc<dyn Instance>> {
        let mut state = self.state();
        state.is_closed = true;
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
        self.state().observed.start_estimate(self.start_estimate)
    }

    /// Whether any instance is there.
    pub(crate) fn has_instances(&self) -> bool {
        !self.state().entries.is_empty()
    }

    pub(crate) fn counts(&self) -> InstanceCounts {
        let state = self.state();
        let busy = state.entries.iter().filter(|entry| entry.taken > 0).count();
        InstanceCounts { starting: state.starting, idle: state.entries.len() - busy, busy }
    }

    pub(crate) fn view(&self, now: Instant) -> Vec<InstanceView> {
        let state = self.state();
        state.entries.iter().map(|entry| entry.view(&self.plan, now)).collect()
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
    /// The first instance with a place for a call: a free slot if there is any.
    fn find_place(&self, concurrency: u32) -> Option<(usize, Place)> {
        let mut found = None;
        for index in 0..self.entries.len() {
            match self.place_in(index, concurrency) {
                Some(Place::Slot) => return Some((index, Place::Slot)),
                Some(Place::Ahead) if found.is_none() => found = Some((index, Place::Ahead)),
                _ => {}
            }
        }
        found
    }

    /// What the instance has room for.
    fn place_in(&self, index: usize, concurrency: u32) -> Option<Place> {
        let entry = &self.entries[index];
        if entry.instance.is_gone() {
            None
        } else if entry.taken < concurrency {
            Some(Place::Slot)
        } else {
            let takes_another = entry.taken - concurrency < self.observed.ahead_max()
                && !entry.is_held_up
                && entry.instance.takes_ahead();
            takes_another.then_some(Place::Ahead)
        }
    }

    fn index_of(&self, instance: &Arc<dyn Instance>) -> Option<usize> {
        self.entries.iter().position(|entry| Arc::ptr_eq(&entry.instance, instance))
    }

    /// Why nobody may join the line now.
    fn refusal(&self, plan: &VersionPlan, waiting_max: usize, now: Instant) -> Option<Fault> {
        if let Some(failure) = &self.failure
            && self.entries.is_empty()
            && self.starting == 0
            && now < failure.retry_at
        {
            return Some(failure.fault.clone());
        }
        (self.line.len() >= waiting_max).then(|| {
            let message = format!("{waiting_max} calls of {} are waiting already", plan.key);
            let setting =
                "pool.waiting_max in the configuration; max_instances and concurrency in alula.toml";
            Fault::limit(ErrorCode::ConcurrencyExceeded, message, "waiting_max", waiting_max as u64, setting)
        })
    }

    /// A call has come; remembers it where nothing else was running.
    fn woken(&mut self, now: Instant) {
        let running: u32 = self.entries.iter().map(|entry| entry.taken).sum();
        if running == 1 && self.entries.iter().all(|entry| now.duration_since(entry.idle_since) >= PAUSE_MIN)
        {
            self.woken_at.get_or_insert(now);
        }
    }

    /// Whether failures, the end and the spec allow one more instance beside `starting` others.
    fn may_start(&self, pool: &VersionPool, starting: usize, now: Instant) -> bool {
        let pausing = self.failure.as_ref().is_some_and(|failure| now < failure.retry_at);
        !pausing && !self.is_closed && self.entries.len() + starting < pool.plan.spec.max_instances as usize
    }

    /// Whether one more instance than `starting - own_claims` is wanted.
    fn wants_instance(&self, pool: &VersionPool, own_claims: usize, now: Instant) -> bool {
        let starting = self.starting - own_claims;
        if !self.may_start(pool, starting, now) {
            return false;
        }
        let situation = Situation {
            waiting: self.line.len(),
            longest_wait: self.line.front().map_or(Duration::ZERO, |first| now.duration_since(first.since)),
            slots: self.entries.len() * pool.concurrency(),
            slots_starting: starting * pool.concurrency(),
        };
        self.observed.wants_instance(situation, pool.start_estimate)
    }
}

impl Entry {
    fn take(&mut self) -> Arc<dyn Instance> {
        self.taken += 1;
        self.is_resting = false;
        self.calls += 1;
        Arc::clone(&self.instance)
    }

    fn view(&self, plan: &VersionPlan, now: Instant) -> InstanceView {
        let is_busy = self.taken > 0;
        let millis =
            |since: Instant| u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
        InstanceView {
            key: plan.key.clone(),
            id: self.instance.id().clone(),
            state: if is_busy { InstanceState::Busy } else { InstanceState::Idle },
            in_flight: self.taken,
            calls: self.calls,
            age_ms: millis(self.ready_at),
            idle_ms: if is_busy { 0 } else { millis(self.idle_since) },
            usage: self.instance.usage(),
        }
    }
}
