//! The body of a request on its way to a script: what has come and has not been taken.
//!
//! Pieces are put together while they wait, so that a body in a million pieces costs no more than one in a few. It is
//! bounded by the window of the protocol: more may only be sent after credit, which is given when half of the window has
//! been taken.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use alula_runtime::frames::WINDOW_BYTES;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;

/// Bytes taken before credit is given for them: often enough that a sender never waits for a reader that keeps up.
const CREDIT_STEP_BYTES: u32 = WINDOW_BYTES / 2;

/// The body of one request.
#[derive(Debug, Default)]
pub(super) struct Inbox(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    waiting: BytesMut,
    end: Option<End>,
    /// Bytes that were taken and not given back as credit.
    owed: u32,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
}

impl Inbox {
    /// Takes a piece in. What is beyond the window breaks the body off.
    pub(super) fn push(&self, piece: &[u8]) {
        let mut state = self.0.borrow_mut();
        if state.end.is_none() && state.waiting.len() + piece.len() <= WINDOW_BYTES as usize {
            state.waiting.extend_from_slice(piece);
            state.wake();
        } else {
            state.end(End::Broken);
        }
    }

    /// Nothing more comes.
    pub(super) fn end(&self) {
        self.0.borrow_mut().end(End::Whole);
    }

    /// All that is there.
    pub(super) fn take(&self) -> Bytes {
        self.0.borrow_mut().waiting.split().freeze()
    }

    /// The pieces as they come. `give` sends credit, in bytes.
    pub(super) fn pieces(self: Rc<Self>, give: impl Fn(u32)) -> impl Stream<Item = Result<Bytes, String>> {
        futures_util::stream::poll_fn(move |cx| self.poll_piece(cx, &give))
    }

    fn poll_piece(&self, cx: &Context<'_>, give: &impl Fn(u32)) -> Poll<Option<Result<Bytes, String>>> {
        let mut state = self.0.borrow_mut();
        if !state.waiting.is_empty() {
            let piece = state.waiting.split().freeze();
            // Not longer than the window.
            state.owed += u32::try_from(piece.len()).unwrap_or(WINDOW_BYTES);
            let credit = if state.owed >= CREDIT_STEP_BYTES { std::mem::take(&mut state.owed) } else { 0 };
            drop(state);
            if credit > 0 {
                give(credit);
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        match state.end {
            Some(End::Whole) => Poll::Ready(None),
            Some(End::Broken) => Poll::Ready(Some(Err("more came than was allowed".to_owned()))),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl State {
    fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    #[test]
    fn pieces_are_put_together_and_paid_for_in_halves_of_the_window() {
        let (inbox, given) = (Rc::new(Inbox::default()), Rc::new(Cell::new(0)));
        let purse = Rc::clone(&given);
        let mut pieces = Box::pin(Rc::clone(&inbox).pieces(move |bytes| purse.set(purse.get() + bytes)));
        assert!(pieces.next().now_or_never().is_none());
        for _ in 0..100_000 {
            inbox.push(b"x");
        }
        assert_eq!(pieces.next().now_or_never().unwrap().unwrap().unwrap().len(), 100_000);
        assert_eq!(given.get(), 0);
        inbox.push(&[1; 40_000]);
        assert_eq!(pieces.next().now_or_never().unwrap().unwrap().unwrap().len(), 40_000);
        assert_eq!(given.get(), 140_000);
        inbox.end();
        assert!(pieces.next().now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_body_beyond_the_window_breaks_off_and_is_never_taken_for_whole() {
        let inbox = Rc::new(Inbox::default());
        inbox.push(&vec![1; WINDOW_BYTES as usize]);
        inbox.push(b"x");
        inbox.end();
        let mut pieces = Box::pin(Rc::clone(&inbox).pieces(|_| {}));
        assert_eq!(pieces.next().now_or_never().unwrap().unwrap().unwrap().len(), WINDOW_BYTES as usize);
        assert!(pieces.next().now_or_never().unwrap().unwrap().is_err());
    }
}
