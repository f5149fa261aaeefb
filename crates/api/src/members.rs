//! People, and what they are in a namespace.

use std::sync::Arc;

use alula_identity::{Grant, Role, UserRecord};
use alula_model::{ErrorCode, Fault};
use alula_wire as wire;
use alula_wire::{ErrorAnswer, NewUser, UserInfo, UserList, query};
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::auth::Actor;
use crate::extract::{self, NoQuery, Path, Query};
use crate::respond::Answer;
use crate::state::Api;

/// Lists the members of a namespace
#[utoipa::path(
    get,
    path = "/v1/members",
    tag = "access",
    operation_id = "list_members",
    params(query::InNamespace),
    responses((status = 200, description = "Who has a role in the namespace or an app of it", body = UserList))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<UserList>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let members = api.parts.identity.members(&namespace);
    let of_member = |user: &Arc<UserRecord>| UserInfo {
        grants: grants_of(user.grants.iter().filter(|grant| grant.namespace == namespace)),
        ..user_info(user)
    };
    Ok(Json(UserList { users: members.iter().map(of_member).collect() }))
}

/// Gives a person a role
///
/// In the namespace of the query, or only in one of its apps. That they have it already is no error.
#[utoipa::path(
    put,
    path = "/v1/members/{user}/{role}",
    tag = "access",
    operation_id = "give_role",
    params(
        ("user" = String, Path, description = "The person"),
        ("role" = String, Path, description = "`viewer`, `developer`, `operator` or `owner`"),
        query::InApp,
    ),
    responses(
        (status = 204, description = "They have the role"),
        (status = 404, description = "No such person", body = ErrorAnswer),
    )
)]
pub(crate) async fn give(
    State(api): State<Api>,
    actor: Actor,
    Path((user, role)): Path<(String, String)>,
    Query(query): Query<query::InApp>,
) -> Answer<StatusCode> {
    let (user, grant) = (extract::name("user", &user)?, grant_of(&query, &role)?);
    api.parts.identity.give(actor.principal(), &user, grant).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a role from a person
#[utoipa::path(
    delete,
    path = "/v1/members/{user}/{role}",
    tag = "access",
    operation_id = "take_role",
    params(
        ("user" = String, Path, description = "The person"),
        ("role" = String, Path, description = "The role"),
        query::InApp,
    ),
    responses(
        (status = 204, description = "They no longer have the role"),
        (status = 404, description = "No such person, or they have not got it", body = ErrorAnswer),
    )
)]
pub(crate) async fn take(
    State(api): State<Api>,
    actor: Actor,
    Path((user, role)): Path<(String, String)>,
    Query(query): Query<query::InApp>,
) -> Answer<StatusCode> {
    let (user, grant) = (extract::name("user", &user)?, grant_of(&query, &role)?);
    api.parts.identity.take(actor.principal(), &user, &grant).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the people of the platform
#[utoipa::path(
    get,
    path = "/v1/users",
    tag = "access",
    operation_id = "list_users",
    responses((status = 200, description = "Everybody", body = UserList))
)]
pub(crate) async fn users(State(api): State<Api>, _no_query: NoQuery) -> Json<UserList> {
    let paused = api.parts.identity.paused();
    let with_pause = |user: &Arc<UserRecord>| UserInfo {
        login_paused_ms: paused
            .get(user.name.as_str())
            .map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
        ..user_info(user)
    };
    Json(UserList { users: api.parts.identity.users().iter().map(with_pause).collect() })
}

/// Makes a person known
#[utoipa::path(
    put,
    path = "/v1/users/{name}",
    tag = "access",
    operation_id = "create_user",
    params(("name" = String, Path, description = "What they are called")),
    request_body = NewUser,
    responses(
        (status = 201, description = "They are known", body = UserInfo),
        (status = 409, description = "Somebody is called that", body = ErrorAnswer),
    )
)]
pub(crate) async fn create(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    _no_query: NoQuery,
    extract::Json(request): extract::Json<NewUser>,
) -> Answer<(StatusCode, Json<UserInfo>)> {
    let NewUser { email, is_administrator } = request;
    let new = alula_identity::NewUser { name: extract::name("name", &name)?, email, is_administrator };
    let made = api.parts.identity.create_user(actor.principal(), new).await?;
    Ok((StatusCode::CREATED, Json(user_info(&made))))
}

/// Forgets a person
///
/// Their keys go with them.
#[utoipa::path(
    delete,
    path = "/v1/users/{name}",
    tag = "access",
    operation_id = "remove_user",
    params(("name" = String, Path, description = "What they are called")),
    responses(
        (status = 204, description = "They are not known any more"),
        (status = 404, description = "Nobody is called that", body = ErrorAnswer),
    )
)]
pub(crate) async fn remove(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    _no_query: NoQuery,
) -> Answer<StatusCode> {
    api.parts.identity.remove_user(actor.principal(), &extract::name("name", &name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses a person's keys until they are enabled again
#[utoipa::path(
    post,
    path = "/v1/users/{name}/disable",
    tag = "access",
    operation_id = "disable_user",
    params(("name" = String, Path, description = "What they are called")),
    responses(
        (status = 204, description = "Their keys are refused"),
        (status = 404, description = "Nobody is called that", body = ErrorAnswer),
    )
)]
pub(crate) async fn disable(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    _no_query: NoQuery,
) -> Answer<StatusCode> {
    api.parts.identity.disable_user(actor.principal(), &extract::name("name", &name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a person's keys again
#[utoipa::path(
    post,
    path = "/v1/users/{name}/enable",
    tag = "access",
    operation_id = "enable_user",
    params(("name" = String, Path, description = "What they are called")),
    responses(
        (status = 204, description = "Their keys are taken"),
        (status = 404, description = "Nobody is called that", body = ErrorAnswer),
    )
)]
pub(crate) async fn enable(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    _no_query: NoQuery,
) -> Answer<StatusCode> {
    api.parts.identity.enable_user(actor.principal(), &extract::name("name", &name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn grant_of(query: &query::InApp, role: &str) -> Result<Grant, Fault> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let app = query.app.as_deref().map(|app| extract::name("app", app)).transpose()?;
    Ok(Grant { namespace, app, role: role_of(role)? })
}

/// A grant as it came in.
pub(crate) fn grant(grant: &wire::Grant) -> Result<Grant, Fault> {
    let namespace = extract::name("grants.namespace", &grant.namespace)?;
    let app = grant.app.as_deref().map(|app| extract::name("grants.app", app)).transpose()?;
    Ok(Grant { namespace, app, role: role_of(&grant.role)? })
}

fn role_of(text: &str) -> Result<Role, Fault> {
    text.parse().map_err(|error| Fault::new(ErrorCode::InvalidRequest, format!("role: {error}")))
}

/// Grants as they go out.
pub(crate) fn grants_of<'a>(grants: impl Iterator<Item = &'a Grant>) -> Vec<wire::Grant> {
    let shown = |grant: &Grant| wire::Grant {
        namespace: grant.namespace.to_string(),
        app: grant.app.as_ref().map(ToString::to_string),
        role: grant.role.to_string(),
    };
    grants.map(shown).collect()
}

fn user_info(user: &UserRecord) -> UserInfo {
    UserInfo {
        name: user.name.to_string(),
        email: user.email.clone(),
        is_administrator: user.is_administrator,
        is_disabled: user.is_disabled,
        has_password: user.password.is_some(),
        login_paused_ms: None,
        grants: grants_of(user.grants.iter()),
        created_at_ms: user.created_at.as_millis(),
    }
}
