//! From a row for every run, as the first version of the file had it, to blocks.

use alula_model::Run;
use rusqlite::Connection;

use super::append::append;
use crate::{Error, Result};

/// Runs that are moved at a time: what is in memory at once.
const STEP_LEN: usize = 2_048;

/// Moves every run of the table `runs` into blocks and drops the table.
pub(super) fn move_runs(connection: &Connection) -> Result<()> {
    let mut old = connection.prepare("SELECT run FROM runs ORDER BY place")?;
    let mut rows = old.query([])?;
    let mut moved = 0;
    let mut runs = Vec::with_capacity(STEP_LEN);
    while let Some(row) = rows.next()? {
        runs.push(parse(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?);
        moved += 1;
        if runs.len() == STEP_LEN {
            append(connection, &runs)?;
            runs.clear();
        }
    }
    append(connection, &runs)?;
    drop(rows);
    if moved > 0 {
        tracing::info!(runs = moved, "the run history was packed into blocks");
    }
    Ok(connection.execute_batch("DROP TABLE runs")?)
}

fn parse(text: &str) -> Result<Run> {
    serde_json::from_str(text).map_err(|error| Error::Damaged { detail: format!("a run's record: {error}") })
}
