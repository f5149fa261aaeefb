//! What alarms look at: instances that end by themselves, starts that fail, floors that are not held.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, FunctionSpec, Name, VersionKey};
use alula_pool::{Pool, PoolOptions, VersionHealth};
use alula_runtime::fake::{FakeBackend, Script};
use alula_runtime::{StopGrace, VersionPlan};
use tokio::time::{Instant, sleep};

fn plan(min_instances: u32) -> Arc<VersionPlan> {
    let spec = FunctionSpec { min_instances, idle_timeout_ms: Some(1_000), ..FunctionSpec::new("fake") };
    let key =
        VersionKey { namespace: Name::default_namespace(), function: Name::new("f").unwrap(), version: 1 };
    Arc::new(VersionPlan::new(key, spec, PathBuf::from("/nowhere")))
}

fn pool(script: Script) -> Pool {
    let pool = Pool::new(PoolOptions::default(), Arc::new(FakeBackend::new(script)), "t".to_owned());
    tokio::spawn(pool.clone().run());
    pool
}

fn health(pool: &Pool) -> VersionHealth {
    pool.health().into_iter().next().unwrap()
}

#[tokio::test(start_paused = true)]
async fn instances_that_end_by_themselves_are_told_from_those_that_are_let_go() {
    let (pool, plan) = (pool(Script::default()), plan(0));
    for _ in 0..3 {
        let lease = pool.lease(&plan, Instant::now() + Duration::from_secs(30)).await.unwrap();
        lease.instance.stop(StopGrace(Duration::ZERO)).await;
        drop(lease);
        sleep(Duration::from_secs(1)).await;
    }
    // This one is let go after a second of idleness.
    drop(pool.lease(&plan, Instant::now() + Duration::from_secs(30)).await.unwrap());
    sleep(Duration::from_secs(60)).await;
    let VersionHealth { ended_lately, instances, .. } = health(&pool);
    assert_eq!((ended_lately, instances), (3, 0));
    sleep(Duration::from_secs(600)).await;
    assert_eq!(pool.health(), [], "after a while nothing is known of it");
}

#[tokio::test(start_paused = true)]
async fn a_floor_that_is_not_held_shows_with_the_reason() {
    let fault = Fault::new(ErrorCode::InitFailed, "no module named report");
    let pool = pool(Script { start_faults: vec![fault; 1_000].into(), ..Script::default() });
    pool.hold_floors([plan(2)]);
    sleep(Duration::from_secs(60)).await;
    let VersionHealth { instances, min_instances, failed_starts: (failures, why), .. } = health(&pool);
    assert_eq!((instances, min_instances), (0, 2));
    assert!(failures > 2, "{failures}");
    assert_eq!(why.unwrap().code, ErrorCode::InitFailed);
}
