//! What every implementation of `Records` must do.

use bytes::Bytes;

use crate::records::{BATCH_LEN_MAX, KEY_BYTES_MAX, SCAN_LEN_MAX, VALUE_BYTES_MAX};
use crate::{Batch, Error, Expect, Key, Records, Revision};

/// Runs the suite on an empty store.
pub async fn records(store: &dyn Records) {
    writes_and_reads(store).await;
    expectations(store).await;
    batches_are_atomic(store).await;
    scans(store).await;
    limits(store).await;
}

fn key(text: &str) -> Key {
    Key::from_stored(text.to_owned())
}

async fn put(store: &dyn Records, text: &str, value: &'static str) -> Revision {
    store.commit(Batch::default().put(key(text), value, Expect::Any)).await.unwrap().revision
}

async fn read(store: &dyn Records, text: &str) -> Option<Bytes> {
    store.get(&key(text)).await.unwrap().map(|record| record.value)
}

async fn writes_and_reads(store: &dyn Records) {
    assert_eq!(store.get(&key("w/none")).await, Ok(None));
    let first = put(store, "w/a", "1").await;
    let second = put(store, "w/a", "2").await;
    assert!(second > first, "revisions rise");
    let record = store.get(&key("w/a")).await.unwrap().unwrap();
    assert_eq!((record.key, record.value, record.revision), (key("w/a"), Bytes::from_static(b"2"), second));

    let binary: Vec<u8> = (0..=255).collect();
    store.commit(Batch::default().put(key("w/binary"), binary.clone(), Expect::Any)).await.unwrap();
    assert_eq!(read(store, "w/binary").await.unwrap(), binary);
    put(store, "w/empty", "").await;
    assert_eq!(read(store, "w/empty").await, Some(Bytes::new()));

    store.commit(Batch::default().delete(key("w/a"), Expect::Any)).await.unwrap();
    assert_eq!(read(store, "w/a").await, None);
    store.commit(Batch::default().delete(key("w/a"), Expect::Any)).await.unwrap();
    let third = put(store, "w/a", "3").await;
    assert!(third > second, "a revision is not given again after a delete");
}

async fn expectations(store: &dyn Records) {
    let conflict = Err(Error::Conflict { key: key("e/a") });
    let commit = |expect| async move {
        store.commit(Batch::default().put(key("e/a"), "x", expect)).await.map(|committed| committed.revision)
    };
    assert_eq!(commit(Expect::At(Revision(1))).await, conflict);
    let first = commit(Expect::Absent).await.unwrap();
    assert_eq!(commit(Expect::Absent).await, conflict);
    let second = commit(Expect::At(first)).await.unwrap();
    assert_eq!(commit(Expect::At(first)).await, conflict);
    let delete = |expect| async move { store.commit(Batch::default().delete(key("e/a"), expect)).await };
    assert_eq!(delete(Expect::At(first)).await, Err(Error::Conflict { key: key("e/a") }));
    delete(Expect::At(second)).await.unwrap();
    delete(Expect::Absent).await.unwrap();
}

async fn batches_are_atomic(store: &dyn Records) {
    put(store, "b/there", "old").await;
    let batch = Batch::default()
        .put(key("b/new"), "new", Expect::Absent)
        .delete(key("b/there"), Expect::Any)
        .put(key("b/other"), "new", Expect::At(Revision(u64::MAX >> 1)));
    assert_eq!(store.commit(batch).await, Err(Error::Conflict { key: key("b/other") }));
    assert_eq!(read(store, "b/new").await, None);
    assert_eq!(read(store, "b/there").await, Some(Bytes::from_static(b"old")));

    let twice =
        Batch::default().put(key("b/twice"), "1", Expect::Absent).put(key("b/twice"), "2", Expect::Absent);
    let revision = store.commit(twice).await.unwrap().revision;
    let record = store.get(&key("b/twice")).await.unwrap().unwrap();
    assert_eq!((record.value, record.revision), (Bytes::from_static(b"2"), revision));
    assert!(store.commit(Batch::default()).await.is_ok(), "an empty batch is allowed");
}

async fn scans(store: &dyn Records) {
    for text in ["s", "s/b", "s/a", "s/a/1", "s/a-1", "s/a0", "s/ä", "t"] {
        put(store, text, "x").await;
    }
    let scan = |prefix: &'static str, after: Option<&'static str>, limit| async move {
        let found = store.scan(&key(prefix), after.map(key).as_ref(), limit).await.unwrap();
        found.into_iter().map(|record| record.key.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(scan("s", None, 100).await, ["s", "s/a", "s/a-1", "s/a/1", "s/a0", "s/b", "s/ä"]);
    assert_eq!(scan("s/a", None, 100).await, ["s/a", "s/a/1"], "whole segments only");
    assert_eq!(scan("s", Some("s/a"), 2).await, ["s/a-1", "s/a/1"]);
    assert_eq!(scan("s", Some("a"), 1).await, ["s"], "a start before the prefix");
    assert_eq!(scan("s", Some("t"), 100).await, [""; 0], "a start behind the prefix");
    assert_eq!(scan("s", None, 0).await, [""; 0]);
    assert_eq!(scan("", Some("s/b"), 100).await, ["s/ä", "t", "w/a", "w/binary", "w/empty"]);
    assert_eq!(scan("nobody", None, 100).await, [""; 0]);

    let mut batch = Batch::default();
    for number in 0..BATCH_LEN_MAX {
        batch = batch.put(key(&format!("many/{number:04}")), "x", Expect::Absent);
    }
    store.commit(batch).await.unwrap();
    put(store, "many/9999", "x").await;
    assert_eq!(scan("many", None, usize::MAX).await.len(), SCAN_LEN_MAX);
}

async fn limits(store: &dyn Records) {
    let at_most =
        Batch::default().put(key(&"k".repeat(KEY_BYTES_MAX)), vec![0; VALUE_BYTES_MAX], Expect::Any);
    store.commit(at_most).await.unwrap();
    let batches = [
        Batch::default().put(key(&"k".repeat(KEY_BYTES_MAX + 1)), "", Expect::Any),
        Batch::default().put(key("l/a"), vec![0; VALUE_BYTES_MAX + 1], Expect::Any),
        (0..=BATCH_LEN_MAX).fold(Batch::default(), |batch, _| batch.delete(key("l/a"), Expect::Any)),
    ];
    for batch in batches {
        let refused = store.commit(batch).await.unwrap_err();
        assert!(matches!(refused, Error::TooLarge { value, limit, .. } if value == limit + 1), "{refused}");
    }
}
