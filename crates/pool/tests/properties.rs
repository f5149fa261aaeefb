//! What holds whatever happens: random sequences of calls, ends, cancels, failures and deaths on the fake back end.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, FunctionSpec, Name, VersionKey};
use alula_pool::keep_alive::KeepAliveOptions;
use alula_pool::{Ceiling, Ceilings, InstanceState, Lease, Pool, PoolOptions};
use alula_runtime::fake::{FakeBackend, Script};
use alula_runtime::{Usage, VersionPlan};
use proptest::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Longer than anything takes here: who is not served is not served by a deadline either.
const PATIENCE: Duration = Duration::from_secs(3_600);
const FUNCTIONS: usize = 4;
const NODE_MAX: usize = 6;
const FUNCTION_MAX: usize = 3;
/// Of the last two functions together.
const APP_MAX: usize = 2;
const MEMORY_MAX: u64 = 600 << 20;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    /// A call of a function begins.
    Call(usize),
    /// The oldest lease ends.
    End,
    /// A caller that waits goes away.
    Cancel(usize),
    /// So many of the next starts fail.
    FailStarts(usize),
    /// An instance dies.
    Kill(usize),
    /// Calls are announced: of which function, how many, and in how many milliseconds.
    Announce(usize, usize, u64),
    /// From now on every instance uses so many megabytes, and so much more CPU time in milliseconds.
    Use(u64, u64),
    /// Time passes.
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..FUNCTIONS).prop_map(Event::Call),
        4 => Just(Event::End),
        2 => (0..8_usize).prop_map(Event::Cancel),
        1 => (1..3_usize).prop_map(Event::FailStarts),
        1 => (0..8_usize).prop_map(Event::Kill),
        1 => (0..FUNCTIONS, 1..3_usize, 0..20_000_u64)
            .prop_map(|(function, count, ms)| Event::Announce(function, count, ms)),
        1 => (10..200_u64, 0..5_000_u64).prop_map(|(megabytes, cpu_ms)| Event::Use(megabytes, cpu_ms)),
        3 => prop_oneof![Just(1_u64), 5..200_u64, 1_000..40_000_u64]
            .prop_map(Event::Pass),
    ]
}

struct World {
    pool: Pool,
    backend: FakeBackend,
    plans: Vec<Arc<VersionPlan>>,
    waiting: Vec<JoinHandle<Result<Lease, Fault>>>,
    leases: Vec<Lease>,
}

impl World {
    fn new(floor: u32) -> Self {
        let script = Script { start: Duration::from_millis(40), ..Script::default() };
        let backend = FakeBackend::new(script);
        // At this price an instance is held for the least time only, so that what stays has a reason.
        let keep_alive = KeepAliveOptions { price: 1e9, ..KeepAliveOptions::default() };
        let ceilings = Ceilings {
            node: Ceiling { instances: NODE_MAX, memory_bytes: MEMORY_MAX },
            app: Ceiling { instances: APP_MAX, ..Ceiling::NONE },
            ..Ceilings::default()
        };
        let options = PoolOptions {
            ceilings,
            starts_at_once: 2,
            starts_per_second: 5,
            starts_burst: 3,
            keep_alive,
            ..PoolOptions::default()
        };
        let pool = Pool::new(options, Arc::new(backend.clone()), "p".to_owned());
        tokio::spawn(pool.clone().run());
        let plan = |index: usize| {
            let mut spec = FunctionSpec::new("fake");
            spec.max_instances = u32::try_from(FUNCTION_MAX).unwrap();
            spec.concurrency = u32::try_from(index + 1).unwrap();
            spec.min_instances = if index == 0 { floor } else { 0 };
            spec.app = (index >= FUNCTIONS - 2).then(|| Name::new("app").unwrap());
            let function = Name::new(&format!("f{index}")).unwrap();
            let key = VersionKey { namespace: Name::default_namespace(), function, version: 1 };
            Arc::new(VersionPlan::new(key, spec, PathBuf::from("/nowhere")))
        };
        let plans: Vec<_> = (0..FUNCTIONS).map(plan).collect();
        pool.hold_floors(plans.iter().cloned());
        Self { pool, backend, plans, waiting: Vec::new(), leases: Vec::new() }
    }

