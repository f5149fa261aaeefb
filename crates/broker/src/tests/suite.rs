//! The suite: what every kind does, whoever its broker is. Each case begins with an empty place at the broker.

use alula_model::trigger::Batching;
use serde_json::Value;

use super::page;
use super::world::{Does, World};
use crate::BoxFuture;
use crate::source::{KeptBy, Source};

/// A broker that a test has for itself.
pub(super) trait Broker: Send + Sync {
    /// A place that no case has used before, watched with this batching.
    fn place(&self, case: &str, batching: Batching) -> BoxFuture<'_, Box<dyn Source>>;

    /// Who keeps records.
    fn kept_by(&self) -> KeptBy;

    /// Puts records into the place of `case`, and returns when the broker has them.
    fn publish<'a>(&'a self, case: &'a str, bodies: &'a [String]) -> BoxFuture<'a, ()>;

    /// Ends the broker at once and starts it again, with what it keeps.
    fn restart(&self) -> BoxFuture<'_, ()>;

    /// Reads what was published out of an item.
    fn text(&self) -> fn(&Value) -> String;

    /// The kind whose event the page about brokers shows, where this is one of them.
    fn documented(&self) -> Option<&'static str>;
}

/// Runs every case.
pub(super) async fn run(broker: &dyn Broker) {
    delivers_in_batches(broker).await;
    looks_as_documented(broker).await;
    retries_only_what_failed(broker).await;
    parks_a_poison_record(broker).await;
    stays_within_its_concurrency(broker).await;
    loses_nothing_when_it_stops(broker).await;
    loses_nothing_when_the_broker_restarts(broker).await;
}

pub(super) fn bodies(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:03}")).collect()
}

pub(super) fn batching(max: u32, concurrency: u32) -> Batching {
    Batching { max, window_ms: 20, concurrency, attempts: 2 }
}

/// Waits until the watch is connected: what a broker does not keep may be published only then.
async fn until_connected(watching: &super::world::Watching) {
    let connected = async {
        while watching.place.state().connected_since.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), connected).await;
    assert!(waited.is_ok(), "never connected: {:?}", watching.place.state());
}

/// What is left at the broker is seen by a new watch, and there must be nothing.
async fn nothing_is_left(broker: &dyn Broker, case: &str) {
    if broker.kept_by() == KeptBy::Nobody {
        return;
    }
    let world = World::new(broker.text());
    let watching = world.watch(broker.place(case, batching(10, 1)).await, batching(10, 1));
    until_connected(&watching).await;
    let last = bodies("last", 1);
    broker.publish(case, &last).await;
    world.until_taken(&last).await;
    watching.stop().await;
    assert_eq!(world.taken(), last, "{case}: records were left at the broker");
}

pub(super) async fn delivers_in_batches(broker: &dyn Broker) {
    let case = "batches";
    let world = World::new(broker.text());
    let watching = world.watch(broker.place(case, batching(10, 1)).await, batching(10, 1));
    until_connected(&watching).await;
    let sent = bodies("a", 50);
    broker.publish(case, &sent).await;
    world.until_taken(&sent).await;
    let state = watching.place.state();
    watching.stop().await;
    assert_eq!(world.taken(), sent, "each once and in their order");
    assert!(world.begun().iter().all(|event| event.len() <= 10), "{:?}", world.begun());
    assert!(state.last_record_at.is_some() && state.last_error.is_none(), "{state:?}");
    nothing_is_left(broker, case).await;
}

async fn looks_as_documented(broker: &dyn Broker) {
    let Some(kind) = broker.documented() else { return };
    let case = "documented";
    let world = World::new(broker.text());
    let watching = world.watch(broker.place(case, batching(1, 1)).await, batching(1, 1));
    until_connected(&watching).await;
    let sent = bodies("doc", 1);
    broker.publish(case, &sent).await;
    world.until_taken(&sent).await;
    watching.stop().await;
    let documented = page::event(kind);
    page::same_shape(kind, &documented, &world.events()[0]);
}

async fn retries_only_what_failed(broker: &dyn Broker) {
    let case = "partial";
    let world = World::new(broker.text());
    let first = std::sync::atomic::AtomicBool::new(true);
    world.function(move |seen| {
        let is_first = first.swap(false, std::sync::atomic::Ordering::Relaxed);
        let failed = seen.iter().filter(|seen| is_first && seen.text.ends_with('1'));
        Does::Reports(failed.map(|seen| seen.id.clone()).collect())
    });
    let batching = Batching { window_ms: 60_000, ..batching(5, 1) };
    let watching = world.watch(broker.place(case, batching).await, batching);
    until_connected(&watching).await;
    let sent = bodies("b", 5);
    broker.publish(case, &sent).await;
    world.until_taken(&sent).await;
    watching.stop().await;
    assert_eq!(world.begun(), [sent.clone(), vec!["b-001".to_owned()]]);
    assert_eq!((world.attempts(), world.letters().len()), (vec![1, 2], 0));
    nothing_is_left(broker, case).await;
}

