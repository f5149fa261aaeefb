//! The calls that a context works on: what the script has said about each so far.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::ScriptError;
use crate::message::Pieces;

/// Bytes of a response that wait to be read before the script is held back.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// The beginning of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: String,
    /// `None` where the body comes in pieces.
    pub(crate) body: Option<Bytes>,
}

/// All calls of one context.
#[derive(Default)]
pub(crate) struct Calls {
    running: RefCell<HashMap<u32, Slot>>,
}

#[derive(Default)]
struct Slot {
    log_id: u32,
    head: Option<Result<Head, ScriptError>>,
    /// Whether the answer was whole, or an error.
    is_answered: bool,
    pieces: VecDeque<Bytes>,
    waiting_bytes: usize,
    end: Option<Result<(), ScriptError>>,
    is_held_back: bool,
    waker: Option<Waker>,
    body: Option<Pieces>,
}

impl Slot {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What a reader of a response gets next.
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    /// Whether the script waits to be told that it may go on.
    pub(crate) releases: bool,
}

impl Calls {
    pub(crate) fn begin(&self, id: u32, log_id: u32, body: Option<Pieces>) {
        self.running.borrow_mut().insert(id, Slot { log_id, body, ..Slot::default() });
    }

    /// Forgets a call; `false` where it had ended before.
    pub(crate) fn remove(&self, id: u32) -> bool {
        self.running.borrow_mut().remove(&id).is_some()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.running.borrow().is_empty()
    }

    /// Whether the script has said all there is to say about a call.
    pub(crate) fn has_ended(&self, id: u32) -> bool {
        let running = self.running.borrow();
        running.get(&id).is_none_or(|slot| slot.is_answered || slot.end.is_some())
    }

    pub(crate) fn log_id(&self, id: u32) -> Option<u32> {
        self.running.borrow().get(&id).map(|slot| slot.log_id)
    }

    /// The only call that runs, where exactly one does: whose code it is that runs now.
    pub(crate) fn only(&self) -> Option<u32> {
        let running = self.running.borrow();
        if running.len() == 1 { running.keys().next().copied() } else { None }
    }

    /// The script has answered, or has failed to. The first answer counts.
    pub(crate) fn answer(&self, id: u32, head: Result<Head, ScriptError>) {
        if let Some(slot) = self.running.borrow_mut().get_mut(&id) {
            if slot.head.is_none() && !slot.is_answered {
                slot.is_answered = !matches!(head, Ok(Head { body: None, .. }));
                slot.head = Some(head);
            }
            slot.wake();
        }
    }

    /// A piece of a response; `false` where the script must wait before the next.
    pub(crate) fn push(&self, id: u32, piece: Bytes) -> bool {
        let mut running = self.running.borrow_mut();
        let Some(slot) = running.get_mut(&id) else { return true };
        slot.waiting_bytes += piece.len();
        if !piece.is_empty() {
            slot.pieces.push_back(piece);
        }
        slot.is_held_back = slot.waiting_bytes >= WAITING_BYTES_MAX;
        slot.wake();
        !slot.is_held_back
    }

    /// Nothing more of a response comes.
    pub(crate) fn end(&self, id: u32, end: Result<(), ScriptError>) {
        if let Some(slot) = self.running.borrow_mut().get_mut(&id) {
            slot.end.get_or_insert(end);
            slot.wake();
        }
    }

    /// Ends every call, since the context ends: `first` is told `error`, the others that they went with it.
    pub(crate) fn end_all(&self, first: Option<u32>, error: &ScriptError) {
        for (id, slot) in self.running.borrow_mut().iter_mut() {
            let told = if first.is_none_or(|first| first == *id) { error } else { &ScriptError::Ended };
            if slot.head.is_none() {
                slot.head = Some(Err(told.clone()));
            }
            slot.end.get_or_insert(Err(told.clone()));
            slot.wake();
        }
    }

    /// The head where it is there already.
    pub(crate) fn take_head(&self, id: u32) -> Option<Result<Head, ScriptError>> {
        self.running.borrow_mut().get_mut(&id)?.head.take()
    }

    pub(crate) fn poll_head(&self, id: u32, cx: &Context<'_>) -> Poll<Result<Head, ScriptError>> {
        let mut running = self.running.borrow_mut();
        let Some(slot) = running.get_mut(&id) else { return Poll::Ready(Err(ScriptError::Ended)) };
        match slot.head.take() {
            Some(head) => Poll::Ready(head),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn poll_piece(&self, id: u32, cx: &Context<'_>) -> Poll<Option<Result<Piece, ScriptError>>> {
        let mut running = self.running.borrow_mut();
        let Some(slot) = running.get_mut(&id) else { return Poll::Ready(None) };
        if let Some(bytes) = slot.pieces.pop_front() {
            slot.waiting_bytes -= bytes.len();
            let releases = slot.is_held_back && slot.waiting_bytes < WAITING_BYTES_MAX / 2;
            if releases {
                slot.is_held_back = false;
            }
            return Poll::Ready(Some(Ok(Piece { bytes, releases })));
        }
        match slot.end.clone() {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Takes the body of a request for the time of one read.
    pub(crate) fn take_body(&self, id: u32) -> Option<Pieces> {
        self.running.borrow_mut().get_mut(&id)?.body.take()
    }

    /// Gives it back.
    pub(crate) fn put_body(&self, id: u32, body: Pieces) {
        if let Some(slot) = self.running.borrow_mut().get_mut(&id) {
            slot.body = Some(body);
        }
    }
}

/// Reads one piece.
pub(crate) async fn next_of(pieces: &mut Pieces) -> Option<Result<Bytes, String>> {
    pieces.next().await
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Calls({})", self.running.borrow().len())
    }
}
