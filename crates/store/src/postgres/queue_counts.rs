//! Counting the queue in PostgreSQL, in one statement each, so that what is counted is of one moment.

use alula_model::Timestamp;
use tokio_postgres::Row;

use super::PostgresStore;
use crate::{BoxFuture, LaneStats, QueueCounts, Result, Totals};

const STATS: &str = "
    SELECT lane,
           count(*) FILTER (WHERE dead_at IS NULL AND ready_at <= $1 AND NOT is_held_back) AS available,
           count(*) FILTER (WHERE dead_at IS NULL AND ready_at > $1 AND claim IS NULL) AS delayed,
           count(*) FILTER (WHERE dead_at IS NULL AND ready_at <= $1 AND is_held_back) AS held_back,
           count(*) FILTER (WHERE dead_at IS NULL AND ready_at > $1 AND claim IS NOT NULL) AS claimed,
           count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead,
           min(enqueued_at) FILTER (WHERE dead_at IS NULL) AS oldest_at
    FROM messages GROUP BY lane ORDER BY lane";

const TOTALS: &str = "
    SELECT gone.*, here.* FROM (
        SELECT sum(accepted)::bigint AS accepted, sum(done)::bigint AS done,
               sum(cancelled)::bigint AS cancelled, sum(purged)::bigint AS purged
        FROM counters
    ) AS gone, (
        SELECT count(*) FILTER (WHERE dead_at IS NULL AND (claim IS NULL OR ready_at <= $1)) AS waiting,
               count(*) FILTER (WHERE dead_at IS NULL AND claim IS NOT NULL AND ready_at > $1) AS claimed,
               count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead
        FROM messages
    ) AS here";

impl QueueCounts for PostgresStore {
    fn stats(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<LaneStats>>> {
        Box::pin(async move { self.readers.query(STATS, &[&now.0]).await?.iter().map(lane_stats).collect() })
    }

    fn totals(&self, now: Timestamp) -> BoxFuture<'_, Result<Totals>> {
        Box::pin(async move { totals(&self.readers.query_one(TOTALS, &[&now.0]).await?) })
    }
}

fn number(row: &Row, column: &str) -> Result<u64> {
    Ok(row.try_get::<_, i64>(column)?.cast_unsigned())
}

fn lane_stats(row: &Row) -> Result<LaneStats> {
    Ok(LaneStats {
        lane: row.try_get("lane")?,
        available: number(row, "available")?,
        delayed: number(row, "delayed")?,
        held_back: number(row, "held_back")?,
        claimed: number(row, "claimed")?,
        dead: number(row, "dead")?,
        oldest_at: row.try_get::<_, Option<i64>>("oldest_at")?.map(Timestamp),
    })
}

fn totals(row: &Row) -> Result<Totals> {
    Ok(Totals {
        accepted: number(row, "accepted")?,
        done: number(row, "done")?,
        cancelled: number(row, "cancelled")?,
        purged: number(row, "purged")?,
        waiting: number(row, "waiting")?,
        claimed: number(row, "claimed")?,
        dead: number(row, "dead")?,
    })
}
