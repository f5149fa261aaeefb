//! Reading runs: by id, and page by page from the newest to the oldest.

use alula_model::{InvocationId, Run, RunStatus, Timestamp};
use rusqlite::{CachedStatement, Connection, Rows, params};

use super::{Bucket, block, blocks_of};
use crate::history::{PAGE_LEN_MAX, bad_cursor};
use crate::{Result, RunFilter, RunPage};

/// Orders runs: when they started, and the order of appending among equals: the block's place and the number in it.
type Position = (Timestamp, i64, usize);

pub(super) fn get(connection: &Connection, id: &InvocationId) -> Result<Vec<Run>> {
    let mut found = Vec::new();
    for (_, bytes) in blocks_of(connection, id)? {
        found.extend(block::decode(&bytes)?.into_iter().flatten().filter(|run| run.id == *id));
    }
    found.sort_by_key(|run| run.attempt);
    Ok(found)
}

pub(super) fn list(connection: &Connection, filter: &RunFilter) -> Result<RunPage> {
    let end = filter.cursor.as_deref().map(read_cursor).transpose()?;
    let limit = filter.limit.min(PAGE_LEN_MAX);
    if limit == 0 {
        return Ok(RunPage::default());
    }
    let mut walk = Walk::new(connection, filter, end)?;
    let mut blocks = walk.blocks(filter)?;
    let mut page = Page { filter, end, limit, runs: Vec::new() };
    let mut in_bucket = Vec::new();
    let mut bucket = None;
    while let Some(row) = blocks.next()? {
        let place: i64 = row.get(0)?;
        if bucket.replace(Bucket::of_place(place)) != Some(Bucket::of_place(place)) {
            page.add(&mut in_bucket);
            if page.runs.len() > limit {
                break;
            }
        }
        page.gather(place, row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?, &mut in_bucket)?;
    }
    page.add(&mut in_bucket);
    Ok(page.finish())
}

/// The blocks that may hold runs that pass a filter, from the last to the first.
struct Walk<'c> {
    statement: CachedStatement<'c>,
    from: i64,
    to: i64,
}

impl<'c> Walk<'c> {
    fn new(connection: &'c Connection, filter: &RunFilter, end: Option<Position>) -> Result<Self> {
        let is_failed = filter.status.is_some_and(|status| status != RunStatus::Done);
        let sql = match (filter.namespace.is_some() && filter.function.is_some(), is_failed) {
            (false, false) => {
                "SELECT place, runs FROM blocks WHERE place BETWEEN ?1 AND ?2 ORDER BY place DESC"
            }
            (false, true) => {
                "SELECT place, runs FROM blocks WHERE has_failed AND place BETWEEN ?1 AND ?2 ORDER BY place DESC"
            }
            (true, false) => {
                "SELECT f.place, runs FROM block_functions f JOIN blocks b ON b.place = f.place
                 WHERE namespace = ?3 AND function = ?4 AND f.place BETWEEN ?1 AND ?2 ORDER BY f.place DESC"
            }
            (true, true) => {
                "SELECT f.place, runs FROM block_functions f JOIN blocks b ON b.place = f.place
                 WHERE f.has_failed AND namespace = ?3 AND function = ?4 AND f.place BETWEEN ?1 AND ?2
                 ORDER BY f.place DESC"
            }
        };
        let until = filter.until.unwrap_or(Timestamp(i64::MAX));
        let until = end.map_or(until, |(started_at, ..)| started_at.min(until));
        let from = Bucket::of(filter.since.unwrap_or(Timestamp(0))).first_place();
        Ok(Self { statement: connection.prepare_cached(sql)?, from, to: Bucket::of(until).last_place() })
    }

    fn blocks(&mut self, filter: &RunFilter) -> Result<Rows<'_>> {
        let (from, to) = (self.from, self.to);
        Ok(match (&filter.namespace, &filter.function) {
            (Some(namespace), Some(function)) => {
                self.statement.query(params![from, to, namespace.as_str(), function.as_str()])?
            }
            _ => self.statement.query(params![from, to])?,
        })
    }
}

/// A page that is being filled.
struct Page<'f> {
    filter: &'f RunFilter,
    end: Option<Position>,
    limit: usize,
    /// One more than the page holds tells that there is a next one.
    runs: Vec<(Position, Run)>,
}

impl Page<'_> {
    /// Adds to `gathered` what passes of one block.
    fn gather(&self, place: i64, bytes: &[u8], gathered: &mut Vec<(Position, Run)>) -> Result<()> {
        for (number, run) in block::decode(bytes)?.into_iter().enumerate() {
            let Some(run) = run else { continue };
            let position = (run.started_at, place, number);
            if self.end.is_none_or(|end| position < end) && self.filter.matches(&run) {
                gathered.push((position, run));
            }
        }
        Ok(())
    }

    /// Takes the runs of one bucket, newest first, as far as there is room.
    fn add(&mut self, gathered: &mut Vec<(Position, Run)>) {
        gathered.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
        let room = self.limit + 1 - self.runs.len();
        self.runs.extend(gathered.drain(..).take(room));
    }

    fn finish(mut self) -> RunPage {
        let has_more = self.runs.len() > self.limit;
        self.runs.truncate(self.limit);
        let next = self.runs.last().filter(|_| has_more).map(|(position, _)| cursor_of(*position));
        RunPage { runs: self.runs.into_iter().map(|(_, run)| run).collect(), next }
    }
}

fn cursor_of((started_at, place, number): Position) -> String {
    format!("{}.{place}.{number}", started_at.0)
}

fn read_cursor(cursor: &str) -> Result<Position> {
    let mut parts = cursor.split('.');
    let mut part = || parts.next().and_then(|part| part.parse::<i64>().ok()).ok_or_else(bad_cursor);
    let (started_at, place, number) = (Timestamp(part()?), part()?, part()?);
    match (usize::try_from(number), parts.next()) {
        (Ok(number), None) => Ok((started_at, place, number)),
        _ => Err(bad_cursor()),
    }
}
