//! Versions and what changed between two of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::FunctionSpec;

/// An immutable version of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The namespace.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// 1, 2, 3...
    pub version: u64,
    /// The spec.
    pub spec: FunctionSpec,
    /// SHA-256 of the uploaded source.
    pub source: String,
    /// SHA-256 of what runs.
    pub package: String,
    /// Size of the package in bytes.
    pub package_bytes: u64,
    /// When it was published.
    pub published_at_ms: i64,
    /// Who published it: the name of their token.
    pub published_by: String,
    /// What the publisher said about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Whether calls without a qualifier reach it.
    pub is_latest: bool,
    /// The aliases that point to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

impl Version {
    /// The version as it stands in its function, which knows the pointers to it.
    #[must_use]
    pub fn new(version: &alula_model::Version, function: &alula_model::Function) -> Self {
        let number = version.key.version;
        let points_here = function.aliases.iter().filter(|(_, target)| **target == number);
        Self {
            is_latest: function.latest == number,
            aliases: points_here.map(|(alias, _)| alias.to_string()).collect(),
            ..Self::from(version)
        }
    }
}

/// The version alone, as if nothing pointed to it.
impl From<&alula_model::Version> for Version {
    fn from(version: &alula_model::Version) -> Self {
        Self {
            namespace: version.key.namespace.to_string(),
            function: version.key.function.to_string(),
            version: version.key.version,
            spec: FunctionSpec::from(&version.spec),
            source: version.source.to_string(),
            package: version.package.to_string(),
            package_bytes: version.package_bytes,
            published_at_ms: version.published_at.as_millis(),
            published_by: version.published_by.clone(),
            message: version.message.clone(),
            is_latest: false,
            aliases: Vec::new(),
        }
    }
}

/// The versions of a function, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionList {
    /// The versions.
    pub versions: Vec<Version>,
}

/// What changed between two versions of one function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionDiff {
    /// The earlier side.
    pub from: u64,
    /// The later side.
    pub to: u64,
    /// Fields of the spec that differ.
    pub spec: Vec<FieldChange>,
    /// Files of the source that differ, by path.
    pub files: Vec<FileChange>,
}

/// A field of the spec that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldChange {
    /// The field as it stands in `alula.toml`, such as `memory_mb` or `env.LEVEL`.
    pub field: String,
    /// Its value in `from`, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its value in `to`, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A file of the source that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileChange {
    /// Its path in the source.
    pub path: String,
    /// What happened to it.
    pub change: FileChangeKind,
    /// The changed lines as a unified diff, for text of moderate size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileChangeKind {
    /// It is only in the later version.
    Added,
    /// It is only in the earlier version.
    Removed,
    /// Its content differs.
    Modified,
}
