//! Functions: the list, one in full, and the requests that move their pointers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Class, ErrorInfo, FunctionSpec, InstanceInfo, RecentRuns, Version};

/// A function in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionSummary {
    /// The namespace.
    pub namespace: String,
    /// Unique in its namespace.
    pub name: String,
    /// What it is for, in the owner's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The runtime of its latest version.
    pub runtime: String,
    /// How it is mostly called.
    pub class: Class,
    /// The version that calls without a qualifier reach.
    pub latest: u64,
    /// The highest number given so far.
    pub newest: u64,
    /// Movable names for versions.
    pub aliases: BTreeMap<String, u64>,
    /// Where it is called on the public port.
    pub url: String,
    /// Method and path patterns that lead to it besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Whether it can be called now; its detail says why not.
    pub invocable: bool,
    /// Instances of all its versions on this node.
    pub instances: u64,
    /// When it was first deployed.
    pub created_at_ms: i64,
    /// When anything about it last changed.
    pub updated_at_ms: i64,
}

impl FunctionSummary {
    /// A function with the spec of its latest version; what only the running platform knows (URL, instances,
    /// whether it can be called) is left for the caller to fill in.
    #[must_use]
    pub fn new(function: &alula_model::Function, latest: &alula_model::FunctionSpec) -> Self {
        let aliases = function.aliases.iter().map(|(alias, version)| (alias.to_string(), *version));
        Self {
            namespace: function.namespace.to_string(),
            name: function.name.to_string(),
            description: latest.description.clone(),
            runtime: latest.runtime.clone(),
            class: latest.class.into(),
            latest: function.latest,
            newest: function.newest,
            aliases: aliases.collect(),
            url: String::new(),
            routes: latest.routes.iter().map(ToString::to_string).collect(),
            invocable: true,
            instances: 0,
            created_at_ms: function.created_at.as_millis(),
            updated_at_ms: function.updated_at.as_millis(),
        }
    }
}

/// Functions in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionPage {
    /// The functions.
    pub functions: Vec<FunctionSummary>,
    /// The cursor of the next page, if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Everything about one function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionDetail {
    /// The function in one line.
    pub function: FunctionSummary,
    /// The spec of its latest version.
    pub spec: FunctionSpec,
    /// Why it cannot be called, where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_invocable: Option<ErrorInfo>,
    /// Its versions, newest first.
    pub versions: Vec<Version>,
    /// Its instances on this node.
    pub instances: Vec<InstanceInfo>,
    /// How its last calls went.
    pub recent: RecentRuns,
}

/// Moves `latest` to another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version to go to; without it, the one before the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// Points an alias to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasRequest {
    /// The version.
    pub version: u64,
}
