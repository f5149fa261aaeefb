//! Zygotes in the pool: which versions get one, what starts come from it, and when it goes. On the fake back end with
//! paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, FunctionSpec, Name, Tier, VersionKey};
use alula_pool::{Ceiling, Ceilings, InstanceState, Lease, Pool, PoolOptions};
use alula_runtime::fake::{Breeds, FORK, FakeBackend, Script};
use alula_runtime::{Usage, VersionPlan};
use tokio::time::{Instant, sleep};

const MIB: u64 = 1024 * 1024;

/// A version whose code takes a second to load, on a node that keeps house.
fn pool(breeds: Breeds, options: PoolOptions) -> (Pool, FakeBackend) {
    let usage = Usage { memory_bytes: 100 * MIB, cpu_us: 0 };
    let init = Duration::from_secs(1);
    let backend = FakeBackend::new(Script { init, usage, breeds, ..Script::default() });
    let pool = Pool::new(options, Arc::new(backend.clone()), "n".to_owned());
    tokio::spawn(pool.clone().run());
    (pool, backend)
}

fn with_memory(memory_bytes: u64) -> PoolOptions {
    let node = Ceiling { memory_bytes, ..Ceilings::default().node };
    PoolOptions { ceilings: Ceilings { node, ..Ceilings::default() }, ..PoolOptions::default() }
}

fn plan_of(function: &str, version: u64) -> Arc<VersionPlan> {
    let key =
        VersionKey { namespace: Name::default_namespace(), function: Name::new(function).unwrap(), version };
    let spec = FunctionSpec { memory_mb: 128, ..FunctionSpec::new("fake") };
    Arc::new(VersionPlan::new(key, spec, PathBuf::new()))
}

async fn lease(pool: &Pool, plan: &Arc<VersionPlan>) -> Lease {
    pool.lease(plan, Instant::now() + Duration::from_secs(30)).await.unwrap()
}

/// Holds as many slots at once as `count`, one after the other, and gives what each came from.
async fn starts(pool: &Pool, plan: &Arc<VersionPlan>, count: usize) -> (Vec<Lease>, Vec<Tier>) {
    let mut leases = Vec::new();
    for _ in 0..count {
        leases.push(lease(pool, plan).await);
        // Long enough for a zygote to be made.
        sleep(Duration::from_secs(2)).await;
    }
    let tiers = leases.iter().map(|lease| lease.tier).collect();
    (leases, tiers)
}

fn words(pool: &Pool, plan: &VersionPlan) -> String {
    let explanation = pool.explain(&plan.key.namespace, &plan.key.function).unwrap();
    explanation.decisions.iter().map(|decision| format!("{}\n", decision.what)).collect()
}

#[tokio::test(start_paused = true)]
async fn from_the_third_instance_on_a_version_that_loads_long_is_forked() {
    let (pool, backend) = pool(Breeds::Zygote(None), PoolOptions::default());
    let plan = plan_of("slow", 1);
    let (leases, tiers) = starts(&pool, &plan, 5).await;
    assert_eq!(tiers, [Tier::Cold, Tier::Cold, Tier::Zygote, Tier::Zygote, Tier::Zygote]);
    assert_eq!((backend.counts().breeds, backend.counts().zygotes), (1, 1));
    assert_eq!(pool.counts().zygotes, 1);
    let zygotes = pool.instances().into_iter().filter(|one| one.state == InstanceState::Zygote).count();
    assert_eq!(zygotes, 1);
    let words = words(&pool, &plan);
    assert!(words.contains("made a zygote: loading the code takes 1000 ms"), "{words}");
    drop(leases);
}

/// Answers in a millisecond and gives the slot back.
async fn short_call(pool: &Pool, plan: &Arc<VersionPlan>) {
    let lease = lease(pool, plan).await;
    sleep(Duration::from_millis(1)).await;
    lease.release();
}

