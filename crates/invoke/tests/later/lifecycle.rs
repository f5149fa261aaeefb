//! From acceptance to the end, whatever happens in between.

use std::time::Duration;

use alula_invoke::later::{AttemptEnd, CallState, DeadFilter, Flow, FlowKey, OutcomeStatus};
use alula_model::{ErrorCode, Fault};
use alula_runtime::fake::Does;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn an_accepted_call_runs_and_its_result_can_be_looked_up() {
    let world = World::new(json!({})).await;
    world.does(|| Does::answers("\"hi\""));
    let id = world.accept(world.call()).await;
    let outcome = world.outcome(&id).await;
    assert_eq!((outcome.status, outcome.http_status, outcome.attempts), (OutcomeStatus::Done, Some(200), 1));
    let (_, result) = world.calls.result(&id).await.unwrap().unwrap();
    assert_eq!(&result[..], b"\"hi\"");
    world.assert_balanced().await;
    world.stop().await;
}

#[tokio::test]
async fn a_failure_is_tried_again_on_its_curve_and_then_kept_with_every_attempt() {
    let world = World::new(json!({"retry": {"attempts": 4, "first_ms": 1_000, "jitter_percent": 0}})).await;
    world.fails();
    let id = world.accept(world.call()).await;
    let call = world.ended(&id).await;
    let CallState::Dead { reason, .. } = &call.state else { panic!("{call:?}") };
    assert!(reason.starts_with("4 attempts failed"), "{reason}");
    assert_eq!(world.attempts_ms(&id), [0, 1_000, 3_000, 7_000]);
    let ends: Vec<_> = call.trail.attempts.iter().map(|attempt| (attempt.number, attempt.end)).collect();
    assert_eq!(ends, (1..=4).map(|number| (number, AttemptEnd::Failed)).collect::<Vec<_>>());
    world.assert_balanced().await;
    world.stop().await;
}

