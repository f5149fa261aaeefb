//! The port for the history: finished runs, appended in batches, read by filters.
//!
//! Contract: an append that has returned survives the end of the process, however it comes, though the last seconds
//! may be lost with the power, since the record of a call must not cost a wait for the disk. Appending the same run
//! and attempt again replaces it. Pages are ordered by start from the newest to the oldest, and a page's cursor
//! continues exactly where it ended, whatever was appended in between.

use std::sync::Arc;

use alula_model::{InvocationId, Name, Run, RunStatus, Timestamp};

use crate::{BoxFuture, Error, Result};

/// Runs that one page holds at the most.
pub const PAGE_LEN_MAX: usize = 1_000;

/// Which runs to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunFilter {
    /// Only of this namespace.
    pub namespace: Option<Name>,
    /// Only of this function.
    pub function: Option<Name>,
    /// Only of this version.
    pub version: Option<u64>,
    /// Only with this status.
    pub status: Option<RunStatus>,
    /// Only those that started at this moment or later.
    pub since: Option<Timestamp>,
    /// Only those that started before this moment.
    pub until: Option<Timestamp>,
    /// Continue behind this cursor.
    pub cursor: Option<String>,
    /// How many; at most [`PAGE_LEN_MAX`].
    pub limit: usize,
}

impl RunFilter {
    /// Whether `run` passes, the cursor aside.
    pub(crate) fn matches(&self, run: &Run) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == run.key.namespace)
            && self.function.as_ref().is_none_or(|function| *function == run.key.function)
            && self.version.is_none_or(|version| version == run.key.version)
            && self.status.is_none_or(|status| status == run.status)
            && self.since.is_none_or(|since| run.started_at >= since)
            && self.until.is_none_or(|until| run.started_at < until)
    }
}

/// Some runs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<Run>,
    /// Where the next page begins, if there is more.
    pub next: Option<String>,
}

/// Finished runs.
pub trait History: Send + Sync + std::fmt::Debug {
    /// Adds runs. They are shared, so that a caller who has to try again need not copy them.
    fn append(&self, runs: Arc<[Run]>) -> BoxFuture<'_, Result<()>>;

    /// Every attempt of one invocation, the first first.
    fn get(&self, id: &InvocationId) -> BoxFuture<'_, Result<Vec<Run>>>;

    /// Runs by filter.
    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<RunPage>>;

    /// Forgets runs that started before `before`, and the oldest beyond `keep_max`. Returns how many went.
    fn prune(&self, before: Timestamp, keep_max: u64) -> BoxFuture<'_, Result<u64>>;
}

pub(crate) fn bad_cursor() -> Error {
    Error::NotFound { what: "this cursor".to_owned() }
}
