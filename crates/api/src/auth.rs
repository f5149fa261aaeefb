//! Who asks: bearer tokens, known by their SHA-256 only.
//!
//! Every request needs a token except those to the open routes, which tell nothing about what is deployed. A route
//! that does not exist asks for a token too, so that strangers cannot map the API.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use alula_identity::login::SessionToken;
use alula_identity::{KeyId, Principal, Refusal};
use alula_model::{By, ErrorCode, Fault};
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use crate::access;
use crate::browser;
use crate::passes;
use crate::respond::Problem;
use crate::state::Api;

/// The routes that answer without a token.
pub(crate) const OPEN_PATHS: &[&str] =
    &["/livez", "/readyz", "/openapi.json", "/docs", "/docs/app.js", "/docs/style.css"];
/// The same for what is sent to be let in.
pub(crate) const OPEN_POSTS: &[&str] = &["/v1/login", "/v1/password"];
/// Answers without a token only where the configuration says so.
pub(crate) const METRICS_PATH: &str = "/metrics";

/// Whoever a request's token belongs to, and the session where it is one.
#[derive(Debug, Clone)]
pub(crate) struct Actor(Principal, Option<KeyId>);

impl Actor {
    /// What they are called in the audit record.
    pub(crate) fn as_str(&self) -> &str {
        &self.0.name
    }

    /// The session that the request came with, if it was one.
    pub(crate) fn session(&self) -> Option<&KeyId> {
        self.1.as_ref()
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.0
    }

    /// As a function's caller.
    pub(crate) fn caller(&self) -> alula_model::Caller {
        alula_model::Caller::Known(Arc::clone(&self.0.caller))
    }

    /// As the audit record names them.
    pub(crate) fn by(&self) -> By {
        self.0.as_by()
    }

    fn asking_from(self, peer: Option<&ConnectInfo<SocketAddr>>) -> Self {
        match peer {
            Some(ConnectInfo(address)) => Self(self.0.asking_from(&address.ip().to_string()), self.1),
            None => self,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Infallible;

    /// Behind [`require_token`] there is always an actor; on an open route nobody has a name.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts
            .extensions
            .get()
            .cloned()
            .unwrap_or_else(|| Self(Principal::member("nobody", [].into()), None)))
    }
}

/// Refuses a request without a known token, or whose owner may not do what it asks for.
pub(crate) async fn require_token(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let mut pass = None;
    if !is_open(&api, &request) {
        let identified = identify(&api, request.method(), request.headers());
        // Who is not known is limited by where they come from, so that guessing tokens is slow.
        let name = identified.as_ref().ok().map(|actor| actor.as_str());
        pass = match passes::pass(&api, name, &request) {
            Ok(pass) => Some(pass),
            Err(problem) => return problem.into_response(),
        };
        let actor = match identified {
            Ok(actor) => actor.asking_from(request.extensions().get::<ConnectInfo<SocketAddr>>()),
            Err(fault) => return refusal(fault),
        };
        // Without a route there is nothing to be allowed: it is answered that it does not exist.
        if let Some(route) = request.extensions().get::<MatchedPath>()
            && let Err(fault) = access::admit(&api, actor.principal(), request.method(), request.uri(), route)
        {
            return Problem::from(fault).into_response();
        }
        request.extensions_mut().insert(actor);
    }
    let response = next.run(request).await;
    match pass {
        Some(pass) => passes::hold(pass, response),
        None => response,
    }
}

fn is_open(api: &Api, request: &Request) -> bool {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_login = *request.method() == Method::POST && OPEN_POSTS.contains(&path);
    is_login || reads && (OPEN_PATHS.contains(&path) || (path == METRICS_PATH && api.options.metrics_open))
}

/// By the token in `Authorization`, else by the session in a cookie.
fn identify(api: &Api, method: &Method, headers: &HeaderMap) -> Result<Actor, Fault> {
    if !headers.contains_key(AUTHORIZATION)
        && let Some(session) = browser::session_in(headers, &api.options)
    {
        let actor = known(api, session.secret_text())?;
        browser::check(method, headers, &session, &api.options)?;
        return Ok(actor);
    }
    let token = bearer(headers)?;
    match api.parts.tokens.identify(token) {
        Some(administrator) => Ok(Actor(administrator, None)),
        None => known(api, token),
    }
}

fn known(api: &Api, token: &str) -> Result<Actor, Fault> {
    let refuse = |refusal: Refusal| {
        let code = match refusal {
            Refusal::Unsure | Refusal::Stale => ErrorCode::StoreUnavailable,
            Refusal::Unknown | Refusal::Expired | Refusal::Disabled => ErrorCode::Unauthenticated,
        };
        Fault::new(code, refusal.to_string())
    };
    let session = SessionToken::parse(token).map(|session| session.id().clone());
    api.parts.identity.identify(token).map(|principal| Actor(principal, session)).map_err(refuse)
}

/// The token that a request came with.
fn bearer(headers: &HeaderMap) -> Result<&str, Fault> {
    let refuse = |message: &str| Fault::new(ErrorCode::Unauthenticated, message);
    let Some(value) = headers.get(AUTHORIZATION) else {
        let message = "no token: send the header Authorization: Bearer TOKEN; the platform says at its start \
                       in which file the admin token is";
        return Err(refuse(message));
    };
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refuse("the header Authorization must read Bearer TOKEN"));
    }
    Ok(token.trim())
}

fn refusal(fault: Fault) -> Response {
    let is_unknown = fault.code == ErrorCode::Unauthenticated;
    let mut response = Problem::from(fault).into_response();
    if is_unknown {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"alula\""));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_token_stands_behind_its_scheme() {
        let read = |value: &str| bearer(&headers(value)).ok().map(str::to_owned);
        for value in ["Bearer secret", "bearer secret", "BEARER  secret "] {
            assert_eq!(read(value).as_deref(), Some("secret"), "{value}");
        }
        for value in ["Bearer", "Basic secret", "secret"] {
            assert_eq!(read(value), None, "{value}");
        }
    }
}
