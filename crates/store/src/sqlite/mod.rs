//! The SQLite back end: the default of a platform on one machine.
//!
//! Two files in the data directory: `alula.db` holds records and queue, so that a call's record and its message are
//! one transaction; `history.db` holds finished runs, so that their volume delays nobody. Each file has one writer
//! thread, which commits whatever is waiting for it as one transaction and one sync of the disk, and a few
//! connections that only read. Both files are synced at every commit: what was acknowledged survives a loss of power.
//!
//! Read `writer` for the group commit, `database` for what a file is opened with, then the ports' SQL.

mod counters;
mod database;
mod dead_letters;
mod failure;
mod history;
mod migrations;
mod queue;
mod queue_counts;
mod readers;
mod records;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use counters::Counters;
use database::{Database, Survives};
use migrations::{Migrations, Step};

use crate::{DataDir, Result};

/// Settings of the SQLite back end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Size that each of the two files may grow to, in bytes; beyond it commits fail with
    /// [`Error::Full`](crate::Error::Full) until something is deleted.
    pub file_bytes_max: u64,
    /// Connections that read at the same time, for each file.
    pub readers: usize,
}

impl Default for SqliteOptions {
    /// 32 GiB hold some hundred million runs; two readers keep a list from waiting for a slow search.
    fn default() -> Self {
        Self { file_bytes_max: 32 * 1024 * 1024 * 1024, readers: 2 }
    }
}

/// Records, queue and history in SQLite. Clones share their connections; dropping the last one writes everything
/// that was handed in and closes the files.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    /// Records and queue.
    main: Arc<Database<Counters>>,
    history: Arc<Database<()>>,
    /// Keeps other processes out for as long as the files are open; last, so that it is dropped last.
    _dir: DataDir,
}

const RECORDS_MIGRATIONS: Migrations = Migrations(&[
    Step::Script(include_str!("migrations/records/0001.sql")),
    Step::Script(include_str!("migrations/records/0002.sql")),
]);

/// Opens the store of a data directory, making or upgrading its files as needed. Blocks while it does.
///
/// Fails with [`Error::TooNew`](crate::Error::TooNew) where a newer binary wrote the files and with
/// [`Error::Damaged`](crate::Error::Damaged) where they are no databases.
pub fn open_sqlite(dir: &DataDir, options: &SqliteOptions) -> Result<SqliteStore> {
    let main =
        Database::open(&dir.path().join("alula.db"), RECORDS_MIGRATIONS, Survives::PowerLoss, options)?;
    let history = history::open(&dir.path().join("history.db"), options)?;
    Ok(SqliteStore { main: Arc::new(main), history: Arc::new(history), _dir: dir.clone() })
}
