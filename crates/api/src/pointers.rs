//! Moving what calls reach: `latest` back to an earlier version, aliases to any.

use alula_model::Name;
use alula_wire::{AliasRequest, ErrorAnswer, FunctionSummary, RollbackRequest, query};
use axum::extract::State;

use crate::auth::Actor;
use crate::extract::{self, Json, Path, Query};
use crate::functions::summary_of;
use crate::respond::Answer;
use crate::state::Api;

/// Rolls a function back
///
/// Moves `latest` to the version `to`, or to the one before the present one. It is in force when the answer comes;
/// calls that run finish where they began.
#[utoipa::path(
    post,
    path = "/v1/functions/{name}/rollback",
    tag = "versions",
    operation_id = "rollback",
    params(("name" = String, Path, description = "The function"), query::InNamespace),
    request_body = RollbackRequest,
    responses(
        (status = 200, description = "The function as it is now", body = FunctionSummary),
        (status = 404, description = "No such function or version", body = ErrorAnswer),
        (status = 409, description = "Somebody changed it at the same time", body = ErrorAnswer),
    )
)]
pub(crate) async fn rollback(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<Name>,
    Query(query): Query<query::InNamespace>,
    Json(request): Json<RollbackRequest>,
) -> Answer<axum::Json<FunctionSummary>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    api.parts.control.rollback(actor.by(), &namespace, &name, request.to).await?;
    Ok(axum::Json(summary_of(&api, &namespace, &name).await?))
}

/// Sets an alias
#[utoipa::path(
    put,
    path = "/v1/functions/{name}/aliases/{alias}",
    tag = "versions",
    operation_id = "set_alias",
    params(
        ("name" = String, Path, description = "The function"),
        ("alias" = String, Path, description = "The alias: a name that is not a number and not `latest`"),
        query::InNamespace,
    ),
    request_body = AliasRequest,
    responses(
        (status = 200, description = "The function as it is now", body = FunctionSummary),
        (status = 404, description = "No such function or version", body = ErrorAnswer),
        (status = 409, description = "Somebody changed it at the same time", body = ErrorAnswer),
    )
)]
pub(crate) async fn set_alias(
    State(api): State<Api>,
    actor: Actor,
    Path((name, alias)): Path<(Name, Name)>,
    Query(query): Query<query::InNamespace>,
    Json(request): Json<AliasRequest>,
) -> Answer<axum::Json<FunctionSummary>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    api.parts.control.set_alias(actor.by(), &namespace, &name, alias, request.version).await?;
    Ok(axum::Json(summary_of(&api, &namespace, &name).await?))
}

/// Removes an alias
#[utoipa::path(
    delete,
    path = "/v1/functions/{name}/aliases/{alias}",
    tag = "versions",
    operation_id = "remove_alias",
    params(
        ("name" = String, Path, description = "The function"),
        ("alias" = String, Path, description = "The alias"),
        query::InNamespace,
    ),
    responses(
        (status = 200, description = "The function as it is now", body = FunctionSummary),
        (status = 404, description = "No such function or alias", body = ErrorAnswer),
        (status = 409, description = "Somebody changed it at the same time", body = ErrorAnswer),
    )
)]
pub(crate) async fn remove_alias(
    State(api): State<Api>,
    actor: Actor,
    Path((name, alias)): Path<(Name, Name)>,
    Query(query): Query<query::InNamespace>,
) -> Answer<axum::Json<FunctionSummary>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    api.parts.control.remove_alias(actor.by(), &namespace, &name, alias).await?;
    Ok(axum::Json(summary_of(&api, &namespace, &name).await?))
}
