//! The suite over the fake, and what only the fake can show.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use alula_model::trigger::Batching;
use serde_json::Value;

use super::suite::{self, Broker, batching, bodies};
use super::world::{Does, World};
use crate::BoxFuture;
use crate::source::fake::FakeBroker;
use crate::source::{KeptBy, Source};

/// A fake for every case.
struct Fakes {
    kept_by: KeptBy,
    fakes: Mutex<BTreeMap<String, FakeBroker>>,
}

impl Fakes {
    fn new(kept_by: KeptBy) -> Self {
        Self { kept_by, fakes: Mutex::default() }
    }

    fn of(&self, case: &str) -> FakeBroker {
        let mut fakes = self.fakes.lock().unwrap();
        fakes.entry(case.to_owned()).or_insert_with(|| FakeBroker::new(self.kept_by)).clone()
    }
}

fn text(item: &Value) -> String {
    item["body"].as_str().unwrap().to_owned()
}

impl Broker for Fakes {
    fn place(&self, case: &str, _batching: Batching) -> BoxFuture<'_, Box<dyn Source>> {
        let fake = self.of(case);
        Box::pin(async move { Box::new(fake) as Box<dyn Source> })
    }

    fn kept_by(&self) -> KeptBy {
        self.kept_by
    }

    fn publish<'a>(&'a self, case: &'a str, bodies: &'a [String]) -> BoxFuture<'a, ()> {
        self.of(case).publish(bodies);
        Box::pin(async {})
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        for fake in self.fakes.lock().unwrap().values() {
            fake.set_down(true);
            fake.set_down(false);
        }
        Box::pin(async {})
    }

    fn text(&self) -> fn(&Value) -> String {
        text
    }

    fn documented(&self) -> Option<&'static str> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_keeps_records() {
    suite::run(&Fakes::new(KeptBy::Broker)).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_keeps_nothing() {
    suite::run(&Fakes::new(KeptBy::Nobody)).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_gone_is_tried_for_ever_more_rarely() {
    let (fake, world) = (FakeBroker::new(KeptBy::Broker), World::new(text));
    fake.set_down(true);
    let watching = world.watch(Box::new(fake.clone()), batching(1, 1));
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    // An hour holds 120 waits of the longest length, and jitter takes half of it off at the most.
    assert!((100..400).contains(&fake.connects()), "{}", fake.connects());
    let state = watching.place.state();
    assert_eq!(state.last_error.unwrap().message, "the broker is down");
    fake.set_down(false);
    let sent = bodies("a", 3);
    fake.publish(&sent);
    world.until_taken(&sent).await;
    watching.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_is_taken_than_can_be_worked_on() {
    let (fake, world) = (FakeBroker::new(KeptBy::Broker), World::new(text));
    world.function(|_| Does::Waits);
    fake.publish(&bodies("a", 1_000));
    let watching = world.watch(Box::new(fake.clone()), batching(10, 2));
    world.until_begun(2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(fake.most_open(), 30);
    assert_eq!(watching.place.state().lag, Some(970));
    world.open_gate();
    watching.stop().await;
    assert_eq!(fake.left(), 980);
}

#[tokio::test(start_paused = true)]
async fn what_never_began_is_tried_until_it_can_begin() {
    let (fake, world) = (FakeBroker::new(KeptBy::Broker), World::new(text));
    world.function(|_| Does::Refuses);
    let sent = bodies("a", 3);
    fake.publish(&sent);
    let watching = world.watch(Box::new(fake.clone()), batching(3, 1));
    world.until_begun(10).await;
    assert_eq!((world.letters().len(), fake.left()), (0, 3));
    world.function(|_| Does::Takes);
    world.until_taken(&sent).await;
    watching.stop().await;
    assert_eq!((world.letters().len(), fake.left()), (0, 0));
    assert!(world.begun().iter().all(|event| event.len() == 3), "it stays one event");
}

#[tokio::test(start_paused = true)]
async fn the_broker_is_told_of_a_poison_record_only_when_it_is_kept() {
    let (fake, world) = (FakeBroker::new(KeptBy::Broker), World::new(text));
    world.function(|_| Does::Fails);
    world.set_store_down(true);
    fake.publish(&bodies("a", 1));
    let watching = world.watch(Box::new(fake.clone()), batching(1, 1));
    world.until_begun(2).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((fake.left(), world.letters().len()), (1, 0));
    world.set_store_down(false);
    world.until_parked(1).await;
    watching.stop().await;
    assert_eq!((fake.left(), world.begun().len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_store_is_down_gives_the_record_back() {
    let (fake, world) = (FakeBroker::new(KeptBy::Broker), World::new(text));
    world.function(|_| Does::Fails);
    world.set_store_down(true);
    fake.publish(&bodies("a", 1));
    let watching = world.watch(Box::new(fake.clone()), batching(1, 1));
    world.until_begun(2).await;
    watching.stop().await;
    assert_eq!((fake.left(), world.letters().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_keeps_goes_to_the_queue_when_the_platform_stops() {
    let (fake, world) = (FakeBroker::new(KeptBy::Nobody), World::new(text));
    world.function(|_| Does::Fails);
    let watching = world.watch(Box::new(fake.clone()), Batching { attempts: 1_000, ..batching(2, 1) });
    fake.publish(&bodies("a", 6));
    world.until_begun(5).await;
    watching.stop().await;
    let mut deferred = world.deferred();
    deferred.sort();
    assert_eq!(deferred, bodies("a", 6));
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_the_watch_before_anything_more_begins() {
    let (fake, world) = (FakeBroker::new(KeptBy::Broker), World::new(text));
    world.function(|_| Does::Waits);
    fake.publish(&bodies("a", 5));
    let watching = world.watch(Box::new(fake.clone()), batching(1, 1));
    world.until_begun(1).await;
    world.pause();
    world.open_gate();
    watching.ended().await;
    assert_eq!((world.taken(), fake.left()), (bodies("a", 1), 4));
}

#[tokio::test(start_paused = true)]
async fn who_reports_what_was_not_in_the_event_has_failed_as_a_whole() {
    let (fake, world) = (FakeBroker::new(KeptBy::Broker), World::new(text));
    world.function(|_| Does::Reports(vec!["another".to_owned()]));
    fake.publish(&bodies("a", 2));
    let watching = world.watch(Box::new(fake.clone()), batching(2, 1));
    world.until_parked(2).await;
    watching.stop().await;
    assert_eq!(world.parked(), bodies("a", 2));
    assert_eq!(fake.left(), 0);
}
