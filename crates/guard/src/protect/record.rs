//! What is stored.
//!
//! ```text
//! protection/rules/<id>        Protection
//! protection/limits/<target>   Ceiling; the target is written as the hexadecimal digits of its bytes
//! protection/epoch             changed with every change, so that other processes see that there was one
//! ```

use std::fmt;
use std::str::FromStr;

use alula_model::{AddressBlock, Limit, Name, Timestamp};
use alula_store::Key;
use serde::{Deserialize, Serialize};

/// Longest name of a caller, in bytes.
const CALLER_BYTES_MAX: usize = 256;

/// Somebody or something that is blocked or throttled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// Names it.
    pub id: String,
    /// Who or what.
    pub subject: Subject,
    /// Only in calls of this namespace's functions; in all, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Name>,
    /// What is done.
    pub action: Action,
    /// Why, in the operator's words. Callers are told.
    pub reason: String,
    /// By whom.
    pub by: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends by itself; never, where there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Protection {
    /// Whether it is in force at `at`.
    #[must_use]
    pub fn is_in_force(&self, at: Timestamp) -> bool {
        self.until.is_none_or(|until| at < until)
    }
}

/// Who or what is blocked or throttled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A caller, by the name under which calls of theirs are recorded: `key:deploy`, `user:anna`, `jwt:SUBJECT`.
    Caller(String),
    /// Whoever comes from these addresses.
    Source(AddressBlock),
    /// All functions of a namespace.
    Namespace(Name),
    /// A function.
    Function(Name, Name),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller(name) => write!(f, "caller/{name}"),
            Self::Source(block) => write!(f, "source/{block}"),
            Self::Namespace(namespace) => write!(f, "namespace/{namespace}"),
            Self::Function(namespace, name) => write!(f, "function/{namespace}/{name}"),
        }
    }
}

impl FromStr for Subject {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let error = || TargetError { text: text.to_owned(), expected: SUBJECTS };
        let (kind, rest) = text.split_once('/').ok_or_else(error)?;
        match kind {
            "caller" if is_caller(rest) => Ok(Self::Caller(rest.to_owned())),
            "source" => {
                rest.parse().map(|block: AddressBlock| Self::Source(block.canonical())).map_err(|_| error())
            }
            "namespace" => name(rest).map(Self::Namespace).ok_or_else(error),
            "function" => {
                pair(rest).map(|(namespace, name)| Self::Function(namespace, name)).ok_or_else(error)
            }
            _ => Err(error()),
        }
    }
}

const SUBJECTS: &str =
    "caller/NAME, source/ADDRESS, source/NETWORK/BITS, namespace/NAME or function/NAMESPACE/NAME";
const TARGETS: &str = "node, namespaces, apps, callers, api, namespace/NAME, app/NAMESPACE/NAME, function/NAMESPACE/NAME or \
                       caller/NAME";

/// A text names nobody that could be limited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not one of {expected}")]
pub struct TargetError {
    text: String,
    expected: &'static str,
}

fn name(text: &str) -> Option<Name> {
    Name::new(text).ok()
}

fn pair(text: &str) -> Option<(Name, Name)> {
    let (one, other) = text.split_once('/')?;
    Some((name(one)?, name(other)?))
}

fn is_caller(text: &str) -> bool {
    (1..=CALLER_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

/// What is done about a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Every call is refused.
    Block,
    /// Calls are let through up to this limit, which holds beside all others.
    Throttle(Limit),
}

/// Whose limit is set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// All calls of a node.
    Node,
    /// Each namespace that has no limit of its own.
    Namespaces,
    /// Each app that has none.
    Apps,
    /// Each caller that has none.
    Callers,
    /// Whoever asks the control API, each by itself.
    Api,
    /// A namespace.
    Namespace(Name),
    /// An app.
    App(Name, Name),
    /// A function.
    Function(Name, Name),
    /// A caller.
    Caller(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Namespaces => f.write_str("namespaces"),
            Self::Apps => f.write_str("apps"),
            Self::Callers => f.write_str("callers"),
            Self::Api => f.write_str("api"),
            Self::Namespace(namespace) => write!(f, "namespace/{namespace}"),
            Self::App(namespace, app) => write!(f, "app/{namespace}/{app}"),
            Self::Function(namespace, name) => write!(f, "function/{namespace}/{name}"),
            Self::Caller(name) => write!(f, "caller/{name}"),
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let found = match text.split_once('/') {
            None => match text {
                "node" => Some(Self::Node),
                "namespaces" => Some(Self::Namespaces),
                "apps" => Some(Self::Apps),
                "callers" => Some(Self::Callers),
                "api" => Some(Self::Api),
                _ => None,
            },
            Some(("namespace", rest)) => name(rest).map(Self::Namespace),
            Some(("app", rest)) => pair(rest).map(|(namespace, app)| Self::App(namespace, app)),
            Some(("function", rest)) => pair(rest).map(|(namespace, name)| Self::Function(namespace, name)),
            Some(("caller", rest)) if is_caller(rest) => Some(Self::Caller(rest.to_owned())),
            Some(_) => None,
        };
        found.ok_or_else(|| TargetError { text: text.to_owned(), expected: TARGETS })
    }
}

impl Target {
    /// The namespace that it is in, where it is in one.
    #[must_use]
    pub const fn namespace(&self) -> Option<&Name> {
        match self {
            Self::Namespace(namespace) | Self::App(namespace, _) | Self::Function(namespace, _) => {
                Some(namespace)
            }
            _ => None,
        }
    }
}

/// What an operator has set for a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ceiling {
    /// Its requests.
    pub limit: Limit,
    /// Its instances; for the node, namespaces and apps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances_max: Option<u32>,
    /// The memory of its instances, in megabytes; for the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb_max: Option<u64>,
}

const RULES: &[&str] = &["protection", "rules"];
const LIMITS: &[&str] = &["protection", "limits"];

pub(crate) fn epoch() -> Key {
    Key::new(&["protection", "epoch"])
}

pub(crate) fn rules() -> Key {
    Key::new(RULES)
}

pub(crate) fn rule(id: &str) -> Key {
    Key::new(&[RULES[0], RULES[1], id])
}

pub(crate) fn limits() -> Key {
    Key::new(LIMITS)
}

pub(crate) fn limit(target: &Target) -> Key {
    Key::new(&[LIMITS[0], LIMITS[1], &hex(&target.to_string())])
}

/// The target of a record.
pub(crate) fn target_of(key: &Key) -> Option<Target> {
    unhex(key.segments().last()?)?.parse().ok()
}

/// A text as one segment of a key, whatever stands in it.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<String> {
    let digits = text.as_bytes().chunks_exact(2);
    let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_read_back() {
        for text in [
            "node",
            "namespaces",
            "apps",
            "callers",
            "api",
            "namespace/acme",
            "app/acme/shop",
            "function/acme/hello",
            "caller/key:deploy",
            "caller/jwt:a/b c",
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
            assert_eq!(target_of(&limit(&target)), Some(target));
        }
        for text in
            ["caller/key:a/b", "source/10.0.0.0/8", "source/fd00::/8", "namespace/acme", "function/a/b"]
        {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
        assert_eq!("source/10.1.2.3/8".parse::<Subject>().unwrap().to_string(), "source/10.0.0.0/8");
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for text in
            ["", "/", "nodes", "namespace/", "namespace/a/b", "app/a", "function/a", "caller/", "caller/a\nb"]
        {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
        for text in ["node", "source/", "source/1.2.3.4/33", "source/x", "app/a/b", "caller/\0"] {
            assert!(text.parse::<Subject>().is_err(), "{text:?}");
        }
    }
}
