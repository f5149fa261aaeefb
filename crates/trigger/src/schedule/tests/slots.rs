//! Every slot once: alone, with replicas, over restarts, publishes and jumps of the clock.

use serde_json::{Value, json};

use super::world::{BEGIN, World, key, pass};
use crate::schedule::SkipReason;

fn every(distance: &str) -> Value {
    json!([{ "name": "tick", "kind": "schedule", "every": distance }])
}

fn every_with(distance: &str, field: &str, value: &str) -> Value {
    let mut triggers = every(distance);
    triggers[0][field] = json!(value);
    triggers
}

#[tokio::test(start_paused = true)]
async fn each_slot_is_one_call_with_its_event() {
    let world = World::new();
    world.publish(json!([
        { "name": "tick", "kind": "schedule", "every": "5s" },
        { "name": "paid", "kind": "schedule", "cron": "*/15 * * * * *", "payload": { "kind": "bill" } },
    ]));
    let replica = world.start();
    pass(15).await;
    let calls = world.taken.calls.lock().unwrap().clone();
    let events: Vec<Value> = calls.iter().map(|call| serde_json::from_slice(&call.event).unwrap()).collect();
    let tick = json!({
        "source": "schedule", "trigger": "tick", "schedule": "5s",
        "time": "2026-01-01T00:00:05Z", "time_ms": BEGIN.0 + 5_000,
    });
    assert_eq!(events[0], tick);
    assert!(events.contains(&json!({ "kind": "bill" })));
    assert_eq!(events.len(), 4);
    assert_eq!(calls[0].target.to_string(), "job.default:latest");
    assert!(calls.iter().all(|call| call.id.as_str().len() == 36));
    replica.stop().await;
    assert_eq!(world.messages().await, 4);
}

