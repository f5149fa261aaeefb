//! The pool's own decisions on the fake back end, with paused time: floors, ceilings, history, notice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{Class, ErrorCode, Fault, FunctionSpec, Name, Tier, VersionKey};
use alula_pool::{Ceiling, Ceilings, Pool, PoolOptions};
use alula_runtime::fake::{FakeBackend, Script};
use alula_runtime::{Usage, VersionPlan};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(30);
const MB: u64 = 1024 * 1024;

fn plan_of(function: &str, change: impl FnOnce(&mut FunctionSpec)) -> Arc<VersionPlan> {
    let mut spec = FunctionSpec::new("fake");
    change(&mut spec);
    let key = VersionKey {
        namespace: Name::default_namespace(),
        function: Name::new(function).unwrap(),
        version: 1,
    };
    Arc::new(VersionPlan::new(key, spec, PathBuf::from("/nowhere")))
}

/// A pool that keeps house.
fn pool(options: PoolOptions) -> (Pool, FakeBackend) {
    let backend = FakeBackend::new(Script { start: Duration::from_millis(40), ..Script::default() });
    let pool = Pool::new(options, Arc::new(backend.clone()), "t".to_owned());
    tokio::spawn(pool.clone().run());
    (pool, backend)
}

fn of_node(node: Ceiling) -> PoolOptions {
    PoolOptions { ceilings: Ceilings { node, ..Ceilings::default() }, ..PoolOptions::default() }
}

async fn call(pool: &Pool, plan: &Arc<VersionPlan>) -> Result<Tier, Fault> {
    let lease = pool.lease(plan, Instant::now() + PATIENCE).await?;
    sleep(Duration::from_millis(100)).await;
    Ok(lease.tier)
}

fn words(pool: &Pool, plan: &VersionPlan) -> String {
    let explanation = pool.explain(&plan.key.namespace, &plan.key.function).unwrap();
    let words: Vec<_> = explanation.decisions.iter().map(|decision| decision.what.to_string()).collect();
    words.join("\n")
}

