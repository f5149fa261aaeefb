//! Lines that were taken and are not stored yet, in a fair share for each function.
//!
//! Each function that has lines waiting may use an equal part of the whole, so one that floods the buffer fills only
//! its own part and the line of a quiet neighbour always finds room. Taking a line costs one short lock; nothing is
//! ever waited for.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{LogLine, Name};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::Error;

/// Memory for waiting lines of all functions, in bytes: what a disk takes in well under a second.
const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest text that is kept of one line, in bytes; the rest is cut off and the line says so.
pub(super) const TEXT_BYTES_MAX: usize = 64 * 1024;
/// What a waiting line uses besides its text: ids, names, bookkeeping.
const LINE_OVERHEAD_BYTES: usize = 256;
/// Time in which lines gather before they are stored together: unnoticed by a person who follows them.
const GATHER: Duration = Duration::from_millis(5);

/// A function, as the files are ordered.
pub(super) type Function = (Name, Name);

/// Lines of one function, in the order in which they came, and how many had to be dropped.
#[derive(Debug, Default)]
pub(super) struct Share {
    pub(super) lines: Vec<LogLine>,
    pub(super) dropped: u64,
    bytes: usize,
}

/// The buffer between those who write lines and the thread that stores them.
#[derive(Debug)]
pub(super) struct Pending {
    state: Mutex<State>,
    /// Wakes the thread that stores.
    wake: Condvar,
    /// How many takings have been stored.
    stored: watch::Sender<u64>,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    shares: HashMap<Function, Share>,
    /// How often the shares were taken away to be stored.
    takings: u64,
    /// Somebody waits for the lines to be stored: do not gather.
    is_urgent: bool,
    is_closed: bool,
}

impl Pending {
    pub(super) fn new() -> Self {
        let (stored, _) = watch::channel(0);
        Self { state: Mutex::default(), wake: Condvar::new(), stored, dropped: Counter::default() }
    }

    pub(super) fn dropped(&self) -> Counter {
        self.dropped.clone()
    }

    /// Takes a line, or counts it as dropped where its function's share is full.
    pub(super) fn add(&self, mut line: LogLine) {
        cut(&mut line.text);
        let bytes = line.text.len() + LINE_OVERHEAD_BYTES;
        let function = (line.key.namespace.clone(), line.key.function.clone());
        let mut state = self.state();
        if state.is_closed {
            self.dropped.inc();
            return;
        }
        let was_empty = state.shares.is_empty();
        let functions = state.shares.len() + usize::from(!state.shares.contains_key(&function));
        let share = state.shares.entry(function).or_default();
        // The first line always fits, so that there is one to hang the notice about the others on.
        if share.lines.is_empty() || share.bytes + bytes <= PENDING_BYTES_MAX / functions {
            share.bytes += bytes;
            share.lines.push(line);
        } else {
            share.dropped += 1;
            self.dropped.inc();
        }
        drop(state);
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Waits for lines, lets more gather for a moment, and takes them all away; `None` once it is closed and empty.
    pub(super) fn take(&self) -> Option<HashMap<Function, Share>> {
        let mut state = self.state();
        while state.shares.is_empty() && !state.is_closed && !state.is_urgent {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let gathering =
            self.wake.wait_timeout_while(state, GATHER, |state| !state.is_closed && !state.is_urgent);
        let (mut state, _) = gathering.unwrap_or_else(PoisonError::into_inner);
        if state.shares.is_empty() && state.is_closed {
            return None;
        }
        state.is_urgent = false;
        state.takings += 1;
        Some(std::mem::take(&mut state.shares))
    }

    /// Says that everything taken away so far is in the files.
    pub(super) fn set_stored(&self) {
        let takings = self.state().takings;
        self.stored.send_replace(takings);
    }

    /// Waits until every line that was taken before this call is in the files.
    pub(super) async fn stored(&self) -> Result<(), Error> {
        let mut stored = self.stored.subscribe();
        let taking = {
            let mut state = self.state();
            if state.is_closed && state.shares.is_empty() {
                // What was taken away last may still be on its way into the files.
                state.takings
            } else {
                state.is_urgent = true;
                state.takings + 1
            }
        };
        self.wake.notify_one();
        stored.wait_for(|stored| *stored >= taking).await.map(drop).map_err(|_| Error::Ended)
    }

    /// Takes no further lines.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.wake.notify_one();
    }

    /// No change of the state can panic half-way, so a poisoned one is still whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        let cut_off = text.len() - text.floor_char_boundary(TEXT_BYTES_MAX);
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push_str(&format!("... [{cut_off} bytes cut off]"));
        text.shrink_to_fit();
    }
}
