//! A response body on its way out of an instance: passed on piece by piece, within the call's deadline, telling
//! somebody how it ended.
//!
//! It gathers nothing: the pace of the reader is the pace of the guest.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::BodyError;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Every byte of it was taken.
    Complete,
    /// The guest broke it off.
    Broken,
    /// The deadline came first.
    TimedOut,
    /// The reader dropped it.
    Abandoned,
}

/// `inner` until it ends or `deadline` comes; `on_end` is called once, whatever happens.
pub(super) struct Relay<B, F: FnOnce(Ending)> {
    inner: B,
    deadline: Instant,
    /// Made when the guest is waited for at all: a body that is there needs no timer.
    timer: Option<Pin<Box<Sleep>>>,
    on_end: Option<F>,
}

impl<B, F: FnOnce(Ending)> Relay<B, F> {
    /// Relays `inner`.
    pub(super) fn new(inner: B, deadline: Instant, on_end: F) -> Self {
        Self { inner, deadline, timer: None, on_end: Some(on_end) }
    }

    fn finish(&mut self, ending: Ending) {
        if let Some(on_end) = self.on_end.take() {
            on_end(ending);
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline))).as_mut().poll(cx)
    }
}

impl<B, F> HttpBody for Relay<B, F>
where
    B: HttpBody<Data = Bytes, Error = BodyError> + Unpin,
    F: FnOnce(Ending) + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.on_end.is_none() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => {
                ready!(self.poll_deadline(cx));
                self.finish(Ending::TimedOut);
                Poll::Ready(Some(Err(BodyError::TimedOut)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.finish(Ending::Broken);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(Some(Ok(frame))) => {
                // A server does not ask again once it has been told that this was the last frame.
                if self.inner.is_end_stream() {
                    self.finish(Ending::Complete);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.finish(Ending::Complete);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.on_end.is_none() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B, F: FnOnce(Ending)> Drop for Relay<B, F> {
    fn drop(&mut self) {
        self.finish(Ending::Abandoned);
    }
}

/// What an error of hyper's while reading a body means to the reader.
pub(super) fn body_error(error: hyper::Error) -> BodyError {
    if error.is_parse() {
        return BodyError::Malformed { reason: error.to_string() };
    }
    BodyError::Disconnected
}
