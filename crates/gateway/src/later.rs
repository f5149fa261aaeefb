//! Requests that ask for a call to be made later: `/async-function/NAME`, or `Prefer: respond-async` (RFC 7240) anywhere.
//!
//! | header | meaning |
//! |---|---|
//! | `Idempotency-Key` | sending the same request again is harmless |
//! | `X-Callback-Url` | the result is sent there |
//! | `X-Alula-Delay-Ms`, `X-Alula-At` | not before so many milliseconds, or this RFC 3339 time |
//! | `X-Alula-Ordering-Key` | calls of the function with the same key run one after another |
//!
//! They are the platform's to read, and do not reach the function. The answer is 202 once the call is durable, and never
//! before.

use std::sync::Arc;

use alula_invoke::Failure;
use alula_invoke::later::{Accepted, Callback, Deferred, LaneClass, Repeat};
use alula_model::{ErrorCode, Fault, Timestamp, TriggerKind};
use alula_runtime::{Body, BodyError};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::connection::Connection;
use crate::ports::{Invoke, Routes};
use crate::request::{Arrival, Called, prepare_headers};
use crate::respond::refused;
use crate::{body, headers, ids};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const RESPOND_ASYNC: &str = "respond-async";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const CALLBACK_URL: HeaderName = HeaderName::from_static("x-callback-url");
/// The id as clients of OpenFaaS look for it.
const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");
const DELAY_MS: HeaderName = HeaderName::from_static("x-alula-delay-ms");
const AT: HeaderName = HeaderName::from_static("x-alula-at");
const ORDERING_KEY: HeaderName = HeaderName::from_static("x-alula-ordering-key");

/// What a request asks for besides the call itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wishes {
    idempotency_key: Option<String>,
    callback: Option<Callback>,
    available_at: Option<Timestamp>,
    ordering_key: Option<String>,
}

/// Whether the caller prefers not to wait.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    headers.contains_key(PREFER) && headers::has_token(headers, &PREFER, RESPOND_ASYNC)
}

/// Accepts a call and answers 202.
pub(crate) async fn accept<I: Invoke, R: Routes>(
    connection: &Arc<Connection<I, R>>,
    request: Request<Incoming>,
    arrival: &Arrival,
    called: Called,
) -> Result<Response<Body>, Failure> {
    let (mut head, incoming) = request.into_parts();
    let wishes = Wishes::take(&mut head.headers, arrival.received_at).map_err(refused)?;
    let remote = prepare_headers(connection, &head.uri, &mut head.headers, None);
    let later = &connection.shared.parts.later;
    let body = body::read(incoming, &connection.shared.options).await.map_err(refused)?;
    let limit_bytes = later.body_bytes_max();
    let body = body.collect(limit_bytes).await.map_err(|error| refused(of_body(&error)))?;
    let deferred = Deferred {
        id: arrival.id.clone(),
        target: called.target,
        trigger: TriggerKind::Http,
        method: head.method,
        uri: called.uri,
        headers: head.headers,
        body,
        remote: Some(remote),
        parameters: called.parameters,
        is_event: false,
        class: LaneClass::General,
        available_at: wishes.available_at,
        ordering_key: wishes.ordering_key,
        idempotency_key: wishes.idempotency_key,
        callback: wishes.callback,
    };
    let accepted = later.accept(deferred).await.map_err(refused)?;
    Ok(respond(&accepted))
}

impl Wishes {
    /// Reads the wishes and takes them out of the headers.
    fn take(headers: &mut HeaderMap, now: Timestamp) -> Result<Self, Fault> {
        let mut text = |name: &HeaderName| match headers.remove(name) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Ok(text) => Ok(Some(text.trim().to_owned())),
                Err(_) => Err(invalid(name, "must be visible ASCII")),
            },
        };
        let idempotency_key = text(&IDEMPOTENCY_KEY)?;
        let ordering_key = text(&ORDERING_KEY)?;
        let callback = text(&CALLBACK_URL)?.map(callback).transpose()?;
        let available_at = match (text(&DELAY_MS)?, text(&AT)?) {
            (None, None) => None,
            (Some(delay), None) => Some(now.plus_millis(delay_ms(&delay)?)),
            (None, Some(at)) => Some(moment(&at)?),
            (Some(_), Some(_)) => return Err(invalid(&AT, "and X-Alula-Delay-Ms exclude each other")),
        };
        Ok(Self { idempotency_key, callback, available_at, ordering_key })
    }
}

