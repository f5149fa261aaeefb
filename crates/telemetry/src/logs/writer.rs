//! The thread that stores lines: takes what has gathered, appends each function's lines to its file with one system
//! call, tells the followers, and says in a function's log what had to be dropped.

use alula_model::{Clock, LogLevel, LogLine, LogStream};

use super::pending::Share;
use super::segments::Segments;
use super::{LogOptions, Shared};

/// Stores lines until the pending lines are closed and empty.
pub(super) fn write_until_closed(shared: &Shared, options: LogOptions, clock: &dyn Clock) {
    let mut segments = Segments::open(options, clock.now());
    let mut is_failing = false;
    while let Some(shares) = shared.pending.take() {
        let now = clock.now();
        for (function, mut share) in shares {
            share.say_what_was_dropped();
            let appended = segments.append(&function, &share.lines, now);
            if let Err(error) = &appended {
                shared.pending.dropped().inc_by(share.lines.len() as u64);
                // Said once until it works again: a full disk needs no log of its own.
                if !is_failing {
                    tracing::error!(%error, "log lines cannot be stored and are lost");
                }
            }
            is_failing = appended.is_err();
            shared.followers.tell(&share.lines);
        }
        segments.trim();
        segments.forget_old(now);
        shared.pending.set_stored();
    }
    shared.pending.set_stored();
    shared.followers.close();
}

impl Share {
    /// Adds a line of the platform about dropped lines, in the name of whoever wrote the last one that was kept.
    fn say_what_was_dropped(&mut self) {
        let Some(last) = self.lines.last().filter(|_| self.dropped > 0) else { return };
        let notice = LogLine {
            invocation: None,
            stream: LogStream::Platform,
            level: LogLevel::Warn,
            text: format!(
                "{} log lines were dropped: they came faster than they could be stored",
                self.dropped
            ),
            ..last.clone()
        };
        self.lines.push(notice);
    }
}
