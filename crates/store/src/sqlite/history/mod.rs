//! The history in SQLite: runs by the block.
//!
//! A row for every call would cost more than the call's own bookkeeping, so what is appended together becomes one row:
//! a block of runs as bytes (`block`). Blocks lie in buckets of a quarter of a second, by when their runs started; an
//! append makes one block in each bucket that it has runs for. A block's `place`, its row number, is the bucket with a
//! number below it, so pages, ranges and pruning are walks along the table.
//!
//! A run is found by its id without an index, because the ids that the platform makes tell their time and thereby the
//! bucket; the few runs for which that does not hold are listed in `strays`. Filters by function and by failure have an
//! index entry for each block. Within a bucket runs are ordered when they are read.

mod append;
mod block;
mod prune;
mod read;
mod upgrade;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use alula_model::{InvocationId, Run, Timestamp};
use rusqlite::{Connection, params};

use super::database::{Database, Survives};
use super::migrations::{Migrations, Step};
use super::{SqliteOptions, SqliteStore};
use crate::{BoxFuture, History, Result, RunFilter, RunPage};

const MIGRATIONS: Migrations = Migrations(&[
    Step::Script(include_str!("../migrations/history/0001.sql")),
    Step::Script(include_str!("../migrations/history/0002.sql")),
    Step::Code(upgrade::move_runs),
]);

/// Binary digits of a millisecond below a bucket: a bucket is 256 ms, so that a block, of what gathers in about a tenth
/// of a second, seldom lies in more than two.
const BUCKET_MS_BITS: u32 = 8;
/// Binary digits of the number of a block in its bucket.
const NUMBER_BITS: u32 = 20;
const NUMBER_MAX: i64 = (1 << NUMBER_BITS) - 1;
const BUCKET_MAX: i64 = i64::MAX >> NUMBER_BITS;

pub(super) fn open(path: &Path, options: &SqliteOptions) -> Result<Database<()>> {
    Database::open(path, MIGRATIONS, Survives::ProcessEnd, options)
}

impl History for SqliteStore {
    fn append(&self, runs: Arc<[Run]>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.history.write(move |connection, ()| append::append(connection, &runs)))
    }

    fn get(&self, id: &InvocationId) -> BoxFuture<'_, Result<Vec<Run>>> {
        let id = id.clone();
        Box::pin(self.history.read(move |connection| read::get(connection, &id)))
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<RunPage>> {
        Box::pin(self.history.read(move |connection| read::list(connection, &filter)))
    }

    fn prune(&self, before: Timestamp, keep_max: u64) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            let mut pruned = 0;
            loop {
                let some =
                    self.history.write(move |connection, ()| prune::some(connection, before, keep_max));
                let some = some.await?;
                pruned += some;
                if some < prune::LEN_MAX {
                    return Ok(pruned);
                }
            }
        })
    }
}

/// A quarter of a second of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Bucket(i64);

impl Bucket {
    /// Where a run that started `at` lies. What is outside of what can be written lies at its end.
    fn of(at: Timestamp) -> Self {
        Self((at.0 >> BUCKET_MS_BITS).clamp(0, BUCKET_MAX))
    }

    fn of_place(place: i64) -> Self {
        Self(place >> NUMBER_BITS)
    }

    /// Where the run of this id lies, unless it is a stray.
    fn told_by(id: &InvocationId) -> Option<Self> {
        let uuid = block::uuid_of(id.as_str()).filter(|uuid| uuid.get_version_num() == 7)?;
        let millis = i64::try_from(uuid.as_u128() >> 80).ok()?;
        Some(Self::of(Timestamp(millis)))
    }

    fn first_place(self) -> i64 {
        self.0 << NUMBER_BITS
    }

    fn last_place(self) -> i64 {
        self.first_place() | NUMBER_MAX
    }
}

/// Whether the id tells where the run lies.
fn is_stray(run: &Run) -> bool {
    Bucket::told_by(&run.id) != Some(Bucket::of(run.started_at))
}

/// The blocks of a bucket, in order.
fn blocks_in(connection: &Connection, bucket: Bucket) -> Result<Vec<(i64, Vec<u8>)>> {
    let mut blocks = connection
        .prepare_cached("SELECT place, runs FROM blocks WHERE place BETWEEN ?1 AND ?2 ORDER BY place")?;
    let rows = blocks
        .query_map([bucket.first_place(), bucket.last_place()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The blocks in which runs with this id may be.
fn blocks_of(connection: &Connection, id: &InvocationId) -> Result<Vec<(i64, Vec<u8>)>> {
    let mut blocks = match Bucket::told_by(id) {
        Some(bucket) => blocks_in(connection, bucket)?,
        None => Vec::new(),
    };
    let mut strays = connection.prepare_cached(
        "SELECT place, runs FROM strays JOIN blocks USING (place) WHERE id = ?1 ORDER BY place",
    )?;
    let rows = strays.query_map([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for found in rows {
        let found: (i64, Vec<u8>) = found?;
        if blocks.iter().all(|(place, _)| *place != found.0) {
            blocks.push(found);
        }
    }
    Ok(blocks)
}

/// Changes the number of runs that there are.
fn count(connection: &Connection, by: i64) -> Result<()> {
    connection.prepare_cached("UPDATE total SET runs = runs + ?1")?.execute(params![by])?;
    Ok(())
}
