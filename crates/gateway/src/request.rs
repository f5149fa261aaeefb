//! One request: what is checked, what becomes of it, and what is answered.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use alula_invoke::cloudevents::Mode;
use alula_invoke::later::prefers_async;
use alula_invoke::{Failure, Invocation};
use alula_model::{ErrorCode, Fault, FunctionRef, InvocationId, Timestamp, TriggerKind};
use alula_runtime::{Body, CLAIMS_HEADER};
use futures_util::FutureExt as _;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::admission::Admission;
use crate::answer::BodyUse;
use crate::body::Download;
use crate::connection::Connection;
use crate::inside::Source;
use crate::ports::{Invoke, Routes};
use crate::respond::{LogTail, refused};
use crate::target::{Target, When};
use crate::upgrade::Upgrade;
use crate::{
    admission, answer, body, cloudevents, explain, headers, ids, inside, later, overload, respond, target,
    topic, upgrade, webhook,
};

/// When a request came and what it is called.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) id: InvocationId,
    pub(crate) received: Instant,
    pub(crate) received_at: Timestamp,
}

/// Answers `request`, whatever it is. Dropping the future cancels what it started.
pub(crate) async fn answer<I: Invoke, R: Routes>(
    connection: Arc<Connection<I, R>>,
    request: Request<Incoming>,
) -> Response<Download> {
    let running = connection.activity.begin(request.version());
    let parts = &connection.shared.parts;
    let received_at = parts.clock.now();
    let id = ids::invocation_id(received_at, (parts.random)());
    let arrival = Arrival { id, received: Instant::now(), received_at };
    if connection.activity.is_abused() {
        return respond::failure(&overload::too_many_resets(), &arrival.id, LogTail::Hidden)
            .map(|body| Download::new(body, Some(running)));
    }
    let served = AssertUnwindSafe(serve(&connection, request, &arrival)).catch_unwind().await;
    let result = served.unwrap_or_else(|_panic| {
        parts.observe.request_panicked();
        tracing::error!(invocation = %arrival.id, "a defect was caught while a request was handled");
        Err(refused(Fault::new(ErrorCode::Internal, "a defect of the platform")))
    });
    let response =
        result.unwrap_or_else(|failure| respond::failure(&failure, &arrival.id, connection.shared.log_tail));
    response.map(|body| Download::new(body, Some(running)))
}

async fn serve<I: Invoke, R: Routes>(
    connection: &Arc<Connection<I, R>>,
    mut request: Request<Incoming>,
    arrival: &Arrival,
) -> Result<Response<Body>, Failure> {
    if request.version() == Version::HTTP_2 {
        explain::check_h2(&request, &connection.shared.options).map_err(refused)?;
    }
    check_host(&request).map_err(refused)?;
    let upgrade = upgrade::asked_by(&mut request);
    if request.method() == Method::CONNECT {
        let fault = Fault::new(ErrorCode::MethodNotAllowed, "this is no proxy: CONNECT is not served");
        return Err(refused(fault));
    }
    let shared = &connection.shared;
    let found = match &connection.guest {
        Some(guest) if inside::is_for_objects(&request) => {
            let lineage = connection.source(request.headers_mut()).lineage;
            return Ok(guest.answer_for_objects(request, lineage).await);
        }
        Some(guest) => guest.find(&request),
        None => target::find(&shared.parts.routes, request.method(), request.uri(), request.headers()),
    };
    match found.map_err(refused)? {
        Target::Function { target, uri, parameters, when } => {
            let admission =
                admission::to_function(connection, &mut request, &target).await.map_err(refused)?;
            let call = Called { uri: admission.own_uri(uri), target, parameters, admission };
            match when == When::Later || prefers_async(request.headers()) {
                true => later::accept(connection, request, arrival, call).await,
                false => invoke(connection, request, arrival, call, upgrade).await,
            }
        }
        Target::Topic(name) => {
            let admission = admission::to_topic(connection, &mut request, &name).await.map_err(refused)?;
            topic::publish(connection, request, arrival, name, &admission.caller).await
        }
        Target::Webhook(hook) => webhook::receive(connection, request, arrival, hook).await,
        Target::Livez => health(request.method(), arrival),
        Target::Readyz if shared.stopping.is_cancelled() => {
            Err(refused(Fault::new(ErrorCode::Draining, "the platform is shutting down")))
        }
        Target::Readyz => health(request.method(), arrival),
    }
}

