//! Packages in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::Digest;
use bytes::Bytes;

use crate::packages::{digest_of, no_package};
use crate::{BoxFuture, Error, OpenPackage, PackageInfo, Packages, Result};

/// Immutable contents in memory. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryPackages {
    contents: Arc<Mutex<BTreeMap<Digest, Bytes>>>,
}

impl MemoryPackages {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn contents(&self) -> MutexGuard<'_, BTreeMap<Digest, Bytes>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, content: Bytes) -> PackageInfo {
        let digest = digest_of(&content);
        let info = PackageInfo { digest, bytes: content.len() as u64 };
        self.contents().insert(digest, content);
        info
    }
}

impl Packages for MemoryPackages {
    fn put(&self, content: Bytes) -> BoxFuture<'_, Result<PackageInfo>> {
        let info = self.insert(content);
        Box::pin(async move { Ok(info) })
    }

    fn put_file(&self, file: PathBuf) -> BoxFuture<'_, Result<PackageInfo>> {
        Box::pin(async move {
            let content = tokio::fs::read(&file).await;
            let removed = tokio::fs::remove_file(&file).await;
            let content = content.and_then(|content| removed.map(|()| content));
            let content = content.map_err(|error| Error::from_io("taking a file as package", &error))?;
            Ok(self.insert(content.into()))
        })
    }

    fn stat(&self, digest: &Digest) -> BoxFuture<'_, Result<Option<PackageInfo>>> {
        let bytes = self.contents().get(digest).map(|content| content.len() as u64);
        let info = bytes.map(|bytes| PackageInfo { digest: *digest, bytes });
        Box::pin(async move { Ok(info) })
    }

    fn open(&self, digest: &Digest) -> BoxFuture<'_, Result<OpenPackage>> {
        let content = self.contents().get(digest).cloned().ok_or_else(|| no_package(digest));
        Box::pin(async move {
            let content = content?;
            Ok(OpenPackage::new(content.len() as u64, std::io::Cursor::new(content)))
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<PackageInfo>>> {
        let contents = self.contents();
        let info = |(digest, content): (&Digest, &Bytes)| PackageInfo {
            digest: *digest,
            bytes: content.len() as u64,
        };
        let list = contents.iter().map(info).collect();
        Box::pin(async move { Ok(list) })
    }

    fn remove(&self, digest: &Digest) -> BoxFuture<'_, Result<()>> {
        self.contents().remove(digest);
        Box::pin(async { Ok(()) })
    }
}
