//! Streams of calls that run one after another.

use std::sync::atomic::{AtomicU32, Ordering};

use alula_model::{ErrorCode, Fault};
use alula_runtime::fake::Does;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_retry_holds_back_its_key_and_nothing_else() {
    let world = World::new(json!({"retry": {"attempts": 3, "first_ms": 10_000, "jitter_percent": 0}})).await;
    let calls = AtomicU32::new(0);
    // The first call of all fails once.
    world.does(move || match calls.fetch_add(1, Ordering::Relaxed) {
        0 => Does::Fails(Fault::new(ErrorCode::HandlerError, "once")),
        _ => Does::answers("ok"),
    });
    let mut ids = Vec::new();
    for key in ["a", "a", "b"] {
        let mut deferred = world.call();
        deferred.ordering_key = Some(key.to_owned());
        ids.push(world.accept(deferred).await);
        if ids.len() == 1 {
            while world.attempts_ms(&ids[0]).is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    }
    for id in &ids {
        world.outcome(id).await;
    }
    assert_eq!(world.attempts_ms(&ids[0]).len(), 2);
    assert!(
        world.attempts_ms(&ids[1])[0] >= 10_000,
        "the second of the key waited for the retry of the first"
    );
    assert!(world.attempts_ms(&ids[2])[0] < 1_000, "another key does not wait");
    world.stop().await;
}

#[tokio::test]
async fn a_stream_may_stop_at_what_fails() {
    let table = json!({"retry": {"attempts": 1}, "poison": "stop", "notify": ["https://a.test/owner"]});
    let world = World::new(table).await;
    world.fails();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut deferred = world.call();
        deferred.ordering_key = Some("a".to_owned());
        ids.push(world.accept(deferred).await);
    }
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert!(world.attempts_ms(&ids[1]).is_empty(), "nothing passes the one that fails");
    let told = world.courier.sent.lock().unwrap().len();
    assert_eq!(told, 1, "the owner is told once");
    world.does(|| Does::answers("ok"));
    for id in &ids {
        world.outcome(id).await;
    }
    world.stop().await;
}
