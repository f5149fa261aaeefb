//! Records in SQLite, and the batch commit that queue and records share.

use alula_model::Timestamp;
use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::counters::Counters;
use super::{SqliteStore, dead_letters, queue};
use crate::records::{EXPIRE_LEN_MAX, SCAN_LEN_MAX};
use crate::{Batch, BoxFuture, Committed, Error, Expect, Key, Record, Records, Result, Revision, Write};

/// A page of a scan. The pluses keep SQLite from looking up both sides of the OR by themselves, for which it would read
/// everything behind the prefix for every page.
const SCAN: &str = "SELECT key, value, revision FROM records
    WHERE key >= ?1 AND key < ?2 AND (+key = ?3 OR +key >= ?4) ORDER BY key LIMIT ?5";

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
            let mut scan = connection.prepare_cached(SCAN)?;
            let bounds = params![range.first, range.end, range.prefix, range.children, limit];
            Ok(scan.query_map(bounds, record)?.collect::<rusqlite::Result<_>>()?)
        }))
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(async move {
            batch.check_limits()?;
            self.main.write(move |connection, counters| apply(connection, counters, batch)).await
        })
    }

    fn expire(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.main.write(move |connection, _| {
            let mut expire = connection.prepare_cached(
                "DELETE FROM records WHERE rowid IN
                     (SELECT rowid FROM records WHERE expires_at <= ?1 ORDER BY expires_at, key LIMIT ?2)",
            )?;
            Ok(expire.execute(params![now.0, limit.min(EXPIRE_LEN_MAX)])? as u64)
        }))
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
pub(super) fn apply(connection: &Connection, counters: &mut Counters, batch: Batch) -> Result<Committed> {
    for write in &batch.writes {
        check_expectation(connection, write)?;
    }
    counters.revision += 1;
    for write in &batch.writes {
        apply_write(connection, write, counters.revision)?;
    }
    for message in &batch.messages {
        queue::enqueue(connection, message)?;
    }
    for letter in &batch.dead_letters {
        dead_letters::bury(connection, letter)?;
    }
    counters.accepted += (batch.messages.len() + batch.dead_letters.len()) as u64;
    Ok(Committed { revision: Revision(counters.revision) })
}

fn apply_write(connection: &Connection, write: &Write, revision: u64) -> Result<()> {
    let Write { key, value, expires_at, .. } = write;
    match value {
        Some(value) => connection
            .prepare_cached(
                "INSERT INTO records (key, revision, value, expires_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, value = excluded.value,
                                                 expires_at = excluded.expires_at",
            )?
            .execute(params![key.as_str(), revision, value.as_ref(), expires_at.map(|at| at.0)])?,
        None => connection.prepare_cached("DELETE FROM records WHERE key = ?1")?.execute([key.as_str()])?,
    };
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_scan_reads_its_own_range_in_order() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("migrations/records/0001.sql")).unwrap();
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {SCAN}")).unwrap();
        let steps =
            explain.query_map(params!["a", "b", "a", "a/", 10], |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<String> = steps.collect::<rusqlite::Result<_>>().unwrap();
        assert_eq!(steps.len(), 1, "{steps:?}");
        assert!(steps[0].starts_with("SEARCH records USING INDEX"), "{steps:?}");
    }
}
