//! One look at names of a folder: what each of them calls for, and its commit.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use alula_model::{ErrorCode, Timestamp};
use alula_store::{Batch, Committed};
use futures_util::future::{join_all, try_join_all};
use tokio_util::sync::CancellationToken;

use super::FILES_AT_ONCE;
use super::decide::{Decision, Past, Terms, Told, decide};
use super::event::{self, Change};
use super::look::{self, Found, Sight};
use super::notices::{Notices, Work};
use super::opened::Opened;
use super::seen::Known;
use super::watch::{Error, Watch, blocking};
use crate::Pauses;

/// What outlives a look.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Files that are to be looked at again when they may have come to rest.
    pub(super) resting: BTreeSet<Vec<u8>>,
    /// Files that cannot be read, and why.
    pub(super) unreadable: BTreeMap<Vec<u8>, String>,
}

/// A look.
pub(super) struct Round<'a> {
    pub(super) watch: &'a Watch,
    pub(super) folder: Arc<Opened>,
    pub(super) notices: &'a mut Notices,
    /// Since when the trigger is in force.
    pub(super) since: Timestamp,
    pub(super) remains: &'a mut Remains,
}

/// A file that may have changed.
struct Candidate {
    name: Vec<u8>,
    known: Option<Known>,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Done,
    Later,
}

impl Round<'_> {
    /// Looks at what is to be looked at; at some of it, if `stop` comes in between.
    pub(super) async fn run(mut self, work: Work, told: Told, stop: &CancellationToken) -> Result<(), Error> {
        let candidates = match work {
            Work::Names(names) => self.named(names).await?,
            Work::All => self.differing().await?,
        };
        for some in candidates.chunks(FILES_AT_ONCE) {
            if stop.is_cancelled() {
                return Ok(());
            }
            let sights = join_all(some.iter().map(|candidate| self.read(&candidate.name, stop))).await;
            // A file that is being written now may have been read half. One that is written from here on was whole.
            self.notices.gather().map_err(Error::Notices)?;
            self.settle(some, &sights, told).await?;
        }
        Ok(())
    }

    async fn named(&self, names: BTreeSet<Vec<u8>>) -> Result<Vec<Candidate>, Error> {
        let wanted = names.into_iter().filter(|name| look::wants(&self.watch.source, name));
        let candidates = wanted.map(async |name| {
            let known = self.watch.memory.get(&name).await?;
            Ok(Candidate { name, known })
        });
        try_join_all(candidates).await
    }

    /// The files that are not as they were seen.
    async fn differing(&mut self) -> Result<Vec<Candidate>, Error> {
        let mut known = self.watch.memory.all().await?;
        let (folder, source) = (Arc::clone(&self.folder), self.watch.source.clone());
        let there = blocking(move || look::list(&folder, &source)).await.map_err(Error::Folder)?;
        let mut differing = Vec::new();
        for (name, mark) in there {
            let known = known.remove(&name);
            if !known.as_ref().and_then(|known| known.seen.as_ref()).is_some_and(|seen| seen.mark == mark) {
                differing.push(Candidate { name, known });
            }
        }
        differing.extend(known.into_iter().map(|(name, known)| Candidate { name, known: Some(known) }));
        self.remains.unreadable.clear();
        Ok(differing)
    }

    async fn read(&self, name: &[u8], stop: &CancellationToken) -> io::Result<Sight> {
        let (folder, name, stop) = (Arc::clone(&self.folder), name.to_owned(), stop.clone());
        blocking(move || look::read(&folder, &name, &stop)).await
    }

    async fn settle(
        &mut self,
        candidates: &[Candidate],
        sights: &[io::Result<Sight>],
        told: Told,
    ) -> Result<(), Error> {
        let mut carried_out = Vec::new();
        for (candidate, sight) in candidates.iter().zip(sights) {
            self.remains.unreadable.remove(&candidate.name);
            match sight {
                Ok(sight) => {
                    let terms = self.terms(&candidate.name, sight, told);
                    let decision = decide(candidate.past(), sight, terms);
                    carried_out.push(carry_out(self.watch, candidate, decision));
                }
                Err(error) => {
                    self.remains.unreadable.insert(candidate.name.clone(), error.to_string());
                }
            }
        }
        self.remains.resting.extend(try_join_all(carried_out).await?.into_iter().flatten().cloned());
        Ok(())
    }

    fn terms(&self, name: &[u8], sight: &Sight, told: Told) -> Terms<'_> {
        let is_being_written = match sight {
            Sight::File(found) => self.notices.is_being_written(name, found.mark.bytes),
            Sight::Nothing | Sight::Changing => false,
        };
        let Watch { source, clock, .. } = self.watch;
        Terms { told, on: &source.on, since: self.since, now: clock.now(), is_being_written }
    }
}

