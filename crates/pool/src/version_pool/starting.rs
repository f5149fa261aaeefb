//! Starts of a version: when another instance is wanted, and what a start that failed means for the next one.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use alula_model::{ErrorCode, Fault};
use alula_runtime::{Instance, Started, VersionPlan};
use tokio::time::Instant;

use super::entry::Entry;
use super::{State, VersionPool, Waiter};
use crate::demand::Situation;
use crate::lease::Place;
use crate::ledger::Share;
use crate::weights;

/// First pause after a failed start; doubled with every further failure, so that a version that cannot start is
/// not started anew by every call.
const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause after failed starts: a version whose cause has gone is back within seconds.
pub(super) const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Pause after a start that there was no room for: the version is not to blame, and room may be there any moment.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// A start that failed or was refused.
#[derive(Debug)]
pub(super) struct StartFailure {
    pub(super) fault: Fault,
    /// Failures in a row; those that fall into the pause after another one are the same failure.
    count: u32,
    pub(super) retry_at: Instant,
}

/// When a version is started again after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Time until the next start is allowed.
    pub(crate) pause: Duration,
}

impl VersionPool {
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
        // Nothing is started for those who have gone.
        state.line.retain(|waiter| !waiter.grant.is_closed());
        let wanted = state.wants_instance(self, 1, now);
        if !wanted {
            state.starting -= 1;
            tell_where_hopeless(state);
        }
        wanted
    }

    /// Takes in the instance of a claimed start, which began in `era`, and serves the line with it. Returns what must be
    /// stopped instead, where the pool was taken down meanwhile.
    pub(crate) fn started(
        self: &Arc<Self>,
        started: &Started,
        share: Share,
        era: u64,
        now: Instant,
    ) -> Option<Arc<dyn Instance>> {
        let mut state = self.state();
        let is_outdated = era != state.era;
        state.starting -= 1;
        state.failure = None;
        state.observed.start_took(started.tier, started.start + started.init);
        let instance = Arc::clone(&started.instance);
        if state.is_closed {
            return Some(instance);
        }
        let served = state.line.len().min(self.concurrency());
        let waiters: Vec<Waiter> = state.line.drain(..served).collect();
        state.entries.push(Entry {
            instance: Arc::clone(&instance),
            tier: started.tier,
            taken: u32::try_from(served).unwrap_or(u32::MAX),
            calls: served as u64,
            ready_at: now,
            busy_since: now,
            idle_since: now,
            is_outdated,
            is_resting: false,
            is_held_up: false,
            share,
            look: None,
            weight: weights::STATED,
            is_loaded: false,
        });
        drop(state);
        for waiter in waiters {
            let waited = now.saturating_duration_since(waiter.since);
            let lease = self.lease(Arc::clone(&instance), Place::Slot, waited, now, Some(started));
            // A waiter that has left drops the lease, which hands the slot on.
            drop(waiter.grant.send(Ok(lease)));
        }
        self.changed.notify_waiters();
        None
    }

    /// A claimed start failed. Where no instance is left to serve the line and no other start is under way, the line is
    /// told; nobody starts another until the pause is over.
    pub(crate) fn start_failed(&self, fault: &Fault, now: Instant) -> Retry {
        let mut state = self.state();
        state.starting -= 1;
        let last = state.failure.take();
        let is_same = last.as_ref().is_some_and(|last| now < last.retry_at);
        let failures = last.map_or(0, |last| last.count).saturating_add(u32::from(!is_same)).max(1);
        let pause = RETRY_PAUSE_FIRST.saturating_mul(1 << (failures - 1).min(10)).min(RETRY_PAUSE_MAX);
        state.failure = Some(StartFailure { fault: fault.clone(), count: failures, retry_at: now + pause });
        tell_where_hopeless(state);
        self.changed.notify_waiters();
        Retry { failures, pause }
    }

    /// There was no room for a claimed start, or no place in the line of starts.
    pub(crate) fn start_refused(&self, fault: &Fault, now: Instant) {
        let mut state = self.state();
        state.starting -= 1;
        let count = state.failure.as_ref().map_or(0, |failure| failure.count);
        state.failure = Some(StartFailure { fault: fault.clone(), count, retry_at: now + REFUSED_PAUSE });
        tell_where_hopeless(state);
        self.changed.notify_waiters();
    }

    /// Starts that failed in a row, and why the last one did.
    pub(crate) fn failed_starts(&self) -> (u32, Option<Fault>) {
        self.state()
            .failure
            .as_ref()
            .map_or((0, None), |failure| (failure.count, Some(failure.fault.clone())))
    }

    /// When the pause after a failure is over, if there is one.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.state().failure.as_ref().map(|failure| failure.retry_at)
    }
}

/// Tells the line why nothing comes, where nothing does.
fn tell_where_hopeless(mut state: MutexGuard<'_, State>) {
    if !state.entries.is_empty() || state.starting > 0 {
        return;
    }
    let Some(fault) = state.failure.as_ref().map(|failure| failure.fault.clone()) else { return };
    let line = std::mem::take(&mut state.line);
    drop(state);
    for waiter in line {
        drop(waiter.grant.send(Err(fault.clone())));
    }
}

impl State {
    /// Why nobody may join the line now.
    pub(super) fn refusal(&self, plan: &VersionPlan, waiting_max: usize, now: Instant) -> Option<Fault> {
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

    /// Whether failures, the end and the spec allow one more instance beside `starting` others.
    pub(super) fn may_start(&self, pool: &VersionPool, starting: usize, now: Instant) -> bool {
        let pausing = self.failure.as_ref().is_some_and(|failure| now < failure.retry_at);
        !pausing && !self.is_closed && self.counted() + starting < pool.plan.spec.max_instances as usize
    }

    /// What a start is expected to take, from what it would be made from now.
    pub(super) fn start_estimate(&self, pool: &VersionPool) -> Duration {
        if self.breeding.has_zygote() {
            self.observed.fork_estimate()
        } else {
            self.observed.start_estimate(pool.start_estimate)
        }
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
            running_for: self.entries.iter().map(|entry| entry.running_for(now)).min().unwrap_or_default(),
            start: self.start_estimate(pool),
        };
        self.observed.wants_instance(situation)
    }
}
