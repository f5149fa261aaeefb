//! Who may do what: namespaces, people, keys and roles.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A role in a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The namespace.
    pub namespace: String,
    /// Only in this app of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// `viewer`, `developer`, `operator` or `owner`.
    pub role: String,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// What they are called in the audit record.
    pub name: String,
    /// Whether they administer the platform.
    pub is_administrator: bool,
    /// What they are elsewhere.
    pub grants: Vec<Grant>,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamespaceInfo {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Functions in it.
    pub functions: u64,
    /// When it was made known, in milliseconds since the Unix epoch; none where something was only deployed to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at_ms: Option<i64>,
}

/// Namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamespaceList {
    /// Ordered by name; those that whoever asks has a role in.
    pub namespaces: Vec<NamespaceInfo>,
}

/// What is said of a new namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewNamespace {
    /// What it is for.
    pub description: String,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserInfo {
    /// What they are called.
    pub name: String,
    /// Where they are written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether they administer the platform.
    pub is_administrator: bool,
    /// Whether their keys are refused.
    pub is_disabled: bool,
    /// What they are, and where; among members, in the namespace only.
    pub grants: Vec<Grant>,
    /// Whether they can log in by a password.
    #[serde(default)]
    pub has_password: bool,
    /// For how long they may not try to log in from some address, after tries in vain; for administrators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_paused_ms: Option<u64>,
    /// When they were made known, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

/// People.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserList {
    /// Ordered by name.
    pub users: Vec<UserInfo>,
}

/// What is said of a new person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewUser {
    /// Where they are written to.
    pub email: Option<String>,
    /// Whether they administer the platform.
    pub is_administrator: bool,
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyInfo {
    /// Its id: the second part of the key itself.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// The namespace that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The person whom it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it may; a person's key with none may what the person may.
    pub grants: Vec<Grant>,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// By whom.
    pub created_by: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
    /// When it was used last, a minute late at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at_ms: Option<i64>,
}

/// Keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// Ordered by name.
    pub keys: Vec<KeyInfo>,
}

/// A key to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewKeyRequest {
    /// What it is called.
    pub name: String,
    /// The person whom it belongs to; without one it belongs to the namespace of the query.
    pub user: Option<String>,
    /// What it may; a person's key with none may what the person may.
    pub grants: Vec<Grant>,
    /// When it ends, in seconds from now; never, without.
    pub expires_in_s: Option<u64>,
}

/// How a key gets another secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RotateRequest {
    /// For how long the old secret is still taken, in seconds.
    pub keep_old_s: u64,
}

/// A key that was made just now: the only time that it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewKey {
    /// What is known of it from now on.
    #[serde(flatten)]
    pub info: KeyInfo,
    /// The key itself.
    pub key: String,
}

/// Who may call functions from outside that do not say so themselves: `access` of `alula.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessInfo {
    /// What the namespace says; none where the installation's default holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub default: Option<serde_json::Value>,
    /// What is in force.
    #[schema(value_type = serde_json::Value)]
    pub in_force: serde_json::Value,
}

/// What a namespace is to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewAccess {
    /// Who may call; without it, the installation's default holds.
    #[schema(value_type = Option<serde_json::Value>)]
    pub default: Option<serde_json::Value>,
}

/// An address to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSignedUrl {
    /// The method that it is for.
    #[serde(default = "get")]
    pub method: String,
    /// Path and query as the function is to see them; begins with `/`.
    #[serde(default = "root")]
    pub path: String,
    /// A version number or an alias; `latest` where it is not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<String>,
    /// For how many seconds it is good, a week at the most.
    pub expires_in_s: u64,
}

/// An address that is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedUrl {
    /// The whole address.
    pub url: String,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires_at_ms: i64,
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

/// Who logs in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// What they are called.
    pub user: String,
    /// Their password.
    pub password: String,
    /// Whether the session is to be a cookie, for a page in a browser.
    #[serde(default)]
    pub cookie: bool,
}

/// A session that has begun.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginAnswer {
    /// The session.
    pub session: SessionInfo,
    /// Its token, where it is not a cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// With a cookie: what goes into the header `X-Alula-CSRF` of every request that changes something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf_token: Option<String>,
}

/// A password to be changed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// Whose it is.
    pub user: String,
    /// The one that they have.
    pub password: String,
    /// The one that they choose.
    pub new_password: String,
}

/// A password that was made for somebody.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewPassword {
    /// It opens nothing but its own change.
    pub password: String,
}

macro_rules! untold {
    ($($name:ident),+) => {
        $(impl std::fmt::Debug for $name {
            /// Without what must not stand in a log.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        })+
    };
}

untold!(LoginRequest, LoginAnswer, PasswordRequest, NewPassword);

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionInfo {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// How they logged in: `password` or `oidc`.
    pub way: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// The address that they logged in from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// When it was used last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at_ms: Option<i64>,
    /// When it ends, however much it is used.
    pub ends_at_ms: i64,
}

/// Sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionList {
    /// The newest first.
    pub sessions: Vec<SessionInfo>,
}
