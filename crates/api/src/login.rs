//! People log in and out, and change their passwords.
//!
//! The command line gets the session's token in the answer. A page of the browser gets it as a cookie that no script can
//! read, and in the answer what it must send along with whatever it changes (`browser`).

use std::net::{IpAddr, SocketAddr};

use alula_identity::login::{Attempt, LoginWay, SessionInfo, SessionToken};
use alula_identity::{KeyId, Place, Resource, Verb};
use alula_model::{ErrorCode, Fault, Name};
use alula_wire as wire;
use alula_wire::{ErrorAnswer, LoginAnswer, LoginRequest, NewPassword, PasswordRequest, SessionList, query};
use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::SET_COOKIE;
use http::request::Parts;

use crate::auth::Actor;
use crate::browser;
use crate::extract::{self, NoQuery, Path, Query};
use crate::respond::Answer;
use crate::state::Api;

/// The address that a request comes from, where it is known.
pub(crate) struct Peer(Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(address.map(|ConnectInfo(address)| address.ip().to_canonical())))
    }
}

/// Logs in by a password
///
/// Whoever is refused is told the same, whatever the reason, after the same time. Tries in vain are followed by pauses that
/// grow.
#[utoipa::path(
    post,
    path = "/v1/login",
    tag = "access",
    operation_id = "log_in",
    security(()),
    request_body = LoginRequest,
    responses(
        (status = 200, description = "A session", body = LoginAnswer),
        (status = 401, description = "The name or the password is wrong", body = ErrorAnswer),
        (status = 403, description = "The password must be changed first", body = ErrorAnswer),
        (status = 429, description = "Too many people log in at this moment", body = ErrorAnswer),
    )
)]
pub(crate) async fn log_in(
    State(api): State<Api>,
    Peer(from): Peer,
    _no_query: NoQuery,
    extract::Json(request): extract::Json<LoginRequest>,
) -> Answer<Response> {
    let LoginRequest { user, password, cookie } = request;
    let attempt = Attempt { user: &user, password: &password, from };
    let (session, token) = api.parts.identity.log_in(attempt).await?;
    Ok(begun(&api, &session, &token, cookie))
}

/// Ends the session that the request came with
#[utoipa::path(
    post,
    path = "/v1/logout",
    tag = "access",
    operation_id = "log_out",
    responses(
        (status = 204, description = "It has ended"),
        (status = 404, description = "The request came with a key, not a session", body = ErrorAnswer),
    )
)]
pub(crate) async fn log_out(State(api): State<Api>, actor: Actor, _no_query: NoQuery) -> Answer<Response> {
    let none =
        || Fault::new(ErrorCode::NotFound, "there is no session to end: a key is revoked, not logged out");
    let id = actor.session().ok_or_else(none)?;
    api.parts.identity.end_session(actor.principal(), id).await?;
    let forget = [(SET_COOKIE, browser::no_cookie(&api.options))];
    Ok((StatusCode::NO_CONTENT, forget).into_response())
}

/// Changes a password
///
/// By whoever knows the old one; nothing else is asked. All sessions of the person end.
#[utoipa::path(
    post,
    path = "/v1/password",
    tag = "access",
    operation_id = "change_password",
    security(()),
    request_body = PasswordRequest,
    responses(
        (status = 204, description = "It is changed"),
        (status = 401, description = "The name or the old password is wrong", body = ErrorAnswer),
        (status = 429, description = "Too many people log in at this moment", body = ErrorAnswer),
    )
)]
pub(crate) async fn change_password(
    State(api): State<Api>,
    Peer(from): Peer,
    _no_query: NoQuery,
    extract::Json(request): extract::Json<PasswordRequest>,
) -> Answer<StatusCode> {
    let PasswordRequest { user, password, new_password } = request;
    let attempt = Attempt { user: &user, password: &password, from };
    api.parts.identity.change_password(attempt, &new_password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a password for a person
///
/// It is in the answer and nowhere else, and opens nothing but its own change. All sessions of the person end.
#[utoipa::path(
    post,
    path = "/v1/users/{name}/password",
    tag = "access",
    operation_id = "reset_password",
    params(("name" = String, Path, description = "What they are called")),
    responses(
        (status = 201, description = "The password", body = NewPassword),
        (status = 404, description = "No such person", body = ErrorAnswer),
    )
)]
pub(crate) async fn reset_password(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    _no_query: NoQuery,
) -> Answer<(StatusCode, Json<NewPassword>)> {
    let name = extract::name("name", &name)?;
    let password = api.parts.identity.reset_password(actor.principal(), &name).await?;
    Ok((StatusCode::CREATED, Json(NewPassword { password })))
}

