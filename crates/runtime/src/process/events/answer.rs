//! From what a guest said to what the caller is told.

use alula_model::{ErrorCode, Fault};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::super::pipes::LINE_BYTES_MAX;
use super::super::{Room, one_hop};
use super::cancel::Cancelling;
use super::flights::Reply;
use super::stream::ResponseStream;
use crate::frames::{FailClass, Frame, Kind, pairs};
use crate::{Answer, Body};

/// The answer that a guest gave; `flight` cancels the call where its body is dropped half-way.
pub(super) fn answer_of(room: &Room, reply: Reply, mut flight: Cancelling) -> Result<Answer, Fault> {
    match reply {
        Reply::Whole(head, body, _) => {
            flight.disarm();
            if head.head.kind == Kind::Result {
                return Ok(event_answer(body));
            }
            let (status, mut headers) = response_head(&head).map_err(|what| bad_response(room, &what))?;
            one_hop::remove_made_up(&mut headers);
            Ok(Answer::new(status, headers, Body::full(body)))
        }
        Reply::Returned => {
            flight.disarm();
            let message = "the function's process ended before the call";
            Err(room.fault(ErrorCode::FunctionCrashed, message))
        }
        Reply::Streamed(head, body) => {
            let (status, mut headers) = response_head(&head).map_err(|what| bad_response(room, &what))?;
            one_hop::remove(&mut headers);
            Ok(Answer::new(status, headers, Body::stream(ResponseStream { body, flight, has_failed: false })))
        }
    }
}

fn event_answer(value: Bytes) -> Answer {
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    Answer::new(StatusCode::OK, headers, Body::full(value))
}

fn response_head(frame: &Frame) -> Result<(StatusCode, HeaderMap), String> {
    let status = frame.head.aux;
    let is_final = |status: &StatusCode| !status.is_informational();
    let status = StatusCode::from_u16(status)
        .ok()
        .filter(is_final)
        .ok_or_else(|| format!("its status is {status}, which is not that of a response"))?;
    let mut headers = HeaderMap::new();
    for pair in pairs(frame.meta()) {
        let (name, value) = pair.map_err(|error| error.to_string())?;
        let shown = || String::from_utf8_lossy(name).into_owned();
        let header =
            HeaderName::from_bytes(name).map_err(|_| format!("{:?} is not the name of a header", shown()))?;
        let value = HeaderValue::from_bytes(value)
            .map_err(|_| format!("the header {:?} has a control character in its value", shown()))?;
        headers.append(header, value);
    }
    Ok((status, headers))
}

fn bad_response(room: &Room, what: &str) -> Fault {
    room.fault(ErrorCode::BadResponse, format!("the function's response is not one: {what}"))
}

/// The body of an answer is larger than the function's limit.
pub(super) fn too_large(limit_bytes: u64) -> Fault {
    let name = "response_bytes_max";
    let message = format!("the function's answer is larger than {limit_bytes} bytes");
    Fault::limit(ErrorCode::ResponseTooLarge, message, name, limit_bytes, "response_bytes_max in alula.toml")
}

#[derive(Deserialize)]
struct HandlerError {
    #[serde(rename = "errorType", default)]
    kind: String,
    #[serde(rename = "errorMessage", default)]
    message: String,
}

/// The fault that a FAIL frame reports.
pub(super) fn fault_of(room: &Room, class: FailClass, body: &[u8]) -> Fault {
    let code = match class {
        FailClass::Handler => ErrorCode::HandlerError,
        FailClass::BadResult => ErrorCode::BadResponse,
        FailClass::Init => ErrorCode::InitFailed,
        FailClass::Cancelled => ErrorCode::CallerGone,
        FailClass::NotBegun => ErrorCode::CallerGone,
        FailClass::OutOfMemory => ErrorCode::OutOfMemory,
        FailClass::ResultTooLarge => {
            return too_large(room.plan.spec.response_bytes_max).with_log_tail(room.output.tail());
        }
    };
    let Ok(error) = serde_json::from_slice::<HandlerError>(body) else {
        return room
            .fault(ErrorCode::BadResponse, "the function's process reported an error that is not JSON");
    };
    let message = match (error.kind.as_str(), error.message.as_str()) {
        ("", message) => message.to_owned(),
        (kind, "") => kind.to_owned(),
        (kind, message) => format!("{kind}: {message}"),
    };
    let mut fault = room.fault(code, message);
    fault.payload = std::str::from_utf8(body).ok().map(str::to_owned);
    fault
}

/// The lines of a LOG frame; what is longer than a log line may be comes in pieces.
pub(super) fn log_lines(text: &[u8]) -> impl Iterator<Item = String> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let pieces = |line: &'_ [u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let whole = line.is_empty().then(String::new);
        let parts: Vec<String> =
            line.chunks(LINE_BYTES_MAX).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        whole.into_iter().chain(parts)
    };
    text.split(|byte| *byte == b'\n').flat_map(pieces)
}