fn delay_ms(text: &str) -> Result<i64, Fault> {
    let millis = text.parse::<u64>().ok().and_then(|millis| i64::try_from(millis).ok());
    millis.ok_or_else(|| invalid(&DELAY_MS, "must be a number of milliseconds"))
}

fn moment(text: &str) -> Result<Timestamp, Fault> {
    let at: Result<jiff::Timestamp, _> = text.parse();
    at.map(|at| Timestamp(at.as_millisecond()))
        .map_err(|_| invalid(&AT, "must be an RFC 3339 time such as 2030-01-31T12:00:00Z"))
}

fn callback(url: String) -> Result<Callback, Fault> {
    let is_web = url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    match is_web {
        true => Ok(Callback { url }),
        false => Err(invalid(&CALLBACK_URL, "must be an http or https address")),
    }
}

fn invalid(name: &HeaderName, what: &str) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, format!("{name} {what}"))
}

fn of_body(error: &BodyError) -> Fault {
    match error {
        BodyError::TooLarge { limit_bytes } => Fault::limit(
            ErrorCode::RequestTooLarge,
            format!("the content is larger than the {limit_bytes} bytes that are taken asynchronously"),
            "body_bytes_max",
            *limit_bytes,
            "async.body_bytes_max in the configuration",
        ),
        BodyError::Disconnected => Fault::new(ErrorCode::CallerGone, error.to_string()),
        BodyError::TimedOut | BodyError::Malformed { .. } => {
            Fault::new(ErrorCode::InvalidRequest, error.to_string())
        }
    }
}

fn respond(accepted: &Accepted) -> Response<Body> {
    let id = ids::header_of(&accepted.id);
    let body = json!({
        "id": accepted.id,
        "repeated": accepted.repeat == Repeat::Repeated,
        "status": format!("/v1/invocations/{}", accepted.id),
    });
    let mut response = Response::new(Body::full(body.to_string()));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(headers::INVOCATION_ID, id.clone());
    headers.insert(CALL_ID, id);
    headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static(RESPOND_ASYNC));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(lines: &[(&'static str, &'static str)]) -> Result<(Wishes, usize), String> {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let mut headers: HeaderMap = lines.iter().map(pair).collect();
        let wishes = Wishes::take(&mut headers, Timestamp(1_000)).map_err(|fault| fault.message)?;
        Ok((wishes, headers.len()))
    }

    #[test]
    fn wishes_are_read_and_do_not_reach_the_function() {
        let (wishes, left) = wishes(&[
            ("idempotency-key", " order-7 "),
            ("x-callback-url", "https://a.test/done?x"),
            ("x-alula-delay-ms", "500"),
            ("x-alula-ordering-key", "customer 9"),
            ("x-own", "stays"),
        ])
        .unwrap();
        assert_eq!(left, 1);
        let expected = Wishes {
            idempotency_key: Some("order-7".to_owned()),
            callback: Some(Callback { url: "https://a.test/done?x".to_owned() }),
            available_at: Some(Timestamp(1_500)),
            ordering_key: Some("customer 9".to_owned()),
        };
        assert_eq!(wishes, expected);
    }

    #[test]
    fn a_time_is_read_as_rfc_3339() {
        let (wishes, _) = wishes(&[("x-alula-at", "2030-01-31T12:00:00+01:00")]).unwrap();
        assert_eq!(wishes.available_at, Some(Timestamp(1_896_087_600_000)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (name, value) in [
            ("x-alula-delay-ms", "-1"),
            ("x-alula-delay-ms", "soon"),
            ("x-alula-delay-ms", "99999999999999999999"),
            ("x-alula-at", "tomorrow"),
            ("x-callback-url", "ftp://a"),
            ("x-callback-url", "/relative"),
            ("idempotency-key", "caf\u{e9}"),
        ] {
            let reason = wishes(&[(name, value)]).unwrap_err();
            assert!(reason.starts_with(name), "{reason}");
        }
        assert!(wishes(&[("x-alula-at", "2030-01-01T00:00:00Z"), ("x-alula-delay-ms", "1")]).is_err());
    }
}
