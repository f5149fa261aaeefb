//! Records in PostgreSQL, and the batch commit.

use alula_model::Timestamp;
use bytes::Bytes;
use tokio_postgres::Row;

use super::PostgresStore;
use super::batch::{Columns, batch_arguments};
use crate::records::{EXPIRE_LEN_MAX, SCAN_LEN_MAX, check_text};
use crate::{Batch, BoxFuture, Committed, Key, Record, Records, Result, Revision};

const COMMIT: &str = concat!("SELECT commit_batch(", batch_arguments!(), ")");

/// From `$1`, itself included or not, up to `$3`: the prefix `$4` itself and what continues it with a slash.
const SCAN: &str = "
    SELECT key, value, revision FROM records
    WHERE key >= $1 AND ($2 OR key > $1) AND ($3::text IS NULL OR key < $3)
      AND ($4::text = '' OR key = $4 OR key >= $4 || '/')
    ORDER BY key LIMIT $5";

/// What was given a new time meanwhile stays: the lock looks again.
const EXPIRE: &str = "
    DELETE FROM records WHERE key IN (
        SELECT key FROM records WHERE expires_at <= $1 ORDER BY expires_at, key LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) RETURNING key";

impl Records for PostgresStore {
    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Record>>> {
        let key = key.clone();
        Box::pin(async move {
            if check_text("the length of a key", key.as_str()).is_err() {
                return Ok(None);
            }
            let get = "SELECT key, value, revision FROM records WHERE key = $1";
            self.writers.query(get, &[&key.as_str()]).await?.first().map(record).transpose()
        })
    }

    fn scan(&self, prefix: &Key, after: Option<&Key>, limit: usize) -> BoxFuture<'_, Result<Vec<Record>>> {
        let prefix = prefix.as_str().to_owned();
        let after = after.map(Key::as_str).filter(|after| *after >= prefix.as_str());
        let (from, is_from_included) = (after.unwrap_or(&prefix).to_owned(), after.is_none());
        // The character behind a slash is a zero.
        let end = (!prefix.is_empty()).then(|| format!("{prefix}0"));
        let limit = limit.min(SCAN_LEN_MAX) as i64;
        Box::pin(async move {
            let rows = self.readers.query(SCAN, &[&from, &is_from_included, &end, &prefix, &limit]).await?;
            rows.iter().map(record).collect()
        })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed>> {
        Box::pin(async move {
            let columns = Columns::new(&batch)?;
            let row = self.writers.query_one(COMMIT, &columns.values(&[])).await?;
            self.announce(&batch);
            Ok(Committed { revision: Revision(row.try_get::<_, i64>(0)?.cast_unsigned()) })
        })
    }

    fn expire(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64>> {
        let limit = limit.min(EXPIRE_LEN_MAX) as i64;
        Box::pin(async move { Ok(self.writers.query(EXPIRE, &[&now.0, &limit]).await?.len() as u64) })
    }
}

impl PostgresStore {
    /// Tells other nodes, where a batch has brought something to claim.
    pub(super) fn announce(&self, batch: &Batch) {
        if !batch.messages.is_empty() {
            self.arrivals.announce();
        }
    }
}

fn record(row: &Row) -> Result<Record> {
    Ok(Record {
        key: Key::from_stored(row.try_get(0)?),
        value: Bytes::from(row.try_get::<_, Vec<u8>>(1)?),
        revision: Revision(row.try_get::<_, i64>(2)?.cast_unsigned()),
    })
}
