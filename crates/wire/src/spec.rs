//! A function's spec as the API shows it: the same keys as in `alula.toml`, every default filled in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::mirror::mirror_enum;

mirror_enum! {
    /// How a function is mostly called.
    Class {
        /// Somebody waits for each answer.
        Sync,
        /// Called by the clock.
        Scheduled,
        /// Called through the queue.
        Async,
    }
}

/// What a function may reach beyond its own sandbox: `"none"`, `"internet"`, or a list of rules such as
/// `"api.example.com:443"`, `"*.example.com"` and `"10.1.2.0/24:5432"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Network {
    /// `none` or `internet`.
    Word(String),
    /// Rules, one of which must permit a place.
    Rules(Vec<String>),
}

impl From<&alula_model::Network> for Network {
    fn from(network: &alula_model::Network) -> Self {
        match network {
            alula_model::Network::Rules(rules) => {
                Self::Rules(rules.iter().map(ToString::to_string).collect())
            }
            word => Self::Word(word.to_string()),
        }
    }
}

mirror_enum! {
    /// What of the platform a function may call from inside its sandbox.
    Calls {
        /// Nothing.
        None,
        /// Functions, topics and buckets of its own namespace.
        Namespace,
    }
}

/// What a function is and may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionSpec {
    /// The language runtime by its canonical name, such as `python3.11`.
    pub runtime: String,
    /// Which object of the code is called, `file.object`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The program and its arguments, for `exec`, `http` and `provided`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What the function is for, in the owner's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The app that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Who may call it from outside: `access` of `alula.toml`, left out where its namespace says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub access: Option<serde_json::Value>,
    /// Memory of one instance in megabytes.
    pub memory_mb: u32,
    /// Time one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// Time an instance may take to become ready, in milliseconds.
    pub init_timeout_ms: u64,
    /// Calls that one instance takes at once.
    pub concurrency: u32,
    /// Calls that one guest of a `wasm` function runs before it is replaced by a fresh one.
    #[serde(default = "one")]
    pub calls_per_guest: u32,
    /// Most instances of one version on one node.
    pub max_instances: u32,
    /// Instances that are held ready on one node whether they are called or not, of the latest version and of each that
    /// an alias points to.
    #[serde(default)]
    pub min_instances: u32,
    /// Idle time after which an instance goes, in milliseconds. Without it the history of calls decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// How the function is mostly called.
    pub class: Class,
    /// What the function may reach.
    pub network: Network,
    /// What of the platform the function may call.
    #[serde(default = "nothing")]
    pub calls: Calls,
    /// Largest request body for a handler that takes it whole, in bytes.
    pub request_bytes_max: u64,
    /// Largest response body of a handler that returns it whole, in bytes.
    pub response_bytes_max: u64,
    /// Size of `/tmp` in megabytes.
    pub tmp_mb: u32,
    /// Processes and threads of one instance.
    pub processes_max: u32,
    /// Port that an `http` function listens on inside its sandbox.
    pub port: u16,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Secrets that it gets: by variable, the secret's name, with `@` and a number where it is one version for good.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Method and path patterns that lead to this function on the public port, such as `GET /users/{id}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// How the code is built before it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildSpec>,
    /// How calls are treated that nobody waits for: the table `async` of `alula.toml`, left out where all of it is as
    /// by default.
    #[serde(rename = "async", default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub asynchronous: Option<serde_json::Value>,
    /// How many requests it takes: the table `limits` of `alula.toml`, left out where there are no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub limits: Option<serde_json::Value>,
    /// What makes it run besides somebody who calls it: the tables `triggers` of `alula.toml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub triggers: Vec<serde_json::Value>,
    /// What its owner promises of it: the table `slo` of `alula.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub slo: Option<serde_json::Value>,
    /// What is watched about it and who is told: the table `alarm` of `alula.toml`, left out where it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub alarm: Option<serde_json::Value>,
    /// When calls are refused because the last ones failed: `false` or the table `breaker` of `alula.toml`, left out where all
    /// of it is as by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub breaker: Option<serde_json::Value>,
    /// What is answered when it cannot answer: the table `degraded` of `alula.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub degraded: Option<serde_json::Value>,
    /// Calls at once that follow its latency: the table `adaptive` of `alula.toml`, left out where it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub adaptive: Option<serde_json::Value>,
}

