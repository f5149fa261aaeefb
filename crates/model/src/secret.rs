//! Which secrets a function gets, and under which names. The values are never here.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::limits::{SECRET_NAME_LEN_MAX, SECRETS_MAX};

/// The name of a secret: 1 to 64 characters of letters, digits, `_`, `-` and `.`, a letter or a digit first.
///
/// Wider than a [`Name`](crate::Name), because secrets are called like the variables that they become.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(Arc<str>);

/// A text does not name a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretNameError {
    /// It is no name.
    #[error(
        "{0:?} is no name of a secret: use 1 to {SECRET_NAME_LEN_MAX} letters, digits, `_`, `-` and `.`, a letter or a \
         digit first"
    )]
    Name(String),
    /// What follows the `@` is no number of a version.
    #[error("{0:?} is no version of a secret: use a number from 1 on, as in `db_password@3`")]
    Version(String),
}

impl SecretName {
    /// Checks `text` and makes a name of it.
    pub fn new(text: &str) -> Result<Self, SecretNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let begins_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if begins_well && text.len() <= SECRET_NAME_LEN_MAX && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(SecretNameError::Name(text.to_owned()))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The variable that it becomes where none is named: in capitals, with `_` for what a variable cannot have.
    fn variable(&self) -> String {
        let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        self.0.chars().map(fit).collect()
    }
}

impl TryFrom<String> for SecretName {
    type Error = SecretNameError;

    fn try_from(text: String) -> Result<Self, SecretNameError> {
        Self::new(&text)
    }
}

impl From<SecretName> for String {
    fn from(name: SecretName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// One secret that a function uses: `db_password`, or `db_password@3` for one version of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretUse {
    /// Which secret.
    pub name: SecretName,
    /// Which version; the one in force, without.
    pub version: Option<u64>,
}

impl FromStr for SecretUse {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, SecretNameError> {
        let (name, version) = match text.split_once('@') {
            Some((name, number)) => {
                let version = number.parse().ok().filter(|version| *version > 0);
                (name, Some(version.ok_or_else(|| SecretNameError::Version(text.to_owned()))?))
            }
            None => (text, None),
        };
        Ok(Self { name: SecretName::new(name)?, version })
    }
}

impl fmt::Display for SecretUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// The secrets of a function by the environment variables that carry them.
///
/// Written as a table `VARIABLE = "secret"`, or as a list of secrets, each of which becomes the variable of its name in
/// capitals (`db_password` is `DB_PASSWORD`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretUses(BTreeMap<String, SecretUse>);

impl SecretUses {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each variable with its secret.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretUse)> {
        self.0.iter().map(|(variable, used)| (variable.as_str(), used))
    }

    /// Whether a variable carries a secret.
    #[must_use]
    pub fn has_variable(&self, variable: &str) -> bool {
        self.0.contains_key(variable)
    }

    fn insert(&mut self, variable: String, used: SecretUse) -> Result<(), String> {
        if self.0.len() >= SECRETS_MAX {
            return Err(format!("a function may have {SECRETS_MAX} secrets"));
        }
        if self.0.insert(variable.clone(), used).is_some() {
            return Err(format!("two secrets would be the variable {variable}; name another in a table"));
        }
        Ok(())
    }
}

impl FromIterator<(String, SecretUse)> for SecretUses {
    fn from_iter<T: IntoIterator<Item = (String, SecretUse)>>(pairs: T) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl Serialize for SecretUses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(variable, used)| (variable, used.to_string())))
    }
}

impl<'de> Deserialize<'de> for SecretUses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UsesVisitor)
    }
}

struct UsesVisitor;

impl<'de> Visitor<'de> for UsesVisitor {
    type Value = SecretUses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of secrets, or a table VARIABLE = \"secret\"")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<SecretUses, A::Error> {
        let mut uses = SecretUses::default();
        while let Some(text) = list.next_element::<String>()? {
            let used: SecretUse = text.parse().map_err(de::Error::custom)?;
            uses.insert(used.name.variable(), used).map_err(de::Error::custom)?;
        }
        Ok(uses)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<SecretUses, A::Error> {
        let mut uses = SecretUses::default();
        while let Some((variable, text)) = table.next_entry::<String, String>()? {
            let used = text.parse().map_err(de::Error::custom)?;
            uses.insert(variable, used).map_err(de::Error::custom)?;
        }
        Ok(uses)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: serde_json::Value) -> Result<Vec<(String, String)>, String> {
        let uses: SecretUses = serde_json::from_value(value).map_err(|error| error.to_string())?;
        Ok(uses.iter().map(|(variable, used)| (variable.to_owned(), used.to_string())).collect())
    }

    #[test]
    fn a_list_and_a_table_say_the_same() {
        let pair = |variable: &str, used: &str| (variable.to_owned(), used.to_owned());
        assert_eq!(
            read(json!(["db_password", "api-key@2", "a.b"])).unwrap(),
            [pair("API_KEY", "api-key@2"), pair("A_B", "a.b"), pair("DB_PASSWORD", "db_password")]
        );
        assert_eq!(read(json!({"PW": "db_password@7"})).unwrap(), [pair("PW", "db_password@7")]);
        let uses: SecretUses = serde_json::from_value(json!(["x"])).unwrap();
        assert_eq!(serde_json::to_value(&uses).unwrap(), json!({"X": "x"}));
    }

    #[test]
    fn what_names_no_secret_is_refused_in_words() {
        for (value, told) in [
            (json!(["a", "A"]), "the variable A"),
            (json!(["a@0"]), "no version"),
            (json!(["a@"]), "no version"),
            (json!(["a@x"]), "no version"),
            (json!(["-a"]), "no name"),
            (json!(["a/b"]), "no name"),
            (json!([""]), "no name"),
            (json!(["ä"]), "no name"),
            (json!(["a\u{0}"]), "no name"),
            (json!(["a".repeat(SECRET_NAME_LEN_MAX + 1)]), "no name"),
            (json!("a"), "a list of secrets"),
            (json!({"A": 1}), "expected a string"),
        ] {
            let error = read(value.clone()).unwrap_err();
            assert!(error.contains(told), "{value}: {error}");
        }
    }
}
