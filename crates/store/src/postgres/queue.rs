//! The queue in PostgreSQL: the port's side of the functions in `migrations/0002_operations.sql`.

use alula_model::Timestamp;
use bytes::Bytes;
use tokio_postgres::Row;

use super::PostgresStore;
use super::batch::{Columns, batch_arguments};
use crate::queue::CLAIM_LEN_MAX;
use crate::records::check_text;
use crate::{
    Batch, BoxFuture, Claim, Claims, Error, Found, LaneHead, MessageId, MessageState, Queue, Receipt, Result,
    Settlement,
};

const CLAIM: &str = "SELECT * FROM claim_messages($1, $2, $3, $4)";

const RENEW: &str = "UPDATE messages SET ready_at = $3 WHERE id = $1 AND claim = $2 RETURNING id";

const END_CLAIMS: &str = "UPDATE messages SET claim = NULL, ready_at = $1 WHERE claim IS NOT NULL AND dead_at IS NULL RETURNING id";

const SETTLE: &str = concat!("SELECT settle($15, $16, $17, $18, $19, $20, $21, ", batch_arguments!(), ")");

const CANCEL: &str = concat!("SELECT cancel($15, $16, ", batch_arguments!(), ")");

const FIND: &str = "
    SELECT lane, ordering_key, attempts, enqueued_at, trail, body, dead_at, reason, is_held_back,
           claim IS NOT NULL AND ready_at > $2 AS is_claimed, ready_at
    FROM messages WHERE id = $1";

/// Steps along the index from lane to lane, whatever is between.
const HEADS: &str = "
    WITH RECURSIVE lanes AS (
        (SELECT lane FROM messages WHERE NOT is_held_back AND dead_at IS NULL ORDER BY lane LIMIT 1)
        UNION ALL
        SELECT (SELECT m.lane FROM messages m
                WHERE NOT m.is_held_back AND m.dead_at IS NULL AND m.lane > lanes.lane ORDER BY m.lane LIMIT 1)
        FROM lanes WHERE lane IS NOT NULL
    )
    SELECT lane, head.ready_at FROM lanes, LATERAL (
        SELECT m.ready_at FROM messages m
        WHERE m.lane = lanes.lane AND NOT m.is_held_back AND m.dead_at IS NULL
        ORDER BY m.ready_at, m.place LIMIT 1
    ) AS head ORDER BY lane";

impl Queue for PostgresStore {
    fn claim(
        &self,
        lane: &str,
        limit: usize,
        now: Timestamp,
        lease_ms: i64,
    ) -> BoxFuture<'_, Result<Claims>> {
        let lane = lane.to_owned();
        let limit = limit.min(CLAIM_LEN_MAX) as i64;
        Box::pin(async move {
            let lease_until = now.plus_millis(lease_ms);
            let mut rows = self.writers.query(CLAIM, &[&lane, &limit, &now.0, &lease_until.0]).await?;
            // The last row has no message: it says when there is the next.
            let next = rows.pop().map_or(Ok(None), |row| row.try_get::<_, Option<i64>>("ready_at"))?;
            let claims = rows.iter().map(|row| claimed(row, &lane)).collect::<Result<_>>()?;
            Ok(Claims { claims, next_ready_at: next.map(Timestamp) })
        })
    }

    fn renew(&self, receipt: &Receipt, now: Timestamp, lease_ms: i64) -> BoxFuture<'_, Result<()>> {
        let receipt = receipt.clone();
        Box::pin(async move {
            let (claim, until) = (receipt.claim.cast_signed(), now.plus_millis(lease_ms).0);
            let renewed = self.writers.query(RENEW, &[&receipt.id.0, &claim, &until]).await?;
            if renewed.is_empty() { Err(Error::ClaimLost) } else { Ok(()) }
        })
    }

    fn end_claims(&self, now: Timestamp) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move { Ok(self.writers.query(END_CLAIMS, &[&now.0]).await?.len() as u64) })
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
            let columns = Columns::new(&with)?;
            let Outcome { name, at, lane, reason, trail } = Outcome::new(&settlement, now);
            let (id, claim) = (receipt.id.0, receipt.claim.cast_signed());
            let values = columns.values(&[&id, &claim, &name, &at, &lane, &reason, &trail]);
            self.writers.query(SETTLE, &values).await?;
            match settlement {
                Settlement::Retry { .. } | Settlement::Release { .. } => self.arrivals.announce(),
                Settlement::Done | Settlement::Dead { .. } => self.announce(&with),
            }
            Ok(())
        })
    }

    fn find(&self, id: &MessageId, now: Timestamp) -> BoxFuture<'_, Result<Option<Found>>> {
        let id = id.clone();
        Box::pin(async move {
            if check_text("the length of a message id", &id.0).is_err() {
                return Ok(None);
            }
            self.writers.query(FIND, &[&id.0, &now.0]).await?.first().map(found).transpose()
        })
    }

    fn cancel(&self, id: &MessageId, now: Timestamp, with: Batch) -> BoxFuture<'_, Result<bool>> {
        let id = id.clone();
        Box::pin(async move {
            let columns = Columns::new(&with)?;
            let cancelled = self.writers.query_one(CANCEL, &columns.values(&[&id.0, &now.0])).await?;
            self.announce(&with);
            Ok(cancelled.try_get(0)?)
        })
    }

    fn heads(&self) -> BoxFuture<'_, Result<Vec<LaneHead>>> {
        Box::pin(async move {
            let rows = self.readers.query(HEADS, &[]).await?;
            let head =
                |row: &Row| Ok(LaneHead { lane: row.try_get(0)?, ready_at: Timestamp(row.try_get(1)?) });
            rows.iter().map(head).collect()
        })
    }

    fn arrivals(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.arrivals.next())
    }
}

