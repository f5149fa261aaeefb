//! Bodies of any size: nothing, a whole buffer, or a stream.
//!
//! One type for requests and responses on every path, so that a small body never pays for streaming and a large
//! one is never gathered by accident. It is an `http_body::Body`, so the edges can hand it to their server.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

/// The content of a request or a response.
#[derive(Default)]
pub struct Body {
    content: Content,
    /// Dropped when the body has ended or is abandoned: the lease of a slot, a share of the memory pool.
    held: Vec<Box<dyn Send>>,
}

#[derive(Default)]
enum Content {
    #[default]
    Empty,
    Full(Bytes),
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

/// A body broke off before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The side that sends it went away.
    #[error("the sender closed the connection before the end of the body")]
    Disconnected,
    /// It grew over a limit.
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// It did not come in time.
    #[error("the body did not end in time")]
    TimedOut,
    /// The sender broke its protocol.
    #[error("the body is malformed: {reason}")]
    Malformed {
        /// How.
        reason: String,
    },
}

impl Body {
    /// No content.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Content that is there as a whole.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let content = if bytes.is_empty() { Content::Empty } else { Content::Full(bytes) };
        Self { content, held: Vec::new() }
    }

    /// Content that comes in pieces.
    pub fn stream<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        Self { content: Content::Stream(UnsyncBoxBody::new(body)), held: Vec::new() }
    }

    /// The same body, which keeps `guard` until it has ended or is dropped.
    #[must_use]
    pub fn holding(mut self, guard: impl Send + 'static) -> Self {
        self.held.push(Box::new(guard));
        self
    }

    /// The whole content where it is there already; `None` for a stream.
    #[must_use]
    pub fn as_full(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Empty => Some(&[]),
            Content::Full(bytes) => Some(bytes),
            Content::Stream(_) => None,
        }
    }

    /// Gathers the content, up to `limit_bytes`.
    pub async fn collect(mut self, limit_bytes: u64) -> Result<Bytes, BodyError> {
        let too_large = BodyError::TooLarge { limit_bytes };
        let whole = match std::mem::take(&mut self.content) {
            Content::Empty => return Ok(Bytes::new()),
            Content::Full(bytes) => bytes,
            Content::Stream(stream) => return gather(stream, limit_bytes).await,
        };
        if whole.len() as u64 > limit_bytes { Err(too_large) } else { Ok(whole) }
    }
}

async fn gather(mut stream: UnsyncBoxBody<Bytes, BodyError>, limit_bytes: u64) -> Result<Bytes, BodyError> {
    use http_body::Body as _;
    use http_body_util::BodyExt as _;
    if stream.size_hint().lower() > limit_bytes {
        return Err(BodyError::TooLarge { limit_bytes });
    }
    let mut gathered = bytes::BytesMut::new();
    while let Some(frame) = stream.frame().await {
        if let Ok(data) = frame?.into_data() {
            if (gathered.len() + data.len()) as u64 > limit_bytes {
                return Err(BodyError::TooLarge { limit_bytes });
            }
            gathered.extend_from_slice(&data);
        }
    }
    Ok(gathered.freeze())
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Stream(stream) => Pin::new(stream).poll_frame(cx),
        };
        if matches!(next, Poll::Ready(None)) || matches!(self.content, Content::Empty) {
            self.held.clear();
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Full(_) => false,
            Content::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(stream) => stream.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Empty => f.write_str("Body(empty)"),
            Content::Full(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Content::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn collect_keeps_to_its_limit() {
        assert_eq!(Body::full("12345").collect(5).await, Ok(Bytes::from("12345")));
        assert_eq!(Body::full("12345").collect(4).await, Err(BodyError::TooLarge { limit_bytes: 4 }));
        let stream =
            || Body::stream(http_body_util::Full::new(Bytes::from("12345")).map_err(|never| match never {}));
        use http_body_util::BodyExt as _;
        assert_eq!(stream().collect(5).await, Ok(Bytes::from("12345")));
        assert_eq!(stream().collect(4).await, Err(BodyError::TooLarge { limit_bytes: 4 }));
    }

    #[tokio::test]
    async fn a_guard_is_dropped_at_the_end_of_the_body() {
        use http_body_util::BodyExt as _;
        let guard = std::sync::Arc::new(());
        let mut body = Body::full("x").holding(std::sync::Arc::clone(&guard));
        assert_eq!(std::sync::Arc::strong_count(&guard), 2);
        assert!(body.frame().await.is_some());
        assert_eq!(std::sync::Arc::strong_count(&guard), 1);
    }
}
