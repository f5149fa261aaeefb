//! What only a back end with files can be asked: conformance, agreement with the memory back end under random
//! operations, reopening, a full disk, newer and damaged files.

use alula_model::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    Batch, Error, Expect, Key, MemoryStore, MessageId, NewMessage, Queue, Receipt, Records, Settlement,
    conformance,
};

struct Opened {
    store: SqliteStore,
    root: tempfile::TempDir,
}

fn open_at(root: &tempfile::TempDir, options: &SqliteOptions) -> Result<SqliteStore> {
    open_sqlite(&DataDir::open(&root.path().join("data"))?, options)
}

fn opened() -> Opened {
    let root = tempfile::tempdir().unwrap();
    Opened { store: open_at(&root, &SqliteOptions::default()).unwrap(), root }
}

impl Opened {
    fn reopen(self) -> Self {
        let Self { store, root } = self;
        drop(store);
        Self { store: open_at(&root, &SqliteOptions::default()).unwrap(), root }
    }
}

#[tokio::test]
async fn conforms() {
    conformance::records(&opened().store).await;
    conformance::queue(&opened().store).await;
    conformance::history(&opened().store).await;
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let key = Key::new(&["a", "b"]);
    let opened = opened();
    let batch = Batch::default().put(key.clone(), "value", Expect::Absent).enqueue(message(1, 0, None, 0));
    let first = opened.store.commit(batch).await.unwrap();
    let claims = opened.store.claim("lane-0", 9, Timestamp(0), 10).await.unwrap();
    let opened = opened.reopen();
    assert_eq!(opened.store.get(&key).await.unwrap().unwrap().revision, first.revision);
    opened.store.settle(&claims[0].receipt, Timestamp(5), Settlement::Done, Batch::default()).await.unwrap();
    let second = opened.store.commit(Batch::default().delete(key, Expect::At(first.revision))).await.unwrap();
    assert!(second.revision > first.revision, "revisions go on where they were");
}

#[tokio::test]
async fn a_full_store_refuses_changes_serves_reads_and_recovers() {
    let root = tempfile::tempdir().unwrap();
    let options = SqliteOptions { file_bytes_max: 1024 * 1024, ..SqliteOptions::default() };
    let store = open_at(&root, &options).unwrap();
    let put = |number: u32| {
        store.commit(Batch::default().put(
            Key::new(&["full", &number.to_string()]),
            vec![1; 100_000],
            Expect::Absent,
        ))
    };
    let mut stored = 0;
    let refused = loop {
        match put(stored).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::Full);
    assert!(refused.is_retryable() && (5..11).contains(&stored), "{stored} values fit");
    let prefix = Key::new(&["full"]);
    assert_eq!(store.scan(&prefix, None, 100).await.unwrap().len() as u32, stored, "nothing was half stored");
    store.commit(Batch::default().delete(Key::new(&["full", "0"]), Expect::Any)).await.unwrap();
    put(stored).await.unwrap();
    assert_eq!(store.scan(&prefix, None, 100).await.unwrap().len() as u32, stored);
}

#[tokio::test]
async fn callers_that_go_away_lose_nothing_and_block_nobody() {
    let Opened { store, root } = opened();
    for number in 0..100 {
        let put =
            store.commit(Batch::default().put(Key::new(&["gone", &number.to_string()]), "x", Expect::Any));
        let handed_in = tokio::time::timeout(std::time::Duration::ZERO, put).await;
        drop(handed_in);
    }
    store.commit(Batch::default()).await.unwrap();
    drop(store);
    let store = open_at(&root, &SqliteOptions::default()).unwrap();
    assert_eq!(store.scan(&Key::new(&["gone"]), None, 1_000).await.unwrap().len(), 100);
}

#[tokio::test]
async fn concurrent_compare_and_set_loses_no_update() {
    let Opened { store, root: _root } = opened();
    let key = Key::new(&["counter"]);
    store.commit(Batch::default().put(key.clone(), "0", Expect::Absent)).await.unwrap();
    let add = |store: SqliteStore, key: Key| async move {
        loop {
            let record = store.get(&key).await.unwrap().unwrap();
            let value: u32 = std::str::from_utf8(&record.value).unwrap().parse().unwrap();
            let next =
                Batch::default().put(key.clone(), (value + 1).to_string(), Expect::At(record.revision));
            match store.commit(next).await {
                Ok(_) => return,
                Err(error) => assert_eq!(error, Error::Conflict { key: key.clone() }),
            }
        }
    };
    let tasks: Vec<_> = (0..20).map(|_| tokio::spawn(add(store.clone(), key.clone()))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, "20");
}

#[test]
fn newer_and_damaged_files_are_refused() {
    let root = tempfile::tempdir().unwrap();
    drop(open_at(&root, &SqliteOptions::default()).unwrap());
    let file = root.path().join("data/alula.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute("UPDATE schema_version SET version = 99", []).unwrap();
    drop(connection);
    let refused = open_at(&root, &SqliteOptions::default()).unwrap_err();
    assert_eq!(refused, Error::TooNew { found: 99, known: 1 });
    std::fs::write(&file, vec![b'x'; 10_000]).unwrap();
    let refused = open_at(&root, &SqliteOptions::default()).unwrap_err();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused:?}");
}

