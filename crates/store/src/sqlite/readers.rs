//! A few connections that only read, lent to one caller at a time and opened when one is first needed.
//!
//! SQLite blocks, so each read runs on the runtime's blocking threads; the number of connections bounds how many
//! of those the store may take. Readers never wait for the writer nor it for them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::database::open_reader;
use crate::{Error, Result};

/// The connections that nobody uses at the moment, and the right to one.
#[derive(Debug)]
pub(super) struct Readers {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// At most `count` connections to the file at `path`.
    pub(super) fn new(path: &Path, count: usize) -> Self {
        Self {
            path: Arc::new(path.to_owned()),
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(count.max(1))),
        }
    }

    /// Waits for a connection and runs `work` with it. Dropping the future does not stop `work`, which has a bound
    /// of its own, but its connection comes back all the same.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::Unavailable { detail: "the reader ended".to_owned() };
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| gone())?;
        let (path, idle) = (Arc::clone(&self.path), Arc::clone(&self.idle));
        let reading = tokio::task::spawn_blocking(move || {
            let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = taken.map_or_else(|| open_reader(&path), Ok)?;
            let outcome = work(&connection);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(permit);
            outcome
        });
        reading.await.unwrap_or_else(|_| Err(gone()))
    }
}
