//! What a host itself writes, which no script can: passed on to the platform's log, as far as a person reads.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use alula_model::Name;
use rustix::pipe::PipeFlags;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::unix::pipe;
use tokio::time::Instant;

/// Longest line that is passed on; the rest of a longer one is left out.
const LINE_BYTES_MAX: usize = 1024;
/// Lines of one host that are passed on in a minute: a panic with its backtrace.
const LINES_MAX: usize = 100;
const PER: Duration = Duration::from_secs(60);
/// Bytes read at once.
const READ_BYTES: usize = 4096;

/// Our end of a new pipe, and standard output and error for a host.
pub(super) fn pipe() -> io::Result<(pipe::Receiver, OwnedFd, OwnedFd)> {
    let (ours, stdout) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let stderr = stdout.try_clone()?;
    Ok((pipe::Receiver::from_owned_fd(ours)?, stdout, stderr))
}

/// Passes the lines of a host on until it has ended.
pub(super) async fn pass_on(said: pipe::Receiver, namespace: Name) {
    // Quoted, so that nothing in a line can look like a line of the platform's own.
    read_lines(said, |line| tracing::warn!(%namespace, ?line, "a script host says")).await;
}

async fn read_lines(mut said: impl AsyncRead + Unpin, mut take: impl FnMut(&str)) {
    let mut line = Vec::new();
    let mut buffer = [0; READ_BYTES];
    let mut budget = Budget { ends_at: Instant::now() + PER, left: LINES_MAX };
    while let Ok(read @ 1..) = said.read(&mut buffer).await {
        for byte in &buffer[..read] {
            if *byte != b'\n' {
                if line.len() < LINE_BYTES_MAX {
                    line.push(*byte);
                }
                continue;
            }
            if budget.allows() {
                take(&String::from_utf8_lossy(&line));
            }
            line.clear();
        }
    }
    if !line.is_empty() && budget.allows() {
        take(&String::from_utf8_lossy(&line));
    }
}

/// How many lines are passed on in a stretch of time.
struct Budget {
    ends_at: Instant,
    left: usize,
}

impl Budget {
    fn allows(&mut self) -> bool {
        if Instant::now() >= self.ends_at {
            *self = Self { ends_at: Instant::now() + PER, left: LINES_MAX };
        }
        let allows = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_are_cut_and_a_flood_is_held_back() {
        let long = "x".repeat(5 * LINE_BYTES_MAX);
        let text = format!("one\n{long}\n{}last", "more\n".repeat(1000));
        let mut seen = Vec::new();
        read_lines(text.as_bytes(), |line| seen.push(line.to_owned())).await;
        assert_eq!((seen[0].as_str(), seen[1].len(), seen.len()), ("one", LINE_BYTES_MAX, LINES_MAX));
    }

    #[tokio::test]
    async fn a_host_s_last_words_are_heard_without_a_line_s_end() {
        let mut seen = Vec::new();
        read_lines(&b"panicked \xff"[..], |line| seen.push(line.to_owned())).await;
        assert_eq!(seen, ["panicked \u{fffd}"]);
    }
}
