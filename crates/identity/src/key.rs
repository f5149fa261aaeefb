//! Keys: what they look like, and how one is known.
//!
//! `alula_<id>_<secret>`: the id is public and tells which key it is, in lists and in leaks that a scanner finds by the
//! prefix; the secret has 256 bits, so its plain SHA-256 may be stored: there is nothing to guess.

use std::fmt;

use alula_model::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "alula_";
/// Hexadecimal digits of an id.
const ID_CHARS: usize = 12;
/// Hexadecimal digits of a secret.
const SECRET_CHARS: usize = 64;

/// Which key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

impl KeyId {
    /// The id that `text` is; `None` where it is none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        is_hex(text, ID_CHARS).then(|| Self(text.to_owned()))
    }

    /// An id of these bits.
    pub(crate) fn of_bits(bits: u128) -> Self {
        Self(format!("{:012x}", bits & 0xffff_ffff_ffff))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KeyId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text).ok_or_else(|| format!("{text:?} is no id of a key"))
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

/// A whole key. It is shown once and never kept.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainKey {
    id: KeyId,
    text: String,
}

impl PlainKey {
    /// A new key, of the id where there is one already, from 128 bits a call of `random`.
    pub(crate) fn generate(id: Option<KeyId>, random: impl Fn() -> u128) -> Self {
        let id = id.unwrap_or_else(|| KeyId::of_bits(random()));
        let text = format!("{PREFIX}{id}_{:032x}{:032x}", random(), random());
        Self { id, text }
    }

    /// The key that `text` is; `None` where it has not the form of one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let id = KeyId::new(id).filter(|_| is_hex(secret, SECRET_CHARS))?;
        Some(Self { id, text: text.to_owned() })
    }

    /// Which key it is.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The key itself.
    #[must_use]
    pub fn secret_text(&self) -> &str {
        &self.text
    }

    pub(crate) fn digest(&self) -> Digest {
        digest_of(&self.text)
    }
}

impl fmt::Debug for PlainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PlainKey").field(&self.id).finish()
    }
}

/// What a key is known by.
pub(crate) fn digest_of(text: &str) -> Digest {
    Digest::from_bytes(Sha256::digest(text.as_bytes()).into())
}

/// Whether two digests are the same; takes the same time whatever they have in common.
pub(crate) fn is_same(one: &Digest, other: &Digest) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

pub(crate) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_shown() {
        let key = PlainKey::generate(None, || 0x1234_5678_9abc_def0);
        assert!(key.secret_text().starts_with("alula_56789abcdef0_0000"));
        assert_eq!(PlainKey::parse(key.secret_text()), Some(key.clone()));
        assert!(!format!("{key:?}").contains(key.secret_text()));
    }

    #[test]
    fn what_is_no_key_is_none() {
        let good = PlainKey::generate(None, || 7).secret_text().to_owned();
        let long = format!("{good}0");
        let upper = good.to_uppercase();
        for text in ["", "alula_", "alula__", "alula_0_1", &good[1..], &long, &upper, "alula_admin_00"] {
            assert_eq!(PlainKey::parse(text), None, "{text}");
        }
    }
}