    async fn happens(&mut self, event: Event) {
        match event {
            Event::Call(function) => {
                let (pool, plan) = (self.pool.clone(), Arc::clone(&self.plans[function]));
                let lease = async move { pool.lease(&plan, Instant::now() + PATIENCE).await };
                self.waiting.push(tokio::spawn(lease));
            }
            Event::End if !self.leases.is_empty() => drop(self.leases.remove(0)),
            Event::Cancel(index) if !self.waiting.is_empty() => {
                let index = index % self.waiting.len();
                self.waiting.remove(index).abort();
            }
            Event::FailStarts(count) => {
                let fault = Fault::new(ErrorCode::InitFailed, "it does not start");
                self.backend.change(|script| script.start_faults = vec![fault; count].into());
            }
            Event::Kill(index) => {
                let instances = self.pool.instances();
                if let Some(instance) = instances.get(index) {
                    self.backend.kill(&instance.id);
                }
            }
            Event::Announce(function, count, millis) => {
                let (pool, plan) = (self.pool.clone(), Arc::clone(&self.plans[function]));
                let at = Instant::now() + Duration::from_millis(millis);
                tokio::spawn(async move { drop(pool.prewarm(&plan, at, count).await) });
            }
            Event::Use(megabytes, cpu_ms) => self.backend.change(|script| {
                let cpu_us = script.usage.cpu_us + cpu_ms * 1_000;
                script.usage = Usage { memory_bytes: megabytes << 20, cpu_us };
            }),
            Event::Pass(millis) => sleep(Duration::from_millis(millis)).await,
            Event::End | Event::Cancel(_) => {}
        }
        self.settle().await;
    }

    /// Takes in the leases that were granted.
    async fn settle(&mut self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let (done, waiting): (Vec<_>, _) = self.waiting.drain(..).partition(JoinHandle::is_finished);
        self.waiting = waiting;
        for task in done {
            match task.await.unwrap() {
                Ok(lease) => self.leases.push(lease),
                Err(fault) => assert_ne!(fault.code, ErrorCode::Internal, "{fault}"),
            }
        }
    }

    fn check(&self) {
        let instances = self.pool.instances();
        let counts = self.pool.counts();
        assert!(instances.len() <= NODE_MAX, "{instances:?}");
        for plan in &self.plans {
            let of_plan = instances.iter().filter(|instance| instance.key == plan.key);
            assert!(of_plan.clone().count() <= FUNCTION_MAX);
            for instance in of_plan {
                assert!(instance.in_flight <= plan.spec.concurrency, "{instance:?}");
            }
        }
        // An instance with a call is there unless it died by itself.
        for lease in &self.leases {
            let is_known = instances.iter().any(|instance| instance.id == *lease.instance.id());
            assert!(is_known || lease.instance.is_gone(), "a busy instance was let go");
        }
        let of_app = instances
            .iter()
            .filter(|instance| self.plans[FUNCTIONS - 2..].iter().any(|plan| plan.key == instance.key));
        assert!(of_app.count() <= APP_MAX, "{instances:?}");
        // What is counted is what is there or starting, no more and no less.
        let standings = self.pool.standings();
        let counted = standings.first().map_or(0, |node| node.instances);
        assert!((instances.len()..=instances.len() + counts.starting).contains(&counted), "{standings:?}");
        assert!(standings.iter().all(|standing| standing.instances <= standing.ceiling.instances));
        let live = self.leases.iter().filter(|lease| !lease.instance.is_gone()).count();
        let in_flight: u32 = instances.iter().map(|instance| instance.in_flight).sum();
        assert!(in_flight as usize >= live);
        assert_eq!(counts.idle + counts.busy, instances.len());
    }

    /// Everything ends; then every caller is served, and nothing is left but the floor.
    async fn finish(mut self, floor: usize) {
        self.backend.change(|script| script.start_faults.clear());
        self.backend.change(|script| script.usage = Usage::default());
        for _ in 0..150 {
            self.leases.clear();
            self.settle().await;
            if self.waiting.is_empty() && self.leases.is_empty() {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
        assert!(self.waiting.is_empty(), "somebody waits for ever");
        // Until no instance is held for announced calls any more.
        sleep(Duration::from_secs(60)).await;
        for plan in &self.plans {
            let lease = self.pool.lease(plan, Instant::now() + PATIENCE).await;
            assert!(lease.is_ok(), "{:?}", lease.map(|_| ()));
        }
        self.settle().await;
        assert!(self.pool.instances().iter().all(|instance| instance.state == InstanceState::Idle));
        sleep(Duration::from_secs(120)).await;
        assert_eq!(self.pool.counts().starting, 0);
        let counted = self.pool.standings().first().map_or(0, |node| node.instances);
        assert_eq!(counted, floor, "a share was not given back");
        assert_eq!(self.backend.counts().instances, floor, "{:?}", self.pool.instances());
        self.pool.shut_down().await;
        assert_eq!(self.backend.counts().instances, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_ceilings_floors_calls_and_callers_are_safe(
        floor in 0..3_u32,
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let mut world = World::new(floor);
            for event in events {
                world.happens(event).await;
                world.check();
            }
            world.finish(floor as usize).await;
        });
    }
}
