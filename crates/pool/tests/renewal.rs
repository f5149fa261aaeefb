//! Replacing instances that were started with what does not hold any more. On the fake back end with paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, FunctionSpec, InstanceId, Name, VersionKey};
use alula_pool::{Lease, Pool, PoolOptions};
use alula_runtime::VersionPlan;
use alula_runtime::fake::{Breeds, FakeBackend, Script};
use tokio::time::{Instant, sleep};

fn pool(script: Script) -> (Pool, FakeBackend) {
    let backend = FakeBackend::new(script);
    let pool = Pool::new(PoolOptions::default(), Arc::new(backend.clone()), "n".to_owned());
    tokio::spawn(pool.clone().run());
    (pool, backend)
}

fn plan(change: impl FnOnce(&mut FunctionSpec)) -> Arc<VersionPlan> {
    let (namespace, function) = (Name::default_namespace(), Name::new("f").unwrap());
    let mut spec = FunctionSpec { max_instances: 1, ..FunctionSpec::new("fake") };
    change(&mut spec);
    Arc::new(VersionPlan::new(VersionKey { namespace, function, version: 1 }, spec, PathBuf::new()))
}

async fn lease(pool: &Pool, plan: &Arc<VersionPlan>) -> Lease {
    pool.lease(plan, Instant::now() + Duration::from_secs(30)).await.unwrap()
}

fn ids(pool: &Pool) -> Vec<InstanceId> {
    pool.instances().into_iter().map(|instance| instance.id).collect()
}

#[tokio::test(start_paused = true)]
async fn a_running_call_ends_where_it_runs_and_the_next_goes_to_a_new_instance() {
    let (pool, _) = pool(Script::default());
    let plan = plan(|_| {});
    let running = lease(&pool, &plan).await;
    let old = running.instance.id().clone();
    pool.renew(|_| true);
    // Beside the one that the spec allows, which is about to go.
    let next = lease(&pool, &plan).await;
    assert_ne!(*next.instance.id(), old);
    assert!(!running.instance.is_gone(), "its call goes on");
    let new = next.instance.id().clone();
    running.release();
    next.release();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(ids(&pool), [new]);
}

#[tokio::test(start_paused = true)]
async fn until_a_new_one_is_there_the_outdated_one_serves() {
    let (pool, backend) = pool(Script::default());
    let plan = plan(|spec| spec.concurrency = 2);
    let running = lease(&pool, &plan).await;
    let old = running.instance.id().clone();
    let fault = Fault::new(ErrorCode::SecretUnavailable, "the secret is gone");
    backend.change(|script| script.start_faults = vec![fault; 100].into());
    pool.renew(|_| true);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(*lease(&pool, &plan).await.instance.id(), old);
    backend.change(|script| script.start_faults.clear());
    sleep(Duration::from_secs(10)).await;
    assert_ne!(*lease(&pool, &plan).await.instance.id(), old);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_goes_at_once_with_its_zygote_and_others_stay() {
    let (pool, backend) =
        pool(Script { init: Duration::from_secs(1), breeds: Breeds::Zygote(None), ..Script::default() });
    let plan = plan(|spec| spec.max_instances = 3);
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(lease(&pool, &plan).await);
        sleep(Duration::from_secs(2)).await;
    }
    for lease in leases {
        lease.release();
    }
    assert_eq!(backend.counts().zygotes, 1);
    pool.renew(|_| false);
    assert_eq!(pool.counts().zygotes, 1);
    pool.renew(|other| other.key == plan.key);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((pool.instances().len(), backend.counts().zygotes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_had_begun_is_outdated_when_it_arrives() {
    let (pool, _) = pool(Script { init: Duration::from_secs(5), ..Script::default() });
    let plan = plan(|_| {});
    let (other, its_plan) = (pool.clone(), Arc::clone(&plan));
    let waiting = tokio::spawn(async move { lease(&other, &its_plan).await });
    sleep(Duration::from_secs(1)).await;
    pool.renew(|_| true);
    let first = waiting.await.unwrap();
    let old = first.instance.id().clone();
    first.release();
    sleep(Duration::from_secs(10)).await;
    assert_ne!(*lease(&pool, &plan).await.instance.id(), old);
}
