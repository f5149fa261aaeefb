//! What namespaces and apps may take together, and who gives way, on the fake back end with paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, FunctionSpec, Name, VersionKey};
use alula_pool::{Ceiling, Ceilings, Pool, PoolOptions, Scope};
use alula_runtime::fake::{FakeBackend, Script};
use alula_runtime::{Usage, VersionPlan};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(30);
const MB: u64 = 1024 * 1024;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn plan(namespace: &str, app: Option<&str>, function: &str) -> Arc<VersionPlan> {
    let spec = FunctionSpec { app: app.map(name), ..FunctionSpec::new("fake") };
    let key = VersionKey { namespace: name(namespace), function: name(function), version: 1 };
    Arc::new(VersionPlan::new(key, spec, PathBuf::from("/nowhere")))
}

fn pool(ceilings: Ceilings) -> (Pool, FakeBackend) {
    let backend = FakeBackend::new(Script { start: Duration::from_millis(40), ..Script::default() });
    let options = PoolOptions { ceilings, ..PoolOptions::default() };
    let pool = Pool::new(options, Arc::new(backend.clone()), "t".to_owned());
    tokio::spawn(pool.clone().run());
    (pool, backend)
}

fn instances(instances: usize) -> Ceiling {
    Ceiling { instances, ..Ceiling::NONE }
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

#[tokio::test(start_paused = true)]
async fn a_namespace_has_a_ceiling_and_the_others_do_not_feel_it() {
    let (pool, _) = pool(Ceilings { namespace: instances(1), ..Ceilings::default() });
    let _busy = pool.lease(&plan("shop", None, "f"), deadline()).await.unwrap();
    let refused = pool.lease(&plan("shop", None, "g"), deadline()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ConcurrencyExceeded);
    assert_eq!(refused.limit.unwrap().name, "namespace_instances_max");
    assert!(pool.lease(&plan("bank", None, "g"), deadline()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_app_has_a_ceiling_and_only_its_own_idle_instances_give_way() {
    let named = HashMap::from([(Scope::App(name("shop"), name("cart")), instances(2))]);
    let (pool, backend) = pool(Ceilings { named, ..Ceilings::default() });
    let other = plan("shop", None, "other");
    drop(pool.lease(&other, deadline()).await.unwrap());
    let (one, two, three) = (
        plan("shop", Some("cart"), "one"),
        plan("shop", Some("cart"), "two"),
        plan("shop", Some("cart"), "three"),
    );
    drop(pool.lease(&one, deadline()).await.unwrap());
    let busy = pool.lease(&two, deadline()).await.unwrap();
    let third = pool.lease(&three, deadline()).await.unwrap();
    let left: Vec<_> = pool.instances().into_iter().map(|view| view.key.function).collect();
    assert!(left.contains(&name("other")) && !left.contains(&name("one")), "{left:?}");
    let refused = pool.lease(&one, deadline()).await.unwrap_err();
    let hit = refused.limit.unwrap();
    assert_eq!((hit.name.as_str(), hit.value), ("app_instances_max", 2));
    assert!(hit.setting.contains("pool.apps.\"shop/cart\""), "{}", hit.setting);
    // As soon as there is room, there is.
    drop((busy, third));
    sleep(Duration::from_millis(60)).await;
    assert!(pool.lease(&one, deadline()).await.is_ok());
    assert_eq!(backend.counts().instances, 3);
    let standing = pool.standings().into_iter().find(|standing| matches!(standing.scope, Scope::App(..)));
    assert_eq!(standing.unwrap().instances, 2);
}

#[tokio::test(start_paused = true)]
async fn instances_that_grow_beyond_a_ceiling_of_memory_send_idle_ones_away() {
    let namespace = Ceiling { memory_bytes: 250 * MB, ..Ceiling::NONE };
    let (pool, backend) = pool(Ceilings { namespace, ..Ceilings::default() });
    let plans = ["a", "b", "c"].map(|function| plan("shop", None, function));
    let busy = pool.lease(&plans[0], deadline()).await.unwrap();
    for plan in &plans[1..] {
        drop(pool.lease(plan, deadline()).await.unwrap());
    }
    assert_eq!(backend.counts().instances, 3);
    backend.change(|script| script.usage = Usage { memory_bytes: 200 * MB, cpu_us: 0 });
    sleep(Duration::from_secs(3)).await;
    assert_eq!(backend.counts().instances, 1, "the busy one");
    let words: Vec<_> = plans
        .iter()
        .flat_map(|plan| pool.explain(&plan.key.namespace, &plan.key.function).unwrap().decisions)
        .map(|decision| decision.what.to_string())
        .collect();
    assert!(words.join("\n").contains("beyond the memory of namespace shop"), "{words:?}");
    drop(busy);
}
