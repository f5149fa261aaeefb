//! The platform itself: what it is, which runtimes it has, what protects it, who did what.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The platform in one look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Info {
    /// The version of the platform.
    pub version: String,
    /// Since when it has been up.
    pub started_at_ms: i64,
    /// How long it has been up.
    pub uptime_ms: u64,
    /// Where functions are called.
    pub data_plane_url: String,
    /// Functions in all namespaces.
    pub functions: u64,
    /// Instances on this node.
    pub instances: u64,
    /// Calls that run now.
    pub in_flight: u64,
    /// The name of the token that asks.
    pub actor: String,
    /// The language runtimes.
    pub runtimes: Vec<RuntimeInfo>,
}

/// A language runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeInfo {
    /// Its canonical name: `python3.11`.
    pub name: String,
    /// Other names for it: `python`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Whether functions of it can run here.
    pub available: bool,
    /// What was found, or why it is not available.
    pub detail: String,
    /// The command that makes it available, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The language runtimes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeList {
    /// The runtimes.
    pub runtimes: Vec<RuntimeInfo>,
}

/// A function to begin with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub description: String,
    /// The runtime it is for.
    pub runtime: String,
    /// The handler it states, where it states one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The program and its arguments it states, where it states some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Its files.
    pub files: Vec<TemplateFile>,
}

/// One file of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateFile {
    /// Its path in the function's folder.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateList {
    /// The templates.
    pub templates: Vec<Template>,
}

/// What this machine gives and what is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoctorReport {
    /// Whether every protection is in force and every runtime available.
    pub complete: bool,
    /// The protections, the most important first.
    pub protections: Vec<Protection>,
    /// The runtimes.
    pub runtimes: Vec<RuntimeInfo>,
}

/// One protection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Protection {
    /// Its name.
    pub name: String,
    /// Whether it is in force.
    pub in_force: bool,
    /// How it is done, or what is missing, what that means and how to get it.
    pub detail: String,
}

/// What receivers check requests of the platform with: callbacks, destinations, notices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SigningKey {
    /// The header that holds the signature, `t=SECONDS,v1=HEX`.
    pub header: String,
    /// How HEX is made from the key, SECONDS and the body.
    pub algorithm: String,
    /// The key, to be used as the text that it is. A secret.
    pub key: String,
}

/// Who did what, when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// When.
    pub at_ms: i64,
    /// Who: the name of a token.
    pub actor: String,
    /// The verb: `function.publish`, `function.rollback`...
    pub action: String,
    /// On what: `namespace/function[:version]`.
    pub subject: String,
    /// Details in words.
    pub detail: String,
    /// From where: the address that the request came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Which it is in its namespace, from 1.
    pub number: u64,
    /// The hash of the one before, in hexadecimal; zeros for the first.
    pub previous: String,
    /// SHA-256, in hexadecimal, of the JSON array `[previous, number, at_ms, actor, from, action, subject, detail]` without
    /// spaces, with `before` and `after` behind them where they are there.
    pub hash: String,
    /// What it was, as far as it has changed; `null` where it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "present")]
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// What it is now; `null` where it is not there any more.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "present")]
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
}

/// A value that is there and may be `null`.
mod present {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().unwrap_or(&Value::Null).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(deserializer).map(Some)
    }
}

/// What was found of the audit record of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditReport {
    /// Whether every entry is the one that the next one names.
    pub is_whole: bool,
    /// Entries that are there.
    pub entries: u64,
    /// The oldest one's number; those before were let go.
    pub first: u64,
    /// The newest one's number.
    pub last: u64,
    /// The newest one's hash: kept elsewhere, it tells later whether anything before it was rewritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// What is wrong, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// The audit record, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditList {
    /// The entries.
    pub entries: Vec<AuditEntry>,
}
