//! The queue in SQLite. Every change runs on the writer, so nothing here races with anything.

use alula_model::Timestamp;
use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, named_params, params};

use super::counters::Counters;
use super::{SqliteStore, dead_letters, records};
use crate::queue::CLAIM_LEN_MAX;
use crate::{
    Batch, BoxFuture, Claim, Claims, Error, Found, Key, LaneHead, MessageId, MessageState, NewMessage, Queue,
    Receipt, Result, Settlement,
};

const INSERT: &str = "
    INSERT INTO messages (id, lane, ordering_key, is_held_back, enqueued_at, ready_at, attempts, body)
    VALUES (:id, :lane, :ordering_key,
            EXISTS (SELECT 1 FROM messages WHERE lane = :lane AND ordering_key = :ordering_key),
            :enqueued_at, :ready_at, 0, :body)
    ON CONFLICT (id) DO NOTHING";

const FIND: &str = "
    SELECT lane, ordering_key, attempts, enqueued_at, trail, body, NULL AS reason, is_held_back,
           claim IS NOT NULL AND ready_at > :now, ready_at
    FROM messages WHERE id = :id
    UNION ALL
    SELECT lane, ordering_key, attempts, enqueued_at, trail, body, reason, 0, 0, dead_at
    FROM dead_letters WHERE id = :id";

/// Steps along the index from lane to lane, whatever is between.
const HEADS: &str = "
    WITH RECURSIVE lanes (lane) AS (
        SELECT min(lane) FROM messages WHERE is_held_back = 0
        UNION ALL
        SELECT (SELECT min(lane) FROM messages WHERE is_held_back = 0 AND messages.lane > lanes.lane)
        FROM lanes WHERE lane IS NOT NULL
    )
    SELECT lane, (SELECT min(ready_at) FROM messages WHERE is_held_back = 0 AND messages.lane = lanes.lane)
    FROM lanes WHERE lane IS NOT NULL";

