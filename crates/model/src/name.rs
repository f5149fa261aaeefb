//! Names that people choose: namespaces, functions, aliases.
//!
//! One rule for all of them, so that a name can stand in a URL path, a host name, a file name and a cgroup
//! name without being escaped: the DNS label of RFC 1123, lower case only.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::NAME_LEN_MAX;

/// A validated name: 1 to 63 characters of `a-z`, `0-9` and `-`, neither first nor last a hyphen.
///
/// Cloning is cheap: the text is shared.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than a DNS label.
    #[error("name is {length} characters long, at most {NAME_LEN_MAX} are allowed")]
    TooLong {
        /// Its length in characters.
        length: usize,
    },
    /// A character outside the allowed set, or a hyphen at either end.
    #[error(
        "name {name:?} is not allowed: use lower-case letters, digits and hyphens, with a letter or digit first and last"
    )]
    BadCharacter {
        /// The offending text.
        name: String,
    },
}

impl Name {
    /// Checks `text` and makes a name of it.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_LEN_MAX {
            return Err(NameError::TooLong { length: text.chars().count() });
        }
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let bytes = text.as_bytes();
        let edge_hyphen = bytes[0] == b'-' || bytes[bytes.len() - 1] == b'-';
        if edge_hyphen || !bytes.iter().copied().all(allowed) {
            return Err(NameError::BadCharacter { name: text.to_owned() });
        }
        Ok(Self(text.into()))
    }

    /// The namespace that is used where none is named.
    #[must_use]
    pub fn default_namespace() -> Self {
        Self("default".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_dns_labels() {
        for text in ["a", "hello", "a-b", "0x", &"a".repeat(NAME_LEN_MAX)] {
            assert!(Name::new(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn refuses_what_a_url_or_a_path_would_misread() {
        for text in
            ["", "-a", "a-", "A", "a.b", "a/b", "..", "a b", "ä", "a:b", &"a".repeat(NAME_LEN_MAX + 1)]
        {
            assert!(Name::new(text).is_err(), "{text}");
        }
    }
}
