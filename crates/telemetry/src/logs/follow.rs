//! Followers: whoever reads lines as they come.
//!
//! Each follower has a bounded buffer of its own that is filled with matching lines only, so a flood of one function
//! does not push the lines of another out of a follower's sight. A full buffer loses lines; the next line that
//! finds room is preceded by one that says how many are missing.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use alula_model::{LogLevel, LogLine, LogStream};
use futures_core::Stream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::LogQuery;

/// Lines that wait for one follower.
pub(super) const FOLLOWER_LINES_MAX: usize = 2_048;
/// Followers at the same time; each costs a comparison for each line.
const FOLLOWERS_MAX: usize = 256;

/// Lines as they come. Ends when the log service ends, and at once where there are too many followers already.
#[derive(Debug)]
pub struct Follow(mpsc::Receiver<LogLine>);

impl Stream for Follow {
    type Item = LogLine;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LogLine>> {
        self.0.poll_recv(cx)
    }
}

/// Everybody who follows.
#[derive(Debug, Default)]
pub(super) struct Followers(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    followers: Vec<Follower>,
    is_closed: bool,
}

#[derive(Debug)]
struct Follower {
    query: LogQuery,
    lines: mpsc::Sender<LogLine>,
    missed: u64,
}

impl Followers {
    pub(super) fn add(&self, query: LogQuery) -> Follow {
        let (lines, receiver) = mpsc::channel(FOLLOWER_LINES_MAX);
        let mut list = self.list();
        list.followers.retain(|follower| !follower.lines.is_closed());
        if list.is_closed || list.followers.len() >= FOLLOWERS_MAX {
            tracing::warn!(limit = FOLLOWERS_MAX, "too many follow the logs");
        } else {
            list.followers.push(Follower { query, lines, missed: 0 });
        }
        Follow(receiver)
    }

    /// Hands lines to everybody who asked for them.
    pub(super) fn tell(&self, lines: &[LogLine]) {
        self.list().followers.retain_mut(|follower| lines.iter().all(|line| follower.tell(line).is_ok()));
    }

    /// Ends all streams.
    pub(super) fn close(&self) {
        let mut list = self.list();
        list.is_closed = true;
        list.followers.clear();
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The follower has gone away.
struct Gone;

impl Follower {
    fn tell(&mut self, line: &LogLine) -> Result<(), Gone> {
        if self.lines.is_closed() {
            return Err(Gone);
        }
        if !self.query.matches(line) {
            return Ok(());
        }
        if self.missed > 0 && !self.send(missed(line, self.missed))? {
            self.missed += 1;
            return Ok(());
        }
        self.missed = 0;
        if !self.send(line.clone())? {
            self.missed = 1;
        }
        Ok(())
    }

    /// Whether there was room.
    fn send(&self, line: LogLine) -> Result<bool, Gone> {
        match self.lines.try_send(line) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Closed(_)) => Err(Gone),
        }
    }
}

fn missed(next: &LogLine, count: u64) -> LogLine {
    LogLine {
        invocation: None,
        stream: LogStream::Platform,
        level: LogLevel::Warn,
        text: format!("{count} log lines were left out: they came faster than they were read"),
        ..next.clone()
    }
}
