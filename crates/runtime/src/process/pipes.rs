//! What the processes of an instance write, as log lines.
//!
//! Pipes are read outside the sandbox, line by line: long lines are split, bytes that are not UTF-8 replaced. An
//! instance has a budget of log bytes; what is over it is dropped and counted, and reading slows down, so that a
//! flood stalls whoever makes it and not its neighbours. The last lines are kept for fault reports.
//!
//! Where lines are stored, and for how long, is the log sink's business.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, InvocationId, LogLevel, LogStream, Timestamp};
use bytes::{Buf, BytesMut};
use rustix::pipe::PipeFlags;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{InstanceLog, Mask};

/// Longest log line in bytes: longer ones are split, so that one line is never a memory problem for a reader.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024;
/// Put at the end of each piece of a split line but the last.
const SPLIT_MARK: &str = " [line goes on]";
/// Lines kept for fault reports: enough for a stack trace.
const TAIL_LINES: usize = 20;
/// Longest line in a fault report, in bytes.
const TAIL_LINE_BYTES_MAX: usize = 1024;
/// Log bytes of one instance in a second: far more than a person reads, far less than what fills a disk.
const BYTES_PER_SECOND: f64 = 1024.0 * 1024.0;
/// Log bytes that an instance may write at once, such as a stack trace of every thread.
const BURST_BYTES: f64 = 4.0 * 1024.0 * 1024.0;
/// What a line costs beyond its text, so that a flood of empty lines is one as well.
const LINE_OVERHEAD_BYTES: f64 = 64.0;
/// Pause after a read while over the budget: the writer is held to about 13 MB/s by its own full pipe.
pub const FLOOD_PAUSE: Duration = Duration::from_millis(5);
/// A read of so many bytes may hold thousands of lines; after it another task has its turn.
const LARGE_READ_BYTES: usize = 16 * 1024;
/// Bytes read at once: the capacity of a pipe.
const READ_BYTES: usize = 64 * 1024;

/// Takes what one instance writes.
#[derive(Debug)]
pub struct Output {
    log: InstanceLog,
    mask: Mask,
    attribution: Attribution,
    /// The last lines, each with the call that it was given to.
    tail: Mutex<VecDeque<(Option<InvocationId>, String)>>,
    budget: Mutex<Budget>,
}

/// Which calls run, so that a line can be given to the only one it can belong to.
#[derive(Debug, Default)]
pub(crate) struct Attribution(Mutex<Vec<InvocationId>>);

impl Attribution {
    pub(super) fn begin(&self, id: &InvocationId) {
        self.running().push(id.clone());
    }

    pub(super) fn end(&self, id: &InvocationId) {
        let mut running = self.running();
        if let Some(at) = running.iter().position(|other| other == id) {
            running.swap_remove(at);
        }
    }

