//! Calls that nobody waits for: accepted, looked up, waited for, cancelled.
//!
//! A call that somebody waited for is found by the same routes as long as the run history keeps it.

use std::time::Duration;

use alula_identity::{PrincipalKind, Resource, Verb};
use alula_invoke::later::{self, Accepted, Deferred, RESPOND_ASYNC, Repeat, Wishes, content_fault};
use alula_model::{ErrorCode, Fault, FunctionRef, InvocationId, TriggerKind};
use alula_wire::{AcceptedCall, Call, CallState, ErrorAnswer, Run, RunStatus, headers, query};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::auth::Actor;
use crate::dead_letters::failed_attempt;
use crate::extract::{NoQuery, Path, Query};
use crate::invocations::{body_of, handed_on, is_json, method_of};
use crate::openapi::Anything;
use crate::respond::{Answer, Problem, store_fault, text_header};
use crate::state::Api;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Accepts a call of `target` to be run later; answers 202 once it is durable.
pub(crate) async fn accept(
    api: &Api,
    actor: &Actor,
    id: InvocationId,
    target: FunctionRef,
    request: axum::extract::Request,
) -> Answer<Response> {
    let (mut parts, body) = request.into_parts();
    let lineage = api.parts.invoker.seal().take(&mut parts.headers);
    let wishes = Wishes::take(&mut parts.headers, api.parts.clock.now())?;
    let (method, body) = (method_of(&body), body_of(body));
    let acceptor = api.parts.calls.acceptor();
    let body = body.collect(acceptor.body_bytes_max()).await.map_err(|error| content_fault(&error))?;
    let deferred = Deferred {
        lineage,
        method,
        caller: actor.caller(),
        is_event: is_json(&parts.headers),
        headers: handed_on(&parts.headers),
        ..Deferred::event(id.clone(), target, TriggerKind::Api, body)
    };
    let accepted = acceptor.accept(wishes.put_to(deferred)).await;
    let accepted = accepted.map_err(|fault| Problem::from(fault).of_call(id))?;
    Ok(accepted_answer(&accepted))
}

fn accepted_answer(accepted: &Accepted) -> Response {
    let call = AcceptedCall {
        id: accepted.id.to_string(),
        repeated: accepted.repeat == Repeat::Repeated,
        status: format!("/v1/invocations/{}", accepted.id),
    };
    let headers = [
        (HeaderName::from_static(headers::INVOCATION_ID), text_header(accepted.id.as_str())),
        (PREFERENCE_APPLIED, HeaderValue::from_static(RESPOND_ASYNC)),
    ];
    (StatusCode::ACCEPTED, headers, Json(call)).into_response()
}

/// Tells where a call stands
///
/// Its state, the attempts that did not end well with their errors, and how it ended.
#[utoipa::path(
    get,
    path = "/v1/invocations/{id}",
    tag = "calls",
    operation_id = "describe_call",
    params(("id" = String, Path, description = "The invocation's id")),
    responses(
        (status = 200, description = "The call", body = Call),
        (status = 404, description = "No such call, or it is no longer kept", body = ErrorAnswer),
    )
)]
pub(crate) async fn describe(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<Json<Call>> {
    let id = known_form(&id)?;
    judge(&api, &actor, Verb::Read, &id).await?;
    let found = api.parts.calls.find(&id).await?;
    Ok(Json(call(&api, &id, found).await?))
}

/// Waits for a call
///
/// Answers when the call has ended or was given up, or after `timeout_ms`, with where it stands then.
#[utoipa::path(
    get,
    path = "/v1/invocations/{id}/wait",
    tag = "calls",
    operation_id = "wait_for_call",
    params(("id" = String, Path, description = "The invocation's id"), query::Wait),
    responses(
        (status = 200, description = "The call as it is now", body = Call),
        (status = 404, description = "No such call, or it is no longer kept", body = ErrorAnswer),
        (status = 429, description = "Too many clients wait", body = ErrorAnswer),
    )
)]
pub(crate) async fn wait(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    Query(query): Query<query::Wait>,
) -> Answer<Json<Call>> {
    let timeout_ms = query.timeout_ms.unwrap_or(query::WAIT_MS_DEFAULT);
    if timeout_ms > query::WAIT_MS_MAX {
        let max = query::WAIT_MS_MAX;
        return Err(Problem::invalid(format!(
            "timeout_ms: {timeout_ms} is too long, at most {max} is allowed"
        )));
    }
    let id = known_form(&id)?;
    judge(&api, &actor, Verb::Read, &id).await?;
    let _slot = api.wait_slot()?;
    let patience = Duration::from_millis(timeout_ms);
    let found = tokio::select! {
        found = api.parts.calls.wait(&id, patience) => found?,
        // Whoever waits asks again, elsewhere or after the next start.
        () = api.parts.draining.cancelled() => api.parts.calls.find(&id).await?,
    };
    Ok(Json(call(&api, &id, found).await?))
}

