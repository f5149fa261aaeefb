//! The instances of a version between calls: what they have been doing, which are let go, which are started ahead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alula_model::{Class, Timestamp};
use alula_runtime::Instance;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::entry::Entry;
use super::{MEMORY_EXPECTED, State, VersionPool};
use crate::keeper::Seen;
use crate::prewarm::{ANNOUNCED_GRACE, Announced};
use crate::view::VersionStanding;
use crate::weights::Spare;

/// An idle instance that could make room for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Idle {
    /// The class of its function.
    pub(crate) class: Class,
    /// Since when it has been idle.
    pub(crate) since: Instant,
}

impl VersionPool {
    /// So many instances are to be held from now on, called or not.
    pub(crate) fn set_floor(&self, instances: usize) {
        self.floor.store(instances, Ordering::Relaxed);
    }

    /// How many are there that are not outdated, how many are starting, and how many are to be held.
    pub(crate) fn actual(&self) -> (usize, usize, usize) {
        let state = self.state();
        (state.counted(), state.starting, self.floor.load(Ordering::Relaxed))
    }

    /// Counts instances as starting until `wanted` are there or starting, as far as the spec allows and starts do not
    /// fail; says how many there are to be started.
    pub(crate) fn claim_ahead(&self, wanted: usize, now: Instant) -> usize {
        let mut state = self.state();
        let before = state.starting;
        while state.counted() + state.starting < wanted && state.may_start(self, state.starting, now) {
            state.starting += 1;
        }
        state.starting - before
    }

    /// Tells the instances that have been idle for `rest_after` that no call comes.
    pub(crate) fn let_rest(&self, rest_after: Duration, now: Instant) {
        let mut state = self.state();
        let is_due = |entry: &&mut Entry| {
            entry.taken == 0 && !entry.is_resting && now.duration_since(entry.idle_since) >= rest_after
        };
        for entry in state.entries.iter_mut().filter(is_due) {
            entry.is_resting = true;
            entry.instance.rest();
        }
    }

    /// Remembers announced calls; says how many instances are missing until what is announced for the time to come is
    /// ready. `None` where this pool has been taken down.
    pub(crate) fn announce(&self, announced: Announced, now: Instant) -> Option<usize> {
        let mut state = self.state();
        if state.is_closed {
            return None;
        }
        state.announced.retain(|other| other.id != announced.id && now < other.at + ANNOUNCED_GRACE);
        // More announcements than there may be instances change nothing.
        if state.announced.len() < self.plan.spec.max_instances as usize {
            state.announced.push(announced);
        }
        let to_come = state.announced.iter().filter(|other| other.id == announced.id || other.at >= now);
        let wanted: usize = to_come.map(|other| other.instances).sum();
        Some(wanted.max(announced.instances).saturating_sub(self.ready_in(&state)))
    }

    /// Instances that can take a call now.
    pub(crate) fn ready(&self) -> usize {
        self.ready_in(&self.state())
    }

    fn ready_in(&self, state: &State) -> usize {
        let has_slot = |entry: &&Entry| entry.taken < self.plan.spec.concurrency && !entry.instance.is_gone();
        state.entries.iter().filter(has_slot).count()
    }

    /// Instances that are there.
    pub(crate) fn present(&self) -> usize {
        self.state().entries.len()
    }

    /// Ends when the next start has ended, well or not.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// What starts have taken lately; nothing before the first one.
    pub(crate) fn start_known(&self) -> Option<Duration> {
        self.state().observed.start_known()
    }

    /// How it stands, for operators.
    pub(crate) fn standing(&self, now: Instant) -> VersionStanding {
        let state = self.state();
        let pause = state.failure.as_ref().and_then(|failure| {
            let left = failure.retry_at.checked_duration_since(now).filter(|left| !left.is_zero())?;
            Some((left, failure.fault.code))
        });
        VersionStanding {
            version: self.plan.key.version,
            instances: state.entries.len(),
            starting: state.starting,
            waiting: state.line.len(),
            min_instances: self.floor.load(Ordering::Relaxed),
            max_instances: self.plan.spec.max_instances as usize,
            pause,
        }
    }

    /// Memory that one more instance is expected to take, in bytes.
    pub(crate) fn memory_expected(&self) -> u64 {
        let stated = u64::from(self.plan.spec.memory_mb) * 1024 * 1024;
        match self.state().memory_bytes {
            0 => stated.min(MEMORY_EXPECTED),
            seen => seen,
        }
    }

