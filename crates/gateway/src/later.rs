//! Requests that ask for a call to be made later: `/async-function/NAME`, or `Prefer: respond-async` (RFC 7240) anywhere.
//!
//! What else such a request may say is read by [`Wishes`]. The answer is 202 once the call is durable, and never before.

use std::sync::Arc;

use alula_invoke::Failure;
use alula_invoke::later::{Accepted, Deferred, RESPOND_ASYNC, Repeat, Wishes, content_fault};
use alula_model::TriggerKind;
use alula_runtime::Body;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::connection::Connection;
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
    let lineage = connection.shared.parts.seal.take(&mut head.headers);
    let wishes = Wishes::take(&mut head.headers, arrival.received_at).map_err(refused)?;
    let remote = prepare_headers(connection, &head.uri, &mut head.headers, None);
    let later = &connection.shared.parts.later;
    let body = body::read(incoming, &connection.shared.options).await.map_err(refused)?;
    let limit_bytes = later.body_bytes_max();
    let body = body.collect(limit_bytes).await.map_err(|error| refused(content_fault(&error)))?;
    let deferred = Deferred {
        lineage,
        method: head.method,
        uri: called.uri,
        headers: head.headers,
        remote: Some(remote),
        parameters: called.parameters,
        is_event: false,
        ..Deferred::event(arrival.id.clone(), called.target, TriggerKind::Http, body)
    };
    let accepted = later.accept(wishes.put_to(deferred)).await.map_err(refused)?;
    Ok(respond(&accepted))
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
