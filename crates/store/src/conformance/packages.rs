//! What every implementation of `Packages` must do.

use std::path::Path;

use alula_model::Digest;
use bytes::Bytes;

use crate::{Error, PackageInfo, Packages};

/// Runs the suite on an empty store. `dir` is a folder on the store's file system where the suite may make files.
pub async fn packages(store: &dyn Packages, dir: &Path) {
    contents(store).await;
    files(store, dir).await;
    concurrent_puts(store).await;
}

async fn contents(store: &dyn Packages) {
    let content = Bytes::from_static(b"abc");
    let info = store.put(content.clone()).await.unwrap();
    let digest: Digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".parse().unwrap();
    assert_eq!(info, PackageInfo { digest, bytes: 3 });
    assert_eq!(store.put(content.clone()).await, Ok(info.clone()), "storing it again changes nothing");
    assert_eq!(store.get(&digest).await, Ok(content));
    assert_eq!(store.stat(&digest).await, Ok(Some(info.clone())));

    let empty = store.put(Bytes::new()).await.unwrap();
    assert_eq!((empty.bytes, store.get(&empty.digest).await), (0, Ok(Bytes::new())));
    let mut list = vec![info, empty.clone()];
    list.sort_by_key(|info| info.digest);
    assert_eq!(store.list().await, Ok(list));

    store.remove(&empty.digest).await.unwrap();
    store.remove(&empty.digest).await.unwrap();
    assert_eq!(store.stat(&empty.digest).await, Ok(None));
    assert!(matches!(store.get(&empty.digest).await, Err(Error::NotFound { .. })));
}

async fn files(store: &dyn Packages, dir: &Path) {
    let file = dir.join(format!("alula-conformance-{}", std::process::id()));
    let content: Bytes = (0..300_000u32).map(|n| n as u8).collect();
    for _ in 0..2 {
        std::fs::write(&file, &content).unwrap();
        let info = store.put_file(file.clone()).await.unwrap();
        assert_eq!(info.bytes, content.len() as u64);
        assert!(!file.exists(), "the file belongs to the store now");
        assert_eq!(store.get(&info.digest).await, Ok(content.clone()));
        assert_eq!(store.put(content.clone()).await, Ok(info));
    }
    let missing = store.put_file(file).await;
    assert!(missing.is_err(), "{missing:?}");
}

async fn concurrent_puts(store: &dyn Packages) {
    let content = Bytes::from(vec![7; 100_000]);
    let same = || store.put(content.clone());
    let (a, b, c, other) = tokio::join!(same(), same(), same(), store.put(Bytes::from_static(b"other")));
    let info = a.unwrap();
    assert_eq!((b.unwrap(), c.unwrap()), (info.clone(), info.clone()));
    assert_ne!(other.unwrap().digest, info.digest);
    assert_eq!(store.get(&info.digest).await, Ok(content));
}