/// RFC 9112 3.2: a request without exactly one `Host` is a misunderstanding somebody could use.
fn check_host(request: &Request<Incoming>) -> Result<(), Fault> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let is_wrong = hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11);
    match is_wrong {
        true => Err(Fault::new(
            ErrorCode::InvalidRequest,
            format!("one Host header is needed, there are {hosts}"),
        )),
        false => Ok(()),
    }
}

fn health(method: &Method, arrival: &Arrival) -> Result<Response<Body>, Failure> {
    let body = match *method {
        Method::GET => Body::full("ok\n"),
        Method::HEAD => Body::empty(),
        _ => {
            return Err(refused(Fault::new(
                ErrorCode::MethodNotAllowed,
                format!("{method} is not served here"),
            )));
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(headers::INVOCATION_ID, ids::header_of(&arrival.id));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What is called, as the path said.
pub(crate) struct Called {
    pub(crate) target: FunctionRef,
    pub(crate) uri: Uri,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) admission: Admission,
}

async fn invoke<I: Invoke, R: Routes>(
    connection: &Arc<Connection<I, R>>,
    request: Request<Incoming>,
    arrival: &Arrival,
    called: Called,
    upgrade: Option<Upgrade>,
) -> Result<Response<Body>, Failure> {
    let (mut head, incoming) = request.into_parts();
    let Source { lineage, waiters, .. } = connection.source(&mut head.headers);
    let remote = prepare_headers(connection, &head.uri, &mut head.headers, upgrade.as_ref());
    let Admission { caller, claims, .. } = called.admission;
    connection.shared.parts.invoke.peek(&caller, Some(remote))?;
    head.headers.extend(claims.map(|claims| (CLAIMS_HEADER, claims)));
    let body_use = if head.method == Method::HEAD { BodyUse::Withheld } else { BodyUse::Sent };
    let mut body = body::read(incoming, &connection.shared.options).await.map_err(refused)?;
    let event_mode = Mode::of(&head.headers);
    if let Some(mode) = event_mode {
        body = cloudevents::for_one_call(mode, &mut head.headers, body).await.map_err(refused)?;
    }
    let invocation = Invocation {
        id: arrival.id.clone(),
        target: called.target,
        version: None,
        trigger: TriggerKind::Http,
        lineage,
        attempt: 1,
        method: head.method,
        uri: called.uri,
        headers: head.headers,
        body,
        caller,
        remote: Some(remote),
        parameters: called.parameters,
        is_event: event_mode.is_some(),
        received: arrival.received,
        received_at: arrival.received_at,
        waiters,
        began: None,
    };
    let outcome = connection.shared.parts.invoke.invoke(invocation).await?;
    let (mut answer, served) = (outcome.answer, outcome.served);
    if event_mode.is_some() {
        cloudevents::name_answer(&mut answer);
    }
    match (upgrade, answer.upgraded.take()) {
        (Some(upgrade), Some(function)) => {
            let (response, joint) = upgrade.agree(answer, function, &served, &arrival.id);
            connection.join(joint);
            Ok(response)
        }
        (None, Some(_)) => Err(unasked_upgrade(served.key)),
        (_, None) => answer::respond(answer, &served, &arrival.id, body_use),
    }
}

fn unasked_upgrade(key: alula_model::VersionKey) -> Failure {
    let fault =
        Fault::new(ErrorCode::BadResponse, "the function switched protocols although nobody asked for it");
    Failure { fault, key: Some(key), retry_after_ms: None }
}

/// Leaves what the function should see, and adds what the platform knows; tells where the request came from.
pub(crate) fn prepare_headers<I: Invoke, R: Routes>(
    connection: &Connection<I, R>,
    uri: &Uri,
    headers: &mut HeaderMap,
    upgrade: Option<&Upgrade>,
) -> IpAddr {
    let shared = &connection.shared;
    headers::strip_request(headers, connection.peer.provenance);
    // The authority of HTTP/2 and of absolute-form targets outranks a `Host` header.
    if let Some(authority) = uri.authority() {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        if let Ok(host) = HeaderValue::from_str(host) {
            headers.insert(header::HOST, host);
        }
    }
    if !headers.get(headers::TRACEPARENT).is_some_and(ids::is_traceparent) {
        headers
            .insert(headers::TRACEPARENT, ids::traceparent((shared.parts.random)(), (shared.parts.random)()));
    }
    if let Some(upgrade) = upgrade {
        upgrade.offer(headers, (shared.parts.random)());
    }
    connection.peer.forward(headers, &shared.options.trusted_proxies)
}
