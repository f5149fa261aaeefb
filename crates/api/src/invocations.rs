//! Calling a function through the control API: the same core as on the public port, with a token.
//!
//! The function never sees the caller's token or cookies: only the headers that say what the body is, what is
//! accepted back, and which trace it belongs to are handed on.

use alula_invoke::later::prefers_async;
use alula_invoke::{Failure, Invocation, Outcome, Served};
use alula_model::{ErrorCode, Fault, FunctionRef, InvocationId, Name, Qualifier, TriggerKind};
use alula_runtime::{Body, BodyError, Waiters};
use alula_wire::query::LogMode;
use alula_wire::{AcceptedCall, ErrorAnswer, headers, query};
use axum::extract::State;
use axum::response::Response;
use http::header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::auth::Actor;
use crate::extract::{self, Path, Query};
use crate::openapi::{Anything, Binary};
use crate::respond::{Answer, Problem, text_header};
use crate::state::Api;
use crate::versions::qualifier;
use crate::{calls, log_tail};

/// Everything that the platform says by itself begins with this; functions may not.
const PLATFORM_PREFIX: &str = "x-alula-";

/// Calls a function
///
/// A body of type `application/json` is handed to the handler as its event; any other body reaches the function
/// as an HTTP POST to `/`, no body as a GET. The function's answer is passed on as it is, with its status; an answer with the
/// header `X-Alula-Error` is the platform's, everything else the function's own.
///
/// With `async=true` or `Prefer: respond-async` the answer is 202 once the call is durable, and it runs later. The headers
/// `Idempotency-Key`, `X-Callback-Url`, `X-Alula-Delay-Ms` or `X-Alula-At`, and `X-Alula-Ordering-Key` say more about it.
#[utoipa::path(
    post,
    path = "/v1/functions/{name}/invocations",
    tag = "runs",
    operation_id = "invoke",
    params(("name" = String, Path, description = "The function"), query::Invoke),
    request_body(content(
        (serde_json::Value = "application/json"),
        (Binary = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "The function's answer, with whatever status it chose", body = Anything,
            content_type = "*/*", headers(
                ("X-Alula-Invocation-Id" = String, description = "The invocation"),
                ("X-Alula-Version" = u64, description = "The version that answered"),
                ("Server-Timing" = String, description = "Where the time went, in milliseconds"),
                ("X-Alula-Log-Result" = String, description = "With `log=tail`: the last 4 KB of its log, base64"),
            )),
        (status = 202, description = "The call is durable and runs later", body = AcceptedCall),
        (status = 404, description = "No such function, version or alias", body = ErrorAnswer),
        (status = 413, description = "The body is larger than the function takes", body = ErrorAnswer),
        (status = 429, description = "Every instance is busy", body = ErrorAnswer),
        (status = 502, description = "The function failed", body = ErrorAnswer),
        (status = 504, description = "The function took longer than its timeout", body = ErrorAnswer),
    )
)]
pub(crate) async fn invoke(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<Name>,
    Query(query): Query<query::Invoke>,
    request: axum::extract::Request,
) -> Answer<Response> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let qualifier =
        query.qualifier.as_deref().map_or(Ok(Qualifier::Latest), |text| qualifier("qualifier", text))?;
    let target = FunctionRef { namespace, name, qualifier };
    let id = invocation_id(&api, request.headers())?;
    let wants_tail = query.log == Some(LogMode::Tail);
    if query.asynchronous.unwrap_or_else(|| prefers_async(request.headers())) {
        if wants_tail {
            return Err(Problem::invalid("log: a call that nobody waits for has not logged anything yet"));
        }
        return calls::accept(&api, &actor, id, target, request).await;
    }
    let outcome =
        api.parts.invoker.invoke(invocation(&api, &actor, id.clone(), target.clone(), request)).await;
    match outcome {
        Ok(outcome) => answer(&api, id, outcome, wants_tail).await,
        Err(failure) => Err(problem(&api, id, &target, failure, wants_tail).await),
    }
}

fn invocation_id(api: &Api, headers: &HeaderMap) -> Answer<InvocationId> {
    let Some(value) = headers.get(headers::INVOCATION_ID) else { return Ok((api.parts.ids)()) };
    let id = value.to_str().ok().and_then(InvocationId::new);
    id.ok_or_else(|| Problem::invalid("X-Alula-Invocation-Id: use letters, digits, - and _, 128 at the most"))
}

fn invocation(
    api: &Api,
    actor: &Actor,
    id: InvocationId,
    target: FunctionRef,
    request: axum::extract::Request,
) -> Invocation {
    let (mut parts, body) = request.into_parts();
    let lineage = api.parts.invoker.seal().take(&mut parts.headers);
    Invocation {
        id,
        target,
        version: None,
        trigger: TriggerKind::Api,
        lineage,
        attempt: 1,
        method: method_of(&body),
        uri: Uri::from_static("/"),
        is_event: is_json(&parts.headers),
        headers: handed_on(&parts.headers),
        body: body_of(body),
        caller: actor.caller(),
        remote: None,
        parameters: Vec::new(),
        received: Instant::now(),
        received_at: api.parts.clock.now(),
        waiters: Waiters::default(),
        began: None,
    }
}