/// A build step of the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildSpec {
    /// Run by `/bin/sh -c` in the code's folder before the version is published.
    pub command: String,
    /// Files whose content decides whether an earlier build can be used again; empty means the whole source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache_key: Vec<String>,
    /// Memory of the build in megabytes.
    pub memory_mb: u32,
    /// Time the build may take, in milliseconds.
    pub timeout_ms: u64,
}

/// What a platform from before the setting does.
fn one() -> u32 {
    1
}

/// The same for calls from inside.
fn nothing() -> Calls {
    Calls::None
}

impl From<&alula_model::FunctionSpec> for FunctionSpec {
    fn from(spec: &alula_model::FunctionSpec) -> Self {
        Self {
            runtime: spec.runtime.clone(),
            handler: spec.handler.clone(),
            command: spec.command.clone(),
            description: spec.description.clone(),
            app: spec.app.as_ref().map(ToString::to_string),
            access: spec.access.as_ref().and_then(|access| serde_json::to_value(access).ok()),
            memory_mb: spec.memory_mb,
            timeout_ms: spec.timeout_ms,
            init_timeout_ms: spec.init_timeout_ms,
            concurrency: spec.concurrency,
            calls_per_guest: spec.calls_per_guest,
            max_instances: spec.max_instances,
            min_instances: spec.min_instances,
            idle_timeout_ms: spec.idle_timeout_ms,
            class: spec.class.into(),
            network: (&spec.network).into(),
            calls: spec.calls.into(),
            request_bytes_max: spec.request_bytes_max,
            response_bytes_max: spec.response_bytes_max,
            tmp_mb: spec.tmp_mb(),
            processes_max: spec.processes_max(),
            port: spec.port,
            env: spec.env.clone(),
            secrets: spec.secrets.iter().map(|(name, used)| (name.to_owned(), used.to_string())).collect(),
            routes: spec.routes.iter().map(ToString::to_string).collect(),
            build: spec.build.as_ref().map(BuildSpec::from),
            asynchronous: (spec.asynchronous != alula_model::AsyncSpec::default())
                .then(|| plain(&spec.asynchronous)),
            limits: (spec.limits != alula_model::FunctionLimits::default()).then(|| plain(&spec.limits)),
            triggers: spec.triggers.iter().map(plain).collect(),
            slo: spec.slo.as_ref().map(plain),
            alarm: (spec.alarm != alula_model::alarm::AlarmSpec::default()).then(|| plain(&spec.alarm)),
            breaker: (!spec.breaker.is_usual()).then(|| plain(&spec.breaker)),
            degraded: spec.degraded.as_ref().map(plain),
            adaptive: spec.adaptive.on().map(plain),
        }
    }
}

/// A part of a spec as it is written.
fn plain(part: &impl Serialize) -> serde_json::Value {
    // All keys are text, which is the one thing that could fail.
    serde_json::to_value(part).unwrap_or_default()
}

impl From<&alula_model::BuildSpec> for BuildSpec {
    fn from(build: &alula_model::BuildSpec) -> Self {
        Self {
            command: build.command.clone(),
            cache_key: build.cache_key.clone(),
            memory_mb: build.memory_mb,
            timeout_ms: build.timeout_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_spec_has_the_keys_of_the_file() {
        let mut spec = alula_model::FunctionSpec::new("python3.11");
        spec.routes = vec![alula_model::Route::parse("GET /u/{id}").unwrap()];
        spec.env = [("A".to_owned(), "b".to_owned())].into();
        // What follows from the memory is in the public spec whether it is stated or not.
        (spec.tmp_mb, spec.processes_max) = (Some(64), Some(256));
        let public = serde_json::to_value(FunctionSpec::from(&spec)).unwrap();
        assert_eq!(public, serde_json::to_value(&spec).unwrap());
    }
}
