//! Secrets, without their values: nothing that the API answers has one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A secret of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// The number of the version in force.
    pub current: u64,
    /// The versions that are kept, the newest first.
    pub versions: Vec<SecretVersion>,
    /// The functions that get it: those whose `latest` or an alias names it.
    pub used_by: Vec<String>,
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretVersion {
    /// Its number.
    pub number: u64,
    /// When it was set, in milliseconds since the Unix epoch.
    pub set_at_ms: i64,
    /// By whom.
    pub set_by: String,
}

/// Secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretList {
    /// Ordered by name.
    pub secrets: Vec<SecretInfo>,
}

/// A value to be set.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretValue {
    /// The value. Text without NUL, 16 KiB at the most.
    #[schema(write_only, format = Password)]
    pub value: String,
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue(***)")
    }
}

/// Which version is put into force again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecretRollback {
    /// Its number; without it, the one before the one in force.
    pub version: Option<u64>,
}

/// The master key was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MasterKeyRotated {
    /// The name of the key that encrypts now; it tells nothing of the key.
    pub key: String,
    /// Secrets that were encrypted again.
    pub secrets: u64,
}
