//! The node-wide pool: a map of version pools, the bound on starts, and the room that is made for them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, InstanceId, Timestamp, VersionKey};
use alula_runtime::{Backend, Instance, StopGrace, VersionPlan};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use crate::decision::What;
use crate::keeper::Keeper;
use crate::lease::Lease;
use crate::ledger::{Ceilings, Ledger, Share, Standing};
use crate::options::PoolOptions;
use crate::starts::{self, Starts};
use crate::version_pool::{Asked, Retry, VersionPool};
use crate::view::{InstanceCounts, InstanceView};

/// Shortest pause between two looks at a line that does not move.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(1);

/// A start that waited shorter than this for the rate is not worth a line among the decisions.
const WORTH_TELLING: Duration = Duration::from_millis(100);

/// Lends instances. Cheap to clone; all clones are the same pool.
#[derive(Debug, Clone)]
pub struct Pool {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: PoolOptions,
    /// Where instances live, whoever asks for them.
    pub(crate) runtime: Handle,
    pub(crate) backend: Arc<dyn Backend>,
    /// Makes instance ids unique on this node, over restarts as well.
    id_prefix: String,
    id_next: AtomicU64,
    announcement_next: AtomicU64,
    pub(crate) starts: Starts,
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
        let PoolOptions { starts_at_once, starts_per_second, starts_burst, .. } = options;
        let starts = Starts::new(starts_at_once, starts_per_second, starts_burst);
        let ledger = Ledger::new(options.ceilings.clone());
        let keeper = Keeper::new(options.keep_alive);
        let shared = Shared {
            options,
            runtime: Handle::current(),
            backend,
            id_prefix,
            id_next: AtomicU64::new(1),
            announcement_next: AtomicU64::new(1),
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
            if self.is_shut_down() {
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
                Asked::Closed if self.is_shut_down() => {
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

    /// What the node, its namespaces and its apps take of what they may take, the node first.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        self.shared.ledger.standings()
    }

    /// Other ceilings from now on. Who takes more than they allow keeps it until it is idle.
    pub fn set_ceilings(&self, ceilings: Ceilings) {
        self.shared.ledger.set_ceilings(ceilings);
    }

    /// So many namespaces have functions: where there are several, none takes all of the node.
    pub fn set_namespaces(&self, namespaces: usize) {
        self.shared.ledger.set_namespaces(namespaces as u64);
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

    pub(crate) fn start_if_wanted(&self, pool: &Arc<VersionPool>) {
        while let Some((waiting, slots)) = pool.claim_start(Instant::now()) {
            self.decided(&pool.plan.key, What::StartedForCalls { waiting, slots });
            self.spawn_start(pool, Reason::Calls);
        }
    }

    pub(crate) fn spawn_start(&self, pool: &Arc<VersionPool>, reason: Reason) {
        let (this, pool) = (self.clone(), Arc::clone(pool));
        self.shared.runtime.spawn(async move { this.start(pool, reason).await });
    }

    /// Carries out a claimed start, when its turn comes.
    async fn start(&self, pool: Arc<VersionPool>, reason: Reason) {
        let Ok(turn) = self.shared.starts.turn().await else {
            return self.start_refused(&pool, &too_many_starts());
        };
        // Who waited for it may have gone meanwhile.
        let is_wanted = || reason == Reason::Ahead || pool.confirm_start(Instant::now());
        let Some(waited) = turn.comes(is_wanted).await else { return };
        if waited >= WORTH_TELLING {
            self.decided(&pool.plan.key, What::StartHeldBack { waited });
        }
        match self.make_room(&pool) {
            Ok(share) => self.start_in(pool, share).await,
            Err(fault) => {
                turn.pass();
                self.start_refused(&pool, &fault);
            }
        }
    }

    /// Starts an instance in the room that was made for it.
    async fn start_in(&self, pool: Arc<VersionPool>, share: Share) {
        let era = pool.era();
        match self.start_instance(&pool).await {
            Ok(started) => {
                if let Some(unwanted) = pool.started(&started, share, era, Instant::now()) {
                    return self.stop(unwanted);
                }
                self.watch(Arc::clone(&pool), started.instance);
                self.replace_outdated(&pool);
            }
            Err(fault) => {
                drop(share);
                tracing::warn!(version = %pool.plan.key, code = %fault.code, "instance did not start: {fault}");
                let Retry { failures, pause } = pool.start_failed(&fault, Instant::now());
                self.decided(&pool.plan.key, What::StartFailed { code: fault.code, failures, pause });
            }
        }
    }

    fn start_refused(&self, pool: &VersionPool, fault: &Fault) {
        let limit = fault.limit.as_ref().map(|hit| hit.name.clone()).unwrap_or_default();
        self.decided(&pool.plan.key, What::StartRefused { limit });
        pool.start_refused(fault, Instant::now());
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

    pub(crate) fn is_shut_down(&self) -> bool {
        self.shared.is_shut_down.load(Ordering::Acquire)
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

    pub(crate) fn next_announcement(&self) -> u64 {
        self.shared.announcement_next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_id(&self) -> InstanceId {
        let number = self.shared.id_next.fetch_add(1, Ordering::Relaxed);
        InstanceId::new(&format!("{}-{number}", self.shared.id_prefix))
    }
}

fn shutting_down() -> Fault {
    Fault::new(ErrorCode::Draining, "the platform is shutting down")
}

fn too_many_starts() -> Fault {
    let message = format!("{} instances wait to be started on this node already", starts::WAITING_MAX);
    let setting = "pool.starts_per_second and pool.starts_at_once in the configuration";
    let limit = starts::WAITING_MAX as u64;
    Fault::limit(ErrorCode::ConcurrencyExceeded, message, "starts_waiting", limit, setting)
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