#[tokio::test(start_paused = true)]
async fn a_timer_finds_an_instance_though_none_was_there_in_between() {
    let (pool, backend) = pool(PoolOptions::default());
    let plan = plan_of("hourly", |_| {});
    for _ in 0..6 {
        call(&pool, &plan).await.unwrap();
        sleep(Duration::from_secs(1_800)).await;
        sleep(Duration::from_secs(1_800)).await;
    }
    assert_eq!(call(&pool, &plan).await.unwrap(), Tier::Warm);
    sleep(Duration::from_secs(1_800)).await;
    assert_eq!(backend.counts().instances, 0, "it is at zero in between");
    let words = words(&pool, &plan);
    assert!(words.contains("ahead: calls usually come after 5"), "{words}");
    assert!(words.contains("let an instance go after"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn what_is_called_often_stays_and_what_was_called_once_goes() {
    let (pool, backend) = pool(PoolOptions::default());
    let (often, once) = (plan_of("often", |_| {}), plan_of("once", |_| {}));
    call(&pool, &once).await.unwrap();
    for _ in 0..60 {
        call(&pool, &often).await.unwrap();
        sleep(Duration::from_secs(60)).await;
    }
    let tiers = pool.instances();
    assert_eq!(tiers.len(), 1, "{tiers:?}");
    assert_eq!(tiers[0].key, often.key);
    assert!(backend.counts().starts <= 6, "{:?}", backend.counts());
}

#[tokio::test(start_paused = true)]
async fn a_history_survives_a_restart() {
    let plan = plan_of("hourly", |_| {});
    let record = {
        let (pool, _) = pool(PoolOptions::default());
        for _ in 0..6 {
            call(&pool, &plan).await.unwrap();
            sleep(Duration::from_secs(3_600)).await;
        }
        pool.save_history().unwrap()
    };
    let (next, _) = pool(PoolOptions::default());
    assert_eq!(next.load_history(&record).unwrap(), 1);
    let period = next.explain(&plan.key.namespace, &plan.key.function).unwrap().period.unwrap();
    assert_eq!(period.as_secs() / 10, 360);
}

#[tokio::test(start_paused = true)]
async fn a_floor_is_held_from_the_start_after_a_death_and_against_others() {
    let (pool, backend) = pool(of_node(Ceiling { instances: 3, ..Ceiling::NONE }));
    let held = plan_of("held", |spec| spec.min_instances = 2);
    pool.hold_floors([Arc::clone(&held)]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(backend.counts().instances, 2);
    assert_eq!(call(&pool, &held).await.unwrap(), Tier::Warm);
    sleep(Duration::from_secs(3 * 3_600)).await;
    assert_eq!(backend.counts().instances, 2);
    assert!(backend.kill(&pool.instances()[0].id));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(backend.counts().instances, 2);
    // The others share the third place; nobody takes the floor's.
    let (a, b) = (plan_of("a", |_| {}), plan_of("b", |_| {}));
    let busy = pool.lease(&a, Instant::now() + PATIENCE).await.unwrap();
    let refused = pool.lease(&b, Instant::now() + PATIENCE).await.unwrap_err();
    assert_eq!(refused.limit.unwrap().name, "instances_max");
    drop(busy);
    sleep(Duration::from_secs(6)).await;
    call(&pool, &b).await.unwrap();
    assert!(words(&pool, &a).contains("gave way to default/b") || words(&pool, &a).contains("gave way"));
    assert_eq!(pool.instances().iter().filter(|one| one.key == held.key).count(), 2);
    // A floor that is taken away is a floor no more.
    pool.hold_floors([]);
    sleep(Duration::from_secs(24 * 3_600)).await;
    assert_eq!(backend.counts().instances, 0);
}

#[tokio::test(start_paused = true)]
async fn a_floor_that_cannot_be_held_is_told_and_no_storm() {
    let (pool, backend) = pool(PoolOptions::default());
    let fault = Fault::new(ErrorCode::InitFailed, "no module named x");
    backend.change(|script| script.start_faults = vec![fault; 10_000].into());
    let held = plan_of("held", |spec| spec.min_instances = 1);
    pool.hold_floors([Arc::clone(&held)]);
    sleep(Duration::from_secs(60)).await;
    assert!(words(&pool, &held).contains("short of instances: 0 are there, min_instances is 1"));
    assert!(backend.counts().starts < 40, "{:?}", backend.counts());
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_idle_instances_give_way_by_class() {
    let (pool, backend) = pool(of_node(Ceiling { memory_bytes: 320 * MB, ..Ceiling::NONE }));
    backend.change(|script| script.usage = Usage { memory_bytes: 100 * MB, cpu_us: 0 });
    let of = |name, class| plan_of(name, |spec| spec.class = class);
    let (sync, queued, timer) =
        (of("sync", Class::Sync), of("queued", Class::Async), of("timer", Class::Scheduled));
    for plan in [&timer, &queued, &sync] {
        call(&pool, plan).await.unwrap();
        sleep(Duration::from_secs(2)).await;
    }
    call(&pool, &of("new", Class::Sync)).await.unwrap();
    assert!(words(&pool, &timer).contains("gave way"), "{}", words(&pool, &timer));
    sleep(Duration::from_secs(2)).await;
    call(&pool, &of("newer", Class::Sync)).await.unwrap();
    assert!(words(&pool, &queued).contains("gave way"), "{}", words(&pool, &queued));
    assert!(backend.counts().instances <= 3);
}

#[tokio::test(start_paused = true)]
async fn an_instance_under_load_gets_company_before_calls_wait() {
    let (pool, backend) = pool(PoolOptions::default());
    let plan = plan_of("heavy", |spec| {
        spec.concurrency = 10;
        spec.memory_mb = 100;
    });
    let _running = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(backend.counts().instances, 1);
    backend.change(|script| script.usage = Usage { memory_bytes: 90 * MB, cpu_us: 0 });
    sleep(Duration::from_secs(3)).await;
    assert_eq!(backend.counts().instances, 2);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(backend.counts().instances, 2, "the idle one is there for the next call");
}

#[tokio::test(start_paused = true)]
async fn calls_go_past_an_instance_under_load_and_those_that_are_not_needed_go() {
    let (pool, backend) = pool(PoolOptions::default());
    let plan = plan_of("async", |spec| spec.concurrency = 20);
    let lease = || pool.lease(&plan, Instant::now() + PATIENCE);
    let first = lease().await.unwrap();
    // A whole core from one look to the next.
    for second in 1..=4 {
        backend.change(|script| script.usage = Usage { memory_bytes: 0, cpu_us: second * 1_000_000 });
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(backend.counts().instances, 2, "{}", words(&pool, &plan));
    assert!(words(&pool, &plan).contains("over 80 %"));
    let second = lease().await.unwrap();
    assert_ne!(first.instance.id(), second.instance.id(), "nineteen slots of the first one are free");
    drop((first, second));
    // From now on the CPU time stands still, so calls are kept together and the other one is not needed.
    for _ in 0..60 {
        call(&pool, &plan).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(backend.counts().instances, 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_start_took_is_no_load() {
    let (pool, backend) = pool(PoolOptions::default());
    backend.change(|script| script.usage = Usage { memory_bytes: 0, cpu_us: 5_000_000 });
    let plan = plan_of("imports", |spec| spec.concurrency = 20);
    let _running = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(backend.counts().instances, 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_grown_for_a_burst_shrinks_to_what_is_needed() {
    let (pool, backend) = pool(PoolOptions::default());
    let plan = plan_of("f", |_| {});
    let calls = (0..8).map(|_| call(&pool, &plan));
    futures_util::future::join_all(calls).await;
    assert_eq!(backend.counts().instances, 8);
    for _ in 0..60 {
        call(&pool, &plan).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(backend.counts().instances, 1);
}