/// The method under which a body reaches a function.
pub(crate) fn method_of(body: &axum::body::Body) -> Method {
    if body.is_end_stream() { Method::GET } else { Method::POST }
}

/// Whether a body is the handler's event.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

/// The headers that reach the function.
pub(crate) fn handed_on(headers: &HeaderMap) -> HeaderMap {
    const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
    let names = [CONTENT_TYPE, CONTENT_LENGTH, ACCEPT, ACCEPT_LANGUAGE, USER_AGENT, TRACEPARENT, TRACESTATE];
    names.into_iter().filter_map(|name| headers.get(&name).cloned().map(|value| (name, value))).collect()
}

/// A request's body as the core takes it.
pub(crate) fn body_of(body: axum::body::Body) -> Body {
    if body.is_end_stream() {
        return Body::empty();
    }
    Body::stream(body.map_err(|_| BodyError::Disconnected))
}

async fn answer(api: &Api, id: InvocationId, outcome: Outcome, wants_tail: bool) -> Answer<Response> {
    let Outcome { answer, served } = outcome;
    if answer.upgraded.is_some() || answer.status.is_informational() {
        let message =
            format!("the function answered {}; use the public port for such answers", answer.status);
        return Err(Problem::from(Fault::new(ErrorCode::BadResponse, message)).of_call(id));
    }
    let mut body = axum::body::Body::new(answer.body);
    let mut tail = None;
    if wants_tail {
        body = log_tail::settle(body).await;
        tail = Some(log_tail::header(api, &served.key.namespace, &id).await);
    }
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = passed_back(answer.headers);
    let own = response.headers_mut();
    own.insert(headers::INVOCATION_ID, text_header(id.as_str()));
    own.insert(headers::VERSION, HeaderValue::from(served.key.version));
    if let Some(reason) = served.degraded {
        own.insert(headers::DEGRADED, HeaderValue::from_static(reason.as_str()));
    }
    own.append(headers::SERVER_TIMING, server_timing(&served));
    own.extend(tail.map(|tail| (HeaderName::from_static(headers::LOG_RESULT), tail)));
    Ok(response)
}

async fn problem(
    api: &Api,
    id: InvocationId,
    target: &FunctionRef,
    failure: Failure,
    wants_tail: bool,
) -> Problem {
    let mut problem = Problem::from(failure.fault).of_call(id.clone()).retry_after(failure.retry_after_ms);
    if let Some(key) = failure.key {
        problem = problem.with_header(headers::VERSION, HeaderValue::from(key.version));
    }
    if wants_tail {
        let tail = log_tail::header(api, &target.namespace, &id).await;
        problem = problem.with_header(headers::LOG_RESULT, tail);
    }
    problem
}

/// The function's headers without those that belong to one hop or to the platform.
fn passed_back(mut headers: HeaderMap) -> HeaderMap {
    const HOP: &[&str] =
        &["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];
    let doomed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| HOP.contains(&name.as_str()) || name.as_str().starts_with(PLATFORM_PREFIX))
        .cloned()
        .collect();
    for name in doomed {
        headers.remove(name);
    }
    headers
}

/// Phases in milliseconds; those that took no time are left out.
fn server_timing(served: &Served) -> HeaderValue {
    let phases = &served.phases;
    let named = [
        ("queue", phases.queue_us),
        ("start", phases.start_us),
        ("init", phases.init_us),
        ("run", phases.run_us),
    ];
    let shown = named.iter().filter(|(name, micros)| *micros > 0 || *name == "run");
    let entry = |(name, micros): &(&str, u64)| format!("{name};dur={}.{:03}", micros / 1_000, micros % 1_000);
    text_header(&shown.map(entry).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn the_callers_credentials_stay_here() {
        let sent = map(&[
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("host", "h"),
            ("content-type", "text/plain"),
        ]);
        assert_eq!(handed_on(&sent), map(&[("content-type", "text/plain")]));
    }

    #[test]
    fn a_function_cannot_speak_for_the_platform() {
        let answered = map(&[("x-alula-error", "internal"), ("connection", "close"), ("x-mine", "1")]);
        assert_eq!(passed_back(answered), map(&[("x-mine", "1")]));
    }

    #[test]
    fn json_is_told_by_its_media_type_alone() {
        for (value, expect) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/x-www-form-urlencoded", false),
            ("text/json-like", false),
        ] {
            assert_eq!(is_json(&map(&[("content-type", value)])), expect, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
