//! Nobody waits for what others have heaped up.

use std::time::Duration;

use alula_invoke::later::Options;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_flood_of_one_function_does_not_delay_another_ones_first() {
    let world = World::with_options(Options { in_flight_max: 10, ..Options::default() }, json!({})).await;
    world.deploy("other", json!({})).await;
    world.takes(Duration::from_millis(100));
    for _ in 0..2_000 {
        world.accept(world.call()).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = alula_model::Clock::now(&*world.clock);
    let id = world.accept(world.call_of("other")).await;
    let outcome = world.outcome(&id).await;
    let took_ms = outcome.finished_at.millis_since(before);
    assert!(took_ms <= 500, "the other function's call took {took_ms} ms");
    world.stop().await;
}

#[tokio::test]
async fn a_rate_holds() {
    let world = World::new(json!({"rate_per_second": 2})).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(world.accept(world.call()).await);
    }
    for id in &ids {
        world.outcome(id).await;
    }
    let starts: Vec<_> = ids.iter().map(|id| world.attempts_ms(id)[0]).collect();
    let within =
        |second: i64| starts.iter().filter(|ms| (second * 1_000..(second + 1) * 1_000).contains(ms)).count();
    assert!((0..4).all(|second| within(second) <= 4), "{starts:?}");
    assert!(*starts.iter().max().unwrap() >= 3_000, "{starts:?}");
    world.stop().await;
}

#[tokio::test]
async fn work_runs_in_the_order_in_which_it_came() {
    let world = World::new(json!({"concurrency": 1})).await;
    world.takes(Duration::from_millis(10));
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(world.accept(world.call()).await);
    }
    world.outcome(ids.last().unwrap()).await;
    assert_eq!(world.order(), ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    world.stop().await;
}

#[tokio::test]
async fn a_backlog_is_worked_off_by_all_that_may_run() {
    let world = World::new(json!({})).await;
    world.takes(Duration::from_millis(100));
    let mut last = None;
    for _ in 0..400 {
        last = Some(world.accept(world.call()).await);
    }
    let before = alula_model::Clock::now(&*world.clock);
    let outcome = world.outcome(&last.unwrap()).await;
    let took_ms = outcome.finished_at.millis_since(before);
    // Twenty instances take two seconds; starting small costs some tenths more.
    assert!(took_ms <= 3_500, "400 calls of a tenth of a second took {took_ms} ms");
    world.stop().await;
}
