//! Storms of starts, and starts that fail, on the fake back end with paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, FunctionSpec, Name, Tier, VersionKey};
use alula_pool::{Lease, Pool, PoolOptions};
use alula_runtime::VersionPlan;
use alula_runtime::fake::{FakeBackend, Script};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(30);
const START: Duration = Duration::from_millis(10);

fn plan_of(function: &str, max_instances: u32) -> Arc<VersionPlan> {
    let spec = FunctionSpec { max_instances, ..FunctionSpec::new("fake") };
    let key = VersionKey {
        namespace: Name::default_namespace(),
        function: Name::new(function).unwrap(),
        version: 1,
    };
    Arc::new(VersionPlan::new(key, spec, PathBuf::from("/nowhere")))
}

fn pool(starts_per_second: u32, starts_burst: u32) -> (Pool, FakeBackend) {
    let backend = FakeBackend::new(Script { start: START, ..Script::default() });
    let options = PoolOptions { starts_per_second, starts_burst, ..PoolOptions::default() };
    let pool = Pool::new(options, Arc::new(backend.clone()), "t".to_owned());
    (pool, backend)
}

fn ask(pool: &Pool, plan: &Arc<VersionPlan>) -> JoinHandle<Result<Lease, Fault>> {
    let (pool, plan) = (pool.clone(), Arc::clone(plan));
    tokio::spawn(async move { pool.lease(&plan, Instant::now() + PATIENCE).await })
}

fn words(pool: &Pool, plan: &VersionPlan) -> String {
    let explanation = pool.explain(&plan.key.namespace, &plan.key.function).unwrap();
    let words: Vec<_> = explanation.decisions.iter().map(|decision| decision.what.to_string()).collect();
    words.join("\n")
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_functions_is_started_at_the_rate_first_come_first_served() {
    let (pool, backend) = pool(10, 5);
    let warm = plan_of("warm", 1);
    drop(pool.lease(&warm, Instant::now() + PATIENCE).await.unwrap());
    let began = Instant::now();
    let plans: Vec<_> = (0..54).map(|index| plan_of(&format!("f{index}"), 1)).collect();
    let mut storm = Vec::new();
    for plan in &plans {
        storm.push(ask(&pool, plan));
        tokio::task::yield_now().await;
    }
    let mut ready_at = Vec::new();
    for task in storm {
        // In the order of their coming: each one is there when it is its turn to be looked at.
        assert!(task.await.unwrap().is_ok());
        ready_at.push(began.elapsed());
        let lease = pool.lease(&warm, Instant::now() + PATIENCE).now_or_never();
        assert_eq!(lease.unwrap().unwrap().tier, Tier::Warm, "a warm call waits for nothing");
    }
    assert!(ready_at.is_sorted());
    // Four of the burst, and from then on ten a second.
    let last = ready_at.last().unwrap().as_millis();
    assert!((4_900..5_200).contains(&last), "{last}");
    assert_eq!(backend.counts().starts, 55);
    let told = words(&pool, &plans[53]);
    assert!(told.contains("for its turn: pool.starts_per_second"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn starts_that_nobody_wants_any_more_cost_no_turn() {
    let (pool, backend) = pool(1, 1);
    drop(pool.lease(&plan_of("first", 1), Instant::now() + PATIENCE).await.unwrap());
    let gone: Vec<_> = (0..20).map(|index| ask(&pool, &plan_of(&format!("gone{index}"), 1))).collect();
    tokio::task::yield_now().await;
    gone.iter().for_each(JoinHandle::abort);
    drop(join_all(gone).await);
    let began = Instant::now();
    assert!(pool.lease(&plan_of("last", 1), began + PATIENCE).await.is_ok());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(backend.counts().starts, 2, "no instance for those who have gone");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_makes_no_storm_and_is_told_with_the_pause() {
    let (pool, backend) = pool(1_000, 1_000);
    let plan = plan_of("broken", 20);
    let fault = Fault::new(ErrorCode::InitFailed, "no module named x");
    backend.change(|script| script.start_faults = vec![fault; 10_000].into());
    for _ in 0..100 {
        let calls = join_all((0..20).map(|_| ask(&pool, &plan))).await;
        assert!(calls.into_iter().all(|call| call.unwrap().unwrap_err().code == ErrorCode::InitFailed));
        sleep(Duration::from_millis(100)).await;
    }
    // Ten seconds of 200 calls each: pauses of 0.1, 0.2, 0.4, 0.8, 1.6, 3.2 and 5 seconds, with as many starts at once as
    // the node makes after each.
    assert!(backend.counts().starts <= 7 * 4, "{:?}", backend.counts());
    let explanation = pool.explain(&plan.key.namespace, &plan.key.function).unwrap();
    let (pause, code) = explanation.versions[0].pause.unwrap();
    assert!(pause > Duration::from_secs(1) && code == ErrorCode::InitFailed);
    assert!(words(&pool, &plan).contains("times in a row: none is tried for"), "{}", words(&pool, &plan));
}

#[tokio::test(start_paused = true)]
async fn one_failed_start_of_several_fails_no_call() {
    let (pool, backend) = pool(1_000, 1_000);
    let plan = plan_of("flaky", 20);
    let fault = Fault::new(ErrorCode::InitFailed, "once");
    backend.change(|script| script.start_faults = vec![fault].into());
    let calls: Vec<_> = (0..4).map(|_| ask(&pool, &plan)).collect();
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
}
