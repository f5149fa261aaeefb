//! The histories of calls in the data directory: what the pool knows of the habits of functions survives a restart.
//!
//! Losing the file loses habits, which are learned anew, and nothing else; so it is written now and then and at the end,
//! and one that cannot be read is only complained about.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use alula_pool::Pool;
use alula_store::DataDir;

/// How often the file is written. What was learned since is lost when the machine fails.
const SAVE_INTERVAL: Duration = Duration::from_secs(600);

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct Histories {
    path: PathBuf,
}

impl Histories {
    /// Gives the pool what an earlier run has learned.
    pub(crate) fn load_into(pool: &Pool, data_dir: &DataDir) -> Self {
        let histories = Self { path: data_dir.path().join("histories.json") };
        histories.load(pool);
        histories
    }

    fn load(&self, pool: &Pool) {
        let read = std::fs::read(&self.path).and_then(|record| Ok(pool.load_history(&record)?));
        match read {
            Ok(functions) => tracing::debug!(functions, "histories of calls loaded"),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "histories of calls cannot be read")
            }
        }
    }

    /// Writes down what the pool has learned.
    pub(crate) fn save(&self, pool: &Pool) {
        if let Err(error) = self.write(pool) {
            tracing::warn!(%error, path = %self.path.display(), "histories of calls cannot be written");
        }
    }

    /// Writes it down now and then, for ever.
    pub(crate) async fn run(self, pool: Pool) {
        loop {
            tokio::time::sleep(SAVE_INTERVAL).await;
            let (this, pool) = (self.clone(), pool.clone());
            // The disk may be slow.
            drop(tokio::task::spawn_blocking(move || this.save(&pool)).await);
        }
    }

    fn write(&self, pool: &Pool) -> io::Result<()> {
        let record = pool.save_history()?;
        let new = self.path.with_extension("new");
        std::fs::write(&new, record)?;
        std::fs::rename(&new, &self.path)
    }
}
