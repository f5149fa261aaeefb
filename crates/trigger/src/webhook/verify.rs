//! The services' rules for signatures, each an HMAC-SHA-256 under a shared secret.
//!
//! | service | header | what is signed | time |
//! |---|---|---|---|
//! | GitHub | `X-Hub-Signature-256: sha256=HEX` | the body | none |
//! | Slack | `X-Slack-Signature: v0=HEX` | `v0:TIME:BODY` | `X-Slack-Request-Timestamp`, 5 minutes |
//! | Stripe | `Stripe-Signature: t=TIME,v1=HEX[,v1=HEX]` | `TIME.BODY` | 5 minutes |
//! | none of these, such as MinIO's `auth_token` | `Authorization: Bearer SECRET`, or named in the trigger | nothing | none |
//! | any other | named in the trigger: `[sha256=]` hexadecimal or base64 | the body | none |
//!
//! The sources are the services' own pages on verifying requests. MACs are compared in constant time.

use alula_model::trigger::{Signature, WebhookSource};
use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde_json::Value;

/// How far a signed time may be from ours, in seconds: what Slack and Stripe name.
const WINDOW_S: i64 = 300;
/// Signatures of one request that are tried: Stripe sends one for each secret in use.
const SIGNATURES_MAX: usize = 8;
/// Secrets that are tried.
const SECRETS_MAX: usize = 8;
const MAC_BYTES: usize = 32;

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the request has no header {0}, or several")]
    NoHeader(String),
    #[error("the header {0} has no signature that can be read")]
    Unreadable(String),
    #[error(
        "the request was signed {0} seconds from now by this machine's clock, at most {WINDOW_S} are allowed"
    )]
    OutOfTime(i64),
    #[error("the signature is wrong")]
    Wrong,
    #[error("the secret is empty")]
    NoSecret,
}

/// What a request carries of its signature.
struct Claimed {
    macs: Vec<[u8; MAC_BYTES]>,
    /// What is signed before the body.
    prefix: String,
}

/// Checks a request; the text it gives is the same for the same request and no other.
pub(super) fn verify(
    source: &WebhookSource,
    secrets: &str,
    headers: &HeaderMap,
    body: &Bytes,
    now_s: i64,
) -> Result<String, Refused> {
    if source.signature == Signature::Token {
        return token(source, secrets, headers, body);
    }
    let claimed = match source.signature {
        Signature::Github => github(headers)?,
        Signature::Slack => slack(headers, now_s)?,
        Signature::Stripe => stripe(headers, now_s)?,
        Signature::Hmac | Signature::Token => generic(headers, source.header.as_deref().unwrap_or_default())?,
    };
    let mut secrets = each(secrets)?;
    let mut message = claimed.prefix.into_bytes();
    message.extend_from_slice(body);
    let is_right = |secret: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        claimed.macs.iter().any(|mac| hmac::verify(&key, &message, mac).is_ok())
    };
    match secrets.any(is_right) {
        true => Ok(alula_store::digest_of(&message).to_string()),
        false => Err(Refused::Wrong),
    }
}

/// The secrets, of which any will do; there is one at least.
fn each(secrets: &str) -> Result<impl Iterator<Item = &str>, Refused> {
    let mut secrets =
        secrets.lines().map(str::trim).filter(|secret| !secret.is_empty()).take(SECRETS_MAX).peekable();
    match secrets.peek() {
        Some(_) => Ok(secrets),
        None => Err(Refused::NoSecret),
    }
}

