//! Who asks: bearer tokens, known by their SHA-256 only.
//!
//! Every request needs a token except those to the open routes, which tell nothing about what is deployed. A route
//! that does not exist asks for a token too, so that strangers cannot map the API.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use alula_identity::{Identity, Principal, Refusal};
use alula_model::{By, Digest, ErrorCode, Fault};
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::access;
use crate::passes;
use crate::respond::Problem;
use crate::state::Api;

/// The routes that answer without a token.
pub(crate) const OPEN_PATHS: &[&str] =
    &["/livez", "/readyz", "/openapi.json", "/docs", "/docs/app.js", "/docs/style.css"];
/// Answers without a token only where the configuration says so.
pub(crate) const METRICS_PATH: &str = "/metrics";

/// The tokens of administrators that the configuration brings, with the names that the audit record uses for their holders.
#[derive(Clone, Default)]
pub struct Tokens(Vec<Token>);

#[derive(Clone)]
struct Token {
    name: Arc<str>,
    digest: Digest,
}

impl Tokens {
    /// Adds the token whose SHA-256 is `digest`; what its holder does is recorded under `name`.
    #[must_use]
    pub fn with(mut self, name: &str, digest: Digest) -> Self {
        self.0.push(Token { name: name.into(), digest });
        self
    }

    /// What a token is known by.
    #[must_use]
    pub fn digest_of(token: &str) -> Digest {
        Digest::from_bytes(Sha256::digest(token.as_bytes()).into())
    }

    /// Whose token `presented` is. Takes the same time whichever token comes close.
    fn identify(&self, presented: &str) -> Option<Principal> {
        let digest = Self::digest_of(presented);
        let mut found = None;
        for token in &self.0 {
            if bool::from(token.digest.as_bytes().ct_eq(digest.as_bytes())) {
                found = Some(Principal::administrator(&token.name));
            }
        }
        found
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|token| &token.name)).finish()
    }
}

/// Whoever a request's token belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Actor(Principal);

impl Actor {
    /// What they are called in the audit record.
    pub(crate) fn as_str(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.0
    }

    /// As the audit record names them.
    pub(crate) fn by(&self) -> By {
        self.0.as_by()
    }

    fn asking_from(self, peer: Option<&ConnectInfo<SocketAddr>>) -> Self {
        match peer {
            Some(ConnectInfo(address)) => Self(self.0.asking_from(&address.ip().to_string())),
            None => self,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Infallible;

    /// Behind [`require_token`] there is always an actor; on an open route nobody has a name.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(|| Self(Principal::member("nobody", [].into()))))
    }
}

/// Refuses a request without a known token, or whose owner may not do what it asks for.
pub(crate) async fn require_token(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let mut pass = None;
    if !is_open(&api, &request) {
        let identified = identify(&api.parts.tokens, &api.parts.identity, request.headers());
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
    reads && (OPEN_PATHS.contains(&path) || (path == METRICS_PATH && api.options.metrics_open))
}

fn identify(tokens: &Tokens, identity: &Identity, headers: &HeaderMap) -> Result<Actor, Fault> {
    let token = bearer(headers)?;
    if let Some(administrator) = tokens.identify(token) {
        return Ok(Actor(administrator));
    }
    let refuse = |refusal: Refusal| Fault::new(ErrorCode::Unauthenticated, refusal.to_string());
    identity.identify(token).map(Actor).map_err(refuse)
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
    let mut response = Problem::from(fault).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"alula\""));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_token_is_known_by_its_hash() {
        let tokens = Tokens::default()
            .with("admin", Tokens::digest_of("secret"))
            .with("ci", Tokens::digest_of("other"));
        let name =
            |value: &str| tokens.identify(bearer(&headers(value)).ok()?).map(|admin| admin.name.to_string());
        assert_eq!(name("Bearer secret").as_deref(), Some("admin"));
        assert_eq!(name("bearer other").as_deref(), Some("ci"));
        for value in
            ["Bearer", "Bearer ", "Bearer secre", "Bearer secret2", "Basic secret", "secret", "Bearer a b"]
        {
            assert_eq!(name(value), None, "{value}");
        }
        assert_eq!(Tokens::default().identify(""), None);
    }

    #[test]
    fn the_debug_form_holds_no_hash() {
        let tokens = Tokens::default().with("admin", Tokens::digest_of("secret"));
        assert_eq!(format!("{tokens:?}"), "[\"admin\"]");
    }
}
