//! What waits to be looked at: names that the kernel told, or the whole folder.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use tokio::sync::Notify;

use super::PENDING_MAX;

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    /// These names: somebody closed, moved or removed them.
    Names(BTreeSet<Vec<u8>>),
    /// Everything.
    All,
}

/// Filled by the kernel's watcher, emptied by whoever looks. Bounded: too many names become [`Work::All`].
#[derive(Debug)]
pub(super) struct Pending {
    work: Mutex<Work>,
    filled: Notify,
}

impl Pending {
    /// Everything is to be looked at first.
    pub(super) fn new() -> Self {
        Self { work: Mutex::new(Work::All), filled: Notify::new() }
    }

    /// Takes in what the watcher says.
    pub(super) fn note(&self, told: notify::Result<notify::Event>) {
        match told {
            Ok(event) if event.need_rescan() => self.all(),
            Ok(event) if matters(event.kind) => {
                event.paths.iter().filter_map(|path| path.file_name()).for_each(|name| self.name(name));
            }
            Ok(_) => {}
            Err(_) => self.all(),
        }
    }

    /// Everything is to be looked at.
    pub(super) fn all(&self) {
        *self.lock() = Work::All;
        self.filled.notify_one();
    }

    fn name(&self, name: &OsStr) {
        let mut work = self.lock();
        if let Work::Names(names) = &mut *work {
            names.insert(name.as_bytes().to_vec());
            if names.len() > PENDING_MAX {
                *work = Work::All;
            }
        }
        drop(work);
        self.filled.notify_one();
    }

    /// Waits until something is to be looked at and takes it.
    pub(super) async fn take(&self) -> Work {
        loop {
            let taken = std::mem::replace(&mut *self.lock(), Work::Names(BTreeSet::new()));
            if taken != Work::Names(BTreeSet::new()) {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn matters(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_)
    )
}

/// Whether a name is one that a trigger wants.
pub(super) fn wants(source: &alula_model::trigger::FolderSource, name: &[u8]) -> bool {
    name.starts_with(source.prefix.as_bytes()) && name.ends_with(source.suffix.as_bytes())
}

/// The watcher of a folder, which fills `pending`.
pub(super) fn watch(folder: &Path, pending: &std::sync::Arc<Pending>) -> notify::Result<impl Send + use<>> {
    use notify::Watcher as _;
    let into = std::sync::Arc::clone(pending);
    let mut watcher = notify::recommended_watcher(move |told| into.note(told))?;
    watcher.watch(folder, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
