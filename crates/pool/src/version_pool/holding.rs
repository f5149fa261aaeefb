//! The instances of a version between calls: what they have been doing, which are let go, which are started ahead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alula_model::{Class, Timestamp};
use alula_runtime::Instance;
use tokio::time::Instant;

use super::{Entry, LOAD_SHARE, MEMORY_EXPECTED, State, VersionPool};
use crate::keeper::Seen;

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

    /// How many are there, how many are starting, and how many are to be held.
    pub(crate) fn actual(&self) -> (usize, usize, usize) {
        let state = self.state();
        (state.entries.len(), state.starting, self.floor.load(Ordering::Relaxed))
    }

    /// Counts instances as starting until `wanted` are there or starting, as far as the spec allows and starts do not
    /// fail; says how many there are to be started.
    pub(crate) fn claim_ahead(&self, wanted: usize, now: Instant) -> usize {
        let mut state = self.state();
        let before = state.starting;
        while state.entries.len() + state.starting < wanted && state.may_start(self, state.starting, now) {
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

    /// Holds `instances` for announced calls until `until`.
    pub(crate) fn announce(&self, instances: usize, until: Instant) {
        self.state().announced = Some((instances, until));
    }

    /// Memory that one more instance is expected to take, in bytes.
    pub(crate) fn memory_expected(&self) -> u64 {
        let stated = u64::from(self.plan.spec.memory_mb) * 1024 * 1024;
        match self.state().memory_bytes {
            0 => stated.min(MEMORY_EXPECTED),
            seen => seen,
        }
    }

    /// Looks at what the instances use and have been doing. `timestamp` turns a moment into wall-clock time, `passed`
    /// is the time since the last look.
    pub(crate) fn look(&self, timestamp: impl Fn(Instant) -> Timestamp, passed: Duration) -> Seen {
        // What an instance uses is asked of the kernel: not under the lock that calls need.
        let instances: Vec<_> =
            self.state().entries.iter().map(|entry| Arc::clone(&entry.instance)).collect();
        let usages: Vec<_> = instances.iter().map(|instance| (instance, instance.usage())).collect();
        let stated_bytes = f64::from(self.plan.spec.memory_mb) * 1024.0 * 1024.0;
        let core_us = passed.as_micros() as f64;
        let mut state = self.state();
        for (instance, usage) in usages {
            let entry = state.entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.instance, instance));
            let Some(entry) = entry else { continue };
            let cpu_us = usage.cpu_us.saturating_sub(std::mem::replace(&mut entry.cpu_us, usage.cpu_us));
            entry.is_loaded = usage.memory_bytes as f64 >= stated_bytes * LOAD_SHARE
                || (core_us > 0.0 && cpu_us as f64 >= core_us * LOAD_SHARE);
            if usage.memory_bytes > 0 {
                entry.share.observe(usage.memory_bytes);
                state.memory_bytes = usage.memory_bytes;
            }
        }
        Seen {
            plan: Arc::clone(&self.plan),
            woken_at: state.woken_at.take().map(&timestamp),
            idle_since: state.idle_since().map(&timestamp),
            memory_bytes: self.plan_memory(&state),
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
        let announced =
            self.announced.filter(|(_, until)| now < *until).map_or(0, |(instances, _)| instances);
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
