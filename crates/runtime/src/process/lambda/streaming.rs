//! Responses that a program streams: an optional prelude with status and headers, the content, and trailers that
//! may say that it failed in the middle.
//!
//! ```text
//! {"statusCode": 200, "headers": {..}, "cookies": [..]}  8 NUL bytes  content ...
//! ```

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{api, function_url};
use crate::BodyError;
use crate::process::relay::body_error;

/// The content type that announces a prelude.
const WITH_PRELUDE: &[u8] = b"application/vnd.awslambda.http-integration-response";
/// What stands between prelude and content.
const SEPARATOR: [u8; 8] = [0; 8];
/// Largest prelude, in bytes.
const PRELUDE_BYTES_MAX: usize = 64 * 1024;

/// Status and headers of a streamed response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// Takes the head off a streamed response; gives it and what came of the content together with it. The error says
/// what is wrong.
pub(super) async fn open(headers: &HeaderMap, incoming: &mut Incoming) -> Result<(Head, Bytes), String> {
    let content_type = headers.get(CONTENT_TYPE);
    if !content_type.is_some_and(|kind| kind.as_bytes().starts_with(WITH_PRELUDE)) {
        let octets = HeaderValue::from_static("application/octet-stream");
        let kind = content_type.cloned().unwrap_or(octets);
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        return Ok((Head { status: StatusCode::OK, headers }, Bytes::new()));
    }
    let mut gathered = BytesMut::new();
    let length = loop {
        if let Some(length) = memchr::memmem::find(&gathered, &SEPARATOR) {
            break length;
        }
        if gathered.len() > PRELUDE_BYTES_MAX {
            return Err(format!(
                "the prelude of the streamed response is longer than {PRELUDE_BYTES_MAX} bytes"
            ));
        }
        let frame = incoming.frame().await.ok_or("the streamed response ended within its prelude")?;
        let frame =
            frame.map_err(|error| format!("the streamed response broke off within its prelude: {error}"))?;
        if let Some(data) = frame.data_ref() {
            gathered.extend_from_slice(data);
        }
    };
    let prelude = gathered.split_to(length);
    gathered.advance(SEPARATOR.len());
    let (status, headers) = function_url::prelude(&prelude)?;
    Ok((Head { status, headers }, gathered.freeze()))
}

/// The content of a streamed response.
#[derive(Debug)]
pub(super) struct Content {
    /// What came together with the prelude.
    first: Bytes,
    incoming: Incoming,
}

impl Content {
    /// `first`, and then the rest from the program.
    pub(super) fn new(first: Bytes, incoming: Incoming) -> Self {
        Self { first, incoming }
    }
}

impl HttpBody for Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        polled.map(|next| {
            let frame = next?.map_err(body_error);
            match frame.map(Frame::into_trailers) {
                // The trailers are for the platform, so they end here.
                Ok(Ok(trailers)) => failure(&trailers).map(Err),
                Ok(Err(data)) => Some(Ok(data)),
                Err(error) => Some(Err(error)),
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.incoming.is_end_stream()
    }
}

/// What the trailers of a response say about its failure.
fn failure(trailers: &HeaderMap) -> Option<BodyError> {
    let kind = api::error_type(trailers)?;
    Some(BodyError::Malformed {
        reason: format!("the function failed in the middle of its response: {kind}"),
    })
}