#[tokio::test(start_paused = true)]
async fn a_call_behind_a_long_one_gets_an_instance_from_the_zygote_at_once() {
    let (pool, _backend) = pool(Breeds::Zygote(None), PoolOptions::default());
    let plan = plan_of("slow", 1);
    drop(starts(&pool, &plan, 2).await);
    for _ in 0..300 {
        short_call(&pool, &plan).await;
    }
    // Calls were short until now, and starts without a zygote take a second: neither keeps a call waiting.
    let mut long = vec![lease(&pool, &plan).await, lease(&pool, &plan).await];
    sleep(Duration::from_secs(1)).await;
    for _ in 0..2 {
        let began = Instant::now();
        long.push(lease(&pool, &plan).await);
        assert_eq!(long.last().unwrap().tier, Tier::Zygote);
        assert!(began.elapsed() <= FORK, "{:?}", began.elapsed());
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_when_the_zygote_gets_ready_is_served_from_it() {
    let (pool, _backend) = pool(Breeds::Zygote(None), PoolOptions::default());
    let plan = plan_of("slow", 1);
    short_call(&pool, &plan).await;
    let _first = lease(&pool, &plan).await;
    let _second = lease(&pool, &plan).await;
    // The zygote is there in a second; starts took that long until now, and calls a millisecond.
    let began = Instant::now();
    let early = tokio::time::timeout(Duration::from_millis(1_010), lease(&pool, &plan));
    let late = async {
        sleep(Duration::from_millis(999)).await;
        lease(&pool, &plan).await
    };
    let (early, late) = tokio::join!(early, late);
    assert_eq!((early.unwrap().tier, late.tier), (Tier::Zygote, Tier::Zygote));
    assert!(began.elapsed() < Duration::from_millis(1_020), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn code_that_loads_quickly_gets_none() {
    let (pool, backend) = pool(Breeds::Zygote(None), PoolOptions::default());
    backend.change(|script| script.init = Duration::from_millis(10));
    let (_leases, tiers) = starts(&pool, &plan_of("quick", 1), 4).await;
    assert_eq!((tiers, backend.counts().breeds), (vec![Tier::Cold; 4], 0));
}

#[tokio::test(start_paused = true)]
async fn a_new_version_never_comes_from_the_zygote_of_an_old_one() {
    let (pool, backend) = pool(Breeds::Zygote(None), PoolOptions::default());
    let (_old, tiers) = starts(&pool, &plan_of("f", 1), 3).await;
    assert_eq!(tiers[2], Tier::Zygote);
    let (_new, tiers) = starts(&pool, &plan_of("f", 2), 3).await;
    assert_eq!(tiers, [Tier::Cold, Tier::Cold, Tier::Zygote]);
    assert_eq!(backend.counts().breeds, 2, "each version has its own");
    pool.retire(|key| key.version == 2);
    assert_eq!(backend.counts().zygotes, 1, "that of the old version has gone");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_forked_says_why_and_is_not_tried_again() {
    let (pool, backend) = pool(Breeds::Unfit, PoolOptions::default());
    let plan = plan_of("threads", 1);
    let (leases, tiers) = starts(&pool, &plan, 5).await;
    assert_eq!((tiers, backend.counts().breeds), (vec![Tier::Cold; 5], 1));
    let words = words(&pool, &plan);
    assert!(words.contains("no zygote, every instance loads the code anew: the fake is told so"), "{words}");
    drop(leases);
}

#[tokio::test(start_paused = true)]
async fn a_fork_that_fails_is_a_usual_start_and_the_caller_does_not_see_it() {
    let fault = Fault::new(ErrorCode::SandboxFailed, "no");
    let (pool, backend) = pool(Breeds::Zygote(Some(fault)), PoolOptions::default());
    let plan = plan_of("broken", 1);
    let (_leases, tiers) = starts(&pool, &plan, 3).await;
    assert_eq!((tiers, backend.counts().zygotes), (vec![Tier::Cold; 3], 0));
    assert!(words(&pool, &plan).contains("the zygote has ended or could not be forked"));
}

#[tokio::test(start_paused = true)]
async fn a_failure_to_make_one_is_tried_again_after_further_starts() {
    let fault = Fault::new(ErrorCode::SandboxFailed, "no");
    let (pool, backend) = pool(Breeds::Fails(fault), PoolOptions::default());
    let plan = plan_of("unlucky", 1);
    let (_first, _) = starts(&pool, &plan, 3).await;
    assert_eq!(backend.counts().breeds, 1);
    backend.change(|script| script.breeds = Breeds::Zygote(None));
    let (_second, tiers) = starts(&pool, &plan, 2).await;
    assert_eq!((tiers[1], backend.counts().breeds), (Tier::Zygote, 2));
}

#[tokio::test(start_paused = true)]
async fn it_outlives_its_instances_and_goes_when_nothing_is_started_for_long() {
    let (pool, backend) = pool(Breeds::Zygote(None), PoolOptions::default());
    let plan = plan_of("idle", 1);
    drop(starts(&pool, &plan, 3).await);
    sleep(Duration::from_secs(8 * 60)).await;
    assert_eq!(backend.counts().zygotes, 1);
    sleep(Duration::from_secs(24 * 3_600)).await;
    assert_eq!((backend.counts().zygotes, backend.counts().instances), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn it_counts_as_memory_and_gives_way_before_any_instance() {
    let options = with_memory(420 * MIB);
    let (pool, backend) = pool(Breeds::Zygote(None), options);
    let plan = plan_of("slow", 1);
    let (leases, tiers) = starts(&pool, &plan, 3).await;
    assert_eq!((tiers[2], backend.counts().zygotes), (Tier::Zygote, 1));
    drop(leases);
    // Three idle instances and the zygote: 400 MB.
    let _other = lease(&pool, &plan_of("other", 1)).await;
    assert_eq!(backend.counts().zygotes, 0);
    assert_eq!(backend.counts().instances, 4, "no instance had to go");
    assert!(words(&pool, &plan).contains("the zygote gave way"));
}

#[tokio::test(start_paused = true)]
async fn none_is_made_where_there_is_no_room_for_it() {
    let options = with_memory(220 * MIB);
    let (pool, backend) = pool(Breeds::Zygote(None), options);
    let (_leases, _) = starts(&pool, &plan_of("slow", 1), 2).await;
    assert_eq!((backend.counts().breeds, backend.counts().instances), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_platform() {
    let (pool, backend) = pool(Breeds::Zygote(None), PoolOptions::default());
    drop(starts(&pool, &plan_of("slow", 1), 3).await);
    pool.shut_down().await;
    assert_eq!((backend.counts().zygotes, backend.counts().instances), (0, 0));
}
