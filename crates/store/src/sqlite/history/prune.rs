//! Forgetting the oldest runs, bucket by bucket.

use alula_model::{Run, Timestamp};
use rusqlite::Connection;

use super::append::remove;
use super::{Bucket, block, blocks_in};
use crate::Result;

/// Runs after which a transaction ends, so that appends do not wait long; the last bucket is finished.
pub(super) const LEN_MAX: u64 = 2_000;

/// Removes some runs that started before `before`, or that are the oldest beyond `keep_max`. Less than [`LEN_MAX`] say
/// that nothing is left to remove.
pub(super) fn some(connection: &Connection, before: Timestamp, keep_max: u64) -> Result<u64> {
    let mut pruned = 0;
    while pruned < LEN_MAX {
        let Some(bucket) = oldest(connection)? else { break };
        let total: u64 =
            connection.prepare_cached("SELECT runs FROM total")?.query_row([], |row| row.get(0))?;
        let excess = total.saturating_sub(keep_max);
        if excess == 0 && bucket > Bucket::of(before) {
            break;
        }
        let gone = in_bucket(connection, bucket, before, excess)?;
        if gone == 0 {
            break;
        }
        pruned += gone;
    }
    Ok(pruned)
}

fn oldest(connection: &Connection) -> Result<Option<Bucket>> {
    let place: Option<i64> =
        connection.prepare_cached("SELECT min(place) FROM blocks")?.query_row([], |row| row.get(0))?;
    Ok(place.map(Bucket::of_place))
}

fn in_bucket(connection: &Connection, bucket: Bucket, before: Timestamp, excess: u64) -> Result<u64> {
    let blocks = blocks_in(connection, bucket)?.into_iter();
    let blocks = blocks.map(|(place, bytes)| Ok((place, block::decode(&bytes)?)));
    let blocks: Vec<(i64, Vec<Option<Run>>)> = blocks.collect::<Result<_>>()?;
    let mut by_age = Vec::new();
    for (place, runs) in &blocks {
        let runs = runs.iter().enumerate();
        by_age.extend(runs.filter_map(|(number, run)| Some((run.as_ref()?.started_at, *place, number))));
    }
    by_age.sort_unstable();
    let aged = by_age.partition_point(|(started_at, ..)| *started_at < before);
    let doomed = aged.max(usize::try_from(excess).unwrap_or(usize::MAX).min(by_age.len()));
    for (place, runs) in blocks {
        let here = by_age[..doomed].iter().filter(|(_, at, _)| *at == place);
        let here: Vec<usize> = here.map(|(_, _, number)| *number).collect();
        if !here.is_empty() {
            remove(connection, place, runs, &here)?;
        }
    }
    Ok(doomed as u64)
}
