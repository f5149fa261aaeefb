//! What every implementation of `Packages` must do.

use std::io::Read as _;
use std::path::Path;

use alula_model::Digest;
use bytes::Bytes;

use crate::{Error, PackageInfo, Packages};

/// Runs the suite on an empty store. `dir` is a folder on the store's file system where the suite may make files.
pub async fn packages(store: &dyn Packages, dir: &Path) {
    contents(store).await;
    files(store, dir).await;
    pieces(store).await;
    concurrent_puts(store).await;
}

/// The whole content of a package.
async fn content_of(store: &dyn Packages, digest: &Digest) -> Bytes {
    let mut open = store.open(digest).await.unwrap();
    let mut content = Vec::new();
    open.read_to_end(&mut content).unwrap();
    assert_eq!(open.bytes, content.len() as u64);
    content.into()
}

async fn contents(store: &dyn Packages) {
    let content = Bytes::from_static(b"abc");
    let info = store.put(content.clone()).await.unwrap();
    let digest: Digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".parse().unwrap();
    assert_eq!(info, PackageInfo { digest, bytes: 3 });
    assert_eq!(store.put(content.clone()).await, Ok(info.clone()), "storing it again changes nothing");
    assert_eq!(content_of(store, &digest).await, content);
    assert_eq!(store.stat(&digest).await, Ok(Some(info.clone())));

    let empty = store.put(Bytes::new()).await.unwrap();
    assert_eq!((empty.bytes, content_of(store, &empty.digest).await), (0, Bytes::new()));
    let mut list = vec![info, empty.clone()];
    list.sort_by_key(|info| info.digest);
    assert_eq!(store.list().await, Ok(list));

    store.remove(&empty.digest).await.unwrap();
    store.remove(&empty.digest).await.unwrap();
    assert_eq!(store.stat(&empty.digest).await, Ok(None));
    assert!(matches!(store.open(&empty.digest).await, Err(Error::NotFound { .. })));
}

async fn files(store: &dyn Packages, dir: &Path) {
    let file = dir.join(format!("alula-conformance-{}", std::process::id()));
    let content: Bytes = (0..300_000u32).map(|n| n as u8).collect();
    for _ in 0..2 {
        std::fs::write(&file, &content).unwrap();
        let info = store.put_file(file.clone()).await.unwrap();
        assert_eq!(info.bytes, content.len() as u64);
        assert!(!file.exists(), "the file belongs to the store now");
        assert_eq!(content_of(store, &info.digest).await, content);
        assert_eq!(store.put(content.clone()).await, Ok(info));
    }
    let missing = store.put_file(file).await;
    assert!(missing.is_err(), "{missing:?}");
}

async fn pieces(store: &dyn Packages) {
    let content: Bytes = (0..200_000u32).map(|n| (n / 256) as u8).collect();
    let digest = store.put(content.clone()).await.unwrap().digest;
    let (mut one, mut other) = (store.open(&digest).await.unwrap(), store.open(&digest).await.unwrap());
    let mut half = vec![0; 100_000];
    one.read_exact(&mut half).unwrap();
    store.remove(&digest).await.unwrap();
    let mut rest = Vec::new();
    one.read_to_end(&mut rest).unwrap();
    assert_eq!([half, rest].concat(), content, "what is open can be read to its end");
    let mut whole = Vec::new();
    other.read_to_end(&mut whole).unwrap();
    assert_eq!(whole, content, "every reader begins at the first byte");
}

async fn concurrent_puts(store: &dyn Packages) {
    let content = Bytes::from(vec![7; 100_000]);
    let same = || store.put(content.clone());
    let (a, b, c, other) = tokio::join!(same(), same(), same(), store.put(Bytes::from_static(b"other")));
    let info = a.unwrap();
    assert_eq!((b.unwrap(), c.unwrap()), (info.clone(), info.clone()));
    assert_ne!(other.unwrap().digest, info.digest);
    assert_eq!(content_of(store, &info.digest).await, content);
}
