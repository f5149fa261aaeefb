//! Namespaces, and who asks.

use std::collections::BTreeMap;

use alula_identity::{PrincipalKind, Resource, Verb};
use alula_model::{ErrorCode, Fault, Name};
use alula_wire::{ErrorAnswer, NamespaceInfo, NamespaceList, NewNamespace, WhoAmI};
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::auth::Actor;
use crate::extract::{self, NoQuery, Path};
use crate::members::grants_of;
use crate::respond::Answer;
use crate::state::Api;

/// Tells who asks
#[utoipa::path(
    get,
    path = "/v1/whoami",
    tag = "access",
    operation_id = "whoami",
    responses((status = 200, description = "Whose token it is, and what it may", body = WhoAmI))
)]
pub(crate) async fn whoami(actor: Actor, _no_query: NoQuery) -> Json<WhoAmI> {
    let who = actor.principal();
    Json(WhoAmI {
        name: who.name.to_string(),
        is_administrator: who.kind == PrincipalKind::Administrator,
        grants: grants_of(who.grants().iter()),
    })
}

/// Lists namespaces
#[utoipa::path(
    get,
    path = "/v1/namespaces",
    tag = "access",
    operation_id = "list_namespaces",
    responses((status = 200, description = "Those that whoever asks has a role in", body = NamespaceList))
)]
pub(crate) async fn list(State(api): State<Api>, actor: Actor, _no_query: NoQuery) -> Json<NamespaceList> {
    let mut found: BTreeMap<Name, NamespaceInfo> = BTreeMap::new();
    for record in api.parts.identity.namespaces() {
        let shown = NamespaceInfo {
            description: record.description.clone(),
            created_at_ms: Some(record.created_at.as_millis()),
            ..unknown(&record.name)
        };
        found.insert(record.name.clone(), shown);
    }
    let snapshot = api.parts.control.catalog().load();
    for namespace in snapshot.namespaces() {
        let shown = found.entry(namespace.clone()).or_insert_with(|| unknown(namespace));
        shown.functions = snapshot.functions(namespace).count() as u64;
    }
    let who = actor.principal();
    found.retain(|namespace, _| who.may_somewhere(Verb::Read, Resource::Namespace, namespace));
    Json(NamespaceList { namespaces: found.into_values().collect() })
}

/// Makes a namespace known
#[utoipa::path(
    put,
    path = "/v1/namespaces/{name}",
    tag = "access",
    operation_id = "create_namespace",
    params(("name" = String, Path, description = "Its name")),
    request_body = NewNamespace,
    responses(
        (status = 201, description = "The namespace", body = NamespaceInfo),
        (status = 409, description = "There is such a namespace", body = ErrorAnswer),
    )
)]
pub(crate) async fn create(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    _no_query: NoQuery,
    extract::Json(request): extract::Json<NewNamespace>,
) -> Answer<(StatusCode, Json<NamespaceInfo>)> {
    let name = extract::name("name", &name)?;
    let made = api.parts.identity.create_namespace(actor.principal(), &name, &request.description).await?;
    let info = NamespaceInfo {
        description: made.description.clone(),
        created_at_ms: Some(made.created_at.as_millis()),
        ..unknown(&name)
    };
    Ok((StatusCode::CREATED, Json(info)))
}

/// Forgets a namespace
///
/// With its keys and everybody's roles in it. It must hold no functions.
#[utoipa::path(
    delete,
    path = "/v1/namespaces/{name}",
    tag = "access",
    operation_id = "remove_namespace",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 204, description = "It is forgotten"),
        (status = 404, description = "No such namespace", body = ErrorAnswer),
        (status = 409, description = "It holds functions", body = ErrorAnswer),
    )
)]
pub(crate) async fn remove(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    _no_query: NoQuery,
) -> Answer<StatusCode> {
    let name = extract::name("name", &name)?;
    let count = api.parts.control.catalog().load().functions(&name).count();
    if count > 0 {
        let message = format!("namespace {name} holds {count} functions: remove them first");
        return Err(Fault::new(ErrorCode::Conflict, message).into());
    }
    api.parts.identity.remove_namespace(actor.principal(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn unknown(name: &Name) -> NamespaceInfo {
    NamespaceInfo { name: name.to_string(), description: String::new(), functions: 0, created_at_ms: None }
}
