//! What is stored.
//!
//! ```text
//! identity/namespaces/<name>     NamespaceRecord
//! identity/users/<name>          UserRecord
//! identity/keys/<id>             KeyRecord
//! identity/calling/<namespace>   CallingRecord
//! identity/sessions/<id>         SessionRecord
//! identity/used/<id>             when a key was used last
//! identity/epoch                 changed with every change, so that other processes see that there was one
//! ```

use alula_model::{Digest, Name, Timestamp};
use alula_store::Key;
use serde::{Deserialize, Serialize};

use crate::grant::Grant;
use crate::key::KeyId;
use crate::login::PasswordRecord;

/// What is known of a namespace besides what is deployed in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRecord {
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// What they are called.
    pub name: Name,
    /// Where they are written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether they administer the platform.
    #[serde(default)]
    pub is_administrator: bool,
    /// Whether their keys are refused.
    #[serde(default)]
    pub is_disabled: bool,
    /// What they are, and where.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// What they log in with, where it is a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordRecord>,
    /// When they were made known.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// Whose key it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyOwner {
    /// A program's, in this namespace.
    Namespace(Name),
    /// A person's: it may what the person may, and ends with them.
    User(Name),
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    pub(crate) id: KeyId,
    pub(crate) name: Name,
    pub(crate) owner: KeyOwner,
    /// What it may; a person's key with none may what the person may.
    #[serde(default)]
    pub(crate) grants: Vec<Grant>,
    pub(crate) digest: Digest,
    /// The secret before the last rotation, as long as it is still taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<Previous>,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
}

/// A secret that was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Previous {
    pub(crate) digest: Digest,
    pub(crate) until: Timestamp,
}

pub(crate) const NAMESPACES: &str = "namespaces";
pub(crate) const USERS: &str = "users";
pub(crate) const KEYS: &str = "keys";
pub(crate) const CALLING: &str = "calling";
pub(crate) const SESSIONS: &str = "sessions";
pub(crate) const USED: &str = "used";

pub(crate) fn all(kind: &str) -> Key {
    Key::new(&["identity", kind])
}

pub(crate) fn one(kind: &str, name: &str) -> Key {
    Key::new(&["identity", kind, name])
}

pub(crate) fn epoch() -> Key {
    Key::new(&["identity", "epoch"])
}