    /// The call that runs, where exactly one does.
    fn only(&self) -> Option<InvocationId> {
        match self.running().as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Vec<InvocationId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A token bucket over log bytes.
#[derive(Debug)]
struct Budget {
    left_bytes: f64,
    filled: Instant,
    dropped: Dropped,
    /// Whether a line was dropped since the reader looked last.
    has_dropped: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Dropped {
    lines: u64,
    bytes: u64,
}

/// What the budget says about a line.
enum Verdict {
    Take,
    /// Take it, and say first how many were dropped before it.
    TakeAfter(Dropped),
    Drop,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { left_bytes: BURST_BYTES, filled: now, dropped: Dropped::default(), has_dropped: false }
    }

    fn spend(&mut self, bytes: usize, now: Instant) -> Verdict {
        let refill = now.saturating_duration_since(self.filled).as_secs_f64() * BYTES_PER_SECOND;
        self.left_bytes = (self.left_bytes + refill).min(BURST_BYTES);
        self.filled = now;
        // Once something was dropped, a tenth of the burst must be there again: a flood is told in few messages.
        let needed = if self.dropped.lines > 0 { BURST_BYTES / 10.0 } else { 0.0 };
        if self.left_bytes <= needed {
            self.dropped.lines += 1;
            self.dropped.bytes += bytes as u64;
            self.has_dropped = true;
            return Verdict::Drop;
        }
        self.left_bytes -= bytes as f64 + LINE_OVERHEAD_BYTES;
        match std::mem::take(&mut self.dropped) {
            Dropped { lines: 0, .. } => Verdict::Take,
            dropped => Verdict::TakeAfter(dropped),
        }
    }
}

impl Output {
    /// Writes to `log`, with a whole budget and without what `mask` covers.
    #[must_use]
    pub fn new(log: InstanceLog, mask: Mask) -> Self {
        Self {
            log,
            mask,
            attribution: Attribution::default(),
            tail: Mutex::default(),
            budget: Mutex::new(Budget::new(Instant::now())),
        }
    }

    /// Which calls run now.
    pub(super) fn attribution(&self) -> &Attribution {
        &self.attribution
    }

    /// Takes one line, within the budget. Without an invocation it is given to the only call that runs.
    pub fn line(&self, id: Option<&InvocationId>, stream: LogStream, level: LogLevel, text: String) {
        let text = self.mask.masked(text);
        let verdict = self.budget().spend(text.len(), Instant::now());
        let id = id.cloned().or_else(|| self.attribution.only());
        // Also what is dropped: a crash is explained by its last lines, and most of all in a flood.
        self.remember(id.clone(), &text);
        match verdict {
            Verdict::Drop => return,
            Verdict::TakeAfter(dropped) => self.say_dropped(dropped),
            Verdict::Take => {}
        }
        self.log.line(id.as_ref(), stream, level, text);
    }

    /// Says something about this instance in the platform's name.
    pub fn platform(&self, level: LogLevel, text: String) {
        self.log.line(None, LogStream::Platform, level, text);
    }

    /// The current moment, by the clock that dates the lines.
    pub(crate) fn now(&self) -> Timestamp {
        self.log.clock.now()
    }

    /// The last lines of all calls and of none, oldest first.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.lock_tail().iter().map(|(_, text)| text.clone()).collect()
    }

    /// The last lines without those that are known to be another call's: what one caller is told must not hold
    /// what was logged for the next.
    #[must_use]
    pub fn tail_of(&self, id: &InvocationId) -> Vec<String> {
        let is_told = |owner: &Option<InvocationId>| owner.as_ref().is_none_or(|owner| owner == id);
        self.lock_tail().iter().filter(|(owner, _)| is_told(owner)).map(|(_, text)| text.clone()).collect()
    }

    /// Cuts what is written to one stream of this instance into lines.
    #[must_use]
    pub fn lines(&self) -> Lines {
        Lines { gathered: BytesMut::new(), mask: self.mask.clone() }
    }

    /// `fault` without the values of secrets: what a function says of its own failure may hold them.
    #[must_use]
    pub fn masked(&self, fault: Fault) -> Fault {
        let mask = |text| self.mask.masked(text);
        Fault { message: mask(fault.message), payload: fault.payload.map(mask), ..fault }
    }

    /// Whether a line had to be dropped since this was asked last: whoever writes should be slowed down.
    #[must_use]
    pub fn is_flooded(&self) -> bool {
        std::mem::take(&mut self.budget().has_dropped)
    }

    /// Reads `pipe` to its end in a task of its own. `id` says whose lines they are, where that is known.
    pub(crate) fn capture(
        self: &Arc<Self>,
        pipe: pipe::Receiver,
        stream: LogStream,
        id: Option<InvocationId>,
    ) -> JoinHandle<()> {
        let output = Arc::clone(self);
        tokio::spawn(async move { output.read_lines(pipe, stream, id).await })
    }

    async fn read_lines(&self, mut pipe: pipe::Receiver, stream: LogStream, id: Option<InvocationId>) {
        let mut lines = self.lines();
        loop {
            lines.gathered.reserve(READ_BYTES);
            // A pipe that cannot be read has nothing more to say.
            let Ok(read @ 1..) = pipe.read_buf(&mut lines.gathered).await else { break };
            while let Some(text) = lines.next_line() {
                self.line(id.as_ref(), stream, LogLevel::Info, text);
            }
            self.hold_back_flood(read).await;
        }
        while let Some(text) = lines.rest() {
            self.line(id.as_ref(), stream, LogLevel::Info, text);
        }
        let dropped = std::mem::take(&mut self.budget().dropped);
        if dropped.lines > 0 {
            self.say_dropped(dropped);
        }
    }

    /// Called after `read_bytes` were read from an instance and taken in: slows the reading down where lines had
    /// to be dropped since the last time, and lets others run after every large read.
    pub(crate) async fn hold_back_flood(&self, read_bytes: usize) {
        if self.is_flooded() {
            tokio::time::sleep(FLOOD_PAUSE).await;
        } else if read_bytes >= LARGE_READ_BYTES {
            tokio::task::yield_now().await;
        }
    }

    fn say_dropped(&self, dropped: Dropped) {
        let Dropped { lines, bytes } = dropped;
        let allowed = BYTES_PER_SECOND as u64;
        let text = format!(
            "{lines} log lines ({bytes} bytes) were dropped: this instance wrote more than {allowed} bytes a second"
        );
        self.platform(LogLevel::Warn, text);
    }

    fn remember(&self, id: Option<InvocationId>, text: &str) {
        let mut tail = self.lock_tail();
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back((id, text[..text.floor_char_boundary(TAIL_LINE_BYTES_MAX)].to_owned()));
    }

    fn lock_tail(&self) -> std::sync::MutexGuard<'_, VecDeque<(Option<InvocationId>, String)>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self) -> std::sync::MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts what is written to one stream into lines.
#[derive(Debug)]
pub struct Lines {
    gathered: BytesMut,
    mask: Mask,
}

impl Lines {
    /// Takes what was written, wherever lines begin and end in it.
    pub fn push(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
    }

    /// The next complete line, or a piece of one that is too long.
    #[must_use]
    pub fn next_line(&mut self) -> Option<String> {
        let window = &self.gathered[..self.gathered.len().min(LINE_BYTES_MAX + 1)];
        if let Some(end) = memchr::memchr(b'\n', window) {
            let text = to_text(&self.gathered[..end]);
            self.gathered.advance(end + 1);
            return Some(text);
        }
        // A value that lies across the cut must be there as a whole to be found.
        if self.gathered.len() <= LINE_BYTES_MAX + self.mask.longest() {
            return None;
        }
        // What is left after masking may be short enough, or have its end in reach.
        if self.mask_gathered() { self.next_line() } else { Some(self.cut()) }
    }

    /// What is left without an end, where there is something: call it until there is nothing.
    #[must_use]
    pub fn rest(&mut self) -> Option<String> {
        if self.gathered.len() > LINE_BYTES_MAX {
            self.mask_gathered();
        }
        if self.gathered.len() > LINE_BYTES_MAX {
            return Some(self.cut());
        }
        let rest = std::mem::take(&mut self.gathered);
        (!rest.is_empty()).then(|| to_text(&rest))
    }

    /// Masks what is there; false where there is nothing to be masked.
    fn mask_gathered(&mut self) -> bool {
        let clean = self.mask.masked_bytes(&self.gathered);
        let is_masked = clean.is_some();
        if let Some(clean) = clean {
            self.gathered = clean.as_slice().into();
        }
        is_masked
    }

    /// Takes a piece of a line that is too long.
    fn cut(&mut self) -> String {
        let piece = self.gathered.split_to(split_point(&self.gathered));
        to_text(&piece) + SPLIT_MARK
    }
}

/// Where a long line is split: at the limit, or up to three bytes before it so that no character is torn.
fn split_point(bytes: &[u8]) -> usize {
    let is_start = |at: &usize| bytes[*at] & 0b1100_0000 != 0b1000_0000;
    (LINE_BYTES_MAX - 3..=LINE_BYTES_MAX).rev().find(is_start).unwrap_or(LINE_BYTES_MAX)
}

fn to_text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8_lossy(line).into_owned()
}

/// A pipe whose reading end is ours and whose writing end goes into a process.
pub(super) fn log_pipe() -> Result<(pipe::Receiver, OwnedFd), Fault> {
    let (ours, inside) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| no_pipe(error.into()))?;
    Ok((pipe::Receiver::from_owned_fd(ours).map_err(no_pipe)?, inside))
}

/// A pipe whose writing end is ours and whose reading end goes into a process.
pub(super) fn feed_pipe() -> Result<(pipe::Sender, OwnedFd), Fault> {
    let (inside, ours) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| no_pipe(error.into()))?;
    Ok((pipe::Sender::from_owned_fd(ours).map_err(no_pipe)?, inside))
}

/// A stream socket, ours and the end that goes into a process.
pub(super) fn socket_pair() -> Result<(UnixStream, OwnedFd), Fault> {
    let (ours, inside) = std::os::unix::net::UnixStream::pair().map_err(no_pipe)?;
    ours.set_nonblocking(true).map_err(no_pipe)?;
    Ok((UnixStream::from_std(ours).map_err(no_pipe)?, inside.into()))
}

/// Standard input with nothing on it.
pub(super) fn nothing() -> Result<OwnedFd, Fault> {
    File::open("/dev/null").map(OwnedFd::from).map_err(no_pipe)
}

pub(super) fn no_pipe(error: std::io::Error) -> Fault {
    tracing::error!(%error, "cannot make a pipe for a function");
    Fault::new(ErrorCode::SandboxFailed, "the platform has no file descriptors left for this function")
}

#[cfg(test)]
#[path = "pipes_tests.rs"]
mod tests;
