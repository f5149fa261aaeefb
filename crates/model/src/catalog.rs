//! Functions, versions, qualifiers: what is deployed and how a caller names it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::audit_change::AuditChange;

use crate::name::{Name, NameError};
use crate::{Digest, FunctionSpec, Timestamp};

/// A function: the mutable part. Its versions are records of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// The tenant.
    pub namespace: Name,
    /// Unique in its namespace.
    pub name: Name,
    /// The version that calls without a qualifier reach. A publish moves it forward, a rollback back.
    pub latest: u64,
    /// The highest number given so far; numbers are never used again.
    pub newest: u64,
    /// Movable names for versions.
    pub aliases: BTreeMap<Name, u64>,
    /// When the function was first deployed.
    pub created_at: Timestamp,
    /// When anything here last changed.
    pub updated_at: Timestamp,
}

/// An immutable snapshot of a function's spec and package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Which version of which function.
    #[serde(flatten)]
    pub key: VersionKey,
    /// The spec, with the runtime's alias resolved (`python` became `python3.11`).
    pub spec: FunctionSpec,
    /// The uploaded source.
    pub source: Digest,
    /// What runs: the source itself, or what the build step made of it.
    pub package: Digest,
    /// Size of the package in bytes.
    pub package_bytes: u64,
    /// When it was published.
    pub published_at: Timestamp,
    /// Who published it, as the audit record names them.
    pub published_by: String,
    /// What the publisher said about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Names one version of one function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VersionKey {
    /// The tenant.
    pub namespace: Name,
    /// The function.
    pub function: Name,
    /// 1, 2, 3...
    pub version: u64,
}

impl fmt::Display for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.function, self.version)
    }
}

/// How a caller picks a version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Qualifier {
    /// Where the function's `latest` points.
    #[default]
    Latest,
    /// This very version.
    Version(u64),
    /// Where the alias points.
    Alias(Name),
}

impl std::str::FromStr for Qualifier {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        match text.parse::<u64>() {
            Ok(number) => Ok(Self::Version(number)),
            Err(_) => Name::new(text).map(Self::Alias),
        }
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Version(number) => write!(f, "{number}"),
            Self::Alias(name) => write!(f, "{name}"),
        }
    }
}

/// A function as a caller names it: `NAME[.NAMESPACE][:QUALIFIER]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FunctionRef {
    /// The tenant.
    pub namespace: Name,
    /// The function.
    pub name: Name,
    /// Which version of it.
    pub qualifier: Qualifier,
}

impl std::str::FromStr for FunctionRef {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::read(text, Name::default_namespace)
    }
}

impl FunctionRef {
    /// Reads what a caller says for whom `home` is the namespace that is meant where none is named.
    pub fn parse_in(home: &Name, text: &str) -> Result<Self, NameError> {
        Self::read(text, || home.clone())
    }

    fn read(text: &str, home: impl FnOnce() -> Name) -> Result<Self, NameError> {
        let (path, qualifier) = match text.split_once(':') {
            Some((path, qualifier)) => (path, qualifier.parse()?),
            None => (text, Qualifier::Latest),
        };
        let (name, namespace) = match path.split_once('.') {
            Some((name, namespace)) => (name, Name::new(namespace)?),
            None => (path, home()),
        };
        Ok(Self { namespace, name: Name::new(name)?, qualifier })
    }
}

impl fmt::Display for FunctionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}:{}", self.name, self.namespace, self.qualifier)
    }
}

/// Who does something, as the audit record names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// The name of the token or the person.
    pub name: String,
    /// The address that they ask from, where they do.
    pub from: Option<String>,
}

impl From<&str> for By {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), from: None }
    }
}

/// Who did what, when: one line of the audit record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: the name of the token, as the control API knows it.
    pub actor: String,
    /// From where: the address that the request came from, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The verb: `function.publish`, `function.rollback`, `function.remove`, `alias.set`...
    pub action: String,
    /// On what: `namespace/function[:version]`.
    pub subject: String,
    /// Details in words (from version, to version, message).
    pub detail: String,
    /// What it was and what it is now, where that can be said in data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<AuditChange>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_forms() {
        let check = |text: &str, expect: &str| {
            assert_eq!(text.parse::<FunctionRef>().map(|r| r.to_string()).as_deref(), Ok(expect));
        };
        check("hello", "hello.default:latest");
        check("hello:3", "hello.default:3");
        check("hello.shop:live", "hello.shop:live");
        check("hello:latest", "hello.default:latest");
        let inside =
            |text: &str| FunctionRef::parse_in(&Name::new("shop").unwrap(), text).map(|r| r.to_string());
        assert_eq!(inside("hello").as_deref(), Ok("hello.shop:latest"));
        assert_eq!(inside("hello.bank:3").as_deref(), Ok("hello.bank:3"));
        assert!("hello:".parse::<FunctionRef>().is_err());
        assert!("a.b.c".parse::<FunctionRef>().is_err());
        assert!("../x".parse::<FunctionRef>().is_err());
    }
}
