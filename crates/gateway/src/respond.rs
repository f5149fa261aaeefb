//! The one place where faults become HTTP responses.
//!
//! ```json
//! {"error": {"code": "function_timeout", "message": "...", "blame": "function", "retryable": false,
//!            "invocation_id": "...", "help": "docs/errors/function_timeout.md"}}
//! ```
//!
//! with `limit`, `log_tail` and `function` (the handler's own error value) where there are such.

use alula_invoke::Failure;
use alula_model::{Blame, ErrorCode, Fault, InvocationId, LimitHit};
use alula_runtime::Body;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::{headers, ids};

/// Seconds after which a caller may try again where nobody knows better.
const RETRY_AFTER_S_DEFAULT: u64 = 1;

/// Whether failures carry the function's last log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogTail {
    Shown,
    Hidden,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: ErrorCode,
    message: &'a str,
    blame: Blame,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a LimitHit>,
    invocation_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    log_tail: &'a [String],
    help: String,
}

/// The failure of a request that was refused before any function was reached.
pub(crate) fn refused(fault: Fault) -> Failure {
    Failure { fault, key: None, retry_after_ms: None }
}

/// The response for a failure.
pub(crate) fn failure(failure: &Failure, id: &InvocationId, tail: LogTail) -> Response<Body> {
    let code = failure.fault.code;
    let status = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::new(Body::full(body_of(failure, id, tail)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(headers::ERROR, HeaderValue::from_static(code.as_str()));
    headers.insert(headers::INVOCATION_ID, ids::header_of(id));
    if let Some(key) = &failure.key {
        headers.insert(headers::VERSION, HeaderValue::from(key.version));
    }
    if let Some(quota) = &failure.fault.quota {
        let told = [(headers::RATE_LIMIT_POLICY, quota.policy()), (headers::RATE_LIMIT, quota.standing())];
        for (name, value) in told {
            headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
        }
    }
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        let reset_ms = failure.fault.quota.as_ref().map(|quota| quota.reset_ms);
        let after_ms = failure.retry_after_ms.or(reset_ms);
        let seconds = after_ms.map_or(RETRY_AFTER_S_DEFAULT, |ms| ms.div_ceil(1000).max(1));
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if code == ErrorCode::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"alula\""));
    }
    if code == ErrorCode::MethodNotAllowed {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

fn body_of(failure: &Failure, id: &InvocationId, tail: LogTail) -> Vec<u8> {
    let fault = &failure.fault;
    // What the handler says is its own affair; only what is not JSON is left out.
    let function = fault.payload.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let error = ErrorBody {
        code: fault.code,
        message: &fault.message,
        blame: fault.blame(),
        retryable: fault.is_retryable(),
        limit: fault.limit.as_ref(),
        invocation_id: id.as_str(),
        function,
        log_tail: if tail == LogTail::Shown { &fault.log_tail } else { &[] },
        help: format!("docs/errors/{}.md", fault.code),
    };
    serde_json::to_vec(&Envelope { error }).unwrap_or_default()
}

/// A response as it stands on an HTTP/1.1 connection that hyper does not serve; the body must be whole.
pub(crate) fn on_the_wire(response: &Response<Body>) -> Vec<u8> {
    let body = response.body().as_full().unwrap_or_default();
    let mut text = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    let mut line = |name: &HeaderName, value: &[u8]| {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    };
    let headers: &HeaderMap = response.headers();
    headers.iter().for_each(|(name, value)| line(name, value.as_bytes()));
    line(&header::CONNECTION, b"close");
    line(&header::CONTENT_LENGTH, body.len().to_string().as_bytes());
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(body);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> InvocationId {
        InvocationId::new("call-1").unwrap()
    }

    fn respond(
        fault: Fault,
        retry_after_ms: Option<u64>,
        tail: LogTail,
    ) -> (Response<Body>, serde_json::Value) {
        let response = failure(&Failure { fault, key: None, retry_after_ms }, &id(), tail);
        let json = serde_json::from_slice(response.body().as_full().unwrap()).unwrap();
        (response, json)
    }

    #[test]
    fn every_code_has_an_error_status_and_a_whole_body() {
        for code in ErrorCode::ALL {
            let (response, json) = respond(Fault::new(*code, "why"), None, LogTail::Hidden);
            assert!(response.status().is_client_error() || response.status().is_server_error());
            let caller = response.status().is_client_error();
            assert!(
                caller || code.blame() != Blame::Caller,
                "{code} blames the caller but is {}",
                response.status()
            );
            assert_eq!(json["error"]["code"], code.as_str());
            assert_eq!(json["error"]["help"], format!("docs/errors/{code}.md"));
            assert_eq!(json["error"]["invocation_id"], "call-1");
            assert_eq!(response.headers()["x-alula-error"], code.as_str());
            assert_eq!(response.headers()["x-alula-invocation-id"], "call-1");
        }
    }

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
        let after = |code, ms| {
            respond(Fault::new(code, ""), ms, LogTail::Hidden).0.headers().get("retry-after").cloned()
        };
        assert_eq!(after(ErrorCode::ConcurrencyExceeded, Some(1_001)).unwrap(), "2");
        assert_eq!(after(ErrorCode::Draining, Some(0)).unwrap(), "1");
        assert_eq!(after(ErrorCode::Draining, None).unwrap(), "1");
        assert_eq!(after(ErrorCode::HandlerError, Some(5_000)), None);
    }

    #[test]
    fn the_handlers_own_error_and_the_log_tail_are_shown_where_they_may_be() {
        let mut fault = Fault::new(ErrorCode::HandlerError, "boom").with_log_tail(vec!["line".to_owned()]);
        fault.payload = Some("{\"errorType\": \"ValueError\"}".to_owned());
        let (_, json) = respond(fault.clone(), None, LogTail::Shown);
        assert_eq!(json["error"]["function"]["errorType"], "ValueError");
        assert_eq!(json["error"]["log_tail"][0], "line");
        fault.payload = Some("not json \"}".to_owned());
        let (_, json) = respond(fault, None, LogTail::Hidden);
        assert_eq!(json["error"].get("function"), None);
        assert_eq!(json["error"].get("log_tail"), None);
    }
}
