//! Bodies at the edge: request bodies into the platform's type, response bodies out of it.
//!
//! A small request body of a known length is read whole before anything is started for it; every other body
//! streams with the sender held back by the reader. Trailers of requests are not passed on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use alula_model::{ErrorCode, Fault};
use alula_runtime::{Body, BodyError};
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, Sleep};

use crate::activity::Running;
use crate::options::Options;

/// Bytes of a response that an HTTP/2 stream is given at once: four of its usual frames.
const H2_PIECE_BYTES: usize = 64 * 1024;
/// How many times as long as the pause between two pieces the whole of a small body may take.
const WHOLE_BODY_PAUSES: u32 = 2;

/// Turns what comes over the connection into a body of the platform.
pub(crate) async fn read(incoming: Incoming, options: &Options) -> Result<Body, Fault> {
    if incoming.is_end_stream() {
        return Ok(Body::empty());
    }
    let idle = Duration::from_millis(options.body_idle_timeout_ms);
    match incoming.size_hint().exact() {
        Some(length) if length <= options.whole_body_bytes_max => {
            let length = usize::try_from(length).unwrap_or(0);
            // A byte now and then is not enough either.
            let gathered =
                tokio::time::timeout(idle * WHOLE_BODY_PAUSES, gather(incoming, length, idle)).await;
            let gathered = gathered.unwrap_or(Err(BodyError::TimedOut));
            gathered.map(Body::full).map_err(|error| fault(&error, options))
        }
        _ => Ok(Body::stream(Upload { incoming, idle, timer: None })),
    }
}

async fn gather(mut incoming: Incoming, length: usize, idle: Duration) -> Result<Bytes, BodyError> {
    let mut gathered = BytesMut::new();
    loop {
        let next = tokio::time::timeout(idle, incoming.frame()).await.map_err(|_| BodyError::TimedOut)?;
        let Some(frame) = next else { return Ok(gathered.freeze()) };
        let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
        if data.len() == length {
            return Ok(data);
        }
        gathered.reserve(length.saturating_sub(gathered.len()));
        gathered.extend_from_slice(&data);
    }
}

fn fault(error: &BodyError, options: &Options) -> Fault {
    match error {
        BodyError::Disconnected => Fault::new(ErrorCode::CallerGone, error.to_string()),
        BodyError::TimedOut => Fault::limit(
            ErrorCode::InvalidRequest,
            "the request body did not come in time",
            "body_idle_timeout_ms",
            options.body_idle_timeout_ms,
            "gateway.body_idle_timeout_ms in the configuration",
        ),
        BodyError::TooLarge { .. } | BodyError::Malformed { .. } => {
            Fault::new(ErrorCode::InvalidRequest, error.to_string())
        }
    }
}

/// hyper hides why a body broke off behind an I/O error: bad framing is "invalid", everything else a lost peer.
fn broken(error: &hyper::Error) -> BodyError {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match cause {
        Some(cause)
            if matches!(cause.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData) =>
        {
            BodyError::Malformed { reason: cause.to_string() }
        }
        _ => BodyError::Disconnected,
    }
}

/// A request body that is still coming.
struct Upload {
    incoming: Incoming,
    idle: Duration,
    /// Set while the sender is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle;
        self.timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)))
            .as_mut()
            .poll(cx)
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.timer = None;
                    if frame.is_data() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(broken(&error)))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    ready!(self.poll_idle(cx));
                    return Poll::Ready(Some(Err(BodyError::TimedOut)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A response body on its way to the peer; the request counts as running until it is out.
#[derive(Debug)]
pub(crate) struct Download {
    body: Body,
    /// What is left of a piece that is passed on in smaller ones.
    rest: Bytes,
    running: Option<Running>,
}

impl Download {
    pub(crate) fn new(body: Body, running: Option<Running>) -> Self {
        if let Some(running) = &running {
            running.holds();
        }
        Self { body, rest: Bytes::new(), running }
    }

    /// What the peer is given next. HTTP/2 keeps what is given to it until there is a window, and nobody watches it then;
    /// so it is given little at a time.
    fn next_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            let is_large = |data: &Bytes| data.len() > H2_PIECE_BYTES;
            let is_multiplexed = self.running.as_ref().is_some_and(Running::is_multiplexed);
            let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
            if !is_multiplexed || !frame.data_ref().is_some_and(is_large) {
                return Poll::Ready(Some(Ok(frame)));
            }
            self.rest = frame.into_data().unwrap_or_default();
        }
        let piece = self.rest.split_to(self.rest.len().min(H2_PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let is_out = self.rest.is_empty() && self.body.is_end_stream();
        if let Some(running) = self.running.as_mut().filter(|_| is_out) {
            running.answered();
        }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = self.next_piece(cx);
        if let Some(running) = &mut self.running {
            match &frame {
                Poll::Pending => running.waits(),
                Poll::Ready(Some(_)) => running.holds(),
                Poll::Ready(None) => running.answered(),
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