async fn parks_a_poison_record(broker: &dyn Broker) {
    let case = "poison";
    let world = World::new(broker.text());
    world.function(|seen| match seen.iter().any(|seen| seen.text == "c-002") {
        true => Does::Fails,
        false => Does::Takes,
    });
    let batching = Batching { attempts: 3, ..batching(5, 1) };
    let watching = world.watch(broker.place(case, batching).await, batching);
    until_connected(&watching).await;
    let sent = bodies("c", 10);
    broker.publish(case, &sent).await;
    let well: Vec<_> = sent.iter().filter(|body| *body != "c-002").cloned().collect();
    world.until_taken(&well).await;
    world.until_parked(1).await;
    watching.stop().await;
    assert_eq!(world.parked(), ["c-002"]);
    let letter = &world.letters()[0];
    assert_eq!((letter.attempts, letter.trail.attempts.len()), (3, 3));
    assert_eq!(letter.reason, "3 attempts failed, the last: it failed");
    let mut taken = world.taken();
    taken.sort();
    assert_eq!(taken, well, "each of the others once");
    nothing_is_left(broker, case).await;
}

async fn stays_within_its_concurrency(broker: &dyn Broker) {
    let case = "concurrency";
    let world = World::new(broker.text());
    world.function(|_| Does::Waits);
    let watching = world.watch(broker.place(case, batching(2, 3)).await, batching(2, 3));
    until_connected(&watching).await;
    let sent = bodies("d", 40);
    broker.publish(case, &sent).await;
    world.until_begun(3).await;
    world.open_gate();
    world.until_taken(&sent).await;
    watching.stop().await;
    assert_eq!(world.most_running(), 3);
    nothing_is_left(broker, case).await;
}

async fn loses_nothing_when_it_stops(broker: &dyn Broker) {
    let case = "stop";
    let world = World::new(broker.text());
    world.function(|_| Does::Waits);
    let watching = world.watch(broker.place(case, batching(1, 1)).await, batching(1, 1));
    until_connected(&watching).await;
    let sent = bodies("e", 6);
    broker.publish(case, &sent).await;
    world.until_begun(1).await;
    watching.begin_to_stop();
    world.open_gate();
    watching.stop().await;
    // The call that ran was ended well, and nothing else was begun.
    assert_eq!(world.taken(), sent[..1]);
    let next = World::new(broker.text());
    if broker.kept_by() == KeptBy::Broker {
        let watching = next.watch(broker.place(case, batching(10, 1)).await, batching(10, 1));
        next.until_taken(&sent[1..]).await;
        watching.stop().await;
    }
    let mut all = [world.taken(), world.deferred(), next.taken()].concat();
    all.sort();
    match broker.kept_by() {
        KeptBy::Broker => assert_eq!(all, sent, "each once"),
        // What had not reached this side is lost with the connection.
        KeptBy::Nobody => assert!(!all.is_empty() && sent.starts_with(&all), "{all:?}"),
    }
    nothing_is_left(broker, case).await;
}

pub(super) async fn loses_nothing_when_the_broker_restarts(broker: &dyn Broker) {
    let case = "restart";
    let world = World::new(broker.text());
    world.function(|_| Does::Waits);
    let watching = world.watch(broker.place(case, batching(5, 2)).await, batching(5, 2));
    until_connected(&watching).await;
    let before = bodies("f", 30);
    broker.publish(case, &before).await;
    world.until_begun(2).await;
    broker.restart().await;
    until_wrong(&watching).await;
    world.open_gate();
    until_connected(&watching).await;
    let after = bodies("g", 10);
    broker.publish(case, &after).await;
    world.until_taken(&after).await;
    if broker.kept_by() == KeptBy::Broker {
        world.until_taken(&before).await;
    }
    assert!(watching.place.state().last_error.is_some());
    watching.stop().await;
    let more: Vec<_> = world.sights().into_iter().filter(|(_, sights)| *sights > 2).collect();
    assert_eq!(more, [], "a record is seen again only because the connection broke");
    assert_eq!(world.letters().len(), 0);
    nothing_is_left(broker, case).await;
}

/// Waits until something has gone wrong with the broker, and says what.
pub(super) async fn until_wrong(watching: &super::world::Watching) -> String {
    let wrong = async {
        loop {
            if let Some(problem) = watching.place.state().last_error {
                return problem.message;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), wrong).await;
    waited.expect("nothing goes wrong")
}