impl Candidate {
    fn past(&self) -> Past<'_> {
        match &self.known {
            None => Past::Unseen,
            Some(Known { seen: None, .. }) => Past::Unreadable,
            Some(Known { seen: Some(seen), .. }) => Past::Seen(seen),
        }
    }
}

/// Does what was decided; gives the name back where it is to be looked at again.
async fn carry_out<'a>(
    watch: &Watch,
    candidate: &'a Candidate,
    decision: Decision<'_>,
) -> Result<Option<&'a Vec<u8>>, Error> {
    let settled = match decision {
        Decision::Leave => Settled::Done,
        Decision::Later => Settled::Later,
        Decision::Remember(found) => committed(watch.commit(remembered(watch, candidate, found)).await)?,
        Decision::Forget => committed(watch.commit(forgotten(watch, candidate)).await)?,
        Decision::Call(change) => call(watch, candidate, change).await?,
    };
    Ok((settled == Settled::Later).then_some(&candidate.name))
}

async fn call(watch: &Watch, candidate: &Candidate, change: Change<'_>) -> Result<Settled, Error> {
    let batch = match change {
        Change::Put(found) => remembered(watch, candidate, found),
        Change::Delete => forgotten(watch, candidate),
    };
    let event =
        event::render(&watch.memory.trigger, &watch.source.path, &candidate.name, change, watch.clock.now());
    let prepared = match watch.deliver.prepare(watch.target.clone(), event).await {
        Ok(prepared) => prepared,
        Err(fault) if is_gone(fault.code) => {
            tracing::warn!(trigger = %watch.memory.trigger, "a trigger of a folder calls what is not there: {fault}");
            return committed(watch.commit(batch).await);
        }
        Err(fault) => return Err(Error::Refused(fault)),
    };
    let mut batch = Pauses::unless_paused(&watch.memory.trigger, batch);
    batch.writes.extend(prepared.batch.writes);
    batch.messages.extend(prepared.batch.messages);
    let settled = committed(watch.commit(batch).await)?;
    if settled == Settled::Done {
        (prepared.committed)();
        watch.observe.told(change.name());
    }
    Ok(settled)
}

fn remembered(watch: &Watch, candidate: &Candidate, found: &Found) -> Batch {
    watch.memory.put(Batch::default(), &candidate.name, candidate.known.as_ref(), found)
}

fn forgotten(watch: &Watch, candidate: &Candidate) -> Batch {
    watch.memory.delete(Batch::default(), &candidate.name, candidate.known.as_ref())
}

/// Who loses against another node, or against a pause, looks again.
fn committed(committed: alula_store::Result<Committed>) -> Result<Settled, Error> {
    match committed {
        Ok(_) => Ok(Settled::Done),
        Err(alula_store::Error::Conflict { .. }) => Ok(Settled::Later),
        Err(error) => Err(error.into()),
    }
}

fn is_gone(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::FunctionNotFound | ErrorCode::VersionNotFound | ErrorCode::AliasNotFound)
}
