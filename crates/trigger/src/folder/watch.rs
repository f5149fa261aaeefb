//! One trigger's folder: waits for what changes, looks, hands in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alula_model::trigger::{Change as Kind, FolderSource};
use alula_model::{Clock, ErrorCode, Fault, FunctionRef};
use alula_store::{Batch, Expect, Records};
use tokio_util::sync::CancellationToken;

use super::event::{self, Change};
use super::look::{self, Found, Mark};
use super::pending::{self, Pending, Work, wants};
use super::seen::{self, Seen};
use super::{Allowed, Deliver, LOOK_AGAIN, REST_MS, RETRY};
use crate::{Pauses, TriggerKey};

/// A folder that a trigger watches.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    pub(super) trigger: TriggerKey,
    pub(super) target: FunctionRef,
    pub(super) source: FolderSource,
    pub(super) allowed: Allowed,
    pub(super) records: Arc<dyn Records>,
    pub(super) deliver: Arc<dyn Deliver>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What keeps a folder from being watched for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the folder cannot be read")]
    Folder(#[from] std::io::Error),
    #[error("the folder cannot be watched")]
    Watcher(#[from] notify::Error),
    #[error("the store failed")]
    Store(#[from] alula_store::Error),
    #[error("the call is refused: {0}")]
    Refused(Fault),
}

/// Who told that a file is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Somebody closed, moved or removed it: it is whole.
    ByKernel,
    /// It lies there; somebody may be writing it.
    ByLook,
    /// It lay there before the trigger was made: it calls nobody.
    Before,
}

/// What became of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    Done,
    /// It is being written: it is to be looked at again.
    Unfinished,
}

