//! The PostgreSQL back end: for platforms of several nodes.
//!
//! Records, queue and history of all nodes lie in one database, in a schema of their own; packages stay on disk. An
//! operation that changes several things is a function in the database (`migrations/0002_operations.sql`), so it is one
//! round trip and one transaction whatever it does, and many callers share a few connections, on which their calls follow
//! each other without waiting (`connections`).
//!
//! While the server is gone every operation fails with [`Error::Unavailable`](crate::Error::Unavailable), soon, and works
//! again when it is back. Where the connection was lost under an operation, nobody knows whether it happened. Doing it
//! again is safe all the same: an enqueue whose id is there and an expectation that was met before are conflicts, and a
//! claim that was settled is lost. Only a put that expects nothing would happen twice, to the same end.
//!
//! Read the SQL of the operations first, then `connections`, then the ports.

mod arrivals;
mod batch;
mod connections;
mod dead_letters;
mod failure;
mod history;
mod migrations;
mod outage;
mod queue;
mod queue_counts;
mod records;

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arrivals::Arrivals;
use connections::{Connections, Connector, Session};

use crate::Result;

/// Settings of the PostgreSQL back end.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// Where the server is and who we are: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with parameters such as
    /// `?sslmode=require`. The user must be allowed to make a schema.
    pub url: String,
    /// Connections on which changes are made; each has one transaction at a time.
    pub writers: usize,
    /// Connections on which lists and counts are read.
    pub readers: usize,
}

impl PostgresOptions {
    /// The usual settings: a server waits for its disk for several changes at once, so eight connections share that.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), writers: 8, readers: 4 }
    }
}

impl std::fmt::Debug for PostgresOptions {
    /// Without the URL, which holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url: _, writers, readers } = self;
        f.debug_struct("PostgresOptions").field("writers", writers).field("readers", readers).finish()
    }
}

/// Changes are small: one that takes longer waits for something that is stuck.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Lists and counts may have to look at every message.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Appending and pruning runs: nobody waits for it, and a block of it is large.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections on which runs are appended and pruned: appends come one after another.
const HISTORY_CONNECTIONS: usize = 2;

/// Records, queue and history in PostgreSQL. Clones share their connections, which are closed when the last one is gone.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    /// Changes, and reads of single things.
    writers: Arc<Connections>,
    readers: Arc<Connections>,
    history: Arc<Connections>,
    arrivals: Arc<Arrivals>,
}

/// Connects to a server and makes or upgrades the tables as needed. The connections live on the runtime that this is
/// called on.
///
/// Fails with [`Error::TooNew`](crate::Error::TooNew) where a newer binary made the tables and with
/// [`Error::Unavailable`](crate::Error::Unavailable) where the server does not answer or does not let us in.
pub async fn open_postgres(options: &PostgresOptions) -> Result<PostgresStore> {
    let connector = Arc::new(Connector::new(&options.url)?);
    migrations::apply(&connector).await?;
    let connections = |count, session| Arc::new(Connections::new(Arc::clone(&connector), count, session));
    let durable = |timeout| Session { timeout, is_synced: true };
    Ok(PostgresStore {
        writers: connections(options.writers, durable(WRITE_TIMEOUT)),
        readers: connections(options.readers, durable(READ_TIMEOUT)),
        history: connections(HISTORY_CONNECTIONS, Session { timeout: HISTORY_TIMEOUT, is_synced: false }),
        arrivals: Arc::new(Arrivals::start(connector)),
    })
}
