//! What the pool does by itself: once a second it looks at every version, lets go what is not worth its memory, starts
//! what is going to be called, and holds the floors.

use std::sync::Arc;
use std::time::Duration;

use alula_model::{Name, Timestamp, VersionKey};
use alula_runtime::VersionPlan;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::decision::What;
use crate::keeper::Explanation;
use crate::pool::{Pool, Reason};
use crate::version_pool::VersionPool;

/// An instance beside the first one goes when it has not been needed for so long.
const SPARE_IDLE: Duration = Duration::from_secs(30);

/// Announced instances are held for so long after the announced moment.
const ANNOUNCED_GRACE: Duration = Duration::from_secs(30);
/// Starts are expected to take so many times as long as lately when they must be over at a given moment.
const ANNOUNCED_LEAD: u32 = 3;
/// Least time before an announced moment at which instances are started.
const ANNOUNCED_LEAD_MIN: Duration = Duration::from_secs(1);

/// Fewer instances are ready than were announced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{actual} of {desired} instances of {key} are ready")]
pub struct Short {
    /// Of which version.
    pub key: VersionKey,
    /// How many were announced.
    pub desired: usize,
    /// How many there are.
    pub actual: usize,
}

impl Pool {
    /// Keeps house, for ever; ends when the task is dropped.
    pub async fn run(self) {
        let mut ticks = interval(self.shared.options.sweep_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep(Instant::now());
        }
    }

    /// Makes `count` instances of `plan` ready for calls that are announced for `at`, and holds them until shortly
    /// after. Answers before `at` if they will not all be there, so that somebody can be told in time.
    pub async fn prewarm(&self, plan: &Arc<VersionPlan>, at: Instant, count: usize) -> Result<(), Short> {
        let pool = self.version_pool(plan);
        let lead = (pool.start_estimate() * ANNOUNCED_LEAD).max(ANNOUNCED_LEAD_MIN);
        sleep_until(at.checked_sub(lead).unwrap_or(at)).await;
        // The version may have been forgotten meanwhile, for lack of calls.
        let pool = self.version_pool(plan);
        pool.announce(count, at + ANNOUNCED_GRACE);
        self.start_ahead(&pool, count, What::StartedOnNotice);
        sleep_until(at.checked_sub(lead / ANNOUNCED_LEAD).unwrap_or(at)).await;
        let (actual, ..) = pool.actual();
        if actual >= count {
            return Ok(());
        }
        let short = Short { key: plan.key.clone(), desired: count, actual };
        tracing::warn!(version = %short.key, desired = count, actual, "instances for announced calls are not ready");
        Err(short)
    }

    /// Says which versions have a floor; those that are not named have none. The floor is `min_instances` of their specs.
    pub fn hold_floors(&self, plans: impl IntoIterator<Item = Arc<VersionPlan>>) {
        let floors: Vec<_> = plans.into_iter().filter(|plan| plan.spec.min_instances > 0).collect();
        for pool in self.pools() {
            let floor = floors.iter().find(|plan| plan.key == pool.plan.key);
            pool.set_floor(floor.map_or(0, |plan| plan.spec.min_instances as usize));
        }
        self.lock_floors().clone_from(&floors);
        self.raise_to_floors();
    }

    /// What is remembered of a function; `None` where nothing is.
    #[must_use]
    pub fn explain(&self, namespace: &Name, function: &Name) -> Option<Explanation> {
        self.keeper().explain(namespace, function)
    }

    /// The histories of calls as a record that [`Pool::load_history`] takes in after a restart.
    pub fn save_history(&self) -> serde_json::Result<Vec<u8>> {
        self.keeper().save()
    }

    /// Takes in the record of an earlier run; says how many functions it is about.
    pub fn load_history(&self, record: &[u8]) -> serde_json::Result<usize> {
        self.keeper().load(record)
    }

    /// Lets go of the instances of versions that `is_reachable` denies, once they are idle.
    pub fn retire(&self, is_reachable: impl Fn(&VersionKey) -> bool) {
        for pool in self.pools().into_iter().filter(|pool| !is_reachable(&pool.plan.key)) {
            pool.set_floor(0);
            for (instance, _) in pool.take_idle(Instant::now(), Duration::ZERO, 0) {
                self.decided(&pool.plan.key, What::Retired);
                self.stop(instance);
            }
        }
        self.keeper().retire(is_reachable);
    }

    fn sweep(&self, now: Instant) {
        let timestamp = self.timestamp(now);
        let pools = self.pools();
        for pool in &pools {
            let seen = pool.look(|at| self.timestamp(at), self.shared.options.sweep_interval);
            self.keeper().saw(seen);
        }
        let memory_share = self.shared.ledger.memory_share();
        for pool in &pools {
            self.let_go(pool, now, timestamp, memory_share);
            if let Some(rest_after) = self.shared.options.rest_after {
                pool.let_rest(rest_after, now);
            }
            if pool.is_loaded() {
                let (actual, ..) = pool.actual();
                self.start_ahead(pool, actual + 1, What::StartedForLoad);
            }
            if pool.close_if_empty(now) {
                self.forget(pool);
            }
        }
        let due = self.keeper().due(timestamp);
        for (plan, idle) in due {
            self.start_ahead(&self.version_pool(&plan), 1, What::StartedAhead { idle });
        }
        self.raise_to_floors();
    }

    /// Lets go of what a version does not need any more.
    fn let_go(&self, pool: &VersionPool, now: Instant, timestamp: Timestamp, memory_share: f32) {
        if !pool.has_idle() {
            return;
        }
        let key = &pool.plan.key;
        let (idle_max, leave) = match pool.plan.spec.idle_timeout_ms {
            Some(stated_ms) => (Duration::from_millis(stated_ms), 0),
            None if self.keeper().is_worth_holding(key, timestamp, memory_share) => (SPARE_IDLE, 1),
            None => (self.shared.options.keep_alive.min, 0),
        };
        for (instance, idle) in pool.take_idle(now, idle_max, leave) {
            let what = if leave == 0 { What::LetGoIdle { idle } } else { What::LetGoSpare { idle } };
            self.decided(key, what);
            self.stop(instance);
        }
    }

    /// Starts what the floors ask for; says so where that is not possible.
    fn raise_to_floors(&self) {
        let floors = self.lock_floors().clone();
        for plan in floors {
            let min_instances = plan.spec.min_instances as usize;
            let pool = self.version_pool(&plan);
            pool.set_floor(min_instances);
            let (actual, starting, _) = pool.actual();
            if actual + starting >= min_instances {
                continue;
            }
            let started = self.start_ahead(&pool, min_instances, What::StartedForFloor { min_instances });
            if actual + starting + started < min_instances {
                tracing::warn!(version = %plan.key, min_instances, actual, "fewer instances than min_instances");
                self.decided(&plan.key, What::ShortOfFloor { actual, min_instances });
            }
        }
    }

    /// Starts instances until `wanted` are there or starting; says how many starts there are.
    fn start_ahead(&self, pool: &Arc<VersionPool>, wanted: usize, what: What) -> usize {
        let claimed = pool.claim_ahead(wanted, Instant::now());
        for _ in 0..claimed {
            self.decided(&pool.plan.key, what.clone());
            self.spawn_start(pool, Reason::Ahead);
        }
        claimed
    }
}
