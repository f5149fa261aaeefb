//! Bodies in pieces: credit for what may be sent, a queue for what has come.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use super::cancel::Cancelling;
use super::outbox::Outbox;
use crate::frames::{BODY_BYTES_MAX, FrameWriter, Head, Kind, WINDOW_BYTES};
use crate::{Body, BodyError};

/// Credit is given back in pieces of this size, so that there are few CREDIT frames and no pause.
const CREDIT_STEP_BYTES: u32 = WINDOW_BYTES / 2;

/// The guest sent more than it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OverWindow;

/// What may still be sent of a request body.
#[derive(Debug)]
pub(super) struct Credit(Semaphore);

impl Credit {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Semaphore::new(WINDOW_BYTES as usize)))
    }

    /// The guest has taken `bytes`. It cannot have taken more than it was sent.
    pub(super) fn grant(&self, bytes: u32) -> Result<(), OverWindow> {
        let bytes = bytes as usize;
        if self.0.available_permits() + bytes > WINDOW_BYTES as usize {
            return Err(OverWindow);
        }
        self.0.add_permits(bytes);
        Ok(())
    }

    async fn take(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(WINDOW_BYTES);
        // The semaphore is never closed, so this cannot fail.
        if let Ok(permit) = self.0.acquire_many(bytes).await {
            permit.forget();
        }
    }
}

/// Sends a request body as the guest takes it.
pub(super) async fn pump(
    outbox: &Arc<Outbox>,
    credit: &Credit,
    number: u32,
    mut body: Body,
) -> Result<(), BodyError> {
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else { continue };
        while data.has_remaining() {
            let piece = data.split_to(data.len().min(BODY_BYTES_MAX));
            credit.take(piece.len()).await;
            outbox.send_body(number, piece, false);
        }
    }
    outbox.send_body(number, Bytes::new(), true);
    Ok(())
}

/// The pieces of a response body that have come and have not been passed on: at most a window of them.
#[derive(Debug)]
pub(super) struct Inbound(Mutex<Pieces>);

#[derive(Debug)]
struct Pieces {
    waiting: VecDeque<Bytes>,
    /// Bytes that the guest may still send.
    allowed: u32,
    /// Bytes passed on for which no credit has been given back.
    owed: u32,
    end: Option<Result<(), BodyError>>,
    waker: Option<Waker>,
}

impl Inbound {
    pub(super) fn new() -> Arc<Self> {
        let pieces =
            Pieces { waiting: VecDeque::new(), allowed: WINDOW_BYTES, owed: 0, end: None, waker: None };
        Arc::new(Self(Mutex::new(pieces)))
    }

    /// Takes a piece that has come.
    pub(super) fn push(&self, piece: Bytes) -> Result<(), OverWindow> {
        let mut pieces = self.pieces();
        let length = u32::try_from(piece.len()).map_err(|_| OverWindow)?;
        pieces.allowed = pieces.allowed.checked_sub(length).ok_or(OverWindow)?;
        if length > 0 {
            pieces.waiting.push_back(piece);
        }
        wake(pieces);
        Ok(())
    }

    /// Nothing more comes. The first end counts.
    pub(super) fn end(&self, end: Result<(), BodyError>) {
        let mut pieces = self.pieces();
        pieces.end.get_or_insert(end);
        wake(pieces);
    }

    /// The next piece, and the credit to give back for it.
    fn poll_piece(&self, cx: &Context<'_>) -> Poll<Option<Result<(Bytes, u32), BodyError>>> {
        let mut pieces = self.pieces();
        if let Some(piece) = pieces.waiting.pop_front() {
            // A piece is not longer than a frame's body, far below what u32 holds.
            pieces.owed += u32::try_from(piece.len()).unwrap_or(0);
            let credit = if pieces.owed >= CREDIT_STEP_BYTES { std::mem::take(&mut pieces.owed) } else { 0 };
            pieces.allowed += credit;
            return Poll::Ready(Some(Ok((piece, credit))));
        }
        match pieces.end.clone() {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                pieces.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut pieces: MutexGuard<'_, Pieces>) {
    let waker = pieces.waker.take();
    drop(pieces);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A response body that is still coming. Dropping it cancels the call.
pub(super) struct ResponseStream {
    pub(super) body: Arc<Inbound>,
    pub(super) flight: Cancelling,
    pub(super) has_failed: bool,
}

impl http_body::Body for ResponseStream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.has_failed {
            return Poll::Ready(None);
        }
        let next = std::task::ready!(self.body.poll_piece(cx));
        Poll::Ready(match next {
            Some(Ok((piece, credit))) => {
                if credit > 0 {
                    let head = Head::new(Kind::Credit, self.flight.number());
                    let grant = |out: &mut Vec<u8>| FrameWriter::new(out, head).finish(&credit.to_le_bytes());
                    if let Some(link) = self.flight.link() {
                        link.outbox.send(grant);
                    }
                }
                Some(Ok(Frame::data(piece)))
            }
            Some(Err(error)) => {
                self.has_failed = true;
                Some(Err(error))
            }
            None => {
                self.flight.disarm();
                None
            }
        })
    }
}
