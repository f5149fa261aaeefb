//! Versions of the tables and functions.
//!
//! A migration is a numbered script that makes version `n` of version `n - 1`. Scripts are never changed once they were
//! released; all that are missing run in one transaction with the note that they ran. Nodes that start together take
//! turns.

use super::connections::{Connector, SCHEMA};
use crate::{Error, Result};

const SCRIPTS: &[&str] =
    &[include_str!("migrations/0001_tables.sql"), include_str!("migrations/0002_operations.sql")];

/// Brings the schema to the newest version, or fails with [`Error::TooNew`].
pub(super) async fn apply(connector: &Connector) -> Result<()> {
    let mut client = connector.connect_and_drive().await?;
    let transaction = client.transaction().await?;
    // Whatever the number is, it must be the same in every node and version.
    transaction.execute("SELECT pg_advisory_xact_lock(1634497633, -1)", &[]).await?;
    transaction
        .batch_execute(&format!(
            "CREATE SCHEMA IF NOT EXISTS {SCHEMA}; SET LOCAL search_path TO {SCHEMA};
             CREATE TABLE IF NOT EXISTS schema_version (version bigint NOT NULL)"
        ))
        .await?;
    let found = transaction.query_opt("SELECT version FROM schema_version", &[]).await?;
    let found: i64 = found.map_or(Ok(0), |row| row.try_get(0))?;
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    let known = u32::try_from(SCRIPTS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(Error::TooNew { found, known });
    }
    for script in SCRIPTS.iter().skip(found as usize) {
        transaction.batch_execute(script).await?;
    }
    if found < known {
        transaction.execute("DELETE FROM schema_version", &[]).await?;
        transaction.execute("INSERT INTO schema_version VALUES ($1)", &[&i64::from(known)]).await?;
    }
    Ok(transaction.commit().await?)
}
