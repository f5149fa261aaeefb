//! Sessions of pages in a browser: a cookie that no script reads, and what keeps other sites from using it.
//!
//! A browser sends a cookie with whatever request, whoever had it made. So with a cookie, what changes something is done only
//! where the browser says that a page of this very origin asked (`Sec-Fetch-Site`, or `Origin` in older ones), and where the
//! page sends along what only it was told at the login. Tokens in `Authorization` need none of this: no browser adds them by
//! itself.

use alula_identity::login::{SessionInfo, SessionToken};
use alula_model::{ErrorCode, Fault};
use http::header::{COOKIE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::respond::text_header;
use crate::state::Options;

/// With the prefix a browser takes it over TLS only, for this host only, from nobody else (RFC 6265bis).
const SECURE_NAME: &str = "__Host-alula_session";
/// Without TLS there is no such promise.
const PLAIN_NAME: &str = "alula_session";
/// What a page sends along.
pub(crate) const CSRF_HEADER: HeaderName = HeaderName::from_static("x-alula-csrf");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The cookie of a new session.
pub(crate) fn cookie(options: &Options, token: &SessionToken, session: &SessionInfo) -> HeaderValue {
    let (name, secure) = kind(options);
    let age_s = (session.ends_at.as_millis() - session.created_at.as_millis()) / 1_000;
    let token = token.secret_text();
    text_header(&format!("{name}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age_s}{secure}"))
}

/// What has a browser forget it.
pub(crate) fn no_cookie(options: &Options) -> HeaderValue {
    let (name, secure) = kind(options);
    text_header(&format!("{name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{secure}"))
}

fn kind(options: &Options) -> (&'static str, &'static str) {
    if is_tls(options) { (SECURE_NAME, "; Secure") } else { (PLAIN_NAME, "") }
}

fn is_tls(options: &Options) -> bool {
    options.public_url.as_ref().is_some_and(|url| url.starts_with("https://"))
}

/// The session in a request's cookies. One that is there twice is none: somebody has put one in.
pub(crate) fn session_in(headers: &HeaderMap, options: &Options) -> Option<SessionToken> {
    let (name, _) = kind(options);
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(is, _)| *is == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) => SessionToken::parse(value),
        _ => None,
    }
}

/// Whether a request with a cookie was made by a page of ours.
pub(crate) fn check(
    method: &Method,
    headers: &HeaderMap,
    token: &SessionToken,
    options: &Options,
) -> Result<(), Fault> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let refuse = |why: &str| Err(Fault::new(ErrorCode::Forbidden, why));
    if !is_from_here(headers, options) {
        return refuse("another site's page asks with your session");
    }
    let sent = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !token.is_csrf_token(sent) {
        return refuse("the header X-Alula-CSRF is not the csrf_token of the login");
    }
    Ok(())
}

/// By what the browser says; who says nothing is not from here.
fn is_from_here(headers: &HeaderMap, options: &Options) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(&FETCH_SITE) {
        return site == "same-origin";
    }
    let Some(origin) = text(&ORIGIN) else { return false };
    match &options.public_url {
        Some(url) => origin == url.trim_end_matches('/'),
        None => origin.strip_prefix("http://") == text(&HOST),
    }
}