/// Compares the secret itself.
fn token(
    source: &WebhookSource,
    secrets: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<String, Refused> {
    const BEARER: &str = "Bearer ";
    let sent = match source.header.as_deref() {
        Some(name) => text(headers, name)?,
        None => {
            let value = text(headers, "Authorization")?;
            let scheme = value.get(..BEARER.len()).filter(|scheme| scheme.eq_ignore_ascii_case(BEARER));
            scheme
                .map(|_| &value[BEARER.len()..])
                .ok_or_else(|| Refused::Unreadable("Authorization".to_owned()))?
        }
    };
    // Digests, so that neither the time nor the length tells anything.
    let digest = |text: &str| digest::digest(&digest::SHA256, text.trim().as_bytes());
    let sent = digest(sent);
    let is_right =
        |secret: &str| constant_time::verify_slices_are_equal(digest(secret).as_ref(), sent.as_ref()).is_ok();
    match each(secrets)?.any(is_right) {
        true => Ok(alula_store::digest_of(body).to_string()),
        false => Err(Refused::Wrong),
    }
}

/// The text that Slack wants to see when an address is set up.
pub(super) fn challenge(signature: Signature, body: &Bytes) -> Option<String> {
    let value: Value = (signature == Signature::Slack).then(|| serde_json::from_slice(body).ok())??;
    let is_asked = value.get("type").and_then(Value::as_str) == Some("url_verification");
    is_asked.then(|| value.get("challenge")?.as_str().map(str::to_owned))?
}

fn github(headers: &HeaderMap) -> Result<Claimed, Refused> {
    const NAME: &str = "X-Hub-Signature-256";
    let mac = text(headers, NAME)?.strip_prefix("sha256=").and_then(hex);
    let mac = mac.ok_or_else(|| Refused::Unreadable(NAME.to_owned()))?;
    Ok(Claimed { macs: vec![mac], prefix: String::new() })
}

fn slack(headers: &HeaderMap, now_s: i64) -> Result<Claimed, Refused> {
    const NAME: &str = "X-Slack-Signature";
    const TIME: &str = "X-Slack-Request-Timestamp";
    let mac = text(headers, NAME)?.strip_prefix("v0=").and_then(hex);
    let mac = mac.ok_or_else(|| Refused::Unreadable(NAME.to_owned()))?;
    let time = text(headers, TIME)?;
    check_time(time.parse().map_err(|_| Refused::Unreadable(TIME.to_owned()))?, now_s)?;
    Ok(Claimed { macs: vec![mac], prefix: format!("v0:{time}:") })
}

fn stripe(headers: &HeaderMap, now_s: i64) -> Result<Claimed, Refused> {
    const NAME: &str = "Stripe-Signature";
    let unreadable = || Refused::Unreadable(NAME.to_owned());
    let items = text(headers, NAME)?.split(',').filter_map(|item| item.trim().split_once('='));
    let (mut time, mut macs) = (None, Vec::new());
    for (name, value) in items {
        match name {
            "t" => time = Some(value),
            "v1" if macs.len() < SIGNATURES_MAX => macs.extend(hex(value)),
            // Older schemes are there for tests only.
            _ => {}
        }
    }
    let time = time.filter(|_| !macs.is_empty()).ok_or_else(unreadable)?;
    check_time(time.parse().map_err(|_| unreadable())?, now_s)?;
    Ok(Claimed { macs, prefix: format!("{time}.") })
}

fn generic(headers: &HeaderMap, name: &str) -> Result<Claimed, Refused> {
    let value = text(headers, name)?.trim();
    let value = value.strip_prefix("sha256=").unwrap_or(value);
    let mac = hex(value).or_else(|| base64(value)).ok_or_else(|| Refused::Unreadable(name.to_owned()))?;
    Ok(Claimed { macs: vec![mac], prefix: String::new() })
}

fn check_time(time_s: i64, now_s: i64) -> Result<(), Refused> {
    let away = now_s.saturating_sub(time_s).saturating_abs();
    if away > WINDOW_S { Err(Refused::OutOfTime(away)) } else { Ok(()) }
}

/// The one value of a header.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Refused> {
    let missing = || Refused::NoHeader(name.to_owned());
    let known = HeaderName::try_from(name).map_err(|_| missing())?;
    let mut values = headers.get_all(known).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| missing()),
        _ => Err(missing()),
    }
}

fn hex(text: &str) -> Option<[u8; MAC_BYTES]> {
    if text.len() != 2 * MAC_BYTES || !text.is_ascii() {
        return None;
    }
    let mut mac = [0; MAC_BYTES];
    for (byte, digits) in mac.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *byte = u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?;
    }
    Some(mac)
}

fn base64(text: &str) -> Option<[u8; MAC_BYTES]> {
    let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')));
    bytes.ok()?.try_into().ok()
}
