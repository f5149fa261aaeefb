//! The node-wide pool: a map of version pools, the bound on starts, and the room that is made for them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, InstanceId, Timestamp, VersionKey};
use alula_runtime::{Backend, Instance, StopGrace, VersionPlan};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::decision::What;
use crate::give_way;
use crate::keeper::Keeper;
use crate::lease::Lease;
use crate::ledger::{Ceiling, Ceilings, Ledger, Share};
use crate::options::PoolOptions;
use crate::version_pool::{Asked, VersionPool};
use crate::view::{InstanceCounts, InstanceView};

/// Shortest pause between two looks at a line that does not move.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(1);

/// Lends instances. Cheap to clone; all clones are the same pool.
#[derive(Debug, Clone)]
pub struct Pool {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: PoolOptions,
    /// Where instances live, whoever asks for them.
    runtime: Handle,
    backend: Arc<dyn Backend>,
    /// Makes instance ids unique on this node, over restarts as well.
    id_prefix: String,
    id_next: AtomicU64,
    starts: Semaphore,
    pub(crate) ledger: Arc<Ledger>,
    keeper: Mutex<Keeper>,
    /// Latest versions of functions that have a floor.
    floors: Mutex<Vec<Arc<VersionPlan>>>,
    /// The moment that belongs to `options.started_at`.
    started: Instant,
    is_shut_down: AtomicBool,
    pools: RwLock<HashMap<VersionKey, Arc<VersionPool>>>,
}

/// Why an instance is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Calls wait; by its turn they may not any more.
    Calls,
    /// It was decided ahead of calls.
    Ahead,
}