impl Watch {
    /// Watches until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut last = None;
        loop {
            let Some(outcome) = stop.run_until_cancelled(self.watch()).await else { return };
            let problem = outcome.err().map(|error| report(&error));
            // The same again is said once.
            if problem != last {
                let (trigger, problem) = (&self.trigger, problem.as_deref().unwrap_or_default());
                tracing::warn!(%trigger, folder = %self.source.path, "a folder is not watched at the moment: {problem}");
            }
            last = problem;
            if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                return;
            }
        }
    }

    async fn watch(&self) -> Result<(), Error> {
        let folder = self.allowed.resolve(Path::new(&self.source.path))?;
        let pending = Arc::new(Pending::new());
        // Watched first and looked at afterwards, so that nothing falls between.
        let _watcher = pending::watch(&folder, &pending)?;
        let pauses = Pauses::new(Arc::clone(&self.records));
        loop {
            let work = match tokio::time::timeout(LOOK_AGAIN, pending.take()).await {
                Ok(work) => work,
                Err(_) => Work::All,
            };
            if pauses.get(&self.trigger).await?.is_some() {
                // What changes meanwhile is found when the pause is over.
                tokio::time::sleep(RETRY).await;
                pending.all();
                continue;
            }
            if self.look(&folder, work).await? == Looked::Unfinished {
                let pending = Arc::clone(&pending);
                tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(REST_MS.unsigned_abs())).await;
                    pending.all();
                });
            }
        }
    }

    /// Looks at what is to be looked at.
    async fn look(&self, folder: &PathBuf, work: Work) -> Result<Looked, Error> {
        let (names, told) = match work {
            Work::Names(names) => (names, Told::ByKernel),
            Work::All => {
                let mut names = seen::names(&*self.records, &self.trigger).await?;
                let there = folder.clone();
                names.extend(blocking(move || look::names(&there)).await?);
                let is_known = seen::has_baseline(&*self.records, &self.trigger, &self.source.path).await?;
                (names, if is_known { Told::ByLook } else { Told::Before })
            }
        };
        let mut looked = Looked::Done;
        for name in names.into_iter().filter(|name| wants(&self.source, name)) {
            if self.look_at(folder, &name, told).await? == Looked::Unfinished {
                looked = Looked::Unfinished;
            }
        }
        if told == Told::Before {
            seen::set_baseline(&*self.records, &self.trigger, &self.source.path).await?;
        }
        Ok(looked)
    }

    async fn look_at(&self, folder: &Path, name: &[u8], told: Told) -> Result<Looked, Error> {
        let key = seen::file(&self.trigger, name);
        let (known, expect) = match seen::get(&*self.records, &key).await? {
            Some((known, revision)) => (Some(known), Expect::At(revision)),
            None => (None, Expect::Absent),
        };
        let (there, named) = (folder.to_owned(), name.to_vec());
        let Some(mark) = blocking(move || look::mark(&there, &named)).await? else {
            return match known {
                Some(_) => self.removed(folder, name, Batch::default().delete(key, expect), told).await,
                None => Ok(Looked::Done),
            };
        };
        if known.as_ref().and_then(Option::as_ref).is_some_and(|known| known.mark == mark) {
            return Ok(Looked::Done);
        }
        if told == Told::ByLook && self.is_fresh(&mark) {
            return Ok(Looked::Unfinished);
        }
        let (there, named) = (folder.to_owned(), name.to_vec());
        let Some(found) = blocking(move || look::read(&there, &named)).await? else {
            return Ok(Looked::Unfinished);
        };
        let batch = seen::put(Batch::default(), key, &Seen::from(&found), expect);
        let is_same = known.flatten().is_some_and(|known| known.digest == found.digest);
        self.written(folder, name, batch, (&found, is_same || told == Told::Before)).await
    }

    /// Whether somebody may still be writing the file.
    fn is_fresh(&self, mark: &Mark) -> bool {
        let modified_ms = mark.modified_ns / 1_000_000;
        let age_ms = i128::from(self.clock.now().as_millis()) - modified_ms;
        (0..i128::from(REST_MS)).contains(&age_ms)
    }

    async fn written(
        &self,
        folder: &Path,
        name: &[u8],
        batch: Batch,
        (found, is_silent): (&Found, bool),
    ) -> Result<Looked, Error> {
        match is_silent || !self.source.on.contains(&Kind::Put) {
            true => self.commit(batch).await,
            false => self.call(folder, name, batch, Change::Put(found)).await,
        }
    }

    async fn removed(&self, folder: &Path, name: &[u8], batch: Batch, told: Told) -> Result<Looked, Error> {
        match told != Told::Before && self.source.on.contains(&Kind::Delete) {
            true => self.call(folder, name, batch, Change::Delete).await,
            false => self.commit(batch).await,
        }
    }

    async fn call(
        &self,
        folder: &Path,
        name: &[u8],
        batch: Batch,
        change: Change<'_>,
    ) -> Result<Looked, Error> {
        let event = event::render(self.trigger.trigger.as_str(), folder, name, change, self.clock.now());
        let prepared = match self.deliver.prepare(self.target.clone(), event).await {
            Ok(prepared) => prepared,
            Err(fault) if is_gone(fault.code) => {
                tracing::warn!(trigger = %self.trigger, "a trigger of a folder calls what is not there: {fault}");
                return self.commit(batch).await;
            }
            Err(fault) => return Err(Error::Refused(fault)),
        };
        let mut batch = Pauses::unless_paused(&self.trigger, batch);
        batch.writes.extend(prepared.batch.writes);
        batch.messages.extend(prepared.batch.messages);
        let committed = self.records.commit(batch).await;
        if committed.is_ok() {
            (prepared.committed)();
        }
        settled(committed)
    }

    async fn commit(&self, batch: Batch) -> Result<Looked, Error> {
        settled(self.records.commit(batch).await)
    }
}

/// Who loses against another node, or against a pause, looks again.
fn settled(committed: alula_store::Result<alula_store::Committed>) -> Result<Looked, Error> {
    match committed {
        Ok(_) => Ok(Looked::Done),
        Err(alula_store::Error::Conflict { .. }) => Ok(Looked::Unfinished),
        Err(error) => Err(error.into()),
    }
}

fn is_gone(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::FunctionNotFound | ErrorCode::VersionNotFound | ErrorCode::AliasNotFound)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

fn report(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