/// One random operation; receipts are named by the place of their claim among all claims so far.
#[derive(Debug, Clone)]
enum Operation {
    Enqueue { id: u8, lane: u8, ordering_key: Option<u8>, delay: i64 },
    Claim { lane: u8, limit: usize },
    Renew { claim: usize },
    Done { claim: usize },
    Retry { claim: usize, delay: i64 },
    Bury { claim: usize },
    Redrive { id: u8 },
    Purge { id: u8 },
    Put { key: u8, revision: Option<u64> },
}

fn operation() -> impl Strategy<Value = Operation> {
    let enqueue = (0..40u8, 0..2u8, proptest::option::of(0..2u8), 0..30i64);
    prop_oneof![
        6 => enqueue.prop_map(|(id, lane, ordering_key, delay)| Operation::Enqueue { id, lane, ordering_key, delay }),
        6 => (0..2u8, 0..4usize).prop_map(|(lane, limit)| Operation::Claim { lane, limit }),
        1 => (0..9usize).prop_map(|claim| Operation::Renew { claim }),
        3 => (0..9usize).prop_map(|claim| Operation::Done { claim }),
        2 => (0..9usize, 0..30i64).prop_map(|(claim, delay)| Operation::Retry { claim, delay }),
        2 => (0..9usize).prop_map(|claim| Operation::Bury { claim }),
        1 => (0..40u8).prop_map(|id| Operation::Redrive { id }),
        1 => (0..40u8).prop_map(|id| Operation::Purge { id }),
        2 => (0..4u8, proptest::option::of(0..20u64)).prop_map(|(key, revision)| Operation::Put { key, revision }),
    ]
}

fn message(id: u8, lane: u8, ordering_key: Option<u8>, available_at: i64) -> NewMessage {
    NewMessage {
        id: MessageId(format!("m{id}")),
        lane: format!("lane-{lane}"),
        ordering_key: ordering_key.map(|key| key.to_string()),
        enqueued_at: Timestamp(available_at),
        available_at: Timestamp(available_at),
        body: bytes::Bytes::from(vec![id]),
    }
}

/// Does one operation and says everything about its outcome that a caller can see.
async fn perform<S: Queue + Records>(
    store: &S,
    operation: &Operation,
    now: i64,
    receipts: &mut Vec<Receipt>,
) -> String {
    let at = Timestamp(now);
    let receipt = |back: usize| {
        let unknown = Receipt { id: MessageId("m0".to_owned()), claim: 0 };
        receipts.iter().rev().nth(back).cloned().unwrap_or(unknown)
    };
    let settle = |claim: usize, settlement| store.settle(&receipt(claim), at, settlement, Batch::default());
    match operation.clone() {
        Operation::Enqueue { id, lane, ordering_key, delay } => {
            let batch = Batch::default().enqueue(message(id, lane, ordering_key, now + delay));
            format!("{:?}", store.commit(batch).await)
        }
        Operation::Claim { lane, limit } => {
            let claims = store.claim(&format!("lane-{lane}"), limit, at, 15).await.unwrap();
            receipts.extend(claims.iter().map(|claim| claim.receipt.clone()));
            format!("{claims:?}")
        }
        Operation::Renew { claim } => format!("{:?}", store.renew(&receipt(claim), at, 15).await),
        Operation::Done { claim } => format!("{:?}", settle(claim, Settlement::Done).await),
        Operation::Retry { claim, delay } => {
            format!("{:?}", settle(claim, Settlement::Retry { available_at: at.plus_millis(delay) }).await)
        }
        Operation::Bury { claim } => {
            format!("{:?}", settle(claim, Settlement::Dead { reason: "no".to_owned() }).await)
        }
        Operation::Redrive { id } => format!("{:?}", store.redrive(&MessageId(format!("m{id}")), at).await),
        Operation::Purge { id } => format!("{:?}", store.purge(&MessageId(format!("m{id}"))).await),
        Operation::Put { key, revision } => {
            let expect = revision.map_or(Expect::Any, |revision| Expect::At(crate::Revision(revision)));
            format!(
                "{:?}",
                store.commit(Batch::default().put(Key::new(&[&key.to_string()]), "x", expect)).await
            )
        }
    }
}

async fn agree(operations: Vec<Operation>) {
    let Opened { store, root: _root } = opened();
    let model = MemoryStore::new();
    let (mut receipts, mut model_receipts) = (Vec::new(), Vec::new());
    for (step, operation) in operations.iter().enumerate() {
        let now = step as i64 * 3;
        let got = perform(&store, operation, now, &mut receipts).await;
        let expected = perform(&model, operation, now, &mut model_receipts).await;
        assert_eq!(got, expected, "{operation:?} at {now}");
        assert_eq!(
            store.stats(Timestamp(now)).await,
            model.stats(Timestamp(now)).await,
            "after {operation:?} at {now}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_memory_back_end(operations in proptest::collection::vec(operation(), 1..120)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(agree(operations));
    }
}
