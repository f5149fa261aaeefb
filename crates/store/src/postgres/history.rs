//! The history in PostgreSQL: a row a run, as JSON beside the columns that are searched.
//!
//! The session does not wait for the server's disk: the port asks for no more than that a run outlives our process.

use std::collections::BTreeMap;
use std::sync::Arc;

use alula_model::{InvocationId, Run, RunStatus, Timestamp};
use tokio_postgres::Row;

use super::PostgresStore;
use crate::history::{PAGE_LEN_MAX, bad_cursor};
use crate::{BoxFuture, Error, History, Result, RunFilter, RunPage};

/// Runs that one statement adds at the most.
const APPENDED_AT_ONCE: usize = 1_000;
/// Runs that one statement removes at the most, so that each is done long before its timeout.
const PRUNED_AT_ONCE: u64 = 10_000;

const APPEND: &str = "
    INSERT INTO runs (id, attempt, started_at, namespace, function, version, status, run)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[],
                         $7::text[], $8::text[])
    ON CONFLICT (id, attempt) DO UPDATE
    SET started_at = excluded.started_at, place = excluded.place, namespace = excluded.namespace,
        function = excluded.function, version = excluded.version, status = excluded.status, run = excluded.run";

/// A page from before the position `$1`, `$2`. There is a statement for each kind of filter, so that each has its index;
/// what is left to check is cheap.
macro_rules! list {
    ($indexed:literal) => {
        concat!(
            "SELECT started_at, place, run FROM runs WHERE (started_at, place) < ($1, $2) AND started_at >= $3
                AND ($4::text IS NULL OR namespace = $4) AND ($5::text IS NULL OR function = $5)
                AND ($6::bigint IS NULL OR version = $6) AND ($7::text IS NULL OR status = $7)",
            $indexed,
            " ORDER BY started_at DESC, place DESC LIMIT $8"
        )
    };
}
const LIST: &str = list!("");
const LIST_OF_FUNCTION: &str = list!(" AND namespace = $4 AND function = $5");
const LIST_NOT_DONE: &str = list!(" AND status <> 'done'");

const PRUNE: &str = "
    WITH doomed AS (
        SELECT id, attempt FROM runs WHERE started_at < $1 ORDER BY started_at, place LIMIT $2
    ), gone AS (
        DELETE FROM runs USING doomed WHERE runs.id = doomed.id AND runs.attempt = doomed.attempt RETURNING 1
    )
    SELECT count(*) FROM gone";

impl History for PostgresStore {
    fn append(&self, runs: Arc<[Run]>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let last_of_each: BTreeMap<_, _> = runs
                .iter()
                .enumerate()
                .map(|(number, run)| ((run.id.as_str(), run.attempt), number))
                .collect();
            let mut numbers: Vec<usize> = last_of_each.into_values().collect();
            numbers.sort_unstable();
            for part in numbers.chunks(APPENDED_AT_ONCE) {
                self.append_some(part.iter().filter_map(|number| runs.get(*number))).await?;
            }
            Ok(())
        })
    }

    fn get(&self, id: &InvocationId) -> BoxFuture<'_, Result<Vec<Run>>> {
        let id = id.clone();
        Box::pin(async move {
            let get = "SELECT run FROM runs WHERE id = $1 ORDER BY attempt";
            self.readers.query(get, &[&id.as_str()]).await?.iter().map(|row| run(row, 0)).collect()
        })
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<RunPage>> {
        Box::pin(async move {
            let limit = filter.limit.min(PAGE_LEN_MAX);
            let (started_at, place) = end_of(&filter)?;
            if limit == 0 {
                return Ok(RunPage::default());
            }
            let statement = match (&filter.namespace, &filter.function, filter.status) {
                (Some(_), Some(_), _) => LIST_OF_FUNCTION,
                (.., Some(status)) if status != RunStatus::Done => LIST_NOT_DONE,
                _ => LIST,
            };
            let since = filter.since.map_or(i64::MIN, |since| since.0);
            let namespace = filter.namespace.as_ref().map(|name| name.as_str());
            let function = filter.function.as_ref().map(|name| name.as_str());
            let version = filter.version.map(u64::cast_signed);
            let status = filter.status.map(status_name).transpose()?;
            // One more than the page holds tells that there is a next one.
            let asked = limit as i64 + 1;
            let rows = self
                .readers
                .query(
                    statement,
                    &[&started_at, &place, &since, &namespace, &function, &version, &status, &asked],
                )
                .await?;
            page(&rows, limit)
        })
    }

    fn prune(&self, before: Timestamp, keep_max: u64) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let aged = self.prune_some(before.0, u64::MAX).await?;
            let here: i64 = self.history.query_one("SELECT count(*) FROM runs", &[]).await?.try_get(0)?;
            let excess = here.cast_unsigned().saturating_sub(keep_max);
            Ok(aged + self.prune_some(i64::MAX, excess).await?)
        })
    }
}