/// Takes a person's password away
///
/// All their sessions end. Their keys stay.
#[utoipa::path(
    delete,
    path = "/v1/users/{name}/password",
    tag = "access",
    operation_id = "remove_password",
    params(("name" = String, Path, description = "What they are called")),
    responses(
        (status = 204, description = "They have none"),
        (status = 404, description = "No such person", body = ErrorAnswer),
    )
)]
pub(crate) async fn remove_password(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<String>,
    _no_query: NoQuery,
) -> Answer<StatusCode> {
    let name = extract::name("name", &name)?;
    api.parts.identity.remove_password(actor.principal(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists sessions
///
/// One's own, or another person's for administrators.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    tag = "access",
    operation_id = "list_sessions",
    params(query::OfUser),
    responses((status = 200, description = "The newest first", body = SessionList))
)]
pub(crate) async fn sessions(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::OfUser>,
) -> Answer<Json<SessionList>> {
    let user = match &query.user {
        Some(user) => extract::name("user", user)?,
        None => own_name(&actor)?,
    };
    judge(&actor, Verb::Read, &user)?;
    let sessions = api.parts.identity.sessions(Some(&user)).iter().map(info).collect();
    Ok(Json(SessionList { sessions }))
}

/// Ends a session
///
/// Nobody is let in with it from when the answer comes, and on other nodes within a second.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{id}",
    tag = "access",
    operation_id = "end_session",
    params(("id" = String, Path, description = "The session's id")),
    responses(
        (status = 204, description = "It has ended"),
        (status = 404, description = "No such session", body = ErrorAnswer),
    )
)]
pub(crate) async fn end_session(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<StatusCode> {
    let missing = || Fault::new(ErrorCode::NotFound, format!("there is no session {id:?}"));
    let known = KeyId::new(&id).ok_or_else(missing)?;
    let sessions = api.parts.identity.sessions(None);
    let session = sessions.iter().find(|session| session.id == known).ok_or_else(missing)?;
    judge(&actor, Verb::Delete, &session.user).map_err(|_| missing())?;
    api.parts.identity.end_session(actor.principal(), &known).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a browser or a command line is told whose session has begun.
pub(crate) fn begun(api: &Api, session: &SessionInfo, token: &SessionToken, as_cookie: bool) -> Response {
    let answer = |token, csrf_token| LoginAnswer { session: info(session), token, csrf_token };
    if !as_cookie {
        return Json(answer(Some(token.secret_text().to_owned()), None)).into_response();
    }
    let cookie = [(SET_COOKIE, browser::cookie(&api.options, token, session))];
    (cookie, Json(answer(None, Some(token.csrf_token())))).into_response()
}

fn own_name(actor: &Actor) -> Result<Name, Fault> {
    let nobody = || Fault::new(ErrorCode::Forbidden, "sessions are people's: name one, as an administrator");
    let name = actor.as_str().strip_prefix("user:").ok_or_else(nobody)?;
    extract::name("user", name)
}

/// Sessions of a person are the person's own and the administrators' business.
fn judge(actor: &Actor, verb: Verb, user: &Name) -> Result<(), Fault> {
    let is_own = actor.as_str().strip_prefix("user:") == Some(user.as_str());
    if is_own || actor.principal().may(verb, Resource::Session, &Place::Platform) {
        return Ok(());
    }
    Err(Fault::new(ErrorCode::Forbidden, format!("sessions of {user} are {user}'s business")))
}

fn info(session: &SessionInfo) -> wire::SessionInfo {
    wire::SessionInfo {
        id: session.id.to_string(),
        user: session.user.to_string(),
        way: match session.way {
            LoginWay::Password => "password",
            LoginWay::Oidc => "oidc",
        }
        .to_owned(),
        created_at_ms: session.created_at.as_millis(),
        from: session.from.clone(),
        last_used_at_ms: session.last_used_at.map(|at| at.as_millis()),
        ends_at_ms: session.ends_at.as_millis(),
    }
}
