//! Newline-delimited JSON: answers whose lines come one after another.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/x-ndjson";

/// An answer with one line for each item, sent as it comes.
pub(crate) fn answer<T: Serialize>(items: impl Stream<Item = T> + Send + 'static) -> Response {
    let lines = items.map(|item| Ok::<_, Infallible>(line(&item)));
    let headers = [(CONTENT_TYPE, MEDIA_TYPE), (CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(lines)).into_response()
}

#[expect(clippy::expect_used, reason = "the shapes of the API have text keys and no failing serializers")]
fn line<T: Serialize>(item: &T) -> Bytes {
    let mut json = serde_json::to_vec(item).expect("a shape of the API is JSON");
    json.push(b'\n');
    json.into()
}
