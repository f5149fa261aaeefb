//! What only a back end behind a network can be asked: conformance and agreement with the memory back end on a real server,
//! several nodes at once, and a server that goes and comes back.

use std::sync::Mutex;
use std::time::Duration;

use alula_model::Timestamp;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::server::Server;
use super::*;
use crate::{
    Batch, Error, Expect, Key, MessageId, NewMessage, Queue, QueueCounts, Records, Settlement, agreement,
    conformance,
};

/// For something that happens soon, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn message(id: &str, ordering_key: Option<&str>) -> NewMessage {
    NewMessage {
        id: MessageId(id.to_owned()),
        lane: "lane".to_owned(),
        ordering_key: ordering_key.map(str::to_owned),
        enqueued_at: Timestamp(0),
        available_at: Timestamp(0),
        body: Bytes::from_static(b"body"),
    }
}

#[tokio::test]
async fn conforms() {
    let Some(server) = Server::start() else { return };
    conformance::records(&server.new_store().await).await;
    conformance::queue(&server.new_store().await).await;
    conformance::history(&server.new_store().await).await;
}

#[test]
fn agrees_with_the_memory_back_end() {
    let Some(server) = Server::start() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig { cases: 5, failure_persistence: None, ..ProptestConfig::default() };
    let agreed = TestRunner::new(config).run(&agreement::steps(60), |steps| {
        let options = PostgresOptions::new(server.new_database());
        runtime.block_on(async {
            let store = open_postgres(&options).await.unwrap();
            let reopen = async |store| {
                drop(store);
                open_postgres(&options).await.unwrap()
            };
            agreement::agree(store, &steps, reopen).await;
        });
        Ok(())
    });
    agreed.unwrap();
}

#[tokio::test]
async fn a_newer_schema_and_a_wrong_url_are_refused() {
    let Some(server) = Server::start() else { return };
    let url = server.new_database();
    let options = PostgresOptions::new(&url);
    drop(open_postgres(&options).await.unwrap());
    let client = Connector::new(&url).unwrap().connect_and_drive().await.unwrap();
    client.batch_execute("UPDATE alula.schema_version SET version = 99").await.unwrap();
    assert_eq!(open_postgres(&options).await.unwrap_err(), Error::TooNew { found: 99, known: 2 });
    for wrong in ["", "mysql://x", "postgres://u:secret@h/d?nonsense=1", "postgres://u:secret@h:port/d"] {
        let refused = open_postgres(&PostgresOptions::new(wrong)).await.unwrap_err();
        assert!(matches!(&refused, Error::Unavailable { .. }), "{wrong}: {refused:?}");
        assert!(!format!("{refused} {refused:?}").contains("secret"), "{refused:?}");
    }
    assert!(!format!("{:?}", PostgresOptions::new("postgres://u:secret@h/d")).contains("secret"));
}

/// Two nodes open the same database at the same time, which is empty.
#[tokio::test]
async fn nodes_that_start_together_take_turns_and_share_what_is_there() {
    let Some(server) = Server::start() else { return };
    let options = PostgresOptions::new(server.new_database());
    let (one, other) = tokio::join!(open_postgres(&options), open_postgres(&options));
    let (one, other) = (one.unwrap(), other.unwrap());
    one.commit(Batch::default().enqueue(message("m", None))).await.unwrap();
    let claims = other.claim("lane", 1, Timestamp(0), 10).await.unwrap().claims;
    let late = one.claim("lane", 1, Timestamp(10), 10).await.unwrap().claims;
    let settle = |receipt| other.settle(receipt, Timestamp(11), Settlement::Done, Batch::default());
    assert_eq!(settle(&claims[0].receipt).await, Err(Error::ClaimLost), "the other node has it now");
    settle(&late[0].receipt).await.unwrap();
}

#[tokio::test]
async fn other_nodes_hear_of_arrivals() {
    let Some(server) = Server::start() else { return };
    let options = PostgresOptions::new(server.new_database());
    let (one, other) = (open_postgres(&options).await.unwrap(), open_postgres(&options).await.unwrap());
    // The beginning counts as news, and so does what another does at its beginning.
    for store in [&one, &other] {
        timeout(PATIENCE, store.arrivals()).await.unwrap();
    }
    let mut heard_early = 0;
    for number in 0..5 {
        other.commit(Batch::default().enqueue(message(&format!("m{number}"), None))).await.unwrap();
        let began = Instant::now();
        timeout(PATIENCE, one.arrivals()).await.unwrap();
        // Without news it resolves as well, after five seconds.
        heard_early += u32::from(began.elapsed() < Duration::from_secs(4));
    }
    assert!(heard_early > 0, "not only by the clock");
}

