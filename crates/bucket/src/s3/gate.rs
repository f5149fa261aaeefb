//! What is refused before a signature is even checked: requests that are signed in another way than version 4, or that
//! carry more than was signed.
//!
//! A header `x-amz-...` says what is to be done (`x-amz-copy-source` makes a copy of an upload), so whoever was given a
//! signed address may not add one. Those of S3 refuse it too ("Authenticating Requests" in its documentation).
//!
//! Browser forms are refused because their content would be held in memory before anything of it is checked.

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request};
use s3s::{S3Result, s3_error};

use crate::options::PRESIGNED_SECONDS_MAX;

/// What the authorization of version 4 begins with.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Headers that say what is to be done.
const MEANING_PREFIX: &str = "x-amz-";
/// The digest of the content, which is compared with the content whether it was signed or not.
const CONTENT_DIGEST: &str = "x-amz-content-sha256";

/// Refuses what is not signed as a whole.
pub(super) fn check<B>(request: &Request<B>) -> S3Result<()> {
    refuse_forms(request)?;
    let query = request.uri().query().unwrap_or_default();
    let (signed, is_presigned) =
        match (authorization(request.headers())?, parameter(query, "X-Amz-Signature")) {
            (Some(_), Some(_)) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "a request is signed in its headers or in its query, not in both"
                ));
            }
            (Some(authorization), None) => (signed_in_header(authorization)?.to_owned(), false),
            (None, Some(_)) => (signed_in_query(query)?, true),
            (None, None) if parameter(query, "Signature").is_some() => return Err(older()),
            (None, None) => return Err(s3_error!(AccessDenied, "the request is not signed")),
        };
    let is_signed = |name: &str| signed.split(';').any(|one| one == name);
    if !is_signed(HOST.as_str()) {
        return Err(s3_error!(AccessDenied, "the header host must be signed"));
    }
    let mut meant = request.headers().keys().map(http::HeaderName::as_str);
    let added = meant.find(|name| {
        name.starts_with(MEANING_PREFIX) && !is_signed(name) && !(is_presigned && *name == CONTENT_DIGEST)
    });
    match added {
        Some(name) => Err(s3_error!(AccessDenied, "the header {name} is not signed")),
        None => Ok(()),
    }
}

fn refuse_forms<B>(request: &Request<B>) -> S3Result<()> {
    let content_type =
        request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_form = content_type.trim_start().to_ascii_lowercase().starts_with("multipart/form-data");
    match request.method() == Method::POST && is_form {
        true => {
            Err(s3_error!(NotImplemented, "forms are not taken: put the object with a presigned address"))
        }
        false => Ok(()),
    }
}

fn authorization(headers: &HeaderMap) -> S3Result<Option<&str>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value
            .to_str()
            .map(Some)
            .map_err(|_| s3_error!(InvalidRequest, "the authorization cannot be read")),
        _ => Err(s3_error!(InvalidRequest, "the request has several authorizations")),
    }
}

fn signed_in_header(authorization: &str) -> S3Result<&str> {
    let parameters = match authorization.strip_prefix(ALGORITHM) {
        Some(parameters) => parameters,
        None if authorization.starts_with("AWS ") => return Err(older()),
        None => return Err(s3_error!(AccessDenied, "the request is not signed with {ALGORITHM}")),
    };
    let mut parameters = parameters.split(',').map(str::trim);
    let signed = parameters.find_map(|parameter| parameter.strip_prefix("SignedHeaders="));
    signed.ok_or_else(|| s3_error!(InvalidRequest, "the authorization names no SignedHeaders"))
}

fn signed_in_query(query: &str) -> S3Result<String> {
    let wrong = |message: &'static str| s3_error!(AuthorizationQueryParametersError, "{message}");
    let seconds = parameter(query, "X-Amz-Expires").and_then(|seconds| seconds.parse::<u64>().ok());
    if seconds.is_none_or(|seconds| seconds > PRESIGNED_SECONDS_MAX) {
        return Err(wrong("X-Amz-Expires must be a number of seconds, a week at the most"));
    }
    let signed =
        parameter(query, "X-Amz-SignedHeaders").ok_or_else(|| wrong("X-Amz-SignedHeaders is missing"))?;
    // Names of headers are letters, digits and hyphens; only what joins them may be encoded.
    Ok(signed.replace("%3B", ";").replace("%3b", ";"))
}

/// The value of a parameter as it is written.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn older() -> s3s::S3Error {
    s3_error!(NotImplemented, "signatures of version 2 are not taken: sign with version 4")
}
