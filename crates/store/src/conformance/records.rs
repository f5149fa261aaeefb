//! What every implementation of `Records` must do.

use alula_model::Timestamp;
use bytes::Bytes;

use crate::records::{BATCH_LEN_MAX, EXPIRE_LEN_MAX, KEY_BYTES_MAX, SCAN_LEN_MAX, VALUE_BYTES_MAX};
use crate::{Batch, Error, Expect, Key, Records, Revision};

/// Runs the suite on an empty store.
pub async fn records(store: &dyn Records) {
    writes_and_reads(store).await;
    expectations(store).await;
    batches_are_atomic(store).await;
    scans(store).await;
    expiry(store).await;
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

async fn expiry(store: &dyn Records) {
    let until = |text: &str, at| Batch::default().put_until(key(text), "x", Expect::Any, Timestamp(at));
    for (text, at) in [("x/c", 30), ("x/a", 20), ("x/b", 10), ("x/stays", 10), ("x/later", 10)] {
        store.commit(until(text, at)).await.unwrap();
    }
    put(store, "x/stays", "for ever").await;
    store.commit(until("x/later", 40)).await.unwrap();
    let left = async || {
        let found = store.scan(&key("x"), None, 100).await.unwrap();
        found.into_iter().map(|record| record.key.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(store.expire(Timestamp(9), 100).await, Ok(0));
    assert_eq!(left().await.len(), 5, "a record is there until it is swept");
    assert_eq!(store.expire(Timestamp(35), 2).await, Ok(2), "as many as asked, the first to go first");
    assert_eq!(left().await, ["x/c", "x/later", "x/stays"]);
    assert_eq!(store.expire(Timestamp(35), 0).await, Ok(0));
    assert_eq!(store.expire(Timestamp(35), usize::MAX).await, Ok(1));
    store.commit(Batch::default().delete(key("x/later"), Expect::Any)).await.unwrap();
    assert_eq!(store.expire(Timestamp(i64::MAX), 100).await, Ok(0));
    assert_eq!(left().await, ["x/stays"]);
    store
        .commit(Batch::default().put_until(key("x/again"), "x", Expect::Absent, Timestamp(0)))
        .await
        .unwrap();
    assert_eq!(store.expire(Timestamp(0), 100).await, Ok(1), "its moment is when it goes");
    let many = (0..=EXPIRE_LEN_MAX).map(|number| format!("x/many/{number}"));
    let many: Vec<_> = many.collect();
    for part in many.chunks(BATCH_LEN_MAX) {
        let batch = part.iter().fold(Batch::default(), |batch, text| {
            batch.put_until(key(text), "", Expect::Absent, Timestamp(50))
        });
        store.commit(batch).await.unwrap();
    }
    assert_eq!(store.expire(Timestamp(50), usize::MAX).await, Ok(EXPIRE_LEN_MAX as u64));
    assert_eq!(store.expire(Timestamp(50), usize::MAX).await, Ok(1));
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
    for text in ["", "a\0b"] {
        let refused = store.commit(Batch::default().put(key(text), "", Expect::Any)).await;
        assert_eq!(refused, Err(Error::Malformed { text: text.to_owned() }));
    }
}
