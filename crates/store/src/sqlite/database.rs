//! One database file: how it is opened, and the way to its writer and its readers.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::SqliteOptions;
use super::migrations::Migrations;
use super::readers::Readers;
use super::writer::{Carried, Writer};
use crate::Result;

/// One file with its writer, which carries a `C`, and its readers.
#[derive(Debug)]
pub(super) struct Database<C> {
    readers: Readers,
    writer: Writer<C>,
}

/// Larger than the default because records and messages are often a few kilobytes.
const PAGE_BYTES: u32 = 8192;
/// Nobody else writes to the file; a person with a database tool may hold it for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The log of changes is cut back to this size when it has been merged into the file.
const WAL_BYTES_KEPT: u32 = 16 * 1024 * 1024;
/// Memory that each connection may keep pages in; the system's own page cache stands behind it.
const CACHE_KIB: i32 = 1024;
/// Prepared statements kept by each connection: more than there are.
const STATEMENTS_MAX: usize = 64;

/// What a commit that has returned survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survives {
    /// A loss of power: every group of commits waits for the disk.
    PowerLoss,
    /// The end of the process, however it comes; a loss of power may cost the last seconds.
    ProcessEnd,
}

impl<C: Carried> Database<C> {
    /// Opens or makes the file at `path` and brings its tables to the newest version.
    pub(super) fn open(
        path: &Path,
        migrations: Migrations,
        survives: Survives,
        options: &SqliteOptions,
    ) -> Result<Self> {
        let mut connection = Connection::open(path)?;
        configure(&connection)?;
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        let synchronous = match survives {
            Survives::PowerLoss => "FULL",
            Survives::ProcessEnd => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        migrations.apply(&mut connection)?;
        let page_bytes: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        connection.pragma_update(None, "max_page_count", options.file_bytes_max / page_bytes)?;

        Ok(Self { readers: Readers::new(path, options.readers), writer: Writer::start(connection)? })
    }

    /// Runs `work` inside the next group commit; durable when this returns. All of `work` happens or nothing.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &mut C) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.submit(work).await
    }

    /// Runs `work`, which only reads, on a thread of its own.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.readers.run(work).await
    }
}

pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(connection.pragma_update(None, "temp_store", "MEMORY")?)
}