/// A settlement as the values of `settle`.
struct Outcome<'a> {
    name: &'static str,
    at: i64,
    lane: Option<&'a str>,
    reason: Option<&'a [u8]>,
    trail: &'a [u8],
}

impl<'a> Outcome<'a> {
    fn new(settlement: &'a Settlement, now: Timestamp) -> Self {
        match settlement {
            Settlement::Done => Self { name: "done", at: now.0, lane: None, reason: None, trail: &[] },
            Settlement::Retry { available_at, lane, trail } => {
                Self { name: "retry", at: available_at.0, lane: lane.as_deref(), reason: None, trail }
            }
            Settlement::Release { available_at, trail } => {
                Self { name: "release", at: available_at.0, lane: None, reason: None, trail }
            }
            Settlement::Dead { reason, trail } => {
                Self { name: "dead", at: now.0, lane: None, reason: Some(reason.as_bytes()), trail }
            }
        }
    }
}

fn claimed(row: &Row, lane: &str) -> Result<Claim> {
    Ok(Claim {
        receipt: Receipt {
            id: MessageId(row.try_get("id")?),
            claim: row.try_get::<_, i64>("claim")?.cast_unsigned(),
        },
        lane: lane.to_owned(),
        ordering_key: row.try_get::<_, Option<_>>("ordering_key")?.map(text).transpose()?,
        attempt: count(row.try_get("attempts")?)?,
        enqueued_at: Timestamp(row.try_get("enqueued_at")?),
        lease_until: Timestamp(row.try_get("ready_at")?),
        trail: bytes(row, "trail")?,
        body: bytes(row, "body")?,
    })
}

fn found(row: &Row) -> Result<Found> {
    let at = Timestamp(row.try_get("ready_at")?);
    let dead_at: Option<i64> = row.try_get("dead_at")?;
    let state = match dead_at.map(Timestamp) {
        Some(at) => MessageState::Dead { at, reason: text(row.try_get("reason")?)? },
        None if row.try_get("is_held_back")? => MessageState::HeldBack,
        None if row.try_get("is_claimed")? => MessageState::Claimed { lease_until: at },
        None => MessageState::Waiting { available_at: at },
    };
    Ok(Found {
        lane: row.try_get("lane")?,
        ordering_key: row.try_get::<_, Option<_>>("ordering_key")?.map(text).transpose()?,
        state,
        attempts: count(row.try_get("attempts")?)?,
        enqueued_at: Timestamp(row.try_get("enqueued_at")?),
        trail: bytes(row, "trail")?,
        body: bytes(row, "body")?,
    })
}

/// A text that is stored as bytes, since it may hold zeros.
pub(super) fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::Damaged { detail: "a text is not UTF-8".to_owned() })
}

pub(super) fn count(number: i32) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::Damaged { detail: "a count is negative".to_owned() })
}

pub(super) fn bytes(row: &Row, column: &str) -> Result<Bytes> {
    Ok(Bytes::from(row.try_get::<_, Vec<u8>>(column)?))
}
