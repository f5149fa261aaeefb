//! The one writer of a file, and group commit.
//!
//! ```text
//! callers --bounded channel--> writer thread:  BEGIN IMMEDIATE
//!                                                SAVEPOINT, job, RELEASE      for each waiting job
//!                                              COMMIT                         one sync of the disk for all
//! callers <--- one answer each ---------------
//! ```
//!
//! A sync of the disk costs the same for one job as for a thousand, so the thread takes whatever is waiting when it
//! is free. A job that fails is rolled back to its savepoint and disturbs nobody else; no job is answered before
//! the commit, and when that fails, or SQLite has rolled everything back because the disk is full, every job of the
//! group is told so. What changes with nearly every job, such as counters, the thread carries in memory and writes once a
//! group, in the group's own transaction ([`Carried`]). There is no delay to collect jobs: while one group is being synced the next one gathers.

use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, Result};

/// Jobs committed together: bounds how long the first of a group waits for the last.
const GROUP_LEN_MAX: usize = 2_048;
/// Jobs waiting; more callers than this wait for room.
const WAITING_MAX: usize = 8_192;

/// What a writer keeps in memory from one group to the next. Jobs change it; what a failed job did to it is undone.
pub(super) trait Carried: Copy + PartialEq + Send + 'static {
    /// Reads it from the file.
    fn load(connection: &Connection) -> Result<Self>;

    /// Writes it into the file, inside the group's transaction.
    fn save(&self, connection: &Connection) -> Result<()>;
}

impl Carried for () {
    fn load(_: &Connection) -> Result<Self> {
        Ok(())
    }

    fn save(&self, _: &Connection) -> Result<()> {
        Ok(())
    }
}

/// Owns the thread that writes.
#[derive(Debug)]
pub(super) struct Writer<C> {
    /// `None` only while it is being dropped.
    jobs: Option<mpsc::Sender<Box<dyn Job<C>>>>,
    thread: Option<JoinHandle<()>>,
}

/// Work that waits for its group, whatever its result's type.
trait Job<C>: Send + std::fmt::Debug {
    /// Does the work and keeps its outcome; answers whether it is to be kept.
    fn run(&mut self, connection: &Connection, carried: &mut C) -> Result<()>;

    /// Tells the caller the outcome, or that its group failed.
    fn answer(self: Box<Self>, group: &Result<()>);
}

struct Task<T, F> {
    work: Option<F>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<C: Carried> Writer<C> {
    pub(super) fn start(connection: Connection) -> Result<Self> {
        let carried = C::load(&connection)?;
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("alula-store".to_owned())
            .spawn(move || write_until_closed(&connection, carried, waiting))
            .map_err(|error| Error::Unavailable {
                detail: format!("starting the writer's thread: {error}"),
            })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Hands in `work` and waits until it is committed. Once handed in it happens, even if nobody waits any more.
    pub(super) async fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut C) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Task { work: Some(work), outcome: None, reply });
        let gone = || Error::Unavailable { detail: "the writer ended".to_owned() };
        self.jobs.as_ref().ok_or_else(gone)?.send(job).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl<C> Drop for Writer<C> {
    /// Waits until everything that was handed in is on the disk and the file is closed.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

fn write_until_closed<C: Carried>(
    connection: &Connection,
    mut carried: C,
    mut waiting: mpsc::Receiver<Box<dyn Job<C>>>,
) {
    let mut group = Vec::with_capacity(GROUP_LEN_MAX);
    while waiting.blocking_recv_many(&mut group, GROUP_LEN_MAX) > 0 {
        let outcome = commit_group(connection, carried, &mut group);
        if let Err(error) = &outcome {
            tracing::error!(%error, jobs = group.len(), "a group of changes was not committed");
            roll_back(connection);
        }
        let outcome = outcome.map(|changed| carried = changed);
        for job in group.drain(..) {
            job.answer(&outcome);
        }
    }
}

/// Commits the group; returns what is carried on from it.
fn commit_group<C: Carried>(connection: &Connection, carried: C, group: &mut [Box<dyn Job<C>>]) -> Result<C> {
    let mut changed = carried;
    execute(connection, "BEGIN IMMEDIATE")?;
    for job in group {
        execute(connection, "SAVEPOINT job")?;
        let before = changed;
        if let Err(error) = job.run(connection, &mut changed) {
            if connection.is_autocommit() {
                return Err(error);
            }
            changed = before;
            execute(connection, "ROLLBACK TO job")?;
        }
        execute(connection, "RELEASE job")?;
    }
    if changed != carried {
        changed.save(connection)?;
    }
    execute(connection, "COMMIT")?;
    Ok(changed)
}

fn roll_back(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = execute(connection, "ROLLBACK")
    {
        tracing::error!(%error, "a failed group of changes could not be rolled back");
    }
}

fn execute(connection: &Connection, sql: &str) -> Result<()> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

impl<C, T, F> Job<C> for Task<T, F>
where
    T: Send,
    F: FnOnce(&Connection, &mut C) -> Result<T> + Send,
{
    fn run(&mut self, connection: &Connection, carried: &mut C) -> Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let outcome = work(connection, carried);
        let kept = outcome.as_ref().map(drop).map_err(Clone::clone);
        self.outcome = Some(outcome);
        kept
    }

    fn answer(self: Box<Self>, group: &Result<()>) {
        let ended = || Error::Unavailable { detail: "the job was not run".to_owned() };
        let outcome = match (group, self.outcome) {
            // A job's own refusal stands whatever became of the others.
            (_, Some(Err(error))) => Err(error),
            (Err(error), _) => Err(error.clone()),
            (Ok(()), outcome) => outcome.unwrap_or_else(|| Err(ended())),
        };
        // A caller that has gone away does not want to know.
        drop(self.reply.send(outcome));
    }
}

impl<T, F> std::fmt::Debug for Task<T, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}