impl Queue for SqliteStore {
    fn claim(
        &self,
        lane: &str,
        limit: usize,
        now: Timestamp,
        lease_ms: i64,
    ) -> BoxFuture<'_, Result<Claims>> {
        let lane = lane.to_owned();
        let limit = limit.min(CLAIM_LEN_MAX);
        Box::pin(self.main.write(move |connection, counters| {
            let claims = claim(connection, counters, &lane, limit, now, now.plus_millis(lease_ms))?;
            Ok(Claims { claims, next_ready_at: next_ready_at(connection, &lane)? })
        }))
    }

    fn renew(&self, receipt: &Receipt, now: Timestamp, lease_ms: i64) -> BoxFuture<'_, Result<()>> {
        let receipt = receipt.clone();
        Box::pin(self.main.write(move |connection, _| {
            let mut renew = connection
                .prepare_cached("UPDATE messages SET ready_at = ?3 WHERE id = ?1 AND claim = ?2")?;
            match renew.execute(params![receipt.id.0, receipt.claim, now.plus_millis(lease_ms).0])? {
                0 => Err(Error::ClaimLost),
                _ => Ok(()),
            }
        }))
    }

    fn end_claims(&self, now: Timestamp) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.main.write(move |connection, _| {
            let mut end = connection
                .prepare_cached("UPDATE messages SET claim = NULL, ready_at = ?1 WHERE claim IS NOT NULL")?;
            Ok(end.execute([now.0])? as u64)
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
        Box::pin(async move {
            settlement.check_limits()?;
            with.check_limits()?;
            let settle = move |connection: &Connection, counters: &mut Counters| {
                settle(connection, counters, &receipt, now, settlement, with)
            };
            self.main.write(settle).await
        })
    }

    fn find(&self, id: &MessageId, now: Timestamp) -> BoxFuture<'_, Result<Option<Found>>> {
        let id = id.clone();
        Box::pin(self.main.read(move |connection| {
            let mut find = connection.prepare_cached(FIND)?;
            Ok(find.query_row(named_params! { ":id": id.0, ":now": now.0 }, found).optional()?)
        }))
    }

    fn cancel(&self, id: &MessageId, now: Timestamp, with: Batch) -> BoxFuture<'_, Result<bool>> {
        let id = id.clone();
        Box::pin(async move {
            with.check_limits()?;
            let cancel = move |connection: &Connection, counters: &mut Counters| {
                cancel(connection, counters, &id, now, with)
            };
            self.main.write(cancel).await
        })
    }

    fn heads(&self) -> BoxFuture<'_, Result<Vec<LaneHead>>> {
        Box::pin(self.main.read(move |connection| Ok(heads(&mut connection.prepare_cached(HEADS)?)?)))
    }

    fn arrivals(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// Adds a message inside the caller's transaction.
pub(super) fn enqueue(connection: &Connection, message: &NewMessage) -> Result<()> {
    let mut find_dead = connection.prepare_cached("SELECT 1 FROM dead_letters WHERE id = ?1")?;
    if find_dead.exists([&message.id.0])? || insert(connection, message)? == 0 {
        return Err(is_taken(&message.id));
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

/// Refuses an id that the queue holds, alive or dead.
pub(super) fn check_is_new(connection: &Connection, id: &MessageId) -> Result<()> {
    let mut find = connection.prepare_cached(
        "SELECT 1 FROM messages WHERE id = ?1 UNION ALL SELECT 1 FROM dead_letters WHERE id = ?1",
    )?;
    if find.exists([&id.0])? { Err(is_taken(id)) } else { Ok(()) }
}

fn is_taken(id: &MessageId) -> Error {
    Error::Conflict { key: Key::from_stored(id.0.clone()) }
}

fn claim(
    connection: &Connection,
    counters: &mut Counters,
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
    counters.claim += u64::from(!found.is_empty());
    let number = counters.claim;
    let mut take = connection.prepare_cached(
        "UPDATE messages SET claim = ?2, attempts = attempts + 1, ready_at = ?3 WHERE sequence = ?1
         RETURNING id, claim, lane, ordering_key, attempts, enqueued_at, ready_at, trail, body",
    )?;
    let claims =
        found.iter().map(|sequence| take.query_row(params![sequence, number, lease_until.0], claimed));
    Ok(claims.collect::<rusqlite::Result<_>>()?)
}

fn next_ready_at(connection: &Connection, lane: &str) -> Result<Option<Timestamp>> {
    let mut next = connection
        .prepare_cached("SELECT min(ready_at) FROM messages WHERE lane = ?1 AND is_held_back = 0")?;
    Ok(next.query_row([lane], |row| row.get::<_, Option<i64>>(0))?.map(Timestamp))
}

/// Where a message is, and who waits behind it.
struct Place {
    sequence: i64,
    lane: String,
    ordering_key: Option<String>,
}

impl Place {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { sequence: row.get(0)?, lane: row.get(1)?, ordering_key: row.get(2)? })
    }

    /// Removes the message and lets the next one with its ordering key come forward.
    fn clear(&self, connection: &Connection) -> Result<()> {
        connection.prepare_cached("DELETE FROM messages WHERE sequence = ?1")?.execute([self.sequence])?;
        if let Some(ordering_key) = &self.ordering_key {
            let mut next = connection.prepare_cached(
                "UPDATE messages SET is_held_back = 0 WHERE sequence =
                     (SELECT min(sequence) FROM messages WHERE lane = ?1 AND ordering_key = ?2)",
            )?;
            next.execute([&self.lane, ordering_key])?;
        }
        Ok(())
    }
}

fn settle(
    connection: &Connection,
    counters: &mut Counters,
    receipt: &Receipt,
    now: Timestamp,
    settlement: Settlement,
    with: Batch,
) -> Result<()> {
    let mut find = connection
        .prepare_cached("SELECT sequence, lane, ordering_key FROM messages WHERE id = ?1 AND claim = ?2")?;
    let found = find.query_row(params![receipt.id.0, receipt.claim], Place::read).optional()?;
    let place = found.ok_or(Error::ClaimLost)?;
    settlement.check_move(&receipt.id, &place.lane, place.ordering_key.as_deref())?;
    records::apply(connection, counters, with)?;
    match settlement {
        Settlement::Done => {
            counters.done += 1;
            place.clear(connection)
        }
        Settlement::Retry { available_at, lane, trail } => {
            let lane = lane.unwrap_or(place.lane);
            give_back(connection, place.sequence, &lane, available_at, &trail, 0)
        }
        Settlement::Release { available_at, trail } => {
            give_back(connection, place.sequence, &place.lane, available_at, &trail, 1)
        }
        Settlement::Dead { reason, trail } => {
            dead_letters::copy(connection, place.sequence, now, &reason, &trail)?;
            place.clear(connection)
        }
    }
}

fn give_back(
    connection: &Connection,
    sequence: i64,
    lane: &str,
    available_at: Timestamp,
    trail: &[u8],
    attempts_undone: u32,
) -> Result<()> {
    let mut give_back = connection.prepare_cached(
        "UPDATE messages SET claim = NULL, lane = ?2, ready_at = ?3, trail = ?4, attempts = attempts - ?5
         WHERE sequence = ?1",
    )?;
    give_back.execute(params![sequence, lane, available_at.0, trail, attempts_undone])?;
    Ok(())
}

fn cancel(
    connection: &Connection,
    counters: &mut Counters,
    id: &MessageId,
    now: Timestamp,
    with: Batch,
) -> Result<bool> {
    let mut find = connection.prepare_cached(
        "SELECT sequence, lane, ordering_key, claim IS NOT NULL AND ready_at > ?2
         FROM messages WHERE id = ?1",
    )?;
    let found =
        find.query_row(params![id.0, now.0], |row| Ok((Place::read(row)?, row.get(3)?))).optional()?;
    let (place, is_claimed) = found.ok_or_else(|| Error::NotFound { what: format!("message {}", id.0) })?;
    if is_claimed {
        return Ok(false);
    }
    records::apply(connection, counters, with)?;
    place.clear(connection)?;
    counters.cancelled += 1;
    Ok(true)
}

fn heads(statement: &mut CachedStatement<'_>) -> rusqlite::Result<Vec<LaneHead>> {
    let head = |row: &Row<'_>| Ok(LaneHead { lane: row.get(0)?, ready_at: Timestamp(row.get(1)?) });
    statement.query_map([], head)?.collect()
}

fn claimed(row: &Row<'_>) -> rusqlite::Result<Claim> {
    Ok(Claim {
        receipt: Receipt { id: MessageId(row.get(0)?), claim: row.get(1)? },
        lane: row.get(2)?,
        ordering_key: row.get(3)?,
        attempt: row.get(4)?,
        enqueued_at: Timestamp(row.get(5)?),
        lease_until: Timestamp(row.get(6)?),
        trail: bytes(row, 7)?,
        body: bytes(row, 8)?,
    })
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let at = Timestamp(row.get(9)?);
    let state = match (row.get(6)?, row.get(7)?, row.get(8)?) {
        (Some(reason), ..) => MessageState::Dead { at, reason },
        (None, true, _) => MessageState::HeldBack,
        (None, false, true) => MessageState::Claimed { lease_until: at },
        (None, false, false) => MessageState::Waiting { available_at: at },
    };
    Ok(Found {
        lane: row.get(0)?,
        ordering_key: row.get(1)?,
        state,
        attempts: row.get(2)?,
        enqueued_at: Timestamp(row.get(3)?),
        trail: bytes(row, 4)?,
        body: bytes(row, 5)?,
    })
}

pub(super) fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::from(row.get::<_, Vec<u8>>(column)?))
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;
    use crate::sqlite::RECORDS_MIGRATIONS;

    fn steps_of_heads(connection: &Connection, lanes: usize) -> i32 {
        let mut statement = connection.prepare_cached(HEADS).unwrap();
        statement.reset_status(StatementStatus::VmStep);
        assert_eq!(heads(&mut statement).unwrap().len(), lanes);
        statement.get_status(StatementStatus::VmStep)
    }

    #[test]
    fn heads_cost_by_the_lane_and_not_by_the_message() {
        let mut connection = Connection::open_in_memory().unwrap();
        RECORDS_MIGRATIONS.apply(&mut connection).unwrap();
        let fill = |lane: &str, from: usize, to: usize| {
            for number in from..to {
                let message = NewMessage {
                    id: MessageId(format!("{lane}-{number}")),
                    lane: lane.to_owned(),
                    ordering_key: None,
                    enqueued_at: Timestamp(0),
                    available_at: Timestamp(number as i64),
                    body: Bytes::new(),
                };
                enqueue(&connection, &message).unwrap();
            }
        };
        ["a", "b", "c"].iter().for_each(|lane| fill(lane, 0, 1));
        let few = steps_of_heads(&connection, 3);
        ["a", "b", "c"].iter().for_each(|lane| fill(lane, 1, 2_000));
        assert_eq!(steps_of_heads(&connection, 3), few);
    }
}
