//! The queue in SQLite. Every change runs on the writer, so nothing here races with anything.

use alula_model::Timestamp;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::{SqliteStore, records};
use crate::queue::CLAIM_LEN_MAX;
use crate::{
    Batch, BoxFuture, Claim, DeadLetter, Error, Key, LaneStats, MessageId, NewMessage, Queue, Receipt,
    Result, Settlement,
};

impl Queue for SqliteStore {
    fn claim(
        &self,
        lane: &str,
        limit: usize,
        now: Timestamp,
        lease_ms: i64,
    ) -> BoxFuture<'_, Result<Vec<Claim>>> {
        let lane = lane.to_owned();
        let limit = limit.min(CLAIM_LEN_MAX);
        Box::pin(
            self.main
                .write(move |connection| claim(connection, &lane, limit, now, now.plus_millis(lease_ms))),
        )
    }

    fn renew(&self, receipt: &Receipt, now: Timestamp, lease_ms: i64) -> BoxFuture<'_, Result<()>> {
        let receipt = receipt.clone();
        Box::pin(self.main.write(move |connection| {
            let mut renew = connection
                .prepare_cached("UPDATE messages SET ready_at = ?3 WHERE id = ?1 AND claim = ?2")?;
            match renew.execute(params![receipt.id.0, receipt.claim, now.plus_millis(lease_ms).0])? {
                0 => Err(Error::ClaimLost),
                _ => Ok(()),
            }
        }))
    }

    fn settle(
        &self,
        receipt: &Receipt,
        now: Timestamp,
        settlement: Settlement,
        with: Batch,
    ) -> BoxFuture<'_, Result<()>> {
        let receipt = receipt.clone();
        Box::pin(self.main.write(move |connection| settle(connection, &receipt, now, &settlement, with)))
    }

    fn stats(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<LaneStats>>> {
        Box::pin(self.main.read(move |connection| {
            let mut stats = connection.prepare_cached(STATS)?;
            Ok(stats.query_map([now.0], lane_stats)?.collect::<rusqlite::Result<_>>()?)
        }))
    }

    fn dead_letters(
        &self,
        lane: &str,
        after: Option<&MessageId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>>> {
        let lane = lane.to_owned();
        let after = after.map(|id| id.0.clone());
        let limit = limit.min(CLAIM_LEN_MAX);
        Box::pin(self.main.read(move |connection| {
            let mut list = connection.prepare_cached(
                "SELECT id, lane, attempts, enqueued_at, dead_at, reason, body FROM dead_letters
                 WHERE lane = ?1 AND (?2 IS NULL OR id > ?2) ORDER BY id LIMIT ?3",
            )?;
            Ok(list.query_map(params![lane, after, limit], dead_letter)?.collect::<rusqlite::Result<_>>()?)
        }))
    }

    fn redrive(&self, id: &MessageId, now: Timestamp) -> BoxFuture<'_, Result<()>> {
        let id = id.clone();
        Box::pin(self.main.write(move |connection| redrive(connection, &id, now)))
    }

    fn purge(&self, id: &MessageId) -> BoxFuture<'_, Result<()>> {
        let id = id.clone();
        Box::pin(self.main.write(move |connection| remove_dead(connection, &id)))
    }
}

const INSERT: &str = "
    INSERT INTO messages (id, lane, ordering_key, is_held_back, enqueued_at, ready_at, attempts, body)
    VALUES (:id, :lane, :ordering_key,
            EXISTS (SELECT 1 FROM messages WHERE lane = :lane AND ordering_key = :ordering_key),
            :enqueued_at, :ready_at, 0, :body)
    ON CONFLICT (id) DO NOTHING";

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

/// Adds a message inside the caller's transaction.
pub(super) fn enqueue(connection: &Connection, message: &NewMessage) -> Result<()> {
    let mut find_dead = connection.prepare_cached("SELECT 1 FROM dead_letters WHERE id = ?1")?;
    if find_dead.exists([&message.id.0])? || insert(connection, message)? == 0 {
        return Err(Error::Conflict { key: Key::from_stored(message.id.0.clone()) });
    }
    Ok(())
}

fn insert(connection: &Connection, message: &NewMessage) -> Result<usize> {
    Ok(connection.prepare_cached(INSERT)?.execute(named_params! {
        ":id": message.id.0,
        ":lane": message.lane,
        ":ordering_key": message.ordering_key,
        ":enqueued_at": message.enqueued_at.0,
        ":ready_at": message.available_at.0,
        ":body": message.body.as_ref(),
    })?)
}