impl Pool {
    /// A pool that starts instances with `backend` and names them `<id_prefix>-1`, `<id_prefix>-2`... Instances live
    /// on the runtime that this is called on, whichever runtime leases are asked from later.
    #[must_use]
    pub fn new(options: PoolOptions, backend: Arc<dyn Backend>, id_prefix: String) -> Self {
        let starts = Semaphore::new(options.starts_at_once);
        let ledger = Ledger::new(Ceilings {
            instances: options.instances_max,
            namespace_instances: options.namespace_instances_max,
            memory_bytes: options.memory_bytes_max,
        });
        let keeper = Keeper::new(options.keep_alive);
        let shared = Shared {
            options,
            runtime: Handle::current(),
            backend,
            id_prefix,
            id_next: AtomicU64::new(1),
            starts,
            ledger,
            keeper: Mutex::new(keeper),
            floors: Mutex::default(),
            started: Instant::now(),
            is_shut_down: AtomicBool::new(false),
            pools: RwLock::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Lends a slot of an instance of `plan`, waiting for one until `deadline`.
    pub async fn lease(&self, plan: &Arc<VersionPlan>, deadline: Instant) -> Result<Lease, Fault> {
        loop {
            if self.shared.is_shut_down.load(Ordering::Acquire) {
                return Err(shutting_down());
            }
            let pool = self.version_pool(plan);
            match pool.ask(Instant::now()) {
                Asked::Granted(lease) => return Ok(*lease),
                Asked::Refused(fault) => return Err(fault),
                Asked::InLine(mut granted) => return self.wait(&pool, &mut granted, deadline).await,
                Asked::Closed => self.forget(&pool),
            }
        }
    }

    /// Lends a slot to a call that an instance gave back, before all that wait. `since` is when it came first.
    pub async fn lease_again(
        &self,
        plan: &Arc<VersionPlan>,
        since: Instant,
        deadline: Instant,
    ) -> Result<Lease, Fault> {
        loop {
            let pool = self.version_pool(plan);
            match pool.ask_again(since, Instant::now()) {
                Asked::Granted(lease) => return Ok(*lease),
                Asked::Refused(fault) => return Err(fault),
                Asked::InLine(mut granted) => return self.wait(&pool, &mut granted, deadline).await,
                Asked::Closed if self.shared.is_shut_down.load(Ordering::Acquire) => {
                    return Err(shutting_down());
                }
                Asked::Closed => self.forget(&pool),
            }
        }
    }

    async fn wait(
        &self,
        pool: &Arc<VersionPool>,
        granted: &mut tokio::sync::oneshot::Receiver<Result<Lease, Fault>>,
        deadline: Instant,
    ) -> Result<Lease, Fault> {
        loop {
            self.start_if_wanted(pool);
            // A line that moves slower than expected is looked at again after the time that a start takes.
            let look_again = Instant::now() + pool.start_estimate().max(LOOK_AGAIN_MIN);
            match timeout_at(look_again.min(deadline), &mut *granted).await {
                Ok(Ok(lease)) => return lease,
                Ok(Err(_)) => return Err(Fault::new(ErrorCode::Internal, "the place in the line was lost")),
                Err(_) if Instant::now() >= deadline => return Err(waited_too_long(pool)),
                Err(_) => {}
            }
        }
    }

    /// Every instance, for operators.
    #[must_use]
    pub fn instances(&self) -> Vec<InstanceView> {
        let now = Instant::now();
        self.pools().iter().flat_map(|pool| pool.view(now)).collect()
    }

    /// How many instances are in each state; cheap enough to be asked often.
    #[must_use]
    pub fn counts(&self) -> InstanceCounts {
        self.pools().iter().map(|pool| pool.counts()).sum()
    }

    /// Refuses everything from now on and stops every instance. Call it when no call runs any more.
    pub async fn shut_down(&self) {
        self.shared.is_shut_down.store(true, Ordering::Release);
        let fault = shutting_down();
        let instances: Vec<_> = self.pools().iter().flat_map(|pool| pool.close(&fault)).collect();
        let grace = StopGrace(self.shared.options.stop_grace);
        let stops: Vec<_> = instances
            .into_iter()
            .map(|instance| self.shared.runtime.spawn(async move { instance.stop(grace).await }))
            .collect();
        for stop in stops {
            drop(stop.await);
        }
    }

    pub(crate) fn version_pool(&self, plan: &Arc<VersionPlan>) -> Arc<VersionPool> {
        let pools = self.shared.pools.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&plan.key) {
            return Arc::clone(pool);
        }
        drop(pools);
        let mut pools = self.shared.pools.write().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(VersionPool::new(Arc::clone(plan), &self.shared.options));
        Arc::clone(pools.entry(plan.key.clone()).or_insert_with(make))
    }

    pub(crate) fn pools(&self) -> Vec<Arc<VersionPool>> {
        let pools = self.shared.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.values().cloned().collect()
    }

    pub(crate) fn forget(&self, closed: &Arc<VersionPool>) {
        let mut pools = self.shared.pools.write().unwrap_or_else(PoisonError::into_inner);
        if pools.get(&closed.plan.key).is_some_and(|pool| Arc::ptr_eq(pool, closed)) {
            pools.remove(&closed.plan.key);
        }
    }

    fn start_if_wanted(&self, pool: &Arc<VersionPool>) {
        while let Some((waiting, slots)) = pool.claim_start(Instant::now()) {
            self.decided(&pool.plan.key, What::StartedForCalls { waiting, slots });
            self.spawn_start(pool, Reason::Calls);
        }
    }

    pub(crate) fn spawn_start(&self, pool: &Arc<VersionPool>, reason: Reason) {
        let (this, pool) = (self.clone(), Arc::clone(pool));
        self.shared.runtime.spawn(async move { this.start(pool, reason).await });
    }

    /// Carries out a claimed start.
    async fn start(&self, pool: Arc<VersionPool>, reason: Reason) {
        let Ok(_permit) = self.shared.starts.acquire().await else { return };
        if reason == Reason::Calls && !pool.confirm_start(Instant::now()) {
            return;
        }
        let key = &pool.plan.key;
        let share = match self.make_room(&pool) {
            Ok(share) => share,
            Err(fault) => {
                let limit = fault.limit.as_ref().map(|hit| hit.name.clone()).unwrap_or_default();
                self.decided(key, What::StartRefused { limit });
                return self.start_failed(&pool, &fault);
            }
        };
        match self.shared.backend.start(Arc::clone(&pool.plan), self.next_id()).await {
            Ok(started) => {
                if let Some(unwanted) = pool.started(&started, share, Instant::now()) {
                    return self.stop(unwanted);
                }
                self.watch(pool, started.instance);
            }
            Err(fault) => {
                drop(share);
                self.decided(key, What::StartFailed { code: fault.code });
                self.start_failed(&pool, &fault);
            }
        }
    }

    fn start_failed(&self, pool: &VersionPool, fault: &Fault) {
        tracing::warn!(version = %pool.plan.key, code = %fault.code, "instance did not start: {fault}");
        pool.start_failed(fault, Instant::now());
    }

    /// Forgets `instance` when it has ended, and starts another if calls are left waiting for it.
    fn watch(&self, pool: Arc<VersionPool>, instance: Arc<dyn Instance>) {
        let this = self.clone();
        self.shared.runtime.spawn(async move {
            instance.gone().await;
            pool.ended(&instance);
            this.start_if_wanted(&pool);
        });
    }

    /// Makes room for one more instance of `pool`: idle instances give way until it fits.
    fn make_room(&self, pool: &VersionPool) -> Result<Share, Fault> {
        let key = &pool.plan.key;
        let memory_bytes = pool.memory_expected();
        loop {
            let ceiling = match self.shared.ledger.reserve(&key.namespace, memory_bytes) {
                Ok(share) => return Ok(share),
                Err(ceiling) => ceiling,
            };
            if !self.one_gives_way(pool, ceiling) {
                return Err(self.shared.ledger.fault(ceiling));
            }
        }
    }

    /// Lets one idle instance go; false where none can.
    fn one_gives_way(&self, to: &VersionPool, ceiling: Ceiling) -> bool {
        let (now, key) = (Instant::now(), &to.plan.key);
        let (timestamp, pools) = (self.timestamp(now), self.pools());
        let in_question = |pool: &&Arc<VersionPool>| {
            ceiling != Ceiling::NamespaceInstances || pool.plan.key.namespace == key.namespace
        };
        let keeper = self.keeper();
        let first = pools.iter().filter(in_question).filter_map(|pool| {
            let idle = pool.idle(now)?;
            Some((give_way::order(idle, keeper.next_call_in(&pool.plan.key, timestamp)), pool))
        });
        let first = first.min_by_key(|(order, _)| *order).map(|(_, pool)| pool);
        drop(keeper);
        let Some(first) = first else { return false };
        let Some(instance) = first.take_one_idle(now) else {
            // It was lent in this moment; others may be idle still, and the loop looks again.
            return true;
        };
        self.decided(&first.plan.key, What::GaveWay { to: key.to_string() });
        self.stop(instance);
        true
    }

    pub(crate) fn stop(&self, instance: Arc<dyn Instance>) {
        let grace = StopGrace(self.shared.options.stop_grace);
        self.shared.runtime.spawn(async move { instance.stop(grace).await });
    }

    pub(crate) fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.shared.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock_floors(&self) -> MutexGuard<'_, Vec<Arc<VersionPlan>>> {
        self.shared.floors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall-clock time of a moment.
    pub(crate) fn timestamp(&self, at: Instant) -> Timestamp {
        let passed = at.saturating_duration_since(self.shared.started).as_millis();
        self.shared.options.started_at.plus_millis(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    pub(crate) fn decided(&self, key: &VersionKey, what: What) {
        let at = self.timestamp(Instant::now());
        tracing::debug!(version = %key, "{what}");
        self.keeper().decided(key, at, what);
    }

    fn next_id(&self) -> InstanceId {
        let number = self.shared.id_next.fetch_add(1, Ordering::Relaxed);
        InstanceId::new(&format!("{}-{number}", self.shared.id_prefix))
    }
}

fn shutting_down() -> Fault {
    Fault::new(ErrorCode::Draining, "the platform is shutting down")
}

fn waited_too_long(pool: &VersionPool) -> Fault {
    let spec = &pool.plan.spec;
    let (timeout_ms, setting) = (spec.timeout_ms, "timeout_ms in alula.toml");
    if pool.has_instances() {
        let message = format!("no instance of {} became free within its timeout", pool.plan.key);
        let (name, setting) = ("max_instances", "max_instances and concurrency in alula.toml");
        return Fault::limit(
            ErrorCode::ConcurrencyExceeded,
            message,
            name,
            spec.max_instances.into(),
            setting,
        );
    }
    let message = format!("no instance of {} became ready within the timeout of the call", pool.plan.key);
    Fault::limit(ErrorCode::InitTimeout, message, "timeout_ms", timeout_ms, setting)
}
