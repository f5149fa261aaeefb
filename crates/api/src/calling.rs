//! Who may call functions from outside: a namespace's default, and addresses that are signed.

use alula_identity::calling::NewAddress;
use alula_model::{AccessSpec, ErrorCode, Fault, FunctionRef, Name, Qualifier, Way};
use alula_wire::{AccessInfo, ErrorAnswer, NewAccess, NewSignedUrl, RotateRequest, SignedUrl, query};
use axum::Json;
use axum::extract::State;
use http::uri::PathAndQuery;
use http::{Method, StatusCode};

use crate::auth::Actor;
use crate::extract::{self, Path, Query};
use crate::keys::millis;
use crate::respond::Answer;
use crate::state::Api;
use crate::versions::qualifier;

/// Tells who may call functions that do not say so themselves
#[utoipa::path(
    get,
    path = "/v1/access",
    tag = "access",
    operation_id = "get_access",
    params(query::InNamespace),
    responses((status = 200, description = "What the namespace says, and what is in force", body = AccessInfo))
)]
pub(crate) async fn get(
    State(api): State<Api>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<AccessInfo>> {
    Ok(Json(info(&api, &extract::namespace(query.namespace.as_deref())?)))
}

/// Says who may call functions that do not say so themselves
///
/// In the form of `access` in `alula.toml`. It holds for topics of the namespace too: whoever may call may publish. Without
/// `default` the installation's default holds again.
#[utoipa::path(
    put,
    path = "/v1/access",
    tag = "access",
    operation_id = "set_access",
    params(query::InNamespace),
    request_body = NewAccess,
    responses((status = 200, description = "What is in force now", body = AccessInfo))
)]
pub(crate) async fn set(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::InNamespace>,
    extract::Json(request): extract::Json<NewAccess>,
) -> Answer<Json<AccessInfo>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let read = |value| serde_json::from_value::<AccessSpec>(value);
    let access = request.default.map(read).transpose();
    let access =
        access.map_err(|error| Fault::new(ErrorCode::InvalidRequest, format!("default: {error}")))?;
    api.parts.identity.set_default_access(actor.principal(), &namespace, access).await?;
    Ok(Json(info(&api, &namespace)))
}

/// Signs an address
///
/// Whoever has it may make this one request until it ends: method, path and query are covered, headers and body are not.
/// The function must let signed addresses in (`access = "signed-url"`).
#[utoipa::path(
    post,
    path = "/v1/functions/{name}/signed-urls",
    tag = "access",
    operation_id = "sign_url",
    params(("name" = String, Path, description = "The function"), query::InNamespace),
    request_body = NewSignedUrl,
    responses(
        (status = 201, description = "The address", body = SignedUrl),
        (status = 404, description = "No such function", body = ErrorAnswer),
        (status = 409, description = "The function lets no signed addresses in", body = ErrorAnswer),
    )
)]
pub(crate) async fn sign(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<Name>,
    Query(query): Query<query::InNamespace>,
    extract::Json(request): extract::Json<NewSignedUrl>,
) -> Answer<(StatusCode, Json<SignedUrl>)> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let qualifier =
        request.qualifier.as_deref().map_or(Ok(Qualifier::Latest), |text| qualifier("qualifier", text))?;
    let target = FunctionRef { namespace, name, qualifier };
    check_takes_addresses(&api, &target)?;
    let method = checked_method(&request.method)?;
    let path_and_query = address(&target, &request.path)?;
    let new = NewAddress {
        method: method.as_str(),
        namespace: &target.namespace,
        function: &target.name,
        path_and_query: path_and_query.as_str(),
        lifetime_s: request.expires_in_s,
    };
    let (signed, ends) = api.parts.identity.sign_address(actor.principal(), new).await?;
    let url = format!("{}{signed}", api.options.data_plane_url);
    Ok((StatusCode::CREATED, Json(SignedUrl { url, expires_at_ms: ends.as_millis() })))
}

/// Has addresses signed with another key
///
/// Those that were signed before are good for `keep_old_s` more, and with 0 for no moment.
#[utoipa::path(
    post,
    path = "/v1/url-keys/rotate",
    tag = "access",
    operation_id = "rotate_url_key",
    params(query::InNamespace),
    request_body = RotateRequest,
    responses((status = 204, description = "It is replaced"))
)]
pub(crate) async fn rotate(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::InNamespace>,
    extract::Json(request): extract::Json<RotateRequest>,
) -> Answer<StatusCode> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let keep_old_ms = millis("keep_old_s", request.keep_old_s)?;
    api.parts.identity.rotate_url_key(actor.principal(), &namespace, keep_old_ms).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn info(api: &Api, namespace: &Name) -> AccessInfo {
    let json = |access: &AccessSpec| serde_json::to_value(access).unwrap_or_default();
    AccessInfo {
        default: api.parts.identity.default_access(namespace).as_ref().map(json),
        in_force: json(&api.parts.gate.in_force(namespace, None)),
    }
}

fn check_takes_addresses(api: &Api, target: &FunctionRef) -> Result<(), Fault> {
    let plan = api.parts.control.catalog().load().resolve(target)?;
    let access = api.parts.gate.in_force(&target.namespace, plan.spec.access.as_ref());
    if access.allow.contains(&Way::SignedUrl) {
        return Ok(());
    }
    let name = &target.name;
    let message = format!("function {name} lets no signed addresses in: add \"signed-url\" to its `access`");
    Err(Fault::new(ErrorCode::Conflict, message))
}

fn checked_method(text: &str) -> Result<Method, Fault> {
    let wrong = || Fault::new(ErrorCode::InvalidRequest, format!("method: {text:?} is no method"));
    Method::from_bytes(text.as_bytes()).map_err(|_| wrong())
}

/// Path and query under which the public port takes the request.
fn address(target: &FunctionRef, path: &str) -> Result<PathAndQuery, Fault> {
    let wrong = |reason: &str| Fault::new(ErrorCode::InvalidRequest, format!("path: {reason}"));
    if !path.starts_with('/') || path.contains('#') {
        return Err(wrong("it begins with / and has no fragment"));
    }
    let FunctionRef { namespace, name, qualifier } = target;
    let is_usual = *namespace == Name::default_namespace();
    let namespace = if is_usual { String::new() } else { format!(".{namespace}") };
    let qualifier = match qualifier {
        Qualifier::Latest => String::new(),
        other => format!(":{other}"),
    };
    let whole = format!("/function/{name}{namespace}{qualifier}{path}");
    PathAndQuery::try_from(whole).map_err(|_| wrong("it has characters that must be percent-encoded"))
}
