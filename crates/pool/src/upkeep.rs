//! What the pool does by itself: once a second it looks at every version, lets go what is not worth its memory, starts
//! what is going to be called, and holds the floors.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{Name, Timestamp, VersionKey};
use alula_runtime::VersionPlan;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::decision::What;
use crate::keeper::Explanation;
use crate::ledger::Standing;
use crate::pool::{Pool, Reason};
use crate::version_pool::VersionPool;
use crate::weights::Spare;

/// An instance beside the first one goes when it has not been needed for so long.
const SPARE_IDLE: Duration = Duration::from_secs(30);

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

    /// Says which versions have a floor; those that are not named have none. The floor is `min_instances` of their specs.
    pub fn hold_floors(&self, plans: impl IntoIterator<Item = Arc<VersionPlan>>) {
        let floors: Vec<_> = plans.into_iter().filter(|plan| plan.spec.min_instances > 0).collect();
        let held: HashMap<_, _> =
            floors.iter().map(|plan| (&plan.key, plan.spec.min_instances as usize)).collect();
        for pool in self.pools() {
            pool.set_floor(held.get(&pool.plan.key).copied().unwrap_or(0));
        }
        self.lock_floors().clone_from(&floors);
        self.raise_to_floors();
    }

    /// What is remembered of a function; `None` where nothing is.
    #[must_use]
    pub fn explain(&self, namespace: &Name, function: &Name) -> Option<Explanation> {
        let explanation = self.keeper().explain(namespace, function)?;
        let now = Instant::now();
        let is_its = |pool: &Arc<VersionPool>| {
            pool.plan.key.namespace == *namespace && pool.plan.key.function == *function
        };
        let versions = self.pools().into_iter().filter(is_its);
        let mut versions: Vec<_> = versions.map(|pool| pool.standing(now)).collect();
        versions.sort_by_key(|standing| standing.version);
        Some(Explanation { versions, ..explanation })
    }

    /// What the node, the namespace and the app of `plan` take of what they may take.
    #[must_use]
    pub fn standings_of(&self, plan: &VersionPlan) -> Vec<Standing> {
        self.shared.ledger.standing_of(plan)
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
            pool.let_zygote_go();
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
        let mut cores_used = 0.0;
        for pool in &pools {
            let seen = pool.look(|at| self.timestamp(at), now);
            cores_used += seen.cores;
            self.keeper().saw(seen);
        }
        let spare = Spare::of(cores_used, self.shared.options.cores);
        self.make_up_for_growth();
        let memory_share = self.shared.ledger.memory_share();
        for pool in &pools {
            self.replace_outdated(pool);
            self.let_go(pool, now, timestamp, memory_share);
            pool.weigh(spare, now);
            self.look_at_zygote(pool, now);
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
    pub(crate) fn raise_to_floors(&self) {
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
    pub(crate) fn start_ahead(&self, pool: &Arc<VersionPool>, wanted: usize, what: What) -> usize {
        let claimed = pool.claim_ahead(wanted, Instant::now());
        for _ in 0..claimed {
            self.decided(&pool.plan.key, what.clone());
            self.spawn_start(pool, Reason::Ahead);
        }
        claimed
    }
}
