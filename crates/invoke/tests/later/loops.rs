//! Chains of calls that go in circles.

use std::time::Duration;

use alula_invoke::later::{CallState, DeadFilter};
use alula_model::ErrorCode;
use alula_runtime::fake::Does;
use serde_json::{Value, json};

use crate::world::World;

/// Longer than any chain here takes.
const LONG: Duration = Duration::from_secs(600);

async fn dead_of(world: &World) -> Vec<alula_invoke::later::DeadCall> {
    world.calls.dead(&DeadFilter::default(), None, 100).await.unwrap().letters
}

#[tokio::test]
async fn a_function_that_is_its_own_destination_is_stopped_and_its_owner_told_once() {
    let own = json!({"on_success": ["function:hello"], "notify": ["https://owner.test"]});
    let world = World::new(own).await;
    world.does(|| Does::answers("again"));
    for _ in 0..2 {
        world.accept(world.call()).await;
        tokio::time::sleep(LONG).await;
    }
    let runs = world.runs();
    let stopped = runs.iter().filter(|run| run.error == Some(ErrorCode::LoopDetected)).count();
    assert_eq!((runs.len(), stopped), (2 * 17, 2), "sixteen run, the next one is stopped");
    let dead = dead_of(&world).await;
    assert_eq!(dead.len(), 2);
    let sent = world.courier.sent.lock().unwrap().clone();
    let [(delivery, body)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(delivery.url, "https://owner.test");
    let told: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(told["event"], "loop_detected");
    assert!(told["reason"].as_str().unwrap().contains("hello.default (16 times)"), "{told}");
    world.stop().await;
}

#[tokio::test]
async fn who_runs_a_stopped_call_again_begins_a_new_chain() {
    let world = World::new(json!({})).await;
    world.does(|| Does::answers("ok"));
    let mut call = world.call();
    call.lineage = "hello.default*16".parse().unwrap();
    let id = world.accept(call).await;
    assert!(matches!(world.ended(&id).await.state, CallState::Dead { .. }));
    world.calls.redrive(id.as_str()).await.unwrap();
    world.outcome(&id).await;
    world.stop().await;
}
