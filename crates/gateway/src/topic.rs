//! Publishing: `POST /topic/NAME[.NAMESPACE]`.
//!
//! The answer is 202 once the events, and the calls that they make, are durable.

use std::sync::Arc;

use alula_invoke::Failure;
use alula_model::{Caller, ErrorCode, Fault, Name};
use alula_runtime::Body;
use alula_trigger::topic::{Publication, Published, Request as Sent};
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use crate::connection::Connection;
use crate::ports::{Invoke, Routes};
use crate::request::Arrival;
use crate::respond::refused;
use crate::{body, cloudevents, headers, ids};

/// A topic of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicName {
    pub(crate) namespace: Name,
    pub(crate) topic: Name,
}

/// Publishes what a request holds.
pub(crate) async fn publish<I: Invoke, R: Routes>(
    connection: &Arc<Connection<I, R>>,
    request: Request<Incoming>,
    arrival: &Arrival,
    name: TopicName,
    caller: &Caller,
) -> Result<Response<Body>, Failure> {
    if request.method() != Method::POST {
        let message = format!("events are published with POST, not {}", request.method());
        return Err(refused(Fault::new(ErrorCode::MethodNotAllowed, message)));
    }
    let (mut head, incoming) = request.into_parts();
    let parts = &connection.shared.parts;
    let lineage = connection.source(&mut head.headers).lineage;
    let remote = connection.peer.source(&head.headers, &connection.shared.options.trusted_proxies);
    parts.invoke.arrive(caller, Some(remote))?;
    let body = body::read(incoming, &connection.shared.options).await.map_err(refused)?;
    let content = cloudevents::collect(body).await.map_err(refused)?;
    let (id, at) = (&arrival.id, arrival.received_at);
    let sent = Sent { id, at, headers: &head.headers, content: &content };
    let TopicName { namespace, topic } = name;
    let publication = Publication::of_request(namespace, topic, sent, lineage).map_err(refused)?;
    let published = parts.events.publish(publication).await.map_err(refused)?;
    Ok(respond(&published, arrival))
}

fn respond(published: &[Published], arrival: &Arrival) -> Response<Body> {
    let told =
        |event: &Published| json!({ "id": event.id, "calls": event.calls, "repeated": event.is_repeat });
    let body = json!({ "events": published.iter().map(told).collect::<Vec<_>>() });
    let mut response = Response::new(Body::full(body.to_string()));
    *response.status_mut() = StatusCode::ACCEPTED;
    let own = response.headers_mut();
    own.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    own.insert(headers::INVOCATION_ID, ids::header_of(&arrival.id));
    response
}
