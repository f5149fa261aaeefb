//! Writing blocks together with what is needed to find them, and taking them away again.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use alula_model::{Run, RunStatus};
use rusqlite::{Connection, params};

use super::{Bucket, block, blocks_in, blocks_of, count, is_stray};
use crate::{Error, Result};

/// Runs that one block holds at the most: what has to be read to find one of them.
const BLOCK_LEN_MAX: usize = 2_048;

/// Adds runs; one that is there already is replaced.
pub(super) fn append(connection: &Connection, runs: &[Run]) -> Result<()> {
    let runs = last_of_each(runs);
    forget(connection, &runs)?;
    count(connection, signed(runs.len()))?;
    let mut by_bucket: BTreeMap<Bucket, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        by_bucket.entry(Bucket::of(run.started_at)).or_default().push(run);
    }
    for (bucket, runs) in by_bucket {
        for (place, runs) in (next_place(connection, bucket)?..).zip(runs.chunks(BLOCK_LEN_MAX)) {
            if place > bucket.last_place() {
                return Err(Error::Damaged { detail: format!("no place for further runs in {bucket:?}") });
            }
            put(connection, place, runs.iter().map(|run| Some(*run)))?;
        }
    }
    Ok(())
}

/// Writes the block at `place` and its index entries. The place must be free.
pub(super) fn put<'a>(
    connection: &Connection,
    place: i64,
    runs: impl ExactSizeIterator<Item = Option<&'a Run>> + Clone,
) -> Result<()> {
    let mut functions = BTreeMap::new();
    let mut has_failed = false;
    let mut add_stray =
        connection.prepare_cached("INSERT OR IGNORE INTO strays (id, place) VALUES (?1, ?2)")?;
    for run in runs.clone().flatten() {
        let function_failed = functions.entry((&run.key.namespace, &run.key.function)).or_insert(false);
        *function_failed |= run.status != RunStatus::Done;
        has_failed |= *function_failed;
        if is_stray(run) {
            add_stray.execute(params![run.id.as_str(), place])?;
        }
    }
    connection
        .prepare_cached("INSERT INTO blocks (place, has_failed, runs) VALUES (?1, ?2, ?3)")?
        .execute(params![place, has_failed, block::encode(runs)])?;
    let mut add_function = connection.prepare_cached(
        "INSERT INTO block_functions (namespace, function, place, has_failed) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for ((namespace, function), has_failed) in functions {
        add_function.execute(params![namespace.as_str(), function.as_str(), place, has_failed])?;
    }
    Ok(())
}

/// Removes the block at `place`, which holds `runs`, and its index entries.
pub(super) fn take_away(connection: &Connection, place: i64, runs: &[Option<Run>]) -> Result<()> {
    connection.prepare_cached("DELETE FROM blocks WHERE place = ?1")?.execute([place])?;
    let functions: BTreeSet<_> =
        runs.iter().flatten().map(|run| (&run.key.namespace, &run.key.function)).collect();
    let mut function_gone = connection.prepare_cached(
        "DELETE FROM block_functions WHERE namespace = ?1 AND function = ?2 AND place = ?3",
    )?;
    for (namespace, function) in functions {
        function_gone.execute(params![namespace.as_str(), function.as_str(), place])?;
    }
    let mut stray_gone = connection.prepare_cached("DELETE FROM strays WHERE id = ?1 AND place = ?2")?;
    for run in runs.iter().flatten().filter(|run| is_stray(run)) {
        stray_gone.execute(params![run.id.as_str(), place])?;
    }
    Ok(())
}

/// Removes from the block at `place` the runs whose numbers are `doomed`; the others keep theirs.
pub(super) fn remove(
    connection: &Connection,
    place: i64,
    mut runs: Vec<Option<Run>>,
    doomed: &[usize],
) -> Result<()> {
    take_away(connection, place, &runs)?;
    for number in doomed {
        runs[*number] = None;
    }
    if runs.iter().any(Option::is_some) {
        put(connection, place, runs.iter().map(Option::as_ref))?;
    }
    count(connection, -signed(doomed.len()))
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Every run once, in order: the last one where one is there several times.
fn last_of_each(runs: &[Run]) -> Vec<&Run> {
    let mut seen = HashSet::with_capacity(runs.len());
    let newest_first = runs.iter().rev();
    let mut last: Vec<_> = newest_first.filter(|run| seen.insert((run.id.as_str(), run.attempt))).collect();
    last.reverse();
    last
}

/// Removes what is there of the same attempts of the same calls.
fn forget(connection: &Connection, runs: &[&Run]) -> Result<()> {
    let blocks = blocks_that_may_hold(connection, runs)?;
    if blocks.is_empty() {
        return Ok(());
    }
    let heads: HashSet<Vec<u8>> = runs.iter().map(|run| block::head(run)).collect();
    for (place, bytes) in blocks {
        let found = block::heads(&bytes)?;
        let is_known = |head: Option<&[u8]>| head.is_some_and(|head| heads.contains(head));
        let doomed: Vec<_> = (0..found.len()).filter(|number| is_known(found[*number])).collect();
        if !doomed.is_empty() {
            remove(connection, place, block::decode(&bytes)?, &doomed)?;
        }
    }
    Ok(())
}

fn blocks_that_may_hold(connection: &Connection, runs: &[&Run]) -> Result<BTreeMap<i64, Vec<u8>>> {
    let mut blocks = BTreeMap::new();
    let buckets: BTreeSet<_> = runs.iter().filter_map(|run| Bucket::told_by(&run.id)).collect();
    for bucket in buckets {
        blocks.extend(blocks_in(connection, bucket)?);
    }
    // Most appends meet no strays: one question for all of them.
    let ids = || runs.iter().map(|run| run.id.as_str());
    let has_strays = connection
        .prepare_cached("SELECT 1 FROM strays WHERE id BETWEEN ?1 AND ?2 LIMIT 1")?
        .exists(params![ids().min(), ids().max()])?;
    if has_strays {
        for run in runs {
            blocks.extend(blocks_of(connection, &run.id)?);
        }
    }
    Ok(blocks)
}

fn next_place(connection: &Connection, bucket: Bucket) -> Result<i64> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(place) FROM blocks WHERE place BETWEEN ?1 AND ?2")?
        .query_row([bucket.first_place(), bucket.last_place()], |row| row.get(0))?;
    Ok(last.map_or(bucket.first_place(), |last| last + 1))
}
