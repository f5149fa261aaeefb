//! Dead letters: what was given up is listed, shown, run again, forgotten. Nothing of it disappears by itself.

use alula_identity::{Resource, Verb};
use alula_invoke::later::{self, DeadCall, DeadCursor, DeadFilter, Lane};
use alula_model::{ErrorCode, Fault, InvocationId, LogLine, Name, Timestamp};
use alula_telemetry::logs::LogQuery;
use alula_wire::{
    AttemptEnd, DeadLetter, DeadLetterCount, DeadLetterDetail, DeadLetterFilter, DeadLetterPage, ErrorAnswer,
    FailedAttempt, PurgeRequest, RedriveRequest, query,
};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::auth::Actor;
use crate::calls::{self, known_form};
use crate::extract::{self, NoQuery, Path, Query};
use crate::openapi::Binary;
use crate::respond::{Answer, Problem};
use crate::state::Api;

/// Log lines that are shown with a dead letter.
const LOG_LINES: usize = 200;
/// Redrives a second that may be asked for: what the queue takes without delaying what comes in.
const REDRIVE_PER_SECOND_MAX: u32 = 10_000;

/// Lists dead letters
#[utoipa::path(
    get,
    path = "/v1/dead-letters",
    tag = "calls",
    operation_id = "list_dead_letters",
    params(query::ListDeadLetters),
    responses((status = 200, description = "Dead letters by function and id", body = DeadLetterPage))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Query(query): Query<query::ListDeadLetters>,
) -> Answer<Json<DeadLetterPage>> {
    let query::ListDeadLetters { namespace, function, since_ms, until_ms, search, limit, cursor } = query;
    let which = DeadLetterFilter { function, since_ms, until_ms, search };
    let filter = filter(extract::namespace(namespace.as_deref())?, which)?;
    let limit = extract::limit(limit, query::LIMIT_MAX)?;
    let after = cursor.as_deref().map(read_cursor).transpose()?;
    let page = api.parts.calls.dead(&filter, after, limit).await?;
    let next = page.next.map(|cursor| format!("{}:{}", cursor.lane, cursor.id));
    Ok(Json(DeadLetterPage { letters: page.letters.iter().map(dead_letter).collect(), next }))
}

/// Shows one dead letter
///
/// With the error of each attempt, and what they logged.
#[utoipa::path(
    get,
    path = "/v1/dead-letters/{id}",
    tag = "calls",
    operation_id = "describe_dead_letter",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "The dead letter", body = DeadLetterDetail),
        (status = 404, description = "No such dead letter", body = ErrorAnswer),
    )
)]
pub(crate) async fn describe(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<Json<DeadLetterDetail>> {
    let call = found(&api, &actor, Verb::Read, &id).await?;
    let about = call.delivery.as_ref().map_or_else(|| InvocationId::new(&call.id), |d| Some(d.about.clone()));
    let lines = match about {
        Some(invocation) => logs_of(&api, &call, invocation).await,
        None => Vec::new(),
    };
    let logs = lines.iter().map(alula_wire::LogLine::from).collect();
    Ok(Json(DeadLetterDetail { letter: dead_letter(&call), logs }))
}

/// What a call logged. A dead letter is shown also where the log cannot be read.
async fn logs_of(api: &Api, call: &DeadCall, invocation: InvocationId) -> Vec<LogLine> {
    let query = LogQuery {
        namespace: call.lane.namespace.clone(),
        function: Some(call.lane.function.clone()),
        version: None,
        instance: None,
        invocation: Some(invocation),
        since: Some(call.accepted_at),
        until: None,
        text: None,
        limit: LOG_LINES,
    };
    api.parts.logs.query(query).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the log of a dead letter cannot be read");
        Vec::new()
    })
}

/// Gives the content of a call that has not ended well
///
/// What the call was made with, byte for byte; of any call that waits, runs or was given up.
#[utoipa::path(
    get,
    path = "/v1/invocations/{id}/content",
    tag = "calls",
    operation_id = "call_content",
    params(("id" = String, Path, description = "The invocation's id")),
    responses(
        (status = 200, description = "The content", body = Binary, content_type = "application/octet-stream"),
        (status = 404, description = "No such call, or it has ended", body = ErrorAnswer),
    )
)]
pub(crate) async fn content(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<Response> {
    let id = known_form(&id)?;
    calls::judge(&api, &actor, Verb::Read, &id).await?;
    let content = api.parts.calls.content(&id).await?;
    let gone = || {
        let message = format!("no call {id} is known that has not ended: its content is no longer kept");
        Fault::new(alula_model::ErrorCode::NotFound, message)
    };
    Ok(([(CONTENT_TYPE, "application/octet-stream")], content.ok_or_else(gone)?).into_response())
}

/// Runs a dead letter again
///
/// On the version that its qualifier means now, with its attempts counted from zero.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/{id}/redrive",
    tag = "calls",
    operation_id = "redrive_dead_letter",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 204, description = "It will run"),
        (status = 404, description = "No such dead letter", body = ErrorAnswer),
    )
)]
pub(crate) async fn redrive(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<StatusCode> {
    let letter = found(&api, &actor, Verb::Operate, &id).await?;
    api.parts.calls.redrive(&id).await?;
    note(&api, &actor, "dead_letter.redrive", &subject(&letter), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs dead letters again
///
/// All that are there now and that `which` means, so many a second.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/redrive",
    tag = "calls",
    operation_id = "redrive_dead_letters",
    params(query::InNamespace),
    request_body = RedriveRequest,
    responses((status = 200, description = "How many will run", body = DeadLetterCount))
)]
pub(crate) async fn redrive_all(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::InNamespace>,
    extract::Json(request): extract::Json<RedriveRequest>,
) -> Answer<Json<DeadLetterCount>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let per_second = request.per_second.unwrap_or(query::REDRIVE_PER_SECOND_DEFAULT);
    if !(1..=REDRIVE_PER_SECOND_MAX).contains(&per_second) {
        let message =
            format!("per_second: {per_second} is out of bounds, allowed is 1 to {REDRIVE_PER_SECOND_MAX}");
        return Err(Problem::invalid(message));
    }
    let filter = filter(namespace, request.which)?;
    let count = api.parts.calls.redrive_all(&filter, per_second).await?;
    let detail = format!("{count} of them, {per_second} a second");
    note(&api, &actor, "dead_letter.redrive", &subject_of(&filter), detail).await?;
    Ok(Json(DeadLetterCount { count }))
}