fn claim(
    connection: &Connection,
    lane: &str,
    limit: usize,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Vec<Claim>> {
    let mut find = connection.prepare_cached(
        "SELECT sequence FROM messages WHERE lane = ?1 AND is_held_back = 0 AND ready_at <= ?2
         ORDER BY ready_at, sequence LIMIT ?3",
    )?;
    let found: Vec<i64> =
        find.query_map(params![lane, now.0, limit], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let number = records::next_number(connection, "claim")?;
    let mut take = connection.prepare_cached(
        "UPDATE messages SET claim = ?2, attempts = attempts + 1, ready_at = ?3 WHERE sequence = ?1
         RETURNING id, claim, lane, ordering_key, attempts, enqueued_at, ready_at, body",
    )?;
    let claims =
        found.iter().map(|sequence| take.query_row(params![sequence, number, lease_until.0], claimed));
    Ok(claims.collect::<rusqlite::Result<_>>()?)
}

fn settle(
    connection: &Connection,
    receipt: &Receipt,
    now: Timestamp,
    settlement: &Settlement,
    with: Batch,
) -> Result<()> {
    let mut find = connection.prepare_cached("SELECT sequence FROM messages WHERE id = ?1 AND claim = ?2")?;
    let found = find.query_row(params![receipt.id.0, receipt.claim], |row| row.get(0)).optional()?;
    let sequence: i64 = found.ok_or(Error::ClaimLost)?;
    with.check_limits()?;
    records::apply(connection, with)?;
    match settlement {
        Settlement::Retry { available_at } => {
            let mut release = connection
                .prepare_cached("UPDATE messages SET claim = NULL, ready_at = ?2 WHERE sequence = ?1")?;
            release.execute(params![sequence, available_at.0])?;
        }
        Settlement::Done => remove(connection, sequence)?,
        Settlement::Dead { reason } => {
            let mut bury = connection.prepare_cached(
                "INSERT INTO dead_letters (id, lane, ordering_key, enqueued_at, attempts, dead_at, reason, body)
                 SELECT id, lane, ordering_key, enqueued_at, attempts, ?2, ?3, body FROM messages WHERE sequence = ?1",
            )?;
            bury.execute(params![sequence, now.0, reason])?;
            remove(connection, sequence)?;
        }
    }
    Ok(())
}

/// Removes a message and lets the next one with its ordering key come forward.
fn remove(connection: &Connection, sequence: i64) -> Result<()> {
    let mut delete =
        connection.prepare_cached("DELETE FROM messages WHERE sequence = ?1 RETURNING lane, ordering_key")?;
    let (lane, ordering_key): (String, Option<String>) =
        delete.query_row([sequence], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if let Some(ordering_key) = ordering_key {
        let mut next = connection.prepare_cached(
            "UPDATE messages SET is_held_back = 0 WHERE sequence =
                 (SELECT min(sequence) FROM messages WHERE lane = ?1 AND ordering_key = ?2)",
        )?;
        next.execute([lane, ordering_key])?;
    }
    Ok(())
}

fn redrive(connection: &Connection, id: &MessageId, now: Timestamp) -> Result<()> {
    let mut find = connection
        .prepare_cached("SELECT id, lane, ordering_key, enqueued_at, body FROM dead_letters WHERE id = ?1")?;
    let message = find.query_row([&id.0], |row| {
        Ok(NewMessage {
            id: MessageId(row.get(0)?),
            lane: row.get(1)?,
            ordering_key: row.get(2)?,
            enqueued_at: Timestamp(row.get(3)?),
            available_at: now,
            body: body(row, 4)?,
        })
    });
    if let Some(message) = message.optional()? {
        insert(connection, &message)?;
    }
    remove_dead(connection, id)
}

fn remove_dead(connection: &Connection, id: &MessageId) -> Result<()> {
    match connection.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([&id.0])? {
        0 => Err(Error::NotFound { what: format!("dead letter {}", id.0) }),
        _ => Ok(()),
    }
}

fn claimed(row: &Row<'_>) -> rusqlite::Result<Claim> {
    Ok(Claim {
        receipt: Receipt { id: MessageId(row.get(0)?), claim: row.get(1)? },
        lane: row.get(2)?,
        ordering_key: row.get(3)?,
        attempt: row.get(4)?,
        enqueued_at: Timestamp(row.get(5)?),
        lease_until: Timestamp(row.get(6)?),
        body: body(row, 7)?,
    })
}

fn dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        id: MessageId(row.get(0)?),
        lane: row.get(1)?,
        attempts: row.get(2)?,
        enqueued_at: Timestamp(row.get(3)?),
        dead_at: Timestamp(row.get(4)?),
        reason: row.get(5)?,
        body: body(row, 6)?,
    })
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

fn body(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::from(row.get::<_, Vec<u8>>(column)?))
}
