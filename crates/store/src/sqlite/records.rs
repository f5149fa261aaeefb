//! Records in SQLite, and the batch commit that queue and records share.

use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteStore, queue};
use crate::records::SCAN_LEN_MAX;
use crate::{Batch, BoxFuture, Committed, Error, Expect, Key, Record, Records, Result, Revision, Write};

impl Records for SqliteStore {
    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Record>>> {
        let key = key.clone();
        Box::pin(self.main.read(move |connection| {
            let mut get =
                connection.prepare_cached("SELECT key, value, revision FROM records WHERE key = ?1")?;
            Ok(get.query_row([key.as_str()], record).optional()?)
        }))
    }

    fn scan(&self, prefix: &Key, after: Option<&Key>, limit: usize) -> BoxFuture<'_, Result<Vec<Record>>> {
        let range = Range::new(prefix, after);
        let limit = limit.min(SCAN_LEN_MAX);
        Box::pin(self.main.read(move |connection| {
            let mut scan = connection.prepare_cached(
                "SELECT key, value, revision FROM records
                 WHERE key >= ?1 AND key < ?2 AND (key = ?3 OR key >= ?4) ORDER BY key LIMIT ?5",
            )?;
            let bounds = params![range.first, range.end, range.prefix, range.children, limit];
            Ok(scan.query_map(bounds, record)?.collect::<rusqlite::Result<_>>()?)
        }))
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(async move {
            batch.check_limits()?;
            self.main.write(move |connection| apply(connection, batch)).await
        })
    }
}

/// The keys that a scan covers: the prefix itself, and from the prefix with a slash to the character behind a slash.
struct Range {
    first: String,
    end: Value,
    prefix: String,
    children: String,
}

impl Range {
    fn new(prefix: &Key, after: Option<&Key>) -> Self {
        let prefix = prefix.as_str().to_owned();
        // The smallest text behind a key is the key with a zero byte.
        let first = after.map_or(String::new(), |after| format!("{after}\0")).max(prefix.clone());
        if prefix.is_empty() {
            // Every blob is behind every text.
            return Self { first, end: Value::Blob(Vec::new()), children: String::new(), prefix };
        }
        Self { first, end: Value::Text(format!("{prefix}0")), children: format!("{prefix}/"), prefix }
    }
}

/// Applies a batch that is within the limits, inside the caller's transaction.
pub(super) fn apply(connection: &Connection, batch: Batch) -> Result<Committed> {
    for write in &batch.writes {
        check_expectation(connection, write)?;
    }
    let revision = next_number(connection, "revision")?;
    let mut put = connection.prepare_cached(
        "INSERT INTO records (key, revision, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, value = excluded.value",
    )?;
    let mut delete = connection.prepare_cached("DELETE FROM records WHERE key = ?1")?;
    for Write { key, value, .. } in &batch.writes {
        match value {
            Some(value) => put.execute(params![key.as_str(), revision, value.as_ref()])?,
            None => delete.execute([key.as_str()])?,
        };
    }
    for message in &batch.messages {
        queue::enqueue(connection, message)?;
    }
    Ok(Committed { revision: Revision(revision) })
}

/// Counts up one of the numbers that are never given twice.
pub(super) fn next_number(connection: &Connection, counter: &str) -> Result<u64> {
    let mut count =
        connection.prepare_cached("UPDATE counters SET value = value + 1 WHERE name = ?1 RETURNING value")?;
    Ok(count.query_row([counter], |row| row.get(0))?)
}

fn check_expectation(connection: &Connection, write: &Write) -> Result<()> {
    if write.expect == Expect::Any {
        return Ok(());
    }
    let mut get = connection.prepare_cached("SELECT revision FROM records WHERE key = ?1")?;
    let present: Option<u64> = get.query_row([write.key.as_str()], |row| row.get(0)).optional()?;
    let expected = match write.expect {
        Expect::At(Revision(revision)) => Some(revision),
        Expect::Any | Expect::Absent => None,
    };
    if present == expected { Ok(()) } else { Err(Error::Conflict { key: write.key.clone() }) }
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        key: Key::from_stored(row.get(0)?),
        value: Bytes::from(row.get::<_, Vec<u8>>(1)?),
        revision: Revision(row.get(2)?),
    })
}
