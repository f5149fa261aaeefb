//! Dead letters in PostgreSQL.

use alula_model::Timestamp;
use bytes::Bytes;
use tokio_postgres::Row;

use super::PostgresStore;
use super::batch::{Columns, batch_arguments};
use super::queue::{bytes, count, text};
use crate::message::check_trail;
use crate::queue::{CLAIM_LEN_MAX, end_of_prefix};
use crate::records::check_text;
use crate::{Batch, BoxFuture, DeadLetter, DeadLetters, MessageId, Result};

const LIST: &str = "
    SELECT id, lane, ordering_key, attempts, enqueued_at, dead_at, reason, trail, body FROM messages
    WHERE dead_at IS NOT NULL AND (lane, id) > ($1, $2) AND lane >= $3 AND ($4::text IS NULL OR lane < $4)
    ORDER BY lane, id LIMIT $5";

const PURGE: &str = concat!("SELECT purge($15, ", batch_arguments!(), ")");

impl DeadLetters for PostgresStore {
    fn dead_letters(
        &self,
        lane_prefix: &str,
        after: Option<(&str, &MessageId)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>>> {
        let (prefix, end) = (lane_prefix.to_owned(), end_of_prefix(lane_prefix));
        let (lane, id) = after.map_or_else(Default::default, |(lane, id)| (lane.to_owned(), id.0.clone()));
        let limit = limit.min(CLAIM_LEN_MAX) as i64;
        Box::pin(async move {
            let rows = self.readers.query(LIST, &[&lane, &id, &prefix, &end, &limit]).await?;
            rows.iter().map(dead_letter).collect()
        })
    }

    fn redrive(&self, id: &MessageId, lane: &str, now: Timestamp, trail: Bytes) -> BoxFuture<'_, Result<()>> {
        let (id, lane) = (id.clone(), lane.to_owned());
        Box::pin(async move {
            check_text("the length of a lane", &lane)?;
            check_trail(&trail)?;
            let redrive = "SELECT redrive($1, $2, $3, $4)";
            self.writers.query(redrive, &[&id.0, &lane, &now.0, &trail.as_ref()]).await?;
            self.arrivals.announce();
            Ok(())
        })
    }

    fn purge(&self, id: &MessageId, with: Batch) -> BoxFuture<'_, Result<()>> {
        let id = id.clone();
        Box::pin(async move {
            let columns = Columns::new(&with)?;
            self.writers.query(PURGE, &columns.values(&[&id.0])).await?;
            self.announce(&with);
            Ok(())
        })
    }
}

fn dead_letter(row: &Row) -> Result<DeadLetter> {
    Ok(DeadLetter {
        id: MessageId(row.try_get("id")?),
        lane: row.try_get("lane")?,
        ordering_key: row.try_get::<_, Option<_>>("ordering_key")?.map(text).transpose()?,
        attempts: count(row.try_get("attempts")?)?,
        enqueued_at: Timestamp(row.try_get("enqueued_at")?),
        dead_at: Timestamp(row.try_get("dead_at")?),
        reason: text(row.try_get("reason")?)?,
        trail: bytes(row, "trail")?,
        body: bytes(row, "body")?,
    })
}
