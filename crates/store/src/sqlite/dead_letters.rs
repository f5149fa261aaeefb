//! Dead letters in SQLite.

use alula_model::Timestamp;
use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, named_params, params};

use super::counters::Counters;
use super::queue::{bytes, check_is_new};
use super::{SqliteStore, records};
use crate::message::check_trail;
use crate::queue::{CLAIM_LEN_MAX, end_of_prefix};
use crate::records::check_text;
use crate::{Batch, BoxFuture, DeadLetter, DeadLetters, Error, MessageId, NewDeadLetter, Result};

/// From behind `:lane` and `:id`, up to the end of the prefix.
const LIST: &str = "
    SELECT id, lane, ordering_key, attempts, enqueued_at, dead_at, reason, trail, body FROM dead_letters
    WHERE (lane, id) > (:lane, :id) AND lane >= :prefix AND lane < :end ORDER BY lane, id LIMIT :limit";

const BURY: &str = "
    INSERT INTO dead_letters
           (id, lane, ordering_key, enqueued_at, attempts, dead_at, reason, trail, body)
    VALUES (:id, :lane, :ordering_key, :enqueued_at, :attempts, :dead_at, :reason, :trail, :body)
    ON CONFLICT (id) DO NOTHING";

const REDRIVE: &str = "
    INSERT INTO messages (id, lane, ordering_key, is_held_back, enqueued_at, ready_at, attempts, trail, body)
    SELECT id, :lane, ordering_key,
           EXISTS (SELECT 1 FROM messages WHERE lane = :lane AND ordering_key = dead_letters.ordering_key),
           enqueued_at, :now, 0, :trail, body
    FROM dead_letters WHERE id = :id";

impl DeadLetters for SqliteStore {
    fn dead_letters(
        &self,
        lane_prefix: &str,
        after: Option<(&str, &MessageId)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>>> {
        let prefix = lane_prefix.to_owned();
        // Every blob is behind every text.
        let end = end_of_prefix(lane_prefix).map_or(Value::Blob(Vec::new()), Value::Text);
        let (lane, id) = after.map_or_else(Default::default, |(lane, id)| (lane.to_owned(), id.0.clone()));
        let limit = limit.min(CLAIM_LEN_MAX);
        Box::pin(self.main.read(move |connection| {
            let mut list = connection.prepare_cached(LIST)?;
            let bounds = named_params! {
                ":lane": lane, ":id": id, ":prefix": prefix, ":end": end, ":limit": limit,
            };
            Ok(list.query_map(bounds, dead_letter)?.collect::<rusqlite::Result<_>>()?)
        }))
    }

    fn redrive(&self, id: &MessageId, lane: &str, now: Timestamp, trail: Bytes) -> BoxFuture<'_, Result<()>> {
        let (id, lane) = (id.clone(), lane.to_owned());
        Box::pin(async move {
            check_text("the length of a lane", &lane)?;
            check_trail(&trail)?;
            let redrive = move |connection: &Connection, _: &mut _| {
                connection.prepare_cached(REDRIVE)?.execute(named_params! {
                    ":id": id.0, ":lane": lane, ":now": now.0, ":trail": trail.as_ref(),
                })?;
                remove(connection, &id)
            };
            self.main.write(redrive).await
        })
    }

    fn purge(&self, id: &MessageId, with: Batch) -> BoxFuture<'_, Result<()>> {
        let id = id.clone();
        Box::pin(async move {
            with.check_limits()?;
            let purge = move |connection: &Connection, counters: &mut Counters| {
                remove(connection, &id)?;
                counters.purged += 1;
                records::apply(connection, counters, with).map(drop)
            };
            self.main.write(purge).await
        })
    }
}

/// Adds a dead letter inside the caller's transaction.
pub(super) fn bury(connection: &Connection, letter: &NewDeadLetter) -> Result<()> {
    let message = &letter.message;
    check_is_new(connection, &message.id)?;
    connection.prepare_cached(BURY)?.execute(named_params! {
        ":id": message.id.0,
        ":lane": message.lane,
        ":ordering_key": message.ordering_key,
        ":enqueued_at": message.enqueued_at.0,
        ":attempts": letter.attempts,
        ":dead_at": message.available_at.0,
        ":reason": letter.reason,
        ":trail": letter.trail.as_ref(),
        ":body": message.body.as_ref(),
    })?;
    Ok(())
}

/// Makes a dead letter of a message, which stays.
pub(super) fn copy(
    connection: &Connection,
    sequence: i64,
    now: Timestamp,
    reason: &str,
    trail: &[u8],
) -> Result<()> {
    let mut copy = connection.prepare_cached(
        "INSERT INTO dead_letters
                (id, lane, ordering_key, enqueued_at, attempts, dead_at, reason, trail, body)
         SELECT id, lane, ordering_key, enqueued_at, attempts, ?2, ?3, ?4, body
         FROM messages WHERE sequence = ?1",
    )?;
    copy.execute(params![sequence, now.0, reason, trail])?;
    Ok(())
}

fn remove(connection: &Connection, id: &MessageId) -> Result<()> {
    match connection.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([&id.0])? {
        0 => Err(Error::NotFound { what: format!("dead letter {}", id.0) }),
        _ => Ok(()),
    }
}

fn dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        id: MessageId(row.get(0)?),
        lane: row.get(1)?,
        ordering_key: row.get(2)?,
        attempts: row.get(3)?,
        enqueued_at: Timestamp(row.get(4)?),
        dead_at: Timestamp(row.get(5)?),
        reason: row.get(6)?,
        trail: bytes(row, 7)?,
        body: bytes(row, 8)?,
    })
}
