//! Stores that fail, targets that are gone, processes that are killed anywhere.

use std::time::Duration;

use alula_model::{ErrorCode, Fault};
use proptest::prelude::*;
use serde_json::json;

use super::world::{Commits, World, key, pass, passing_fault};
use crate::schedule::SkipReason;

fn tick() -> serde_json::Value {
    json!([{ "name": "tick", "kind": "schedule", "every": "1s", "missed": "all", "missed_max": 1000 }])
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_gone_for_a_while_delays_and_loses_nothing() {
    let world = World::new();
    world.publish(tick());
    let replica = world.start();
    pass(4).await;
    *world.store.commits.lock().unwrap() = Commits::Fail;
    pass(60).await;
    assert_eq!(world.slots(), [1, 2, 3, 4, 5]);
    assert!(replica.handle.get(&key("tick")).unwrap().problem.unwrap().contains("gone"));
    *world.store.commits.lock().unwrap() = Commits::Work;
    pass(40).await;
    let slots = world.slots();
    assert_eq!(slots, (1..=slots.len() as i64).collect::<Vec<_>>());
    assert!(slots.len() > 100);
    assert_eq!(replica.handle.get(&key("tick")).unwrap().problem, None);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_gone_at_the_start_is_waited_for() {
    let world = World::new();
    *world.store.commits.lock().unwrap() = Commits::Fail;
    world.publish(tick());
    let _replica = world.start();
    pass(29).await;
    *world.store.commits.lock().unwrap() = Commits::Work;
    pass(9).await;
    let slots = world.slots();
    assert_eq!(slots[..], (1..=slots.len() as i64).collect::<Vec<_>>());
    assert!(slots.len() >= 39, "{slots:?}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_lost_is_not_made_again() {
    let world = World::new();
    world.publish(tick());
    let _replica = world.start();
    pass(2).await;
    *world.store.commits.lock().unwrap() = Commits::LoseAnswer;
    pass(9).await;
    *world.store.commits.lock().unwrap() = Commits::Work;
    pass(9).await;
    // The queue refuses a second message of the same id, so more messages than slots cannot be; none may lack.
    assert_eq!(world.messages().await, 23);
}

#[tokio::test(start_paused = true)]
async fn a_record_older_than_the_queue_runs_no_slot_again() {
    let world = World::new();
    world.publish(tick());
    let replica = world.start();
    pass(2).await;
    let record = {
        use alula_store::Records as _;
        world.store.inner.get(&key("tick").record("schedule")).await.unwrap().unwrap()
    };
    pass(9).await;
    replica.stop().await;
    let before = world.messages().await;
    {
        use alula_store::{Batch, Expect, Records as _};
        let restore = Batch::default().put(record.key, record.value, Expect::Any);
        world.store.inner.commit(restore).await.unwrap();
    }
    let _replica = world.start();
    pass(4).await;
    assert_eq!(world.messages().await, before + 5);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_called_is_skipped_visibly_and_what_cannot_now_is_tried_again() {
    let world = World::new();
    world.publish(json!([{ "name": "tick", "kind": "schedule", "every": "10s" }]));
    let replica = world.start();
    *world.taken.refusal.lock().unwrap() = Some(passing_fault());
    pass(12).await;
    assert_eq!(world.slots(), [10]);
    *world.taken.refusal.lock().unwrap() = Some(Fault::new(ErrorCode::AliasNotFound, "no alias live"));
    pass(14).await;
    assert_eq!(world.slots(), [10]);
    let skip = replica.handle.get(&key("tick")).unwrap().last_skip.unwrap();
    let message = "no alias live".to_owned();
    assert_eq!(skip.reason, SkipReason::Refused { code: ErrorCode::AliasNotFound, message });
    pass(3).await;
    assert_eq!(world.slots(), [10, 30]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_begun_anew() {
    use alula_store::{Batch, Expect, Records as _};
    let world = World::new();
    let garbage = Batch::default().put(key("tick").record("schedule"), "\u{0}{", Expect::Any);
    world.store.inner.commit(garbage).await.unwrap();
    world.publish(json!([{ "name": "tick", "kind": "schedule", "every": "10s" }]));
    let _replica = world.start();
    pass(19).await;
    assert_eq!(world.slots(), [10, 20]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Replicas are killed at any moment, in the middle of commits too, and others take over: every slot is admitted, each
    /// of them once.
    #[test]
    fn no_kill_loses_or_doubles_a_slot(kills in proptest::collection::vec((0_u64..3_000, 1_usize..4, 0_u8..3), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            world.publish(tick());
            for (millis, replicas, commits) in kills {
                let running: Vec<_> = (0..replicas).map(|_| world.start()).collect();
                *world.store.commits.lock().unwrap() = match commits {
                    0 => Commits::LoseAnswer,
                    _ => Commits::Work,
                };
                tokio::time::sleep(Duration::from_millis(millis)).await;
                for replica in running {
                    replica.kill().await;
                }
            }
            *world.store.commits.lock().unwrap() = Commits::Work;
            let replica = world.start();
            pass(5).await;
            let handle = replica.handle.clone();
            // A slot may be on its way into the store just now; it is there when the replica has stopped.
            replica.stop().await;
            let next = handle.get(&key("tick")).unwrap().next.unwrap();
            let expected = (next.0 - super::world::BEGIN.0) / 1_000 - 1;
            assert_eq!(world.messages().await as i64, expected);
        });
    }
}
