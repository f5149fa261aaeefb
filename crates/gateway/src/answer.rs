//! From a function's answer to an HTTP response.
//!
//! Headers move, bodies stream; what HTTP forbids (a body after 204, two lengths, a status below 200) is put
//! right or refused here, because the server would break the connection or panic over it.

use std::fmt::Write as _;

use alula_invoke::{Failure, Served};
use alula_model::{ErrorCode, Fault, InvocationId, Phases};
use alula_runtime::{Answer, Body};
use futures_util::FutureExt as _;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::{headers, ids};

/// Frames that are taken from a body nobody will see, so that a whole body counts as passed on.
const UNSEEN_FRAMES_MAX: usize = 64;

/// Whether the caller will see a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyUse {
    Sent,
    /// The request was `HEAD`.
    Withheld,
}

/// The response for an answer that is not an upgrade.
pub(crate) fn respond(
    answer: Answer,
    served: &Served,
    id: &InvocationId,
    body_use: BodyUse,
) -> Result<Response<Body>, Failure> {
    let Answer { status, mut headers, body, upgraded } = answer;
    if status.is_informational() || upgraded.is_some() {
        let message =
            format!("the function answered with status {status}, which is no answer to this request");
        let fault = Fault::new(ErrorCode::BadResponse, message);
        return Err(Failure { fault, key: Some(served.key.clone()), retry_after_ms: None });
    }
    headers::strip_response(&mut headers);
    name_call(&mut headers, served, id);
    let body = fit_body(status, &mut headers, body, body_use);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Adds what the platform says about the call.
pub(crate) fn name_call(headers: &mut HeaderMap, served: &Served, id: &InvocationId) {
    headers.insert(headers::INVOCATION_ID, ids::header_of(id));
    headers.insert(headers::VERSION, HeaderValue::from(served.key.version));
    if let Some(reason) = served.degraded {
        headers.insert(headers::DEGRADED, HeaderValue::from_static(reason.as_str()));
    }
    if let Some(timing) = server_timing(&served.phases) {
        headers.append(headers::SERVER_TIMING, timing);
    }
}

/// Phases in milliseconds; a phase that did not happen is left out.
fn server_timing(phases: &Phases) -> Option<HeaderValue> {
    let mut text = String::with_capacity(64);
    let named = [
        ("queue", phases.queue_us),
        ("start", phases.start_us),
        ("init", phases.init_us),
        ("run", phases.run_us),
    ];
    for (name, us) in named {
        if us > 0 || name == "run" {
            let comma = if text.is_empty() { "" } else { ", " };
            write!(text, "{comma}{name};dur={}.{:03}", us / 1000, us % 1000).ok()?;
        }
    }
    HeaderValue::try_from(text).ok()
}

fn fit_body(status: StatusCode, headers: &mut HeaderMap, body: Body, body_use: BodyUse) -> Body {
    let length = body.size_hint().exact();
    let has_no_body = matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
    if has_no_body {
        headers.remove(header::CONTENT_LENGTH);
        return discard(body);
    }
    if body_use == BodyUse::Withheld || status == StatusCode::NOT_MODIFIED {
        keep_one_length(headers);
        if body_use == BodyUse::Withheld && !headers.contains_key(header::CONTENT_LENGTH) {
            // A HEAD handler that returns nothing does not mean that GET has an empty body.
            if let Some(length) = length.filter(|length| *length > 0) {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
        return discard(body);
    }
    match length {
        // The server states the length of a whole body itself.
        Some(_) => drop(headers.remove(header::CONTENT_LENGTH)),
        None => keep_one_length(headers),
    }
    body
}

/// Drops `Content-Length` unless it is one number.
fn keep_one_length(headers: &mut HeaderMap) {
    let mut values = headers.get_all(header::CONTENT_LENGTH).into_iter();
    let is_number = |value: &HeaderValue| {
        let digits = value.as_bytes();
        !digits.is_empty() && digits.len() < 20 && digits.iter().all(u8::is_ascii_digit)
    };
    let is_one = values.next().is_some_and(is_number) && values.next().is_none();
    if !is_one {
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// Takes what is there of a body that nobody will see, so that a whole body is not recorded as broken off.
fn discard(mut body: Body) -> Body {
    for _ in 0..UNSEEN_FRAMES_MAX {
        if !matches!(body.frame().now_or_never(), Some(Some(Ok(_)))) {
            break;
        }
    }
    Body::empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_that_happened_are_told_in_milliseconds() {
        let check = |phases: Phases, expect: &str| assert_eq!(server_timing(&phases).unwrap(), expect);
        check(Phases::default(), "run;dur=0.000");
        check(Phases { queue_us: 12, run_us: 1_234, ..Phases::default() }, "queue;dur=0.012, run;dur=1.234");
        let cold = Phases { start_us: 20_000, init_us: 1, run_us: u64::MAX, ..Phases::default() };
        check(cold, "start;dur=20.000, init;dur=0.001, run;dur=18446744073709551.615");
    }

    #[test]
    fn one_honest_length_or_none() {
        let fit = |lengths: &[&'static str], body_use| {
            let pair = |value: &&'static str| (header::CONTENT_LENGTH, HeaderValue::from_static(value));
            let mut headers: HeaderMap = lengths.iter().map(pair).collect();
            let body = fit_body(StatusCode::OK, &mut headers, Body::full("12345"), body_use);
            (headers.get(header::CONTENT_LENGTH).cloned(), body.as_full().map(<[u8]>::len))
        };
        assert_eq!(fit(&["7"], BodyUse::Sent), (None, Some(5)));
        assert_eq!(fit(&[], BodyUse::Withheld), (Some(HeaderValue::from_static("5")), Some(0)));
        assert_eq!(fit(&["9"], BodyUse::Withheld), (Some(HeaderValue::from_static("9")), Some(0)));
        assert_eq!(fit(&["9", "8"], BodyUse::Withheld), (Some(HeaderValue::from_static("5")), Some(0)));
        assert_eq!(fit(&["+9"], BodyUse::Withheld), (Some(HeaderValue::from_static("5")), Some(0)));
    }

    #[test]
    fn statuses_without_a_body_have_none() {
        let fit = |status| fit_body(status, &mut HeaderMap::new(), Body::full("x"), BodyUse::Sent);
        assert_eq!(fit(StatusCode::NO_CONTENT).as_full(), Some(&b""[..]));
        assert_eq!(fit(StatusCode::NOT_MODIFIED).as_full(), Some(&b""[..]));
        assert_eq!(fit(StatusCode::OK).as_full(), Some(&b"x"[..]));
    }
}
