//! The history in SQLite.
//!
//! A run's `place` is when it started, in milliseconds, with a counter in its lower bits. As the table's row number
//! it puts the table and, without a further column, every index in the order of time: pages, ranges and pruning are
//! walks along it, and an append costs two small indexes. A cursor is the place where a page ended.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use alula_model::{InvocationId, Run, RunStatus, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::database::{Database, Survives};
use super::{HISTORY_MIGRATIONS, SqliteOptions, SqliteStore};
use crate::history::{PAGE_LEN_MAX, bad_cursor};
use crate::{BoxFuture, Error, History, Result, RunFilter, RunPage};

/// Lower bits of a place: a million runs may start in one millisecond before a number comes again.
const COUNTER_BITS: u32 = 20;
const COUNTER_MASK: i64 = (1 << COUNTER_BITS) - 1;
/// The last millisecond that fits above the counter, in the year 2248.
const MILLIS_MAX: i64 = i64::MAX >> COUNTER_BITS;
/// Runs that are deleted in one transaction, so that appends do not wait long.
const PRUNE_LEN_MAX: u64 = 2_000;
/// Places that are tried for one run before the file is called damaged.
const PLACES_TRIED_MAX: usize = 16;

/// Opens the file and finds the number that the counter had reached.
pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<(Database, i64)> {
    let database = Database::open(path, HISTORY_MIGRATIONS, Survives::ProcessEnd, options)?;
    let connection = Connection::open(path)?;
    let newest: Option<i64> = connection.query_row("SELECT max(place) FROM runs", [], |row| row.get(0))?;
    Ok((database, newest.unwrap_or(0) & COUNTER_MASK))
}

impl History for SqliteStore {
    fn append(&self, runs: Vec<Run>) -> BoxFuture<'_, Result<()>> {
        let counter = Arc::clone(&self.last_run);
        Box::pin(
            self.history
                .write(move |connection| runs.iter().try_for_each(|run| append(connection, &counter, run))),
        )
    }

    fn get(&self, id: &InvocationId) -> BoxFuture<'_, Result<Vec<Run>>> {
        let id = id.clone();
        Box::pin(self.history.read(move |connection| {
            let mut get = connection.prepare_cached("SELECT run FROM runs WHERE id = ?1 ORDER BY attempt")?;
            let texts =
                get.query_map([id.as_str()], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
            texts.iter().map(|text| parse(text)).collect()
        }))
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<RunPage>> {
        Box::pin(self.history.read(move |connection| list(connection, &filter)))
    }

    fn prune(&self, before: Timestamp, keep_max: u64) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let mut pruned = 0;
            loop {
                let some =
                    self.history.write(move |connection| prune_some(connection, before, keep_max)).await?;
                pruned += some;
                if some < PRUNE_LEN_MAX {
                    return Ok(pruned);
                }
            }
        })
    }
}

fn first_place(at: Timestamp) -> i64 {
    at.0.clamp(0, MILLIS_MAX) << COUNTER_BITS
}

fn append(connection: &Connection, counter: &AtomicI64, run: &Run) -> Result<()> {
    let text = serde_json::to_string(run).map_err(|error| Error::Damaged { detail: error.to_string() })?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO runs (place, id, attempt, namespace, function, version, status, run)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
    )?;
    for _ in 0..PLACES_TRIED_MAX {
        let place =
            first_place(run.started_at) | (counter.fetch_add(1, Ordering::Relaxed) + 1) & COUNTER_MASK;
        let (id, key) = (run.id.as_str(), &run.key);
        let values = params![
            place,
            id,
            run.attempt,
            key.namespace.as_str(),
            key.function.as_str(),
            key.version,
            run.status.as_str(),
            text
        ];
        if insert.execute(values)? == 1 {
            return Ok(());
        }
        // Either the run is there already and is to be replaced, or its place is taken by another one.
        connection
            .prepare_cached("DELETE FROM runs WHERE id = ?1 AND attempt = ?2")?
            .execute(params![id, run.attempt])?;
    }
    Err(Error::Damaged { detail: format!("no free place for run {}", run.id) })
}

fn list(connection: &Connection, filter: &RunFilter) -> Result<RunPage> {
    let limit = filter.limit.min(PAGE_LEN_MAX);
    if limit == 0 {
        return Ok(RunPage::default());
    }
    let (condition, mut values) = conditions(filter)?;
    values.push(Value::Integer(i64::try_from(limit + 1).unwrap_or(i64::MAX)));
    let sql = format!("SELECT place, run FROM runs WHERE {condition} ORDER BY place DESC LIMIT ?");
    let mut list = connection.prepare_cached(&sql)?;
    let rows = list.query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut rows = rows.collect::<rusqlite::Result<Vec<(i64, String)>>>()?;
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| has_more).map(|(place, _)| place.to_string());
    Ok(RunPage { runs: rows.iter().map(|(_, text)| parse(text)).collect::<Result<_>>()?, next })
}

/// What the filter asks for as a condition, with the values for its question marks. The texts come from a fixed
/// set, so the statements stay in the cache.
fn conditions(filter: &RunFilter) -> Result<(String, Vec<Value>)> {
    let mut terms = vec!["place >= ?", "place < ?"];
    let since = filter.since.map_or(0, first_place);
    let until = filter.until.map_or(i64::MAX, first_place);
    let cursor = filter.cursor.as_deref().map(|cursor| cursor.parse().map_err(|_| bad_cursor()));
    let end = cursor.transpose()?.unwrap_or(i64::MAX).min(until);
    let mut values = vec![Value::Integer(since), Value::Integer(end)];
    let mut require = |term, value| {
        terms.push(term);
        values.push(value);
    };
    if let Some(namespace) = &filter.namespace {
        require("namespace = ?", Value::Text(namespace.to_string()));
    }
    if let Some(function) = &filter.function {
        require("function = ?", Value::Text(function.to_string()));
    }
    if let Some(version) = filter.version {
        require("version = ?", Value::Integer(i64::try_from(version).unwrap_or(i64::MAX)));
    }
    if let Some(status) = filter.status {
        // The second half lets SQLite see that the partial index holds every such row.
        let term = if status == RunStatus::Done { "status = ?" } else { "status = ? AND status <> 'done'" };
        require(term, Value::Text(status.as_str().to_owned()));
    }
    Ok((terms.join(" AND "), values))
}

fn prune_some(connection: &Connection, before: Timestamp, keep_max: u64) -> Result<u64> {
    let mut by_age = connection.prepare_cached(
        "DELETE FROM runs WHERE place IN (SELECT place FROM runs WHERE place < ?1 ORDER BY place LIMIT ?2)",
    )?;
    let aged = by_age.execute(params![first_place(before), PRUNE_LEN_MAX])? as u64;
    if aged == PRUNE_LEN_MAX {
        return Ok(aged);
    }
    let count: u64 =
        connection.prepare_cached("SELECT count(*) FROM runs")?.query_row([], |row| row.get(0))?;
    let excess = count.saturating_sub(keep_max).min(PRUNE_LEN_MAX - aged);
    let mut by_count = connection
        .prepare_cached("DELETE FROM runs WHERE place IN (SELECT place FROM runs ORDER BY place LIMIT ?1)")?;
    Ok(aged + by_count.execute([excess])? as u64)
}

fn parse(text: &str) -> Result<Run> {
    serde_json::from_str(text).map_err(|error| Error::Damaged { detail: format!("a run's record: {error}") })
}
