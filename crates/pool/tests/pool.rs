//! The pool on the fake back end, with paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, FunctionSpec, Name, Tier, VersionKey};
use alula_pool::{Ceiling, Ceilings, Lease, Place, Pool, PoolOptions};
use alula_runtime::VersionPlan;
use alula_runtime::fake::{FakeBackend, Script};
use tokio::time::{Instant, advance, sleep};

const START: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_secs(30);

fn plan(change: impl FnOnce(&mut FunctionSpec)) -> Arc<VersionPlan> {
    let mut spec = FunctionSpec::new("fake");
    change(&mut spec);
    let key =
        VersionKey { namespace: Name::default_namespace(), function: Name::new("f").unwrap(), version: 1 };
    Arc::new(VersionPlan::new(key, spec, PathBuf::from("/nowhere")))
}

fn pool(script: Script, options: PoolOptions) -> (Pool, FakeBackend) {
    let backend = FakeBackend::new(script);
    (Pool::new(options, Arc::new(backend.clone()), "t".to_owned()), backend)
}

fn slow_start() -> Script {
    Script { start: START / 2, init: START / 2, ..Script::default() }
}

/// Asks for `count` leases at once and returns the tasks.
fn ask(
    pool: &Pool,
    plan: &Arc<VersionPlan>,
    count: usize,
) -> Vec<tokio::task::JoinHandle<Result<Lease, Fault>>> {
    let ask_one = |_| {
        let (pool, plan) = (pool.clone(), Arc::clone(plan));
        tokio::spawn(async move { pool.lease(&plan, Instant::now() + PATIENCE).await })
    };
    (0..count).map(ask_one).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_call_starts_an_instance_and_the_second_finds_it() {
    let (pool, backend) = pool(slow_start(), PoolOptions::default());
    let plan = plan(|_| {});
    let first = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    assert_eq!((first.tier, first.start, first.init), (Tier::Cold, START / 2, START / 2));
    let id = first.instance.id().clone();
    drop(first);
    let second = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    assert_eq!((second.tier, second.queue), (Tier::Warm, Duration::ZERO));
    assert_eq!((second.instance.id(), backend.counts().starts), (&id, 1));
}

#[tokio::test(start_paused = true)]
async fn a_burst_on_a_cold_version_starts_what_it_needs_and_not_one_more() {
    let options = PoolOptions { starts_at_once: 100, ..PoolOptions::default() };
    let (pool, backend) = pool(slow_start(), options);
    let plan = plan(|spec| {
        spec.concurrency = 10;
        spec.max_instances = 50;
    });
    let leases: Vec<Lease> = futures_util::future::join_all(ask(&pool, &plan, 100))
        .await
        .into_iter()
        .map(|lease| lease.unwrap().unwrap())
        .collect();
    assert_eq!((leases.len(), backend.counts().starts), (100, 10));
}

#[tokio::test(start_paused = true)]
async fn never_more_instances_than_the_spec_allows() {
    let (pool, backend) = pool(slow_start(), PoolOptions::default());
    let plan = plan(|spec| spec.max_instances = 3);
    let tasks = ask(&pool, &plan, 30);
    for task in tasks {
        let lease = task.await.unwrap().unwrap();
        sleep(Duration::from_millis(500)).await;
        drop(lease);
    }
    assert_eq!(backend.counts().instances_max, 3);
}

#[tokio::test(start_paused = true)]
async fn short_calls_wait_for_the_warm_instance_instead_of_starting_others() {
    let (pool, backend) = pool(slow_start(), PoolOptions::default());
    let plan = plan(|_| {});
    for _ in 0..20 {
        let lease = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
        advance(Duration::from_micros(100)).await;
        drop(lease);
    }
    for task in ask(&pool, &plan, 60) {
        let lease = task.await.unwrap().unwrap();
        advance(Duration::from_micros(100)).await;
        drop(lease);
    }
    assert_eq!(backend.counts().starts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_told_to_all_and_is_no_storm() {
    let fault = Fault::new(ErrorCode::InitFailed, "no module named x");
    let script = Script { start_faults: vec![fault.clone(); 1_000].into(), ..slow_start() };
    let (pool, backend) = pool(script, PoolOptions { starts_at_once: 2, ..PoolOptions::default() });
    let plan = plan(|_| {});
    for task in ask(&pool, &plan, 100) {
        assert_eq!(task.await.unwrap().unwrap_err(), fault);
    }
    assert!(backend.counts().starts <= 4, "{} starts", backend.counts().starts);
    // During the pause the answer is at hand and nothing is started.
    let starts = backend.counts().starts;
    assert_eq!(pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap_err(), fault);
    assert_eq!(backend.counts().starts, starts);
    sleep(Duration::from_secs(6)).await;
    backend.change(|script| *script = slow_start());
    assert!(pool.lease(&plan, Instant::now() + PATIENCE).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_the_deadline_and_names_the_limit() {
    let (pool, _) = pool(slow_start(), PoolOptions::default());
    let plan = plan(|spec| spec.max_instances = 1);
    let _held = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    let refused = pool.lease(&plan, Instant::now() + Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ConcurrencyExceeded);
    assert_eq!(refused.limit.map(|hit| hit.name).as_deref(), Some("max_instances"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_the_line_loses_nothing() {
    let (pool, backend) = pool(slow_start(), PoolOptions::default());
    let plan = plan(|spec| spec.max_instances = 1);
    let held = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    let waiting = ask(&pool, &plan, 5);
    tokio::task::yield_now().await;
    for task in &waiting[..4] {
        task.abort();
    }
    tokio::task::yield_now().await;
    drop(held);
    let last = waiting.into_iter().next_back().unwrap().await.unwrap().unwrap();
    drop(last);
    assert!(pool.lease(&plan, Instant::now() + PATIENCE).await.is_ok());
    assert_eq!(backend.counts().starts, 1);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_ends_is_replaced_for_those_who_wait() {
    let (pool, backend) = pool(slow_start(), PoolOptions::default());
    let plan = plan(|spec| spec.max_instances = 1);
    let held = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    let waiting = ask(&pool, &plan, 2);
    tokio::task::yield_now().await;
    assert!(backend.kill(held.instance.id()));
    drop(held);
    for task in waiting {
        drop(task.await.unwrap().unwrap());
    }
    assert_eq!((backend.counts().starts, backend.counts().instances), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn idle_instances_go_and_busy_ones_stay() {
    let (pool, backend) = pool(slow_start(), PoolOptions::default());
    let plan = plan(|spec| spec.idle_timeout_ms = Some(10_000));
    tokio::spawn(pool.clone().run());
    let both = futures_util::future::join_all(ask(&pool, &plan, 2)).await;
    let mut both = both.into_iter().map(|lease| lease.unwrap().unwrap());
    let (_busy, idle) = (both.next().unwrap(), both.next().unwrap());
    drop(idle);
    sleep(Duration::from_secs(9)).await;
    assert_eq!(backend.counts().instances, 2);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(backend.counts().instances, 1);
    assert_eq!(pool.instances().len(), 1);
}

fn one_instance() -> PoolOptions {
    let node = Ceiling { instances: 1, ..Ceiling::NONE };
    PoolOptions { ceilings: Ceilings { node, ..Ceilings::default() }, ..PoolOptions::default() }
}

#[tokio::test(start_paused = true)]
async fn a_full_node_lets_the_longest_idle_instance_go() {
    let (pool, backend) = pool(slow_start(), one_instance());
    let first = plan(|_| {});
    let mut second = VersionPlan::clone(&first);
    second.key.version = 2;
    let second = Arc::new(second);
    drop(pool.lease(&first, Instant::now() + PATIENCE).await.unwrap());
    let busy = pool.lease(&second, Instant::now() + PATIENCE).await.unwrap();
    assert_eq!(backend.counts().stops, 1);
    let refused = pool.lease(&first, Instant::now() + PATIENCE).await.unwrap_err();
    assert_eq!(refused.limit.map(|hit| hit.name).as_deref(), Some("instances_max"));
    drop(busy);
}

#[tokio::test(start_paused = true)]
async fn shutting_down_stops_everything_and_refuses_the_rest() {
    let (pool, backend) = pool(slow_start(), PoolOptions::default());
    let plan = plan(|_| {});
    drop(pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap());
    pool.shut_down().await;
    assert_eq!(backend.counts().instances, 0);
    let refused = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Draining);
}

#[tokio::test(start_paused = true)]
async fn a_full_line_is_refused_at_once_and_names_the_limit() {
    let (pool, _) = pool(slow_start(), PoolOptions { waiting_max: 3, ..PoolOptions::default() });
    let plan = plan(|spec| spec.max_instances = 1);
    let _held = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    let _waiting = ask(&pool, &plan, 3);
    tokio::task::yield_now().await;
    let refused = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ConcurrencyExceeded);
    assert_eq!(refused.limit.map(|hit| (hit.name, hit.value)), Some(("waiting_max".to_owned(), 3)));
}

/// A pool with one instance whose calls are known to be short enough for one to lie behind another.
async fn short_calls() -> (Pool, FakeBackend, Arc<VersionPlan>) {
    let ahead = Some(Duration::from_millis(5));
    let (pool, backend) = pool(Script { ahead, ..slow_start() }, PoolOptions::default());
    let plan = plan(|spec| spec.max_instances = 2);
    for _ in 0..2 {
        let lease = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
        advance(Duration::from_millis(1)).await;
        drop(lease);
    }
    (pool, backend, plan)
}

#[tokio::test(start_paused = true)]
async fn one_short_call_lies_behind_another_and_no_more_than_one() {
    let (pool, backend, plan) = short_calls().await;
    let running = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    let ahead = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    assert_eq!((running.place, ahead.place), (Place::Slot, Place::Ahead));
    assert_eq!(running.instance.id(), ahead.instance.id());
    let mut third = ask(&pool, &plan, 1);
    tokio::task::yield_now().await;
    assert!(!third[0].is_finished());
    drop(running);
    let third = third.remove(0).await.unwrap().unwrap();
    assert_eq!((third.place, backend.counts().starts), (Place::Ahead, 1), "behind the one that runs now");
}

#[tokio::test(start_paused = true)]
async fn a_free_instance_is_better_than_a_place_behind_a_call() {
    let (pool, backend, plan) = short_calls().await;
    backend.change(|script| script.ahead = None);
    let leases = futures_util::future::join_all(ask(&pool, &plan, 2)).await;
    assert_eq!(backend.counts().instances, 2);
    drop(leases);
    backend.change(|script| script.ahead = Some(Duration::from_millis(5)));
    let short = |_| drop(futures_util::FutureExt::now_or_never(pool.lease(&plan, Instant::now() + PATIENCE)));
    (0..200).for_each(short);
    let first = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    let second = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    assert_eq!((first.place, second.place), (Place::Slot, Place::Slot));
}

#[tokio::test(start_paused = true)]
async fn calls_that_take_long_are_not_sent_ahead() {
    let (pool, _, plan) = short_calls().await;
    let long = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    advance(Duration::from_millis(200)).await;
    drop(long);
    let _running = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    let next = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    assert_eq!((next.place, next.tier), (Place::Slot, Tier::Cold), "another instance is started");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_came_back_is_first_in_line_and_nothing_follows_it_there() {
    let (pool, _, plan) = short_calls().await;
    let stuck = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    let ahead = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    let since = Instant::now();
    advance(Duration::from_millis(5)).await;
    let later = ask(&pool, &plan, 1).remove(0);
    tokio::task::yield_now().await;
    ahead.release_unused();
    tokio::task::yield_now().await;
    assert!(!later.is_finished(), "the instance is held up");
    let again = pool.lease_again(&plan, since, Instant::now() + PATIENCE).await.unwrap();
    assert_eq!((again.place, again.tier), (Place::Slot, Tier::Cold));
    // Nobody knows when the long call ends, so a start is made once the wait has become as long as one.
    assert_eq!(again.queue + again.start + again.init, Duration::from_millis(5) + 2 * START);
    drop(again);
    assert!(later.await.unwrap().is_ok());
    drop(stuck);
}
