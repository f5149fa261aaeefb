//! Reads a request's path, query and JSON body into types, and words what is wrong with them.
//!
//! The extractors of axum answer in plain text; these answer with the platform's errors.

use std::error::Error;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, Name};
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::respond::Problem;

/// Largest JSON body of a request: names and numbers.
const JSON_BYTES_MAX: usize = 64 * 1024;
/// Time a client may take to send a JSON body.
const JSON_TIMEOUT: Duration = Duration::from_secs(30);

/// The parameters in the path.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        found
            .map(|path| Self(path.0))
            .map_err(|error| Problem::invalid(format!("path: {}", root_cause(&error))))
    }
}

/// The query's parameters. Unknown ones are refused by name.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let found = axum::extract::Query::try_from_uri(&parts.uri);
        found
            .map(|query| Self(query.0))
            .map_err(|error| Problem::invalid(format!("query: {}", root_cause(&error))))
    }
}

/// No query at all: what stands there is refused by name.
#[derive(Debug)]
pub(crate) struct NoQuery;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParameters {}

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Query::<NoParameters>::from_request_parts(parts, state).await.map(|_| Self)
    }
}

/// A JSON body, whatever its content type says; an empty body counts as `{}`.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let gathering = Limited::new(request.into_body(), JSON_BYTES_MAX).collect();
        let gathered = tokio::time::timeout(JSON_TIMEOUT, gathering).await;
        let gathered = gathered.map_err(|_| Problem::invalid("body: it did not arrive in time"))?;
        let bytes = gathered.map_err(|error| body_problem(&*error))?.to_bytes();
        let json: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes };
        Ok(Self(json_object("body", json)?))
    }
}

fn body_problem(error: &(dyn Error + 'static)) -> Problem {
    if error.is::<LengthLimitError>() {
        let message = format!("body: at most {JSON_BYTES_MAX} bytes of JSON are taken here");
        let max = JSON_BYTES_MAX as u64;
        let setting = "fixed in this version";
        return Fault::limit(ErrorCode::RequestTooLarge, message, "json_bytes_max", max, setting).into();
    }
    Fault::new(ErrorCode::CallerGone, "body: it broke off before its end").into()
}

/// The innermost error: the outer ones of axum say no more than where it happened.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Reads a JSON object that stands in `place`. An array is refused, although it could be read field by field.
pub(crate) fn json_object<T: DeserializeOwned>(place: &str, json: &[u8]) -> Result<T, Fault> {
    let invalid =
        |why: &dyn std::fmt::Display| Fault::new(ErrorCode::InvalidRequest, format!("{place}: {why}"));
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(invalid(&"a JSON object is expected"));
    }
    serde_json::from_slice(json).map_err(|error| invalid(&error))
}

/// The namespace that a query names, or the default one.
pub(crate) fn namespace(named: Option<&str>) -> Result<Name, Fault> {
    named.map_or_else(|| Ok(Name::default_namespace()), |text| name("namespace", text))
}

/// A name that stands in the parameter `parameter`.
pub(crate) fn name(parameter: &str, text: &str) -> Result<Name, Fault> {
    text.parse().map_err(|error| Fault::new(ErrorCode::InvalidRequest, format!("{parameter}: {error}")))
}

/// The number of entries that a query asks for, between 1 and `max`.
pub(crate) fn limit(asked: Option<u32>, max: u32) -> Result<usize, Fault> {
    let limit = asked.unwrap_or(alula_wire::query::LIMIT_DEFAULT);
    if (1..=max).contains(&limit) {
        return Ok(limit as usize);
    }
    let message = format!("limit: {limit} is out of bounds, allowed is 1 to {max}");
    Err(Fault::new(ErrorCode::InvalidRequest, message))
}