/// Forgets a dead letter
#[utoipa::path(
    delete,
    path = "/v1/dead-letters/{id}",
    tag = "calls",
    operation_id = "purge_dead_letter",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such dead letter", body = ErrorAnswer),
    )
)]
pub(crate) async fn purge(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<StatusCode> {
    let letter = found(&api, &actor, Verb::Delete, &id).await?;
    api.parts.calls.purge(&id).await?;
    note(&api, &actor, "dead_letter.purge", &subject(&letter), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forgets dead letters
///
/// All that are there now and that `which` means.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/purge",
    tag = "calls",
    operation_id = "purge_dead_letters",
    params(query::InNamespace),
    request_body = PurgeRequest,
    responses((status = 200, description = "How many are gone", body = DeadLetterCount))
)]
pub(crate) async fn purge_all(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::InNamespace>,
    extract::Json(request): extract::Json<PurgeRequest>,
) -> Answer<Json<DeadLetterCount>> {
    let filter = filter(extract::namespace(query.namespace.as_deref())?, request.which)?;
    let count = api.parts.calls.purge_all(&filter).await?;
    note(&api, &actor, "dead_letter.purge", &subject_of(&filter), format!("{count} of them")).await?;
    Ok(Json(DeadLetterCount { count }))
}

/// The dead letter of that id, if `actor` may do that to it.
async fn found(api: &Api, actor: &Actor, verb: Verb, id: &str) -> Result<DeadCall, Fault> {
    let letter = api.parts.calls.dead_letter(id).await?;
    let Lane { namespace, function, .. } = &letter.lane;
    let not_there = || Fault::new(ErrorCode::NotFound, format!("there is no dead letter {id}"));
    api.judge(actor, (verb, Resource::DeadLetter), (namespace, Some(function)), not_there)?;
    Ok(letter)
}

async fn note(api: &Api, actor: &Actor, action: &str, subject: &str, detail: String) -> Result<(), Fault> {
    api.parts.control.note(actor.by(), action, subject, detail).await
}

fn subject(letter: &DeadCall) -> String {
    format!("{}/{}", letter.lane.namespace, letter.lane.function)
}

fn subject_of(filter: &DeadFilter) -> String {
    let namespace = filter.namespace.as_ref().map(Name::as_str).unwrap_or_default();
    match &filter.function {
        Some(function) => format!("{namespace}/{function}"),
        None => namespace.to_owned(),
    }
}

fn filter(namespace: Name, which: DeadLetterFilter) -> Result<DeadFilter, Fault> {
    Ok(DeadFilter {
        namespace: Some(namespace),
        function: which.function.as_deref().map(|text| extract::name("function", text)).transpose()?,
        since: which.since_ms.map(Timestamp),
        until: which.until_ms.map(Timestamp),
        reason: which.search,
    })
}

fn read_cursor(text: &str) -> Result<DeadCursor, Problem> {
    let (lane, id) = text.split_once(':').ok_or_else(|| Problem::invalid("cursor: it is none of a page"))?;
    Ok(DeadCursor { lane: lane.to_owned(), id: id.to_owned() })
}

fn dead_letter(call: &DeadCall) -> DeadLetter {
    DeadLetter {
        id: call.id.clone(),
        namespace: call.lane.namespace.to_string(),
        function: call.lane.function.to_string(),
        class: call.lane.class.as_str().to_owned(),
        accepted_at_ms: call.accepted_at.as_millis(),
        dead_at_ms: call.dead_at.as_millis(),
        attempts: call.attempts,
        reason: call.reason.clone(),
        content_bytes: call.content_bytes,
        ordering_key: call.ordering_key.clone(),
        url: call.delivery.as_ref().map(|delivery| delivery.url.clone()),
        about: call.delivery.as_ref().map(|delivery| delivery.about.to_string()),
        failures: call.trail.attempts.iter().map(failed_attempt).collect(),
    }
}

/// An attempt as the API shows it.
pub(crate) fn failed_attempt(attempt: &later::Attempt) -> FailedAttempt {
    FailedAttempt {
        number: attempt.number,
        at_ms: attempt.at.as_millis(),
        end: match attempt.end {
            later::AttemptEnd::Failed => AttemptEnd::Failed,
            later::AttemptEnd::Timeout => AttemptEnd::Timeout,
            later::AttemptEnd::Throttled => AttemptEnd::Throttled,
            later::AttemptEnd::Platform => AttemptEnd::Platform,
            later::AttemptEnd::Lost => AttemptEnd::Lost,
        },
        error: attempt.code.map(|code| code.to_string()),
        http_status: attempt.http_status,
        message: attempt.message.clone(),
    }
}
