//! A few connections that only read, lent to one caller at a time.
//!
//! SQLite blocks, so each read runs on the runtime's blocking threads; the number of connections bounds how many
//! of those the store may take. Readers never wait for the writer nor it for them.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::{Error, Result};

/// The connections that nobody uses at the moment, and the right to one of them.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        let permits = Arc::new(Semaphore::new(connections.len()));
        Self { idle: Arc::new(Mutex::new(connections)), permits }
    }

    /// Waits for a connection and runs `work` with it. Dropping the future does not stop `work`, which has a bound
    /// of its own, but its connection comes back all the same.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::Unavailable { detail: "the reader ended".to_owned() };
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| gone())?;
        let idle = Arc::clone(&self.idle);
        let reading = tokio::task::spawn_blocking(move || {
            let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = taken.ok_or_else(gone)?;
            let outcome = work(&connection);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(permit);
            outcome
        });
        reading.await.unwrap_or_else(|_| Err(gone()))
    }
}