    /// Looks at what the instances use and have been doing. `timestamp` turns a moment into wall-clock time.
    pub(crate) fn look(&self, timestamp: impl Fn(Instant) -> Timestamp, now: Instant) -> Seen {
        // What an instance uses is asked of the kernel: not under the lock that calls need, and not of those that have done
        // nothing since they were asked last.
        let is_due = |entry: &&Entry| entry.is_look_due(now);
        let instances: Vec<_> =
            self.state().entries.iter().filter(is_due).map(|entry| Arc::clone(&entry.instance)).collect();
        let usages: Vec<_> = instances.iter().map(|instance| (instance, instance.usage())).collect();
        let stated_bytes = u64::from(self.plan.spec.memory_mb) * 1024 * 1024;
        let mut state = self.state();
        let mut cores = 0.0;
        for (instance, usage) in usages {
            let entry = state.entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.instance, instance));
            let Some(entry) = entry else { continue };
            cores += entry.looked_at(usage, stated_bytes, now);
            if usage.memory_bytes > 0 {
                state.memory_bytes = usage.memory_bytes;
            }
        }
        Seen {
            plan: Arc::clone(&self.plan),
            woken_at: state.woken_at.take().map(&timestamp),
            idle_since: state.idle_since().map(&timestamp),
            memory_bytes: self.plan_memory(&state),
            cores,
        }
    }

    /// Adjusts the CPU weights of the instances.
    pub(crate) fn weigh(&self, spare: Spare, now: Instant) {
        let mut state = self.state();
        let changed = state.entries.iter_mut().filter_map(|entry| entry.weigh(spare, now));
        let changed: Vec<_> = changed.collect();
        drop(state);
        for (instance, percent) in changed {
            instance.weigh(percent);
        }
    }

    /// Whether calls run and every instance that runs them is under load, so that one more is needed before they wait.
    pub(crate) fn is_loaded(&self) -> bool {
        let state = self.state();
        let busy = || state.entries.iter().filter(|entry| entry.taken > 0);
        state.starting == 0
            && busy().count() == state.entries.len()
            && busy().next().is_some()
            && busy().all(|entry| entry.is_loaded)
    }

    /// Removes instances that have been idle for `idle_max`, the longest idle first, until `leave` or what the floor and
    /// announced calls ask for are left; the caller stops them.
    pub(crate) fn take_idle(
        &self,
        now: Instant,
        idle_max: Duration,
        leave: usize,
    ) -> Vec<(Arc<dyn Instance>, Duration)> {
        let mut state = self.state();
        let leave = leave.max(state.held(self, now));
        let mut taken = Vec::new();
        while state.entries.len() > leave {
            let Some((index, since)) = state.longest_idle() else { break };
            let idle = now.duration_since(since);
            if idle < idle_max {
                break;
            }
            taken.push((state.entries.swap_remove(index).instance, idle));
        }
        taken
    }

    /// Removes the instance that has been idle longest, if the floor lets it go; the caller stops it.
    pub(crate) fn take_one_idle(&self, now: Instant) -> Option<Arc<dyn Instance>> {
        let mut state = self.state();
        if state.entries.len() <= state.held(self, now) {
            return None;
        }
        let (index, _) = state.longest_idle()?;
        Some(state.entries.swap_remove(index).instance)
    }

    /// Whether any instance is idle.
    pub(crate) fn has_idle(&self) -> bool {
        self.state().longest_idle().is_some()
    }

    /// The instance that has been idle longest, if the floor lets it go.
    pub(crate) fn idle(&self, now: Instant) -> Option<Idle> {
        let state = self.state();
        let (_, since) = state.longest_idle()?;
        (state.entries.len() > state.held(self, now)).then_some(Idle { class: self.plan.spec.class, since })
    }

    fn plan_memory(&self, state: &State) -> u64 {
        match state.memory_bytes {
            0 => u64::from(self.plan.spec.memory_mb) * 1024 * 1024,
            seen => seen,
        }
    }
}

impl State {
    fn longest_idle(&self) -> Option<(usize, Instant)> {
        let idle = self.entries.iter().enumerate().filter(|(_, entry)| entry.taken == 0);
        idle.map(|(index, entry)| (index, entry.idle_since)).min_by_key(|(_, since)| *since)
    }

    /// Instances that are held whatever happens.
    pub(super) fn held(&self, pool: &VersionPool, now: Instant) -> usize {
        let is_held = |announced: &&Announced| now < announced.at + ANNOUNCED_GRACE;
        let announced = self.announced.iter().filter(is_held).map(|announced| announced.instances).sum();
        pool.floor.load(Ordering::Relaxed).max(announced)
    }

    /// Since when nothing runs, starts or waits.
    fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.line.is_empty() && self.starting == 0;
        let is_idle = is_idle && self.entries.iter().all(|entry| entry.taken == 0);
        is_idle
            .then(|| self.entries.iter().filter(|entry| entry.calls > 0).map(|entry| entry.idle_since).max())
            .flatten()
    }
}
