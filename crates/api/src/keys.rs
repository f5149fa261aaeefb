//! Keys of namespaces and of people. A key itself is shown once, when it is made.

use alula_identity::{KeyId, KeyInfo, KeyOwner, Resource, Verb};
use alula_model::{ErrorCode, Fault, Name};
use alula_wire as wire;
use alula_wire::{ErrorAnswer, KeyList, NewKey, NewKeyRequest, RotateRequest, query};
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::auth::Actor;
use crate::extract::{self, NoQuery, Path, Query};
use crate::members::{grant, grants_of};
use crate::respond::Answer;
use crate::state::Api;

/// Lists keys
#[utoipa::path(
    get,
    path = "/v1/keys",
    tag = "access",
    operation_id = "list_keys",
    params(query::Keys),
    responses((status = 200, description = "The keys of the namespace, or of the person", body = KeyList))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::Keys>,
) -> Answer<Json<KeyList>> {
    let owner = owner(query.namespace.as_deref(), query.user.as_deref())?;
    judge(&api, &actor, Verb::Read, &owner)?;
    Ok(Json(KeyList { keys: api.parts.identity.keys(&owner).iter().map(info).collect() }))
}

/// Makes a key
///
/// The key is in the answer and nowhere else. It may what its `grants` say; a person's key without any may what the person
/// may. Nobody gives what they have not.
#[utoipa::path(
    post,
    path = "/v1/keys",
    tag = "access",
    operation_id = "create_key",
    params(query::InNamespace),
    request_body = NewKeyRequest,
    responses(
        (status = 201, description = "The key", body = NewKey),
        (status = 403, description = "The role is not yours to give", body = ErrorAnswer),
        (status = 409, description = "There is a key of that name", body = ErrorAnswer),
    )
)]
pub(crate) async fn create(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::InNamespace>,
    extract::Json(request): extract::Json<NewKeyRequest>,
) -> Answer<(StatusCode, Json<NewKey>)> {
    let NewKeyRequest { name, user, grants, expires_in_s } = request;
    let owner = owner(query.namespace.as_deref(), user.as_deref())?;
    judge(&api, &actor, Verb::Write, &owner)?;
    let now = api.parts.clock.now();
    let expires_at = expires_in_s
        .map(|seconds| millis("expires_in_s", seconds).map(|millis| now.plus_millis(millis)))
        .transpose()?;
    let grants = grants.iter().map(grant).collect::<Result<_, _>>()?;
    let new = alula_identity::NewKey { name: extract::name("name", &name)?, owner, grants, expires_at };
    let (made, plain) = api.parts.identity.create_key(actor.principal(), new).await?;
    Ok((StatusCode::CREATED, Json(NewKey { info: info(&made), key: plain.secret_text().to_owned() })))
}

/// Gives a key another secret
///
/// The id, the name and the roles stay. The old secret is taken for `keep_old_s` more.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate",
    tag = "access",
    operation_id = "rotate_key",
    params(("id" = String, Path, description = "The key's id")),
    request_body = RotateRequest,
    responses(
        (status = 200, description = "The key with its new secret", body = NewKey),
        (status = 404, description = "No such key", body = ErrorAnswer),
    )
)]
pub(crate) async fn rotate(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
    extract::Json(request): extract::Json<RotateRequest>,
) -> Answer<Json<NewKey>> {
    let id = existing(&api, &actor, Verb::Write, &id)?;
    let keep_old_ms = millis("keep_old_s", request.keep_old_s)?;
    let (rotated, plain) = api.parts.identity.rotate_key(actor.principal(), &id, keep_old_ms).await?;
    Ok(Json(NewKey { info: info(&rotated), key: plain.secret_text().to_owned() }))
}

/// Takes a key back
///
/// Nobody is let in with it from when the answer comes, and on other nodes within a second.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    tag = "access",
    operation_id = "revoke_key",
    params(("id" = String, Path, description = "The key's id")),
    responses(
        (status = 204, description = "It is taken back"),
        (status = 404, description = "No such key", body = ErrorAnswer),
    )
)]
pub(crate) async fn revoke(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<StatusCode> {
    let id = existing(&api, &actor, Verb::Delete, &id)?;
    api.parts.identity.revoke_key(actor.principal(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn owner(namespace: Option<&str>, user: Option<&str>) -> Result<KeyOwner, Fault> {
    match user {
        Some(user) => Ok(KeyOwner::User(extract::name("user", user)?)),
        None => Ok(KeyOwner::Namespace(extract::namespace(namespace)?)),
    }
}

/// The keys of a person are the person's own and the administrators' business, those of a namespace its owners'.
fn judge(api: &Api, actor: &Actor, verb: Verb, owner: &KeyOwner) -> Result<(), Fault> {
    match owner {
        KeyOwner::Namespace(namespace) => {
            let not_there = || {
                Fault::new(
                    ErrorCode::Forbidden,
                    format!("keys of namespace {namespace} are its owners' business"),
                )
            };
            api.judge(actor, (verb, Resource::Key), (namespace, None), not_there)
        }
        KeyOwner::User(user) if *actor.as_str() == *format!("user:{user}") => Ok(()),
        KeyOwner::User(user) => {
            let may = actor.principal().may(verb, Resource::User, &alula_identity::Place::Platform);
            let refused =
                || Fault::new(ErrorCode::Forbidden, format!("keys of {user} are {user}'s business"));
            may.then_some(()).ok_or_else(refused)
        }
    }
}

/// The key of that id, if `actor` may do that to it; else it is not there.
fn existing(api: &Api, actor: &Actor, verb: Verb, id: &str) -> Result<KeyId, Fault> {
    let missing = || Fault::new(ErrorCode::NotFound, format!("there is no key {id:?}"));
    let known = KeyId::new(id).ok_or_else(missing)?;
    let key = api.parts.identity.key(&known).map_err(|_| missing())?;
    judge(api, actor, verb, &key.owner).map_err(|_| missing())?;
    Ok(known)
}

pub(crate) fn millis(field: &str, seconds: u64) -> Result<i64, Fault> {
    let millis = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1_000));
    millis.ok_or_else(|| Fault::new(ErrorCode::InvalidRequest, format!("{field}: {seconds} is too long")))
}

fn info(key: &KeyInfo) -> wire::KeyInfo {
    let (namespace, user) = match &key.owner {
        KeyOwner::Namespace(namespace) => (Some(namespace), None),
        KeyOwner::User(user) => (None, Some(user)),
    };
    wire::KeyInfo {
        id: key.id.to_string(),
        name: key.name.to_string(),
        namespace: namespace.map(Name::to_string),
        user: user.map(Name::to_string),
        grants: grants_of(key.grants.iter()),
        created_at_ms: key.created_at.as_millis(),
        created_by: key.created_by.clone(),
        expires_at_ms: key.expires_at.map(|at| at.as_millis()),
        last_used_at_ms: key.last_used_at.map(|at| at.as_millis()),
    }
}
