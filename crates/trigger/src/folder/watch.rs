//! One trigger's folder: waits for what changes and looks.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use alula_model::trigger::FolderSource;
use alula_model::{Clock, Fault, FunctionRef, Timestamp};
use alula_store::{Batch, Committed};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::decide::Told;
use super::notices::{Notices, Work};
use super::opened::Opened;
use super::round::{Remains, Round};
use super::seen::Memory;
use super::service::Problems;
use super::{Allowed, Deliver, LOOK_AGAIN, Observe, REST, RETRY};
use crate::Pauses;

/// A folder that a trigger watches.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    pub(super) memory: Memory,
    pub(super) target: FunctionRef,
    pub(super) source: FolderSource,
    /// When the trigger came into force.
    pub(super) since: Timestamp,
    pub(super) allowed: Allowed,
    pub(super) deliver: Arc<dyn Deliver>,
    pub(super) observe: Arc<dyn Observe>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) problems: Problems,
}

/// What keeps a folder from being watched at the moment.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the folder cannot be read")]
    Folder(#[source] io::Error),
    #[error("another folder has taken its place")]
    Replaced,
    #[error(
        "the kernel does not tell of it; fs.inotify.max_user_instances bounds how many folders it tells of"
    )]
    Notices(#[source] io::Error),
    #[error("the store failed")]
    Store(#[from] alula_store::Error),
    #[error("the call is refused: {0}")]
    Refused(Fault),
}

/// When to look without being told.
struct Due {
    /// At everything.
    all: Instant,
    /// At what may have come to rest.
    resting: Instant,
}

impl Watch {
    /// Watches until `stop`. A call that is being handed in is then either stored with what was seen, or neither is.
    pub(super) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.watch(&stop).await {
                self.observe.failed();
                self.problems.set(&self.memory.trigger, Some(report(&error)));
                stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
            }
        }
    }

    async fn watch(&self, stop: &CancellationToken) -> Result<(), Error> {
        let folder = self.open().await?;
        let identity = folder.identity();
        // Listened to first and looked at afterwards, so that nothing falls between.
        let mut notices = Notices::of(&folder).map_err(Error::Notices)?;
        drop(folder);
        let since = self.memory.begin(&self.source, self.since).await?;
        let pauses = Pauses::new(Arc::clone(&self.memory.records));
        let mut remains = Remains::default();
        let mut due = Due { all: Instant::now(), resting: Instant::now() };
        while let Some((work, told)) = next(&mut notices, &mut remains, &due, stop).await? {
            if pauses.get(&self.memory.trigger).await?.is_some() {
                // What changes meanwhile is found when the pause is over.
                due.all = Instant::now();
                stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
                continue;
            }
            if work == Work::All {
                due.all = Instant::now() + LOOK_AGAIN;
            }
            let folder = self.open().await?;
            if folder.identity() != identity {
                return Err(Error::Replaced);
            }
            let (folder, notices, remains) = (Arc::new(folder), &mut notices, &mut remains);
            Round { watch: self, folder, notices, since, remains }.run(work, told, stop).await?;
            due.resting = Instant::now() + REST;
            self.problems.set(&self.memory.trigger, unreadable(remains));
        }
        Ok(())
    }

    /// The folder as it is now. It is not held between looks, so that its disk can be unmounted.
    async fn open(&self) -> Result<Opened, Error> {
        let (allowed, path) = (self.allowed.clone(), PathBuf::from(&self.source.path));
        blocking(move || allowed.open(&path)).await.map_err(Error::Folder)
    }

    pub(super) async fn commit(&self, batch: Batch) -> alula_store::Result<Committed> {
        self.memory.records.commit(batch).await
    }
}

/// Waits for what is to be looked at next; `None` at the end.
async fn next(
    notices: &mut Notices,
    remains: &mut Remains,
    due: &Due,
    stop: &CancellationToken,
) -> Result<Option<(Work, Told)>, Error> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(None),
        () = tokio::time::sleep_until(due.all) => Ok(Some((Work::All, Told::ByLook))),
        () = tokio::time::sleep_until(due.resting), if !remains.resting.is_empty() => {
            Ok(Some((Work::Names(std::mem::take(&mut remains.resting)), Told::ByLook)))
        }
        work = notices.next() => {
            let work = work.map_err(Error::Notices)?;
            // What the kernel has lost count of is as if nobody had told it.
            let told = if work == Work::All { Told::ByLook } else { Told::ByKernel };
            Ok(Some((work, told)))
        }
    }
}

/// Which files cannot be read, in words.
fn unreadable(remains: &Remains) -> Option<String> {
    let (name, why) = remains.unreadable.first_key_value()?;
    let (count, name) = (remains.unreadable.len(), String::from_utf8_lossy(name));
    Some(format!("{count} of its files cannot be read, {name:?} the first: {why}"))
}

/// Runs what waits for the disk beside everything else.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn report(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
