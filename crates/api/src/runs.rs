//! Runs: what became of calls.

use alula_identity::{Resource, Verb};
use alula_model::{ErrorCode, Fault, InvocationId, Timestamp};
use alula_store::RunFilter;
use alula_wire::{ErrorAnswer, Run, RunDetail, RunPage, query};
use axum::Json;
use axum::extract::State;

use crate::auth::Actor;
use crate::extract::{self, NoQuery, Path, Query};
use crate::respond::{Answer, Problem, store_fault};
use crate::state::Api;

/// Lists runs
#[utoipa::path(
    get,
    path = "/v1/runs",
    tag = "runs",
    operation_id = "list_runs",
    params(query::ListRuns),
    responses((status = 200, description = "Runs, newest first", body = RunPage))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Query(query): Query<query::ListRuns>,
) -> Answer<Json<RunPage>> {
    let filter = RunFilter {
        namespace: Some(extract::namespace(query.namespace.as_deref())?),
        function: query.function.as_deref().map(|text| extract::name("function", text)).transpose()?,
        version: query.version,
        status: query.status.map(Into::into),
        since: query.since_ms.map(Timestamp),
        until: query.until_ms.map(Timestamp),
        cursor: query.cursor,
        limit: extract::limit(query.limit, query::LIMIT_MAX)?,
    };
    api.parts.recorder.flush().await;
    let page = api.parts.history.list(filter).await.map_err(|error| match error {
        // Nothing else is looked for by name.
        alula_store::Error::NotFound { .. } => Problem::invalid("cursor: it is none of a page"),
        error => store_fault(&error).into(),
    })?;
    Ok(Json(RunPage { runs: page.runs.iter().map(Run::from).collect(), next: page.next }))
}

/// Shows one run with all its attempts
#[utoipa::path(
    get,
    path = "/v1/runs/{id}",
    tag = "runs",
    operation_id = "describe_run",
    params(("id" = String, Path, description = "The invocation's id")),
    responses(
        (status = 200, description = "The run", body = RunDetail),
        (status = 404, description = "No such run", body = ErrorAnswer),
    )
)]
pub(crate) async fn describe(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<Json<RunDetail>> {
    let unknown =
        || Fault::new(ErrorCode::NotFound, format!("no run {id:?}: it has not ended, or is no longer kept"));
    let invocation = InvocationId::new(&id).ok_or_else(unknown)?;
    api.parts.recorder.flush().await;
    let attempts = api.parts.history.get(&invocation).await.map_err(|error| store_fault(&error))?;
    let first = attempts.first().ok_or_else(unknown)?;
    let whose = (&first.key.namespace, Some(&first.key.function));
    api.judge(&actor, (Verb::Read, Resource::Run), whose, unknown)?;
    Ok(Json(RunDetail { attempts: attempts.iter().map(Run::from).collect(), id }))
}
