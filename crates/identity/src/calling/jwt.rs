//! Tokens of other authorities (RFC 7519): checked against what a function's owner states, by the platform's own clock.

use alula_model::{JwtSpec, Timestamp};
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::key_set::{KeySet, VerifyingKey, known};

/// Longest token: a header's worth, and no room for games.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Keys that are tried for a token that does not say which it was signed with.
const TRIES_MAX: usize = 8;
/// Longest subject that is shown.
const SUBJECT_CHARS_MAX: usize = 200;

/// A token that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vouched {
    /// Its `sub`, or who else it is about, fit to be shown.
    pub(crate) subject: String,
    /// What it says.
    pub(crate) claims: Map<String, Value>,
}

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadToken {
    #[error("the token is no signed JSON Web Token")]
    Malformed,
    #[error("the token is signed in a way that is not taken here")]
    Algorithm,
    /// Another key may have been published since.
    #[error("the token is signed with a key that its issuer has not published")]
    UnknownKey,
    #[error("the signature of the token is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not good yet")]
    Early,
    #[error("the token is from another issuer")]
    Issuer,
    #[error("the token is for somebody else: its audience is not this function")]
    Audience,
    #[error("the claim {0:?} of the token is not what is asked for here")]
    Claim(String),
}

/// Checks a token. Signature first: what an unsigned token says is not looked at but for the name of its key.
pub(crate) fn check(token: &str, spec: &JwtSpec, keys: &KeySet, now: Timestamp) -> Result<Vouched, BadToken> {
    if token.len() > TOKEN_BYTES_MAX || token.split('.').count() != 3 {
        return Err(BadToken::Malformed);
    }
    // An algorithm that the library does not know, `none` among them, is no header to it.
    let header = decode_header(token).map_err(|_| BadToken::Algorithm)?;
    // RFC 7515 4.1.11: what must be understood and is not makes a token invalid.
    if header.crit.is_some() {
        return Err(BadToken::Malformed);
    }
    let algorithm = known(header.alg).ok_or(BadToken::Algorithm)?;
    if !spec.algorithms.is_empty() && !spec.algorithms.contains(&algorithm) {
        return Err(BadToken::Algorithm);
    }
    let mut candidates = keys.candidates(header.kid.as_deref(), algorithm).take(TRIES_MAX).peekable();
    if candidates.peek().is_none() {
        return Err(BadToken::UnknownKey);
    }
    let claims = candidates.find_map(|key| verify(token, key, header.alg)).ok_or(BadToken::Signature)?;
    check_claims(&claims, spec, now)?;
    let subject = ["sub", "client_id", "azp"].into_iter().find_map(|name| claims.get(name)?.as_str());
    Ok(Vouched { subject: shown(subject.unwrap_or("-")), claims })
}

/// The claims, where the signature is right.
fn verify(token: &str, key: &VerifyingKey, algorithm: jsonwebtoken::Algorithm) -> Option<Map<String, Value>> {
    let mut only_signature = Validation::new(algorithm);
    only_signature.required_spec_claims.clear();
    only_signature.validate_exp = false;
    only_signature.validate_aud = false;
    decode::<Map<String, Value>>(token, &key.key, &only_signature).ok().map(|data| data.claims)
}

fn check_claims(claims: &Map<String, Value>, spec: &JwtSpec, now: Timestamp) -> Result<(), BadToken> {
    if claims.get("iss").and_then(Value::as_str) != Some(&spec.issuer) {
        return Err(BadToken::Issuer);
    }
    let for_us =
        |audience: &Value| audience.as_str().is_some_and(|text| spec.audience.iter().any(|own| own == text));
    let audience = claims.get("aud").ok_or(BadToken::Audience)?;
    if !for_us(audience) && !audience.as_array().is_some_and(|all| all.iter().any(for_us)) {
        return Err(BadToken::Audience);
    }
    let (now_s, leeway_s) = (now.as_millis() as f64 / 1_000.0, f64::from(spec.leeway_s));
    let ends = claims.get("exp").and_then(Value::as_f64).ok_or(BadToken::Expired)?;
    if now_s >= ends + leeway_s {
        return Err(BadToken::Expired);
    }
    if let Some(begins) = claims.get("nbf") {
        let begins = begins.as_f64().ok_or(BadToken::Early)?;
        if now_s + leeway_s < begins {
            return Err(BadToken::Early);
        }
    }
    let missing = spec
        .claims
        .iter()
        .find(|(name, wanted)| !claims.get(*name).is_some_and(|has| fits(name, has, wanted)));
    missing.map_or(Ok(()), |(name, _)| Err(BadToken::Claim(name.clone())))
}

/// Whether a claim is what is asked for: the value, or one of several; a list has one of it. `scope` is a list of words (RFC
/// 8693 4.2).
fn fits(name: &str, has: &Value, wanted: &Value) -> bool {
    if let Value::Array(several) = wanted {
        return several.iter().any(|wanted| fits(name, has, wanted));
    }
    match (has, wanted) {
        (Value::Array(all), wanted) => all.contains(wanted),
        (Value::String(words), Value::String(word)) if name == "scope" => {
            words.split(' ').any(|has| has == word)
        }
        (has, wanted) => has == wanted,
    }
}

/// A subject as it can stand in a header and in a table: what is not visible ASCII is percent-encoded.
fn shown(subject: &str) -> String {
    let mut text = String::new();
    for byte in subject.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
        if text.len() >= SUBJECT_CHARS_MAX {
            break;
        }
    }
    text
}
