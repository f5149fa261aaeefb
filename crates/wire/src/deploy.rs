//! Deploying: what may be said besides the source, and the stream of what happens.
//!
//! The answer to a deploy is newline-delimited JSON, one [`DeployEvent`] a line. The last line is `deployed` or
//! `failed`; a stream that ends without either broke off, and the outcome is then found by listing the versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Calls, Class, ErrorInfo, Network};

/// Fields of the spec that the deployer states; each replaces what `alula.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    /// The runtime or an alias of it, such as `python`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Which object of the code is called, `file.object`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The program and its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// What the function is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The app that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Who may call it from outside: `access` of `alula.toml`, which it replaces as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub access: Option<serde_json::Value>,
    /// Memory of one instance in megabytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// Time one attempt may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Time an instance may take to become ready, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_timeout_ms: Option<u64>,
    /// Calls that one instance takes at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Most instances of one version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_instances: Option<u32>,
    /// Instances that are held ready whether they are called or not, of the latest version and of each that an alias
    /// points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_instances: Option<u32>,
    /// Idle time after which an instance goes, in milliseconds. Without it the history of calls decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// How the function is mostly called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// What the function may reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// What of the platform the function may call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<Calls>,
    /// Largest request body for a handler that takes it whole, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_bytes_max: Option<u64>,
    /// Largest response body of a handler that returns it whole, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_bytes_max: Option<u64>,
    /// Size of `/tmp` in megabytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmp_mb: Option<u32>,
    /// Processes and threads of one instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes_max: Option<u32>,
    /// Port that an `http` function listens on inside its sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Environment variables, merged over those of `alula.toml`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Method and path patterns on the public port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<String>>,
    /// How the code is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildOverride>,
    /// How calls are treated that nobody waits for: the table `async` of `alula.toml`, which it replaces as a whole.
    #[serde(rename = "async", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub asynchronous: Option<serde_json::Value>,
    /// What makes it run besides somebody who calls it: the tables `triggers` of `alula.toml`, which they replace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub triggers: Option<Vec<serde_json::Value>>,
    /// What its owner promises of it: the table `slo` of `alula.toml`, which it replaces as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub slo: Option<serde_json::Value>,
    /// What is watched about it and who is told: the table `alarm` of `alula.toml`, which it replaces as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub alarm: Option<serde_json::Value>,
}

/// A build step of the user's own, stated by the deployer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BuildOverride {
    /// Run by `/bin/sh -c` in the code's folder before the version is published.
    pub command: String,
    /// Files whose content decides whether an earlier build can be used again; empty means the whole source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache_key: Vec<String>,
    /// Memory of the build in megabytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// Time the build may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// One line of the answer to a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DeployEvent {
    /// A function entered a stage.
    Stage {
        /// The function; empty while it is not known yet.
        function: String,
        /// The stage.
        stage: DeployStage,
        /// What happens there, in words.
        detail: String,
    },
    /// The build step wrote a line.
    BuildLine {
        /// The function that is built.
        function: String,
        /// The line, without its end.
        text: String,
    },
    /// Something will not work as the spec has it; the deploy goes on.
    Warning {
        /// The function.
        function: String,
        /// What will not work, why, and what to do.
        text: String,
    },
    /// Everything is in force. The last line.
    Deployed {
        /// What was deployed, one entry a function.
        functions: Vec<DeployedFunction>,
    },
    /// Nothing changed. The last line.
    Failed {
        /// Why.
        error: ErrorInfo,
    },
}

/// Where a deploy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeployStage {
    /// Receiving and reading the source.
    Upload,
    /// Checking the spec and the package.
    Validate,
    /// Running the build step, or finding its earlier result.
    Build,
    /// Writing the version.
    Publish,
    /// The version answers calls.
    Ready,
}

/// What a deploy made of one function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployedFunction {
    /// The namespace.
    pub namespace: String,
    /// The function.
    pub name: String,
    /// The version that calls reach now.
    pub version: u64,
    /// Whether the version is new; identical spec and source make none.
    pub is_new: bool,
    /// Whether an earlier build was used again.
    pub build_cached: bool,
    /// The canonical name of its runtime.
    pub runtime: String,
    /// Size of the package in bytes.
    pub package_bytes: u64,
    /// Where it is called on the public port.
    pub url: String,
    /// Whether this was a rehearsal that published nothing.
    pub dry_run: bool,
    /// From the end of the upload to the version in force.
    pub took_ms: u64,
}
