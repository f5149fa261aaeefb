//! Signed requests of outside services: `/webhook/NAMESPACE/FUNCTION/TRIGGER[/rest]`.
//!
//! The signature covers the body as it was sent, so the body is taken whole and checked before anything is done. The
//! function gets the request as it came. The sender is answered 202 when the call is durable, or with the function's own
//! answer where the trigger says `wait`.

use std::net::IpAddr;
use std::sync::Arc;

use alula_invoke::later::Deferred;
use alula_invoke::{Failure, Invocation};
use alula_model::{Caller, FunctionRef, Lineage, TriggerKind};
use alula_runtime::{Body, Waiters};
use alula_trigger::TriggerKey;
use alula_trigger::webhook::{Seen, Verified};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, Uri};
use hyper::body::Incoming;

use crate::answer::{self, BodyUse};
use crate::connection::Connection;
use crate::ports::{Invoke, Routes};
use crate::request::{Arrival, prepare_headers};
use crate::respond::refused;
use crate::{body, cloudevents, headers, ids, later};

/// A trigger, and what its function is to see as the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) trigger: TriggerKey,
    pub(crate) uri: Uri,
}

/// A request that has been taken whole.
struct Taken {
    head: http::request::Parts,
    content: Bytes,
    remote: IpAddr,
    uri: Uri,
    lineage: Lineage,
}

/// Checks a request and makes its call.
pub(crate) async fn receive<I: Invoke, R: Routes>(
    connection: &Arc<Connection<I, R>>,
    request: Request<Incoming>,
    arrival: &Arrival,
    hook: Hook,
) -> Result<Response<Body>, Failure> {
    let (mut head, incoming) = request.into_parts();
    let lineage = connection.shared.parts.seal.take(&mut head.headers);
    let remote = prepare_headers(connection, &head.uri, &mut head.headers, None);
    connection.shared.parts.invoke.peek(&Caller::Public, Some(remote))?;
    let body = body::read(incoming, &connection.shared.options).await.map_err(refused)?;
    let content = cloudevents::collect(body).await.map_err(refused)?;
    let Hook { trigger, uri } = hook;
    let verified = connection.shared.parts.events.verify(&trigger, &head.headers, &content).await;
    let taken = Taken { head, content, remote, uri, lineage };
    match verified.map_err(refused)? {
        Verified::Challenge(text) => Ok(challenged(text, arrival)),
        Verified::Later { target, idempotency_key } => {
            accept(connection, taken, arrival, target, idempotency_key).await
        }
        Verified::Now { target, seen } => wait(connection, taken, arrival, target, &seen).await,
    }
}

async fn accept<I: Invoke, R: Routes>(
    connection: &Arc<Connection<I, R>>,
    taken: Taken,
    arrival: &Arrival,
    target: FunctionRef,
    idempotency_key: String,
) -> Result<Response<Body>, Failure> {
    let Taken { head, content, remote, uri, lineage } = taken;
    let deferred = Deferred {
        lineage,
        method: head.method,
        uri,
        headers: head.headers,
        caller: Caller::Public,
        remote: Some(remote),
        is_event: false,
        idempotency_key: Some(idempotency_key),
        ..Deferred::event(arrival.id.clone(), target, TriggerKind::Webhook, content)
    };
    let accepted = connection.shared.parts.later.accept(deferred).await.map_err(refused)?;
    Ok(later::respond(&accepted))
}

async fn wait<I: Invoke, R: Routes>(
    connection: &Arc<Connection<I, R>>,
    taken: Taken,
    arrival: &Arrival,
    target: FunctionRef,
    seen: &Seen,
) -> Result<Response<Body>, Failure> {
    let Taken { head, content, remote, uri, lineage } = taken;
    let invocation = Invocation {
        id: arrival.id.clone(),
        target,
        version: None,
        trigger: TriggerKind::Webhook,
        lineage,
        attempt: 1,
        method: head.method,
        uri,
        headers: head.headers,
        body: Body::full(content),
        caller: Caller::Public,
        remote: Some(remote),
        parameters: Vec::new(),
        is_event: false,
        received: arrival.received,
        received_at: arrival.received_at,
        waiters: Waiters::default(),
        began: None,
    };
    let parts = &connection.shared.parts;
    let outcome = parts.invoke.invoke(invocation).await;
    let has_failed = outcome.as_ref().map_or(true, |outcome| outcome.answer.status.is_server_error());
    if has_failed {
        parts.events.forget(seen).await;
    }
    let outcome = outcome?;
    answer::respond(outcome.answer, &outcome.served, &arrival.id, BodyUse::Sent)
}

fn challenged(text: String, arrival: &Arrival) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    let own = response.headers_mut();
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    own.insert(headers::INVOCATION_ID, ids::header_of(&arrival.id));
    response
}