impl PostgresStore {
    async fn append_some(&self, runs: impl Iterator<Item = &Run>) -> Result<()> {
        let mut columns = Columns::default();
        for run in runs {
            columns.add(run)?;
        }
        let Columns { ids, attempts, started_at, namespaces, functions, versions, statuses, runs } = &columns;
        let values: super::connections::Values<'_> =
            &[ids, attempts, started_at, namespaces, functions, versions, statuses, runs];
        self.history.query(APPEND, values).await.map(drop)
    }

    /// Removes up to `most` of the oldest runs that started before `before`.
    async fn prune_some(&self, before: i64, most: u64) -> Result<u64> {
        let mut pruned = 0;
        while pruned < most {
            let some = PRUNED_AT_ONCE.min(most - pruned);
            let gone = self.history.query_one(PRUNE, &[&before, &some.cast_signed()]).await?;
            let gone: i64 = gone.try_get(0)?;
            pruned += gone.cast_unsigned();
            if gone.cast_unsigned() < some {
                break;
            }
        }
        Ok(pruned)
    }
}

/// Runs as columns.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<&'a str>,
    attempts: Vec<i64>,
    started_at: Vec<i64>,
    namespaces: Vec<&'a str>,
    functions: Vec<&'a str>,
    versions: Vec<i64>,
    statuses: Vec<String>,
    runs: Vec<String>,
}

impl<'a> Columns<'a> {
    fn add(&mut self, run: &'a Run) -> Result<()> {
        self.ids.push(run.id.as_str());
        self.attempts.push(run.attempt.into());
        self.started_at.push(run.started_at.0);
        self.namespaces.push(run.key.namespace.as_str());
        self.functions.push(run.key.function.as_str());
        self.versions.push(run.key.version.cast_signed());
        self.statuses.push(status_name(run.status)?);
        self.runs.push(serde_json::to_string(run).map_err(|error| not_a_run(&error))?);
        Ok(())
    }
}

/// The position before which the page begins.
fn end_of(filter: &RunFilter) -> Result<(i64, i64)> {
    let until = (filter.until.map_or(i64::MAX, |until| until.0), i64::MIN);
    let Some(cursor) = &filter.cursor else { return Ok(until) };
    let (started_at, place) = cursor.split_once('.').ok_or_else(bad_cursor)?;
    let end = started_at.parse().ok().zip(place.parse().ok()).ok_or_else(bad_cursor)?;
    Ok(until.min(end))
}

fn page(rows: &[Row], limit: usize) -> Result<RunPage> {
    let runs = rows.iter().take(limit).map(|row| run(row, 2)).collect::<Result<_>>()?;
    let last = rows.get(limit - 1).filter(|_| rows.len() > limit);
    let cursor = |row: &Row| -> Result<String> {
        let (started_at, place): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(format!("{started_at}.{place}"))
    };
    Ok(RunPage { runs, next: last.map(cursor).transpose()? })
}

fn run(row: &Row, column: usize) -> Result<Run> {
    serde_json::from_str(row.try_get(column)?).map_err(|error| not_a_run(&error))
}

/// The status as it stands in a run's JSON.
fn status_name(status: RunStatus) -> Result<String> {
    match serde_json::to_value(status) {
        Ok(serde_json::Value::String(name)) => Ok(name),
        Ok(_) => Err(Error::Damaged { detail: "a status is not a text".to_owned() }),
        Err(error) => Err(not_a_run(&error)),
    }
}

fn not_a_run(error: &serde_json::Error) -> Error {
    Error::Damaged { detail: format!("a run's record: {error}") }
}
