//! An upgraded connection, lent to the caller until the call's deadline.
//!
//! Bytes pass as they are; each direction ends by itself, so that one side may go on after the other has closed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The raw connection, with what must live as long as it does.
pub(super) struct Lent<G> {
    io: TokioIo<hyper::upgrade::Upgraded>,
    deadline: Pin<Box<Sleep>>,
    _held: G,
}

impl<G> Lent<G> {
    /// Lends `raw` until `deadline`; `held` is dropped with it.
    pub(super) fn new(raw: hyper::upgrade::Upgraded, deadline: Instant, held: G) -> Self {
        Self { io: TokioIo::new(raw), deadline: Box::pin(tokio::time::sleep_until(deadline)), _held: held }
    }

    fn check_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "the call's deadline has passed")),
            Poll::Pending => Ok(()),
        }
    }
}

impl<G: Unpin> AsyncRead for Lent<G> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_deadline(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<G: Unpin> AsyncWrite for Lent<G> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_deadline(cx)?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
