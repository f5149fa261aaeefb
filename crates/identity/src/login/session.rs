//! Sessions: what a person has who has logged in, until they log out, go away or change their password.
//!
//! `alula_session_<id>_<secret>`: like a key, of 256 random bits, known by its SHA-256. It ends when it was not used for a
//! while, and after some days in any case.

use std::fmt;

use alula_model::{Digest, Name, Timestamp};
use aws_lc_rs::{constant_time, hmac};
use serde::{Deserialize, Serialize};

use crate::key::{KeyId, digest_of, is_hex};

const PREFIX: &str = "alula_session_";
/// Hexadecimal digits of a secret.
const SECRET_CHARS: usize = 64;
/// A session that is not used for this long ends: who comes back the next morning logs in again.
pub(crate) const IDLE_MS_MAX: i64 = 12 * 3_600_000;
/// A session ends after this long in any case.
pub(crate) const AGE_MS_MAX: i64 = 7 * 86_400_000;

/// A whole session token. It is shown once and never kept.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken {
    id: KeyId,
    text: String,
}

/// How somebody has logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoginWay {
    /// By their password.
    Password,
    /// By OpenID Connect.
    Oidc,
}

/// A session, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    pub(crate) id: KeyId,
    pub(crate) user: Name,
    pub(crate) digest: Digest,
    pub(crate) way: LoginWay,
    pub(crate) created_at: Timestamp,
    /// The address that the person logged in from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
}

/// What is told of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Which one.
    pub id: KeyId,
    /// Whose it is.
    pub user: Name,
    /// How they logged in.
    pub way: LoginWay,
    /// When.
    pub created_at: Timestamp,
    /// From where, where it is known.
    pub from: Option<String>,
    /// When it was used last, half a minute late at the most.
    pub last_used_at: Option<Timestamp>,
    /// When it ends if it is used until then.
    pub ends_at: Timestamp,
}

impl SessionRecord {
    /// Whether it has ended by itself.
    pub(crate) fn is_over(&self, last_used_at: Option<Timestamp>, now: Timestamp) -> bool {
        let used_at = last_used_at.map_or(self.created_at, |used_at| used_at.max(self.created_at));
        now >= self.ends_at() || now >= used_at.plus_millis(IDLE_MS_MAX)
    }

    pub(crate) fn ends_at(&self) -> Timestamp {
        self.created_at.plus_millis(AGE_MS_MAX)
    }
}

impl SessionToken {
    /// A new session's token, from 128 bits a call of `random`.
    pub(crate) fn generate(random: impl Fn() -> u128) -> Self {
        let id = KeyId::of_bits(random());
        let text = format!("{PREFIX}{id}_{:032x}{:032x}", random(), random());
        Self { id, text }
    }

    /// The token that `text` is; `None` where it has not the form of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let id = KeyId::new(id).filter(|_| is_hex(secret, SECRET_CHARS))?;
        Some(Self { id, text: text.to_owned() })
    }

    /// Which session it is.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The token itself.
    #[must_use]
    pub fn secret_text(&self) -> &str {
        &self.text
    }

    /// What a page must send along that changes something, to show that it is a page of the console: another site that has
    /// the browser send the cookie does not know it. It tells nothing about the session's own secret.
    #[must_use]
    pub fn csrf_token(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.text.as_bytes());
        hmac::sign(&key, b"csrf").as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether `presented` is that. Takes the same time however much of it is right.
    #[must_use]
    pub fn is_csrf_token(&self, presented: &str) -> bool {
        constant_time::verify_slices_are_equal(self.csrf_token().as_bytes(), presented.as_bytes()).is_ok()
    }

    pub(crate) fn digest(&self) -> Digest {
        digest_of(&self.text)
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionToken").field(&self.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_shown_and_its_csrf_token_is_another_text() {
        let token = SessionToken::generate(|| 0x1234_5678_9abc_def0);
        assert_eq!(SessionToken::parse(token.secret_text()), Some(token.clone()));
        assert!(!format!("{token:?}").contains(token.secret_text()));
        assert_eq!(token.csrf_token().len(), 64);
        assert!(token.is_csrf_token(&token.csrf_token()) && !token.is_csrf_token(""));
        assert!(!token.secret_text().contains(&token.csrf_token()));
        for text in ["", "alula_session_", "alula_session_0_1", &token.secret_text()[1..]] {
            assert_eq!(SessionToken::parse(text), None, "{text}");
        }
    }

    #[test]
    fn it_ends_when_it_is_not_used_and_in_any_case() {
        let token = SessionToken::generate(|| 7);
        let record = SessionRecord {
            id: token.id().clone(),
            user: Name::new("anna").unwrap(),
            digest: token.digest(),
            way: LoginWay::Password,
            created_at: Timestamp(1_000),
            from: None,
        };
        let at = |ms| Timestamp(1_000 + ms);
        assert!(!record.is_over(None, at(IDLE_MS_MAX - 1)) && record.is_over(None, at(IDLE_MS_MAX)));
        let used = Some(at(IDLE_MS_MAX - 1));
        assert!(!record.is_over(used, at(IDLE_MS_MAX)));
        assert!(record.is_over(Some(at(AGE_MS_MAX)), at(AGE_MS_MAX)));
    }
}
