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
//! group is told so. There is no delay to collect jobs: while one group is being synced the next one gathers.

use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, Result};

/// Jobs committed together: bounds how long the first of a group waits for the last.
const GROUP_LEN_MAX: usize = 2_048;
/// Jobs waiting; more callers than this wait for room.
const WAITING_MAX: usize = 8_192;

/// Owns the thread that writes.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None` only while it is being dropped.
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

/// Work that waits for its group, whatever its result's type.
trait Job: Send + std::fmt::Debug {
    /// Does the work and keeps its outcome; answers whether it is to be kept.
    fn run(&mut self, connection: &Connection) -> Result<()>;

    /// Tells the caller the outcome, or that its group failed.
    fn answer(self: Box<Self>, group: &Result<()>);
}

struct Task<T, F> {
    work: Option<F>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self> {
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("alula-store".to_owned())
            .spawn(move || write_until_closed(&connection, waiting))
            .map_err(|error| Error::Unavailable {
                detail: format!("starting the writer's thread: {error}"),
            })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Hands in `work` and waits until it is committed. Once handed in it happens, even if nobody waits any more.
    pub(super) async fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Task { work: Some(work), outcome: None, reply });
        let gone = || Error::Unavailable { detail: "the writer ended".to_owned() };
        self.jobs.as_ref().ok_or_else(gone)?.send(job).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Writer {
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

fn write_until_closed(connection: &Connection, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
    let mut group = Vec::with_capacity(GROUP_LEN_MAX);
    while waiting.blocking_recv_many(&mut group, GROUP_LEN_MAX) > 0 {
        let outcome = commit_group(connection, &mut group);
        if let Err(error) = &outcome {
            tracing::error!(%error, jobs = group.len(), "a group of changes was not committed");
            roll_back(connection);
        }
        for job in group.drain(..) {
            job.answer(&outcome);
        }
    }
}

fn commit_group(connection: &Connection, group: &mut [Box<dyn Job>]) -> Result<()> {
    execute(connection, "BEGIN IMMEDIATE")?;
    for job in group {
        execute(connection, "SAVEPOINT job")?;
        if let Err(error) = job.run(connection) {
            if connection.is_autocommit() {
                return Err(error);
            }
            execute(connection, "ROLLBACK TO job")?;
        }
        execute(connection, "RELEASE job")?;
    }
    execute(connection, "COMMIT")
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

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let outcome = work(connection);
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