const PRODUCERS: usize = 6;
const EACH: usize = 30;

/// Enqueues messages of one key with their records, one after another.
async fn produce(store: PostgresStore, producer: usize) {
    for number in 0..EACH {
        let id = format!("{producer}-{number:03}");
        let key = format!("key{}", producer % 3);
        let batch = Batch::default()
            .put(Key::new(&["made", &id]), "x", Expect::Absent)
            .put(Key::new(&["last", &key]), id.clone(), Expect::Any)
            .enqueue(message(&id, Some(&key)));
        store.commit(batch).await.unwrap();
    }
}

/// Claims and settles until all is done, and notes what it has before it lets it go.
async fn consume(store: PostgresStore, seen: Arc<Mutex<Vec<String>>>) {
    while store.totals(Timestamp(0)).await.unwrap().done < (PRODUCERS * EACH) as u64 {
        for claim in store.claim("lane", 4, Timestamp(0), 1_000_000).await.unwrap().claims {
            seen.lock().unwrap().push(claim.receipt.id.0.clone());
            let note = Batch::default().put(Key::new(&["done", &claim.receipt.id.0]), "x", Expect::Absent);
            store.settle(&claim.receipt, Timestamp(0), Settlement::Done, note).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nodes_at_once_keep_the_order_of_keys_and_lose_nothing() {
    let Some(server) = Server::start() else { return };
    let options = PostgresOptions::new(server.new_database());
    let nodes = [open_postgres(&options).await.unwrap(), open_postgres(&options).await.unwrap()];
    let node = |number: usize| nodes[number % 2].clone();
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let mut tasks = JoinSet::new();
    (0..PRODUCERS).for_each(|number| drop(tasks.spawn(produce(node(number), number))));
    (0..4).for_each(|number| drop(tasks.spawn(consume(node(number), Arc::clone(&seen)))));
    timeout(PATIENCE, tasks.join_all()).await.unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(seen.len(), PRODUCERS * EACH, "each was claimed once");
    for producer in 0..PRODUCERS {
        let prefix = format!("{producer}-");
        let ids: Vec<_> = seen.iter().filter(|id| id.starts_with(&prefix)).collect();
        assert!(ids.len() == EACH && ids.is_sorted(), "in the order in which they were enqueued: {ids:?}");
    }
    assert_eq!(node(0).totals(Timestamp(0)).await.unwrap().imbalance(), 0);
    let records = node(1).scan(&Key::new(&["done"]), None, 1_000).await.unwrap();
    assert_eq!(records.len(), PRODUCERS * EACH);
}

#[tokio::test]
async fn a_server_that_goes_is_unavailable_and_all_is_well_when_it_is_back() {
    let Some(server) = Server::start() else { return };
    let store = server.new_store().await;
    let put = |number: u32| {
        let key = Key::new(&["outage", &number.to_string()]);
        store.commit(Batch::default().put(key, "x", Expect::Absent))
    };
    put(0).await.unwrap();
    store.commit(Batch::default().enqueue(message("m", None))).await.unwrap();
    let claims = store.claim("lane", 1, Timestamp(0), 10).await.unwrap().claims;
    server.stop();
    for number in 1..20 {
        let refused = put(number).await.unwrap_err();
        assert!(matches!(refused, Error::Unavailable { .. }) && refused.is_retryable(), "{refused:?}");
    }
    assert!(matches!(store.totals(Timestamp(0)).await, Err(Error::Unavailable { .. })));
    server.resume();
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = put(100).await {
        assert!(matches!(error, Error::Unavailable { .. }) && Instant::now() < deadline, "{error:?}");
    }
    assert!(
        store.get(&Key::new(&["outage", "0"])).await.unwrap().is_some(),
        "what was acknowledged is there"
    );
    assert_eq!(
        store.scan(&Key::new(&["outage"]), None, 100).await.unwrap().len(),
        2,
        "what was refused is not"
    );
    store.settle(&claims[0].receipt, Timestamp(5), Settlement::Done, Batch::default()).await.unwrap();
    assert_eq!(store.totals(Timestamp(5)).await.unwrap().imbalance(), 0);
}
