//! CloudEvents at the edge: in whatever mode they come, functions see them in the structured form.
//!
//! | sent as | a call gets |
//! |---|---|
//! | binary, structured | one event, as the handler's event itself |
//! | batch, waited for | the list of events |
//! | batch, asynchronous | each event in a call of its own |
//!
//! An answer that is an event is said to be one.

use alula_invoke::cloudevents::{BATCH, CloudEvent, Mode, STRUCTURED};
use alula_model::{ErrorCode, Fault};
use alula_runtime::{Answer, Body, BodyError};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};

/// Largest request with events, in bytes: it is taken whole, since events are checked before anything is done.
pub(crate) const EVENTS_BYTES_MAX: u64 = 6 * 1024 * 1024;

/// Reads the events of a request.
pub(crate) async fn read(mode: Mode, headers: &HeaderMap, body: Body) -> Result<Vec<CloudEvent>, Fault> {
    let content = collect(body).await?;
    CloudEvent::read(mode, headers, &content)
}

/// The content of a request that is taken whole.
pub(crate) async fn collect(body: Body) -> Result<Bytes, Fault> {
    body.collect(EVENTS_BYTES_MAX).await.map_err(|error| match error {
        BodyError::TooLarge { limit_bytes } => {
            let message = format!("the request has more than the {limit_bytes} bytes that events may have");
            Fault::limit(ErrorCode::RequestTooLarge, message, "EVENTS_BYTES_MAX", limit_bytes, "fixed")
        }
        BodyError::Disconnected => Fault::new(ErrorCode::CallerGone, error.to_string()),
        BodyError::TimedOut | BodyError::Malformed { .. } => {
            Fault::new(ErrorCode::InvalidRequest, error.to_string())
        }
    })
}

/// The content of a call whose answer is waited for, with the headers for it.
pub(crate) async fn for_one_call(mode: Mode, headers: &mut HeaderMap, body: Body) -> Result<Body, Fault> {
    let mut events = read(mode, headers, body).await?;
    CloudEvent::set_headers(headers);
    if mode != Mode::Batch {
        return Ok(events.pop().map_or_else(Body::empty, |event| Body::full(event.to_bytes())));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(BATCH));
    let list: Vec<_> = events.into_iter().map(CloudEvent::into_value).collect();
    Ok(Body::full(serde_json::Value::Array(list).to_string()))
}

/// Says of an answer that it is an event, where the handler returned one.
pub(crate) fn name_answer(answer: &mut Answer) {
    let is_json = answer.headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json");
    let Some(content) = answer.body.as_full().filter(|_| is_json) else { return };
    let value = serde_json::from_slice(content).ok();
    if value.and_then(|value| CloudEvent::of_value(value).ok()).is_some() {
        answer.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
    }
}
