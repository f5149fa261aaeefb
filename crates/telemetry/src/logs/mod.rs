//! Log lines of functions: taken without waiting, kept in files, searched and followed.
//!
//! ```text
//! instances --write--> pending lines, a share for each function --one thread--> <namespace>/<function>/<start>.log
//!                                                                     \-------> followers
//! ```
//!
//! A function that floods its log uses up its own share of the buffer, its own room on the disk, and its own
//! followers' patience; its neighbours do not notice. What is dropped is counted, and a line of the platform in the
//! function's own log says how much. A query first waits until every line taken before it is in the files, so
//! that a caller finds the lines of the call that it has just made.
//!
//! Read `pending` for the fair share, `segments` for the files, `search` for queries, `follow` for followers.
//! Deliberately absent: export to other systems, and what a terminal makes of a line (texts are kept as they came).

mod follow;
mod pending;
mod query;
mod search;
mod segments;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use alula_model::{Clock, LogLine};
use alula_runtime::LogSink;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use follow::Followers;
use pending::Pending;

pub use follow::Follow;
pub use query::{LogQuery, QUERY_LINES_MAX};

/// Settings of the log service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Folder of the log files; only this service writes there.
    pub dir: PathBuf,
    /// Size at which a new file is begun, in bytes. Files are deleted whole.
    pub segment_bytes_max: u64,
    /// Room for all functions together, in bytes. Over it, whoever uses most loses its oldest file.
    pub total_bytes_max: u64,
    /// Room for one function, in bytes. Over it, the function loses its oldest file.
    pub function_bytes_max: u64,
    /// Age at which lines are forgotten, in milliseconds.
    pub retention_ms: i64,
}

impl Default for LogOptions {
    /// A week; a hundred lines for each of ten thousand calls of one function; a disk of any server.
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            dir: PathBuf::from("logs"),
            segment_bytes_max: 4 * MIB,
            total_bytes_max: 2048 * MIB,
            function_bytes_max: 128 * MIB,
            retention_ms: 7 * 24 * 3600 * 1000,
        }
    }
}

/// Why log lines could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files cannot be read.
    #[error("reading the log files")]
    Files(#[source] std::io::Error),
    /// The service has ended: the platform is shutting down.
    #[error("the log service has ended")]
    Ended,
}

/// Searches that run at the same time; each may read every file.
const SEARCHES_MAX: usize = 4;

/// Owns the files. Runs until it is cancelled.
#[derive(Debug)]
pub struct LogService {
    options: LogOptions,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
}

/// Takes lines and answers queries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    pending: Pending,
    followers: Followers,
    searches: Arc<Semaphore>,
}

/// Makes the service and its handle. Lines are taken at once; they are stored, and queries answered, when the
/// service runs.
#[must_use]
pub fn start(options: LogOptions, clock: Arc<dyn Clock>) -> (LogService, LogHandle) {
    let shared = Arc::new(Shared {
        dir: options.dir.clone(),
        pending: Pending::new(),
        followers: Followers::default(),
        searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
    });
    (LogService { options, clock, shared: Arc::clone(&shared) }, LogHandle { shared })
}

impl LogService {
    /// Stores lines until `cancel`, and then what was taken before it.
    pub async fn run(self, cancel: CancellationToken) -> Result<(), Error> {
        let Self { options, clock, shared } = self;
        let (ended, has_ended) = tokio::sync::oneshot::channel::<()>();
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("alula-logs".to_owned()).spawn(move || {
            writer::write_until_closed(&writer, options, clock.as_ref());
            drop(ended);
        });
        thread.map_err(Error::Files)?;
        // Closes also where this future is dropped.
        let close = CloseOnDrop(&shared);
        cancel.cancelled().await;
        drop(close);
        // The thread drops the sender when the last line is in its file.
        drop(has_ended.await);
        Ok(())
    }
}

struct CloseOnDrop<'a>(&'a Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.pending.close();
    }
}

impl LogHandle {
    /// The newest lines that `query` asks for, the oldest of them first.
    pub async fn query(&self, query: LogQuery) -> Result<Vec<LogLine>, Error> {
        self.shared.pending.stored().await?;
        let permit = Arc::clone(&self.shared.searches).acquire_owned().await.map_err(|_| Error::Ended)?;
        let dir = self.shared.dir.clone();
        let searching = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            search::search(&dir, &query)
        });
        let found = searching.await.map_err(|error| Error::Files(std::io::Error::other(error)))?;
        found.map_err(Error::Files)
    }

    /// Lines as they come from now on. Whoever reads them too slowly loses lines and is told how many.
    #[must_use]
    pub fn follow(&self, query: LogQuery) -> Follow {
        self.shared.followers.add(query)
    }

    /// Counts the lines that were dropped.
    #[must_use]
    pub fn dropped(&self) -> Counter {
        self.shared.pending.dropped()
    }
}

impl LogSink for LogHandle {
    fn write(&self, line: LogLine) {
        self.shared.pending.add(line);
    }
}
