//! A folder for the unfinished work of one deploy, gone when the deploy is over, however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use alula_model::Fault;

use crate::code::{blocking, remove_tree};

/// The folder. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Scratch {
    root: PathBuf,
    next: AtomicU64,
}

impl Scratch {
    /// Makes the folder.
    pub(crate) async fn create(root: PathBuf) -> Result<Self, Fault> {
        let folder = root.clone();
        blocking("make a folder for the deploy", move || fs::create_dir(folder)).await?;
        Ok(Self { root, next: AtomicU64::new(0) })
    }

    /// A path in it that is used by nothing yet.
    pub(crate) fn fresh(&self, purpose: &str) -> PathBuf {
        self.root.join(format!("{purpose}-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let root = std::mem::take(&mut self.root);
        match tokio::runtime::Handle::try_current() {
            // A dependency tree takes long to remove: not on a thread that serves calls.
            Ok(runtime) => drop(runtime.spawn_blocking(move || remove(&root))),
            Err(_) => remove(&root),
        }
    }
}

fn remove(root: &Path) {
    if let Err(error) = remove_tree(root) {
        tracing::warn!(%error, folder = %root.display(), "cannot remove the folder of a deploy; it goes at the next start");
    }
}
