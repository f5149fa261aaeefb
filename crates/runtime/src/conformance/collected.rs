//! A log that is kept in memory and a clock that stands still, for tests.

use std::sync::{Mutex, PoisonError};

use alula_model::{Clock, LogLine, Timestamp};
use tokio::sync::Notify;

use crate::LogSink;

/// Keeps every line.
#[derive(Debug, Default)]
pub struct CollectedLog {
    lines: Mutex<Vec<LogLine>>,
    added: Notify,
}

impl CollectedLog {
    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<LogLine> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that `wanted` takes.
    pub async fn wait_for(&self, wanted: impl Fn(&LogLine) -> bool) -> LogLine {
        loop {
            let added = self.added.notified();
            if let Some(line) = self.lines().into_iter().find(&wanted) {
                return line;
            }
            added.await;
        }
    }
}

impl LogSink for CollectedLog {
    fn write(&self, line: LogLine) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        self.added.notify_waiters();
    }
}

/// Always the same moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}
