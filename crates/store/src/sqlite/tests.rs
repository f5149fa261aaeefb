//! What only a back end with files can be asked: conformance, agreement with the memory back end under random
//! operations, reopening, older files, a full disk, newer and damaged files.

use alula_model::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    Batch, DeadLetters, Error, Expect, Key, MessageId, NewMessage, Queue, QueueCounts, Records, Settlement,
    Totals, agreement, conformance,
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

fn message(id: &str) -> NewMessage {
    NewMessage {
        id: MessageId(id.to_owned()),
        lane: "lane".to_owned(),
        ordering_key: None,
        enqueued_at: Timestamp(0),
        available_at: Timestamp(0),
        body: bytes::Bytes::from_static(b"body"),
    }
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
    let batch = Batch::default().put(key.clone(), "value", Expect::Absent).enqueue(message("m"));
    let first = opened.store.commit(batch).await.unwrap();
    let claims = opened.store.claim("lane", 9, Timestamp(0), 10).await.unwrap().claims;
    let opened = opened.reopen();
    assert_eq!(opened.store.get(&key).await.unwrap().unwrap().revision, first.revision);
    opened.store.settle(&claims[0].receipt, Timestamp(5), Settlement::Done, Batch::default()).await.unwrap();
    let second = opened.store.commit(Batch::default().delete(key, Expect::At(first.revision))).await.unwrap();
    assert!(second.revision > first.revision, "revisions go on where they were");
    let totals = opened.store.totals(Timestamp(9)).await.unwrap();
    assert_eq!(totals, Totals { accepted: 1, done: 1, ..Totals::default() });
    opened.store.commit(Batch::default().enqueue(message("m"))).await.unwrap();
    let again = opened.store.claim("lane", 9, Timestamp(9), 10).await.unwrap().claims;
    assert_ne!(again[0].receipt, claims[0].receipt, "no receipt is given twice");
}

#[tokio::test]
async fn a_file_of_the_first_version_opens() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(&root.path().join("data")).unwrap();
    let mut connection = rusqlite::Connection::open(dir.path().join("alula.db")).unwrap();
    Migrations(&RECORDS_MIGRATIONS.0[..1]).apply(&mut connection).unwrap();
    connection.execute_batch(include_str!("tests/first_version.sql")).unwrap();
    drop(connection);
    let store = open_sqlite(&dir, &SqliteOptions::default()).unwrap();
    let now = Timestamp(50);
    let totals = store.totals(now).await.unwrap();
    assert_eq!(totals, Totals { accepted: 4, waiting: 2, claimed: 1, dead: 1, ..Totals::default() });
    assert_eq!(store.get(&Key::new(&["a"])).await.unwrap().unwrap().revision, crate::Revision(7));
    let claimed = crate::Receipt { id: MessageId("claimed".to_owned()), claim: 3 };
    store.settle(&claimed, now, Settlement::Done, Batch::default()).await.unwrap();
    let claims = store.claim("lane", 9, now, 10).await.unwrap().claims;
    assert_eq!((claims[0].receipt.id.0.as_str(), claims[0].receipt.claim), ("first", 4));
    assert!(claims.len() == 1 && claims[0].trail.is_empty());
    store.redrive(&MessageId("dead".to_owned()), "lane", now, bytes::Bytes::new()).await.unwrap();
    assert!(store.commit(Batch::default().enqueue(message("x"))).await.unwrap().revision.0 > 7);
    assert_eq!(store.totals(now).await.unwrap().imbalance(), 0);
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
    assert_eq!(refused, Error::TooNew { found: 99, known: 2 });
    std::fs::write(&file, vec![b'x'; 10_000]).unwrap();
    let refused = open_at(&root, &SqliteOptions::default()).unwrap_err();
    assert!(matches!(refused, Error::Damaged { .. }), "{refused:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_memory_back_end(steps in agreement::steps(120)) {
        let root = tempfile::tempdir().unwrap();
        let open = || open_at(&root, &SqliteOptions::default()).unwrap();
        let agree = agreement::agree(open(), &steps, async |store| {
            drop(store);
            open()
        });
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(agree);
    }
}
