//! Says why a request was refused that never became one.
//!
//! What hyper cannot parse, or finds too large, it answers itself with an empty body, and there is no way to tell
//! it what to say. Here its answer is caught on its way to the peer and ours, with an invocation id and the reason,
//! goes out instead. Which bytes are hyper's own is not guessed: all other responses belong to a request that was
//! begun, so what is written while none is owed a response is. An answer of hyper that is written in one piece with
//! the end of an earlier response is left as it is.
//!
//! After it the rest of what the peer sends is thrown away for a moment, because closing a socket with unread data
//! makes the kernel reset it, and the answer would be lost on the way.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, InvocationId};
use http::{Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::activity::Activity;
use crate::options::Options;
use crate::respond::{self, LogTail};

/// Time for a peer to take its refusal and to close.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of the refused request that are read and thrown away.
const DISCARDED_BYTES_MAX: usize = 64 * 1024;
/// What hyper says is a status line and three headers.
const REFUSAL_BYTES_MAX: usize = 512;

/// What hyper refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// 400, 414 or 431.
    status: StatusCode,
    /// Bytes that came since the last response.
    received: usize,
}

impl Refusal {
    /// Reads hyper's answer; nothing where it is none.
    fn read(bytes: &[u8], received: usize) -> Option<Self> {
        let rest = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?;
        let is_whole = bytes.len() <= REFUSAL_BYTES_MAX && bytes.ends_with(b"\r\n\r\n");
        let status = StatusCode::from_bytes(rest.get(..3)?).ok()?;
        (is_whole && status.is_client_error()).then_some(Self { status, received })
    }

    /// The response that explains it, as it goes over the wire.
    pub(crate) fn explain(self, options: &Options, id: &InvocationId) -> Vec<u8> {
        let failure = respond::refused(self.fault(options));
        let mut response = respond::failure(&failure, id, LogTail::Hidden);
        *response.status_mut() = self.status;
        respond::on_the_wire(&response)
    }

    fn fault(self, options: &Options) -> Fault {
        match self.status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE if self.received < options.header_bytes_max => {
                too_many(options)
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => too_large(options),
            StatusCode::URI_TOO_LONG => {
                Fault::new(ErrorCode::HeadersTooLarge, "the request target is longer than 65534 bytes")
            }
            _ => Fault::new(ErrorCode::InvalidRequest, "the request is not valid HTTP"),
        }
    }
}

/// The limits on headers for HTTP/2, where hyper knows only their size, and refuses without a word.
pub(crate) fn check_h2<B>(request: &Request<B>, options: &Options) -> Result<(), Fault> {
    let headers = request.headers();
    if headers.len() > options.headers_max {
        return Err(too_many(options));
    }
    // RFC 9113 6.5.2 counts 32 bytes for each header; HTTP/1.1 spends 4.
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    match bytes + target > options.header_bytes_max {
        true => Err(too_large(options)),
        false => Ok(()),
    }
}

fn too_many(options: &Options) -> Fault {
    limit("the request has too many headers", "headers_max", options.headers_max)
}

fn too_large(options: &Options) -> Fault {
    limit("the request line and the headers are too large", "header_bytes_max", options.header_bytes_max)
}

fn limit(message: &str, name: &str, value: usize) -> Fault {
    let setting = format!("gateway.{name} in the configuration");
    Fault::limit(ErrorCode::HeadersTooLarge, message, name, value as u64, &setting)
}

/// A byte stream on which hyper's own refusals are replaced by what `explain` makes of them.
#[derive(Debug)]
pub(crate) struct Explained<S, F> {
    stream: S,
    activity: Arc<Activity>,
    explain: F,
    received: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Serving,
    /// The explanation is on its way, `sent` bytes of it are out.
    Explaining {
        text: Vec<u8>,
        sent: usize,
    },
    /// It is out, and what the peer still sends is thrown away.
    Discarding {
        discarded: usize,
        until: Pin<Box<Sleep>>,
    },
}

impl<S, F> Explained<S, F> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>, explain: F) -> Self {
        Self { stream, activity, explain, received: 0, state: State::Serving }
    }
}

impl<S, F: Fn(Refusal) -> Vec<u8>> Explained<S, F> {
    /// Whether `bytes` are hyper's own refusal, which is then taken and explained.
    fn catches(&mut self, bytes: &[u8]) -> bool {
        if self.activity.owes_response() {
            return false;
        }
        let Some(refusal) = Refusal::read(bytes, self.received) else { return false };
        self.state = State::Explaining { text: (self.explain)(refusal), sent: 0 };
        true
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, F: Unpin> Explained<S, F> {
    /// Writes what is left of the explanation.
    fn poll_explain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let State::Explaining { text, sent } = &mut self.state
            && *sent < text.len()
        {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &text[*sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => *sent += written,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads until the peer has nothing more to say, or has said enough.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let State::Discarding { discarded, until } = &mut self.state else { return Poll::Ready(Ok(())) };
        let mut bytes = [0; 4096];
        while *discarded < DISCARDED_BYTES_MAX && until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => *discarded += buffer.filled().len(),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin, F: Unpin> AsyncRead for Explained<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.received = self.received.saturating_add(buffer.filled().len() - before);
        result
    }
}

impl<S, F> AsyncWrite for Explained<S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Refusal) -> Vec<u8> + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.catches(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = slices
            && self.catches(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_explain(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.activity.settle() {
            self.received = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_explain(cx))?;
        if !matches!(self.state, State::Discarding { .. }) {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            if matches!(self.state, State::Serving) {
                return Poll::Ready(Ok(()));
            }
            let until = Box::pin(tokio::time::sleep(REFUSAL_TIMEOUT));
            self.state = State::Discarding { discarded: 0, until };
        }
        self.poll_discard(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(bytes: &[u8]) -> Option<u16> {
        Refusal::read(bytes, 0).map(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn only_a_whole_refusal_is_one() {
        assert_eq!(
            status(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n"),
            Some(431)
        );
        assert_eq!(status(b"HTTP/1.0 400 Bad Request\r\n\r\n"), Some(400));
        assert_eq!(status(b"HTTP/1.1 400 Bad Request\r\n"), None);
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(status(b"HTTP/1.1 100 Continue\r\n\r\n"), None);
        assert_eq!(status(b"\0\0\0\x04\x01\0\0\0\0"), None);
        assert_eq!(status(b""), None);
    }

    #[test]
    fn the_limit_that_was_hit_is_named() {
        let options = Options::default();
        let name =
            |status, received| Refusal { status, received }.fault(&options).limit.map(|limit| limit.name);
        let too_large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        assert_eq!(name(too_large, 1_000).as_deref(), Some("headers_max"));
        assert_eq!(name(too_large, options.header_bytes_max).as_deref(), Some("header_bytes_max"));
        assert_eq!(name(StatusCode::BAD_REQUEST, 0), None);
    }
}