#[tokio::test]
async fn a_dead_letter_runs_again_when_somebody_says_so() {
    let world = World::new(json!({"retry": "none"})).await;
    world.fails();
    let id = world.accept(world.call()).await;
    world.ended(&id).await;
    let dead = world.calls.dead(&DeadFilter::default(), None, 10).await.unwrap().letters;
    assert_eq!(dead.iter().map(|dead| dead.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    assert_eq!(dead[0].trail.attempts[0].message, "the handler raised an error");

    world.does(|| Does::answers("ok"));
    assert_eq!(world.calls.redrive_all(&DeadFilter::default(), 100).await.unwrap(), 1);
    assert_eq!(world.outcome(&id).await.status, OutcomeStatus::Done);
    assert!(world.calls.dead(&DeadFilter::default(), None, 10).await.unwrap().letters.is_empty());
    world.assert_balanced().await;
    world.stop().await;
}

#[tokio::test]
async fn what_never_began_does_not_count_as_an_attempt() {
    let world = World::new(json!({"retry": {"attempts": 1, "jitter_percent": 0}})).await;
    let refusals = std::sync::atomic::AtomicU32::new(0);
    world.does(move || match refusals.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0..3 => Does::Fails(Fault::new(ErrorCode::ConcurrencyExceeded, "no slot")),
        _ => Does::answers("ok"),
    });
    let id = world.accept(world.call()).await;
    let outcome = world.outcome(&id).await;
    assert_eq!((outcome.status, outcome.attempts), (OutcomeStatus::Done, 1));
    assert_eq!(world.attempts_ms(&id), [0, 1_000, 3_000, 7_000]);
    world.stop().await;
}

#[tokio::test]
async fn a_call_that_is_too_old_is_given_up() {
    let world =
        World::new(json!({"retry": {"attempts": 100, "first_ms": 1_000, "max_age_ms": 10_000}})).await;
    world.fails();
    let id = world.accept(world.call()).await;
    let call = world.ended(&id).await;
    let CallState::Dead { reason, .. } = &call.state else { panic!("{call:?}") };
    assert!(reason.contains("10000 ms"), "{reason}");
    world.stop().await;
}

#[tokio::test]
async fn a_call_that_waited_too_long_is_given_up_without_an_attempt() {
    let world = World::new(json!({"retry": {"max_age_ms": 60_000}})).await;
    world.calls.set_flow(&FlowKey::All, Flow::Paused).await.unwrap();
    let old = world.accept(world.call()).await;
    let mut put_off = world.call();
    put_off.available_at = Some(alula_model::Clock::now(&*world.clock).plus_millis(90_000));
    let put_off = world.accept(put_off).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    world.calls.set_flow(&FlowKey::All, Flow::Open).await.unwrap();
    let call = world.ended(&old).await;
    let CallState::Dead { reason, .. } = &call.state else { panic!("{call:?}") };
    assert!(reason.starts_with("it is too old"), "{reason}");
    assert!(world.attempts_ms(&old).is_empty());
    assert_eq!(
        world.outcome(&put_off).await.status,
        OutcomeStatus::Done,
        "its age counts from when it could run"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_call_that_is_too_old_when_its_turn_comes_is_not_begun() {
    let table = json!({"retry": {"attempts": 3, "max_age_ms": 20_000}, "concurrency": 1});
    let world = World::new(table).await;
    world.takes(Duration::from_secs(25));
    let ids = [world.accept(world.call()).await, world.accept(world.call()).await];
    assert_eq!(world.outcome(&ids[0]).await.status, OutcomeStatus::Done);
    let call = world.ended(&ids[1]).await;
    let CallState::Dead { reason, .. } = &call.state else { panic!("{call:?}") };
    assert!(reason.contains("20000 ms"), "{reason}");
    assert!(world.attempts_ms(&ids[1]).is_empty(), "it must not have run");
    world.assert_balanced().await;
    world.stop().await;
}

#[tokio::test]
async fn the_age_of_a_call_that_was_put_off_counts_from_when_it_may_run() {
    let world = World::new(json!({"retry": {"attempts": 2, "first_ms": 1_000, "max_age_ms": 10_000}})).await;
    world.fails();
    let mut deferred = world.call();
    deferred.available_at = Some(alula_model::Clock::now(&*world.clock).plus_millis(60_000));
    let id = world.accept(deferred).await;
    let call = world.ended(&id).await;
    let CallState::Dead { reason, .. } = &call.state else { panic!("{call:?}") };
    assert!(reason.starts_with("2 attempts failed"), "{reason}");
    assert_eq!(world.attempts_ms(&id).len(), 2);
    world.stop().await;
}

#[tokio::test]
async fn dead_letters_are_filtered_counted_and_purged() {
    let world = World::new(json!({"retry": "none"})).await;
    world.fails();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let id = world.accept(world.call()).await;
        world.ended(&id).await;
        ids.push(id);
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let middle = alula_model::Clock::now(&*world.clock).plus_millis(-25_000);
    let late = DeadFilter { since: Some(middle), ..DeadFilter::default() };
    let page = world.calls.dead(&late, None, 1).await.unwrap();
    assert_eq!(page.letters.iter().map(|letter| letter.id.as_str()).collect::<Vec<_>>(), [ids[3].as_str()]);
    let page = world.calls.dead(&late, page.next, 10).await.unwrap();
    assert_eq!((page.letters.len(), page.next), (1, None));
    let other = DeadFilter { reason: Some("another reason".to_owned()), ..DeadFilter::default() };
    assert_eq!(world.calls.purge_all(&other).await.unwrap(), 0);
    assert_eq!(world.calls.purge_all(&late).await.unwrap(), 2);
    assert_eq!(world.calls.dead_letter(ids[3].as_str()).await.unwrap_err().code, ErrorCode::NotFound);
    let purged = world.outcome(&ids[3]).await;
    assert_eq!((purged.status, purged.attempts), (OutcomeStatus::Dead, 1));
    assert!(purged.message.is_some_and(|reason| reason.contains("attempt")), "the reason stays");
    assert_eq!(world.calls.dead_letter(ids[0].as_str()).await.unwrap().attempts, 1);
    assert_eq!(world.calls.dead(&DeadFilter::default(), None, 10).await.unwrap().letters.len(), 3);
    world.assert_balanced().await;
    world.stop().await;
}

#[tokio::test]
async fn a_call_that_waits_can_be_cancelled_and_never_runs() {
    let world = World::new(json!({})).await;
    let mut deferred = world.call();
    deferred.available_at = Some(alula_model::Clock::now(&*world.clock).plus_millis(60_000));
    let id = world.accept(deferred).await;
    world.calls.cancel(&id).await.unwrap();
    assert_eq!(world.outcome(&id).await.status, OutcomeStatus::Cancelled);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(world.attempts_ms(&id).is_empty());
    assert_eq!(world.calls.cancel(&id).await.unwrap_err().code, ErrorCode::Conflict);
    world.assert_balanced().await;
    world.stop().await;
}

#[tokio::test]
async fn a_call_that_runs_can_be_stopped() {
    let world = World::new(json!({})).await;
    world.does(|| Does::Hangs);
    let id = world.accept(world.call()).await;
    while world.calls.find(&id).await.unwrap().unwrap().state != CallState::Running {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.calls.cancel(&id).await.unwrap();
    assert_eq!(world.outcome(&id).await.status, OutcomeStatus::Cancelled);
    world.stop().await;
}

#[tokio::test]
async fn a_delayed_call_runs_when_its_time_has_come() {
    let world = World::new(json!({})).await;
    let mut deferred = world.call();
    deferred.available_at = Some(alula_model::Clock::now(&*world.clock).plus_millis(90_000));
    let id = world.accept(deferred).await;
    world.outcome(&id).await;
    assert_eq!(world.attempts_ms(&id), [90_000]);
    world.stop().await;
}

#[tokio::test]
async fn a_long_call_keeps_its_claim() {
    let world = World::new(json!({})).await;
    world.takes(Duration::from_secs(25));
    let ids = [world.accept(world.call()).await, world.accept(world.call()).await];
    for id in ids {
        assert_eq!(world.outcome(&id).await.attempts, 1);
    }
    world.stop().await;
}
