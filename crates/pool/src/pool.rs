//! The node-wide pool: a map of version pools, the bound on starts, the loop that lets idle instances go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use alula_model::{ErrorCode, Fault, InstanceId, VersionKey};
use alula_runtime::{Backend, Instance, StopGrace, VersionPlan};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::lease::Lease;
use crate::options::PoolOptions;
use crate::version_pool::{Asked, VersionPool};
use crate::view::{InstanceCounts, InstanceView};

/// Lends instances. Cheap to clone; all clones are the same pool.
#[derive(Debug, Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: PoolOptions,
    /// Where instances live, whoever asks for them.
    runtime: Handle,
    backend: Arc<dyn Backend>,
    /// Makes instance ids unique on this node, over restarts as well.
    id_prefix: String,
    id_next: AtomicU64,
    starts: Semaphore,
    instances: AtomicUsize,
    is_shut_down: AtomicBool,
    pools: RwLock<HashMap<VersionKey, Arc<VersionPool>>>,
}

impl Pool {
    /// A pool that starts instances with `backend` and names them `<id_prefix>-1`, `<id_prefix>-2`... Instances live
    /// on the runtime that this is called on, whichever runtime leases are asked from later.
    #[must_use]
    pub fn new(options: PoolOptions, backend: Arc<dyn Backend>, id_prefix: String) -> Self {
        let starts = Semaphore::new(options.starts_at_once);
        let shared = Shared {
            options,
            runtime: Handle::current(),
            backend,
            id_prefix,
            id_next: AtomicU64::new(1),
            starts,
            instances: AtomicUsize::new(0),
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
            let look_again = Instant::now() + pool.start_estimate();
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

    /// Lets idle instances go, for ever; ends when the pool is dropped everywhere else or the task is.
    pub async fn run(self) {
        let mut ticks = interval(self.shared.options.sweep_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep(Instant::now());
        }
    }

    /// Lets go of the instances of versions that `is_reachable` denies, once they are idle.
    pub fn retire(&self, is_reachable: impl Fn(&VersionKey) -> bool) {
        for pool in self.pools().into_iter().filter(|pool| !is_reachable(&pool.plan.key)) {
            while let Some(instance) = pool.take_longest_idle() {
                self.stop(instance);
            }
        }
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

    fn sweep(&self, now: Instant) {
        for pool in self.pools() {
            for instance in pool.take_idle(now) {
                self.stop(instance);
            }
            if let Some(rest_after) = self.shared.options.rest_after {
                pool.let_rest(rest_after, now);
            }
            if pool.close_if_empty() {
                self.forget(&pool);
            }
        }
    }

    fn version_pool(&self, plan: &Arc<VersionPlan>) -> Arc<VersionPool> {
        let pools = self.shared.pools.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&plan.key) {
            return Arc::clone(pool);
        }
        drop(pools);
        let mut pools = self.shared.pools.write().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(VersionPool::new(Arc::clone(plan), &self.shared.options));
        Arc::clone(pools.entry(plan.key.clone()).or_insert_with(make))
    }

    fn pools(&self) -> Vec<Arc<VersionPool>> {
        let pools = self.shared.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.values().cloned().collect()
    }

    fn forget(&self, closed: &Arc<VersionPool>) {
        let mut pools = self.shared.pools.write().unwrap_or_else(PoisonError::into_inner);
        if pools.get(&closed.plan.key).is_some_and(|pool| Arc::ptr_eq(pool, closed)) {
            pools.remove(&closed.plan.key);
        }
    }

    fn start_if_wanted(&self, pool: &Arc<VersionPool>) {
        while pool.claim_start(Instant::now()) {
            let (this, pool) = (self.clone(), Arc::clone(pool));
            self.shared.runtime.spawn(async move { this.start(pool).await });
        }
    }

    /// Carries out a claimed start.
    async fn start(&self, pool: Arc<VersionPool>) {
        let Ok(_permit) = self.shared.starts.acquire().await else { return };
        if !pool.confirm_start(Instant::now()) {
            return;
        }
        let result = match self.make_room() {
            Ok(()) => self.shared.backend.start(Arc::clone(&pool.plan), self.next_id()).await,
            Err(fault) => Err(fault),
        };
        match result {
            Ok(started) => {
                self.shared.instances.fetch_add(1, Ordering::Relaxed);
                self.watch(Arc::clone(&pool), Arc::clone(&started.instance));
                if let Some(unwanted) = pool.started(&started, Instant::now()) {
                    self.stop(unwanted);
                }
            }
            Err(fault) => {
                tracing::warn!(version = %pool.plan.key, code = %fault.code, "instance did not start: {fault}");
                pool.start_failed(&fault, Instant::now());
            }
        }
    }

    /// Forgets `instance` when it has ended, and starts another if calls are left waiting for it.
    fn watch(&self, pool: Arc<VersionPool>, instance: Arc<dyn Instance>) {
        let this = self.clone();
        self.shared.runtime.spawn(async move {
            instance.gone().await;
            this.shared.instances.fetch_sub(1, Ordering::Relaxed);
            pool.ended(&instance);
            this.start_if_wanted(&pool);
        });
    }

    /// Makes room for one more instance by letting go of the one that has been idle longest.
    fn make_room(&self) -> Result<(), Fault> {
        let limit = self.shared.options.instances_max;
        if self.shared.instances.load(Ordering::Relaxed) < limit {
            return Ok(());
        }
        let pools = self.pools();
        let idlest =
            pools.iter().filter_map(|pool| Some((pool.longest_idle()?, pool))).min_by_key(|(idle, _)| *idle);
        match idlest.and_then(|(_, pool)| pool.take_longest_idle()) {
            Some(instance) => {
                self.stop(instance);
                Ok(())
            }
            None => {
                let message = format!("all {limit} instances of this node are busy");
                let setting = "pool.instances_max in the configuration";
                let name = "instances_max";
                Err(Fault::limit(ErrorCode::ConcurrencyExceeded, message, name, limit as u64, setting))
            }
        }
    }

    fn stop(&self, instance: Arc<dyn Instance>) {
        let grace = StopGrace(self.shared.options.stop_grace);
        self.shared.runtime.spawn(async move { instance.stop(grace).await });
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