/// Gives the result of a call
///
/// What the function answered, with its media type; its status stands in `X-Alula-Function-Status`. It is kept for as long
/// as the function's `async.result_keep_ms` says.
#[utoipa::path(
    get,
    path = "/v1/invocations/{id}/result",
    tag = "calls",
    operation_id = "call_result",
    params(("id" = String, Path, description = "The invocation's id")),
    responses(
        (status = 200, description = "What the function answered", body = Anything, content_type = "*/*", headers(
            ("X-Alula-Invocation-Id" = String, description = "The invocation"),
            ("X-Alula-Version" = u64, description = "The version that answered"),
            ("X-Alula-Function-Status" = u16, description = "The status that the function answered with"),
        )),
        (status = 404, description = "No such asynchronous call, or its result is no longer kept", body = ErrorAnswer),
        (status = 409, description = "It has not ended, or has no result", body = ErrorAnswer),
    )
)]
pub(crate) async fn result(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<Response> {
    let id = known_form(&id)?;
    judge(&api, &actor, Verb::Read, &id).await?;
    let found = api.parts.calls.find(&id).await?.ok_or_else(|| unknown(&id))?;
    let none = |why: String| Problem::from(Fault::new(ErrorCode::Conflict, why)).of_call(id.clone());
    match &found.state {
        later::CallState::Ended(outcome) if outcome.status == later::OutcomeStatus::Done => {}
        later::CallState::Dead { reason, .. } => {
            return Err(none(format!("call {id} has no result, it was given up: {reason}")));
        }
        later::CallState::Ended(_) => return Err(none(format!("call {id} has no result, it was cancelled"))),
        _ => return Err(none(format!("call {id} has not ended"))),
    }
    let (outcome, body) = api.parts.calls.result(&id).await?.ok_or_else(|| unknown(&id))?;
    let mut headers = HeaderMap::new();
    let content_type = outcome.content_type.as_deref().unwrap_or("application/octet-stream");
    headers.insert(CONTENT_TYPE, text_header(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(headers::INVOCATION_ID, text_header(id.as_str()));
    headers.insert(headers::VERSION, HeaderValue::from(outcome.version));
    headers.insert(headers::FUNCTION_STATUS, HeaderValue::from(outcome.http_status.unwrap_or(200)));
    Ok((headers, body).into_response())
}

/// Cancels a call
///
/// One that waits never runs; one that runs is stopped. What the function has done by then stays done.
#[utoipa::path(
    delete,
    path = "/v1/invocations/{id}",
    tag = "calls",
    operation_id = "cancel_call",
    params(("id" = String, Path, description = "The invocation's id")),
    responses(
        (status = 200, description = "The call as it ended", body = Call),
        (status = 404, description = "No such asynchronous call", body = ErrorAnswer),
        (status = 409, description = "It has ended already, or runs on another node", body = ErrorAnswer),
    )
)]
pub(crate) async fn cancel(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<Json<Call>> {
    let id = known_form(&id)?;
    judge(&api, &actor, Verb::Operate, &id).await?;
    let cancelled = api.parts.calls.cancel(&id).await?;
    let subject = format!("{}/{}", cancelled.namespace, cancelled.function);
    api.parts.control.note(actor.by(), "call.cancel", &subject, id.to_string()).await?;
    Ok(Json(call(&api, &id, Some(cancelled)).await?))
}

/// Whether `actor` may do that to the call, whosever it is.
pub(crate) async fn judge(api: &Api, actor: &Actor, verb: Verb, id: &InvocationId) -> Result<(), Fault> {
    if actor.principal().kind == PrincipalKind::Administrator {
        return Ok(());
    }
    let (namespace, function) = match api.parts.calls.find(id).await? {
        Some(call) => (call.namespace, call.function),
        None => {
            api.parts.recorder.flush().await;
            let runs = api.parts.history.get(id).await.map_err(|error| store_fault(&error))?;
            let run = runs.into_iter().next().ok_or_else(|| unknown(id))?;
            (run.key.namespace, run.key.function)
        }
    };
    api.judge(actor, (verb, Resource::Call), (&namespace, Some(&function)), || unknown(id))
}

/// An id that no call can have is not known.
pub(crate) fn known_form(id: &str) -> Result<InvocationId, Fault> {
    InvocationId::new(id).ok_or_else(|| unknown(&format_args!("{id:?}")))
}

fn unknown(id: &dyn std::fmt::Display) -> Fault {
    Fault::new(ErrorCode::NotFound, format!("no call {id} is known, or it is no longer kept"))
}

/// A call as the API shows it, with its runs; where the queue knows nothing of it, the runs are all there is.
async fn call(api: &Api, id: &InvocationId, found: Option<later::Call>) -> Result<Call, Fault> {
    api.parts.recorder.flush().await;
    let runs = api.parts.history.get(id).await.map_err(|error| store_fault(&error))?;
    let runs: Vec<Run> = runs.iter().map(Run::from).collect();
    match found {
        Some(found) => Ok(accepted_call(&found, runs)),
        None => waited_for(runs).ok_or_else(|| unknown(id)),
    }
}

fn accepted_call(found: &later::Call, runs: Vec<Run>) -> Call {
    let call = Call {
        id: found.id.to_string(),
        namespace: found.namespace.to_string(),
        function: found.function.to_string(),
        version: found.version,
        trigger: found.trigger.map(Into::into),
        state: CallState::Running,
        attempts: found.attempts,
        accepted_at_ms: Some(found.accepted_at.as_millis()),
        available_at_ms: None,
        finished_at_ms: None,
        kept_until_ms: None,
        http_status: None,
        error: None,
        message: None,
        content_type: None,
        result_bytes: None,
        failures: found.trail.attempts.iter().map(failed_attempt).collect(),
        runs,
    };
    match &found.state {
        later::CallState::Running => call,
        later::CallState::HeldBack => Call { state: CallState::HeldBack, ..call },
        later::CallState::Waiting { available_at } => {
            Call { state: CallState::Waiting, available_at_ms: Some(available_at.as_millis()), ..call }
        }
        later::CallState::Dead { at, reason } => Call {
            state: CallState::Dead,
            finished_at_ms: Some(at.as_millis()),
            message: Some(reason.clone()),
            ..call
        },
        later::CallState::Ended(outcome) => ended(outcome, call),
    }
}

fn ended(outcome: &later::Outcome, call: Call) -> Call {
    let state = match outcome.status {
        later::OutcomeStatus::Done => CallState::Done,
        later::OutcomeStatus::Cancelled => CallState::Cancelled,
        later::OutcomeStatus::Dead => CallState::Dead,
    };
    Call {
        state,
        finished_at_ms: Some(outcome.finished_at.as_millis()),
        kept_until_ms: Some(outcome.kept_until.as_millis()),
        http_status: outcome.http_status,
        error: outcome.error.map(|code| code.to_string()),
        message: outcome.message.clone(),
        content_type: outcome.content_type.clone(),
        result_bytes: (state == CallState::Done).then_some(outcome.result_bytes),
        ..call
    }
}

/// A call that somebody waited for, by what the history has of it.
fn waited_for(runs: Vec<Run>) -> Option<Call> {
    let last = runs.last()?;
    let state = match last.status {
        RunStatus::Done => CallState::Done,
        RunStatus::Cancelled => CallState::Cancelled,
        RunStatus::Failed | RunStatus::Timeout | RunStatus::Rejected => CallState::Failed,
    };
    let took_ms = i64::try_from(last.phases.total_us / 1_000).unwrap_or(i64::MAX);
    Some(Call {
        id: last.id.clone(),
        namespace: last.namespace.clone(),
        function: last.function.clone(),
        version: last.version,
        trigger: Some(last.trigger),
        state,
        attempts: last.attempt,
        accepted_at_ms: None,
        available_at_ms: None,
        finished_at_ms: Some(last.started_at_ms.saturating_add(took_ms)),
        kept_until_ms: None,
        http_status: last.http_status,
        error: last.error.clone(),
        message: last.message.clone(),
        content_type: None,
        result_bytes: None,
        failures: Vec::new(),
        runs,
    })
}
