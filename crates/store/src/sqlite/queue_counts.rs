//! Counting the queue in SQLite, in one statement each, so that what is counted is of one moment.

use alula_model::Timestamp;
use rusqlite::Row;

use super::SqliteStore;
use crate::{BoxFuture, LaneStats, QueueCounts, Result, Totals};

const STATS: &str = "
    SELECT lane, sum(available), sum(delayed), sum(held_back), sum(claimed), sum(dead), min(oldest_at) FROM (
        SELECT lane,
               ready_at <= ?1 AND NOT is_held_back AS available,
               ready_at > ?1 AND claim IS NULL AS delayed,
               ready_at <= ?1 AND is_held_back AS held_back,
               ready_at > ?1 AND claim IS NOT NULL AS claimed,
               0 AS dead,
               enqueued_at AS oldest_at
        FROM messages
        UNION ALL SELECT lane, 0, 0, 0, 0, 1, NULL FROM dead_letters
    ) GROUP BY lane ORDER BY lane";

/// Counts along indexes: no message is read.
const TOTALS: &str = "
    SELECT (SELECT value FROM counters WHERE name = 'accepted'),
           (SELECT value FROM counters WHERE name = 'done'),
           (SELECT value FROM counters WHERE name = 'cancelled'),
           (SELECT value FROM counters WHERE name = 'purged'),
           (SELECT count(*) FROM messages),
           (SELECT count(*) FROM messages WHERE claim IS NOT NULL AND ready_at > ?1),
           (SELECT count(*) FROM dead_letters)";

impl QueueCounts for SqliteStore {
    fn stats(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<LaneStats>>> {
        Box::pin(self.main.read(move |connection| {
            let mut stats = connection.prepare_cached(STATS)?;
            Ok(stats.query_map([now.0], lane_stats)?.collect::<rusqlite::Result<_>>()?)
        }))
    }

    fn totals(&self, now: Timestamp) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(
            self.main
                .read(move |connection| Ok(connection.prepare_cached(TOTALS)?.query_row([now.0], totals)?)),
        )
    }
}

fn lane_stats(row: &Row<'_>) -> rusqlite::Result<LaneStats> {
    Ok(LaneStats {
        lane: row.get(0)?,
        available: row.get(1)?,
        delayed: row.get(2)?,
        held_back: row.get(3)?,
        claimed: row.get(4)?,
        dead: row.get(5)?,
        oldest_at: row.get::<_, Option<i64>>(6)?.map(Timestamp),
    })
}

fn totals(row: &Row<'_>) -> rusqlite::Result<Totals> {
    let (here, claimed): (u64, u64) = (row.get(4)?, row.get(5)?);
    Ok(Totals {
        accepted: row.get(0)?,
        done: row.get(1)?,
        cancelled: row.get(2)?,
        purged: row.get(3)?,
        waiting: here - claimed,
        claimed,
        dead: row.get(6)?,
    })
}