#[tokio::test(start_paused = true)]
async fn replicas_share_the_slots() {
    let world = World::new();
    world.publish(every("1s"));
    let replicas = [world.start(), world.start(), world.start()];
    pass(60).await;
    let mut slots = world.slots();
    slots.sort_unstable();
    assert_eq!(slots, (1..=61).collect::<Vec<_>>());
    assert_eq!(world.messages().await, 61);
    for replica in replicas {
        let view = replica.handle.get(&key("tick")).unwrap();
        assert_eq!((view.problem, view.last_skip), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_neither_loses_nor_repeats_a_slot() {
    let world = World::new();
    world.publish(every("2s"));
    for _ in 0..5 {
        let replica = world.start();
        pass(3).await;
        replica.stop().await;
        pass(2).await;
    }
    let _replica = world.start();
    pass(1).await;
    assert_eq!(world.slots(), (1..=18).map(|slot| slot * 2).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn missed_slots_are_treated_as_the_owner_says() {
    for (policy, expected) in [
        ("skip", vec![100, 3_800]),
        ("latest", vec![100, 3_700, 3_800]),
        ("all", vec![100, 3_500, 3_600, 3_700, 3_800]),
    ] {
        let world = World::new();
        let mut triggers = every_with("100s", "missed", policy);
        triggers[0]["missed_max"] = json!(3);
        world.publish(triggers);
        let replica = world.start();
        pass(100).await;
        replica.stop().await;
        pass(3_620).await;
        let replica = world.start();
        pass(80).await;
        assert_eq!(world.slots(), expected, "{policy}");
        let skip = replica.handle.get(&key("tick")).unwrap().last_skip.unwrap();
        assert_eq!((skip.first, skip.reason), (BEGIN.plus_millis(200_000), SkipReason::Missed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_misses_and_one_that_jumps_back_repeats_nothing() {
    let world = World::new();
    world.publish(every_with("60s", "missed", "latest"));
    let replica = world.start();
    pass(119).await;
    assert_eq!(world.slots(), [60, 120]);
    world.clock.jump(3_600_000 + 30_000);
    pass(1).await;
    assert_eq!(world.slots(), [60, 120, 3_720]);
    world.clock.jump(-3_600_000);
    pass(3_000).await;
    assert_eq!(world.slots(), [60, 120, 3_720], "what was decided stays decided");
    pass(630).await;
    assert_eq!(world.slots()[3..], [3_780]);
    replica.stop().await;
    world.clock.jump(-7_200_000);
    let _replica = world.start();
    pass(600).await;
    assert_eq!(world.slots().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_slot_whose_predecessor_runs_is_allowed_skipped_or_replaces_it() {
    let world = World::new();
    world.publish(every_with("10s", "overlap", "forbid"));
    let replica = world.start();
    pass(25).await;
    assert_eq!(world.slots(), [10]);
    let running = world.taken.calls.lock().unwrap()[0].id.clone();
    let skip = replica.handle.get(&key("tick")).unwrap().last_skip.unwrap();
    assert_eq!(skip.reason, SkipReason::Overlap { running });
    world.end_calls();
    pass(9).await;
    assert_eq!(world.slots(), [10, 30]);

    world.publish(every_with("10s", "overlap", "replace"));
    pass(9).await;
    assert_eq!(world.slots(), [10, 30, 40]);
    let cancelled = world.taken.cancelled.lock().unwrap().clone();
    assert_eq!(cancelled, [world.taken.calls.lock().unwrap()[1].id.clone()]);

    world.publish(every("10s"));
    pass(19).await;
    assert_eq!(world.slots(), [10, 30, 40, 50, 60]);
    assert_eq!(world.taken.cancelled.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn jitter_puts_off_the_call_and_not_the_slot() {
    let world = World::new();
    let mut triggers = every("10s");
    triggers[0]["jitter_ms"] = json!(8_000);
    world.publish(triggers);
    let replica = world.start();
    let foretold: Vec<_> =
        replica_next(&replica, 20).await.into_iter().map(|upcoming| upcoming.available_at).collect();
    pass(200).await;
    let calls = world.taken.calls.lock().unwrap();
    let taken: Vec<_> = calls.iter().map(|call| call.available_at).collect();
    assert_eq!(taken, foretold);
    let delays: Vec<_> = taken.iter().map(|at| (at.0 - BEGIN.0) % 10_000).collect();
    assert!(delays.iter().all(|delay| *delay <= 8_000), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay != delays[0]), "{delays:?}");
}

async fn replica_next(replica: &super::world::Replica, limit: usize) -> Vec<crate::schedule::Upcoming> {
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    replica.handle.next(&crate::schedule::Filter::default(), limit)
}

#[tokio::test(start_paused = true)]
async fn another_statement_begins_anew_and_the_same_one_goes_on() {
    let world = World::new();
    world.publish(every("100s"));
    let replica = world.start();
    pass(150).await;
    assert_eq!(world.slots(), [100]);
    world.publish(every_with("100s", "missed", "skip"));
    pass(49).await;
    assert_eq!(world.slots(), [100, 200], "how slots are treated is no other schedule");
    world.publish(every("7s"));
    pass(6).await;
    assert_eq!(world.slots(), [100, 200, 203]);
    world.publish(json!([]));
    pass(100).await;
    assert_eq!(world.slots(), [100, 200, 203]);
    assert_eq!(replica.handle.in_force(), 0);
    world.publish(every("100s"));
    pass(92).await;
    assert_eq!(world.slots(), [100, 200, 203, 400], "what came while it was not in force is nobody's");
}

#[tokio::test(start_paused = true)]
async fn a_removal_while_the_platform_is_down_leaves_nothing_behind() {
    let world = World::new();
    world.publish(every("10s"));
    world.start().stop().await;
    let replica = world.start();
    pass(9).await;
    replica.stop().await;
    world.publish(json!([]));
    let replica = world.start();
    pass(500).await;
    replica.stop().await;
    world.publish(every("10s"));
    let _replica = world.start();
    pass(19).await;
    assert_eq!(world.slots()[..1], [10]);
    assert!(world.slots()[1..].iter().all(|slot| *slot > 500), "{:?}", world.slots());
}

#[tokio::test(start_paused = true)]
async fn a_disabled_schedule_rests_and_makes_up_for_nothing() {
    let world = World::new();
    let mut triggers = every("10s");
    world.publish(triggers.clone());
    let _replica = world.start();
    pass(14).await;
    triggers[0]["enabled"] = json!(false);
    world.publish(triggers);
    pass(99).await;
    world.publish(every("10s"));
    pass(9).await;
    assert_eq!(world.slots(), [10, 120]);
}

#[tokio::test(start_paused = true)]
async fn a_single_moment_fires_once_whatever_is_published_after() {
    let world = World::new();
    let at = || json!([{ "name": "tick", "kind": "schedule", "at": "2026-01-01T00:00:30Z" }]);
    world.publish(at());
    let replica = world.start();
    pass(40).await;
    world.publish(at());
    pass(40).await;
    replica.stop().await;
    let replica = world.start();
    pass(40).await;
    assert_eq!(world.slots(), [30]);
    assert_eq!(replica.handle.get(&key("tick")).unwrap().next, None);
}
