//! What operators see and do: pausing, what comes next, who is not ready.

use std::time::Duration;

use alula_model::{ErrorCode, Fault};
use serde_json::json;

use super::world::{World, key, pass};
use crate::schedule::{Filter, Readiness};

#[tokio::test(start_paused = true)]
async fn a_pause_holds_for_every_replica_and_over_restarts() {
    let world = World::new();
    world.publish(json!([{ "name": "tick", "kind": "schedule", "every": "10s", "missed": "all" }]));
    let (one, other) = (world.start(), world.start());
    pass(14).await;
    one.handle.pause(&key("tick"), "ops").await.unwrap();
    pass(30).await;
    assert_eq!(world.slots(), [10]);
    for replica in [&one, &other] {
        assert_eq!(replica.handle.get(&key("tick")).unwrap().pause.unwrap().by, "ops");
        assert_eq!(replica.handle.next(&Filter::default(), 3), []);
    }
    one.stop().await;
    other.stop().await;
    let (one, other) = (world.start(), world.start());
    pass(30).await;
    assert_eq!(world.slots(), [10]);

    one.handle.resume(&key("tick")).await.unwrap();
    pass(30).await;
    let slots = world.slots();
    assert_eq!(slots[..2], [10, 80], "what came during the pause is skipped");
    let mut once = slots.clone();
    once.dedup();
    assert_eq!(slots, once);
    assert_eq!(other.handle.get(&key("tick")).unwrap().pause, None);
    one.handle.resume(&key("tick")).await.unwrap();
    pass(10).await;
    assert_eq!(world.slots().len(), slots.len() + 1, "resuming what is not paused changes nothing");
}

#[tokio::test(start_paused = true)]
async fn the_coming_slots_of_all_schedules_are_told_in_their_order() {
    let world = World::new();
    world.publish(json!([
        { "name": "minute", "kind": "schedule", "cron": "* * * * *" },
        { "name": "often", "kind": "schedule", "every": "25s" },
        { "name": "never", "kind": "schedule", "cron": "0 0 0 1 1 * 2020" },
    ]));
    world.publish_as("other", json!([{ "name": "once", "kind": "schedule", "at": "2026-01-01T00:00:30Z" }]));
    let replica = world.start();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let next = |filter: &Filter, limit| -> Vec<String> {
        let upcoming = replica.handle.next(filter, limit);
        let second = |at: alula_model::Timestamp| (at.0 - super::world::BEGIN.0) / 1_000;
        upcoming.iter().map(|one| format!("{} {}", second(one.slot), one.schedule.key.trigger)).collect()
    };
    let all = Filter::default();
    assert_eq!(next(&all, 5), ["25 often", "30 once", "50 often", "60 minute", "75 often"]);
    assert_eq!(next(&all, 1), ["25 often"]);
    assert_eq!(next(&all, 0), [""; 0]);
    let minute = Filter { trigger: Some(key("minute").trigger), ..Filter::default() };
    assert_eq!(next(&minute, 2), ["60 minute", "120 minute"]);
    let view = replica.handle.get(&key("minute")).unwrap();
    assert_eq!(view.description, "every minute, UTC");
}

#[tokio::test(start_paused = true)]
async fn the_instance_is_there_before_the_slot() {
    let world = World::new();
    world.publish(json!([{ "name": "tick", "kind": "schedule", "every": "10m" }]));
    let replica = world.start();
    pass(560).await;
    assert_eq!(world.backend.counts().starts, 0);
    assert_eq!(replica.handle.get(&key("tick")).unwrap().readiness, Readiness::Unknown);
    tokio::time::sleep(Duration::from_secs(38)).await;
    assert_eq!(world.backend.counts().starts, 1);
    assert_eq!(replica.handle.get(&key("tick")).unwrap().readiness, Readiness::Ready);
    assert_eq!(world.slots(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn where_no_instance_will_be_ready_that_is_told_before_the_slot() {
    let world = World::new();
    let fault = Fault::new(ErrorCode::InitFailed, "no module named report");
    world.backend.change(|script| script.start_faults = vec![fault; 100].into());
    world.publish(json!([{ "name": "tick", "kind": "schedule", "every": "10m" }]));
    let replica = world.start();
    tokio::time::sleep(Duration::from_secs(599)).await;
    let short = replica.handle.not_ready(&Filter::default());
    assert_eq!(short.len(), 1);
    let Readiness::NotReady { reason } = &short[0].readiness else { panic!("{short:?}") };
    assert!(reason.contains("init_failed"), "{reason}");
    assert_eq!(world.slots(), [0; 0]);
    pass(1).await;
    assert_eq!(world.slots(), [600], "the slot is admitted all the same");
    assert_eq!(replica.handle.not_ready(&Filter::default()), []);
}
