//! Requests that ask for a call to be made later: `/async-function/NAME`, or `Prefer: respond-async` (RFC 7240) anywhere.
//!
//! What else such a request may say is read by [`Wishes`]. The answer is 202 once the call is durable, and never before.

use std::sync::Arc;

use alula_invoke::Failure;
use alula_invoke::cloudevents::{CloudEvent, Mode};
use alula_invoke::later::{Accepted, Deferred, RESPOND_ASYNC, Repeat, Wishes, content_fault};
use alula_model::{ErrorCode, Fault, InvocationId, TriggerKind};
use alula_runtime::{Body, CLAIMS_HEADER};
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::admission::Admission;
use crate::connection::Connection;
use crate::inside::{Reach, Source};
use crate::ports::{Invoke, Routes};
use crate::request::{Arrival, Called, prepare_headers};
use crate::respond::refused;
use crate::{body, headers, ids};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// The id as clients of OpenFaaS look for it.
const CALL_ID: HeaderName = HeaderName::from_static("x-call-id");

/// Accepts a call and answers 202.
pub(crate) async fn accept<I: Invoke, R: Routes>(
    connection: &Arc<Connection<I, R>>,
    request: Request<Incoming>,
    arrival: &Arrival,
    called: Called,
) -> Result<Response<Body>, Failure> {
    let (mut head, incoming) = request.into_parts();
    let Source { lineage, reach, .. } = connection.source(&mut head.headers);
    let wishes = Wishes::take(&mut head.headers, arrival.received_at).map_err(refused)?;
    let remote = prepare_headers(connection, &head.uri, &mut head.headers, None);
    let Admission { caller, claims, .. } = called.admission;
    connection.shared.parts.invoke.peek(&caller, Some(remote))?;
    head.headers.extend(claims.map(|claims| (CLAIMS_HEADER, claims)));
    let later = &connection.shared.parts.later;
    let body = body::read(incoming, &connection.shared.options).await.map_err(refused)?;
    let limit_bytes = later.body_bytes_max();
    let body = body.collect(limit_bytes).await.map_err(|error| refused(content_fault(&error)))?;
    let mode = Mode::of(&head.headers);
    let events =
        mode.map(|mode| CloudEvent::read(mode, &head.headers, &body)).transpose().map_err(refused)?;
    if events.is_some() {
        CloudEvent::set_headers(&mut head.headers);
    }
    let deferred = Deferred {
        lineage,
        method: head.method,
        uri: called.uri,
        headers: head.headers,
        caller,
        remote: Some(remote),
        parameters: called.parameters,
        is_event: events.is_some(),
        ..Deferred::event(arrival.id.clone(), called.target, TriggerKind::Http, body)
    };
    let deferred = wishes.put_to(deferred);
    if reach == Reach::Platform && deferred.callback.is_some() {
        let message = "a function without a network cannot have a result sent to an address";
        return Err(refused(Fault::new(ErrorCode::InvalidRequest, message)));
    }
    let Some(events) = events else {
        return Ok(respond(&later.accept(deferred).await.map_err(refused)?));
    };
    let mut accepted = Vec::with_capacity(events.len());
    for (number, event) in events.iter().enumerate() {
        let id = match number {
            0 => arrival.id.clone(),
            _ => ids::invocation_id(arrival.received_at, (connection.shared.parts.random)()),
        };
        let call = of_event(&deferred, number, event);
        accepted.push(later.accept(Deferred { id, ..call }).await.map_err(refused)?);
    }
    match (&accepted[..], mode) {
        ([one], Some(Mode::Binary | Mode::Structured)) => Ok(respond(one)),
        (all, _) => Ok(respond_to_all(all, &arrival.id)),
    }
}

/// The call for one event of a request. By the specification events of one `source` and `id` are one event, so sending it
/// again, as somebody does who did not get the answer to a batch, is harmless.
fn of_event(request: &Deferred, number: usize, event: &CloudEvent) -> Deferred {
    let own_key = request.idempotency_key.as_ref().map(|key| format!("{key}-{number}"));
    let partition = event.attribute("partitionkey").filter(|key| !key.is_empty());
    Deferred {
        body: event.to_bytes(),
        idempotency_key: own_key.or_else(|| Some(event.digest())),
        ordering_key: request.ordering_key.clone().or_else(|| partition.map(str::to_owned)),
        ..request.clone()
    }
}

fn told(accepted: &Accepted) -> Value {
    json!({
        "id": accepted.id,
        "repeated": accepted.repeat == Repeat::Repeated,
        "status": format!("/v1/invocations/{}", accepted.id),
    })
}

fn respond_to_all(all: &[Accepted], id: &InvocationId) -> Response<Body> {
    let calls: Vec<_> = all.iter().map(told).collect();
    let mut response = Response::new(Body::full(json!({ "calls": calls }).to_string()));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(headers::INVOCATION_ID, ids::header_of(id));
    response
}

pub(crate) fn respond(accepted: &Accepted) -> Response<Body> {
    let id = ids::header_of(&accepted.id);
    let mut response = Response::new(Body::full(told(accepted).to_string()));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(headers::INVOCATION_ID, id.clone());
    headers.insert(CALL_ID, id);
    headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static(RESPOND_ASYNC));
    response
}
