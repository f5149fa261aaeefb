//! Calls that are announced, on the fake back end with paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, FunctionSpec, Name, VersionKey};
use alula_pool::{Pool, PoolOptions};
use alula_runtime::VersionPlan;
use alula_runtime::fake::{FakeBackend, Script};
use tokio::time::{Instant, sleep, sleep_until};

const PATIENCE: Duration = Duration::from_secs(30);

fn plan() -> Arc<VersionPlan> {
    let key =
        VersionKey { namespace: Name::default_namespace(), function: Name::new("f").unwrap(), version: 1 };
    Arc::new(VersionPlan::new(key, FunctionSpec::new("fake"), PathBuf::from("/nowhere")))
}

/// A pool that keeps house, whose starts take `start`.
fn pool(start: Duration) -> (Pool, FakeBackend) {
    let backend = FakeBackend::new(Script { start, ..Script::default() });
    let pool = Pool::new(PoolOptions::default(), Arc::new(backend.clone()), "t".to_owned());
    tokio::spawn(pool.clone().run());
    (pool, backend)
}

fn broken(count: usize) -> impl FnOnce(&mut Script) {
    let fault = Fault::new(ErrorCode::InitFailed, "no module named x");
    move |script| script.start_faults = vec![fault; count].into()
}

fn in_an_hour() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

#[tokio::test(start_paused = true)]
async fn announced_calls_find_instances_though_the_start_is_slow_and_unknown() {
    let (pool, backend) = pool(Duration::from_secs(4));
    let at = in_an_hour();
    pool.prewarm(&plan(), at, 3).await.unwrap();
    assert!(Instant::now() < at);
    sleep_until(at + Duration::from_secs(20)).await;
    assert_eq!(backend.counts().instances, 3, "they are held for calls that come late");
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(backend.counts().instances, 0);
}

#[tokio::test(start_paused = true)]
async fn a_shortage_is_told_before_the_calls_come_and_the_starts_were_tried_again() {
    let (pool, backend) = pool(Duration::from_millis(40));
    backend.change(broken(10_000));
    let at = in_an_hour();
    let short = pool.prewarm(&plan(), at, 2).await.unwrap_err();
    assert_eq!((short.desired, short.actual), (2, 0));
    let left = at - Instant::now();
    assert!(left > Duration::from_secs(1), "there is time to do something: {left:?}");
    assert!((3..30).contains(&backend.counts().starts), "{:?}", backend.counts());
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_once_is_made_good() {
    let (pool, backend) = pool(Duration::from_millis(40));
    backend.change(broken(1));
    assert!(pool.prewarm(&plan(), in_an_hour(), 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_busy_instance_is_not_ready() {
    let (pool, backend) = pool(Duration::from_millis(40));
    let plan = plan();
    let _long = pool.lease(&plan, Instant::now() + PATIENCE).await.unwrap();
    pool.prewarm(&plan, Instant::now() + Duration::from_secs(5), 1).await.unwrap();
    assert_eq!(backend.counts().instances, 2);
}

#[tokio::test(start_paused = true)]
async fn announcements_for_the_same_moment_add_up() {
    let (pool, backend) = pool(Duration::from_millis(40));
    let (plan, at) = (plan(), in_an_hour());
    let (one, other) = tokio::join!(pool.prewarm(&plan, at, 2), pool.prewarm(&plan, at, 3));
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(backend.counts().instances, 5);
}

#[tokio::test(start_paused = true)]
async fn calls_for_right_now_start_what_is_missing_and_say_so() {
    let (pool, backend) = pool(Duration::from_millis(40));
    let short = pool.prewarm(&plan(), Instant::now(), 1).await.unwrap_err();
    assert_eq!(short.actual, 0);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(backend.counts().instances, 1);
}

#[tokio::test(start_paused = true)]
async fn more_than_the_ceiling_is_never_ready() {
    let (pool, backend) = pool(Duration::from_millis(40));
    let short = pool.prewarm(&plan(), in_an_hour(), 1_000).await.unwrap_err();
    assert_eq!(short.actual, 20);
    assert_eq!(backend.counts().instances_max, 20);
}
