//! What the pool's housekeeping costs: a thousand live instances, ten thousand functions that it remembers.
//!
//! Time is paused, so a minute of the pool takes as long as its work takes, and what is printed is the share of one core
//! that it is busy for. The back end is the fake one: what asking the kernel costs is not in it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example")]
#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{FunctionSpec, Name, VersionKey};
use alula_pool::{Ceiling, Ceilings, Pool, PoolOptions};
use alula_runtime::VersionPlan;
use alula_runtime::fake::{FakeBackend, Script};
use tokio::time::{Instant, sleep};

const FUNCTIONS: usize = 10_000;
const LIVE: usize = 1_000;
const SECONDS: u64 = 60;

fn plan(index: usize) -> Arc<VersionPlan> {
    let mut spec = FunctionSpec::new("fake");
    // A tenth of what lives is held by a floor, the rest by its history.
    spec.min_instances = u32::from(index < LIVE / 10);
    let function = Name::new(&format!("f{index}")).unwrap();
    let key = VersionKey { namespace: Name::default_namespace(), function, version: 1 };
    Arc::new(VersionPlan::new(key, spec, PathBuf::from("/nowhere")))
}

async fn call(pool: &Pool, plan: &Arc<VersionPlan>) {
    drop(pool.lease(plan, Instant::now() + Duration::from_secs(60)).await.unwrap());
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let node = Ceiling { instances: 2 * LIVE, ..Ceiling::NONE };
    let options = PoolOptions {
        ceilings: Ceilings { node, ..Ceilings::default() },
        starts_per_second: 1_000_000,
        starts_burst: 1_000_000,
        ..PoolOptions::default()
    };
    let pool = Pool::new(options, Arc::new(FakeBackend::new(Script::default())), "e".to_owned());
    tokio::spawn(pool.clone().run());
    let plans: Vec<_> = (0..FUNCTIONS).map(plan).collect();
    pool.hold_floors(plans.iter().cloned());
    for plan in &plans {
        call(&pool, plan).await;
        // One after the other, so that no more than are to live do.
        sleep(Duration::from_millis(10)).await;
    }
    // What is called again and again stays.
    for _ in 0..5 {
        for plan in &plans[..LIVE] {
            call(&pool, plan).await;
        }
        sleep(Duration::from_secs(20)).await;
    }
    let began = std::time::Instant::now();
    sleep(Duration::from_secs(SECONDS)).await;
    let took = began.elapsed();
    let share = took.as_secs_f64() / SECONDS as f64 * 100.0;
    let live = pool.counts();
    println!("{live:?}: {SECONDS} s of housekeeping took {took:?}, {share:.3} % of a core");
}
