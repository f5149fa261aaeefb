//! The spec of a function: what its owner states, with the defaults filled in and checked.
//!
//! It is the shape of one function in `alula.toml` and the immutable part of every version. Users state memory;
//! what follows from it (processes, /tmp, CPU) is computed by the methods here and may be overridden.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access::AccessSpec;
use crate::alarm::AlarmSpec;
use crate::asynchronous::AsyncSpec;
use crate::limits;
use crate::name::Name;
use crate::network::Network;
use crate::rate::FunctionLimits;
use crate::resilience::{AdaptiveSpec, BreakerSpec, DegradedSpec, Switch};
use crate::route::Route;
use crate::secret::SecretUses;
use crate::slo::SloSpec;
use crate::trigger::{self, Trigger};

/// What a function is and may use. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionSpec {
    /// The language runtime: `python3.11`, `node20`, `exec`, `http`, `provided`, or an alias such as `python`.
    pub runtime: String,
    /// Which object of the code is called, `file.object` (`main.handler`); each language has its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// The program and its arguments, for `exec`, `http` and `provided`; relative to the code's folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// What the function is for, in the owner's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The app that it belongs to: functions of a namespace that share ceilings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<Name>,
    /// Who may call it from outside; without it, what its namespace says and then the installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessSpec>,
    /// Memory of one instance in megabytes.
    #[serde(default = "defaults::memory_mb")]
    pub memory_mb: u32,
    /// Time one attempt may take, in milliseconds.
    #[serde(default = "defaults::timeout_ms")]
    pub timeout_ms: u64,
    /// Time an instance may take to become ready, in milliseconds.
    #[serde(default = "defaults::init_timeout_ms")]
    pub init_timeout_ms: u64,
    /// Calls that one instance takes at once.
    #[serde(default = "defaults::concurrency")]
    pub concurrency: u32,
    /// Calls that one guest of a `wasm` function runs, one after another, before it is replaced by a fresh one. With 1
    /// no call finds what an earlier one left in memory.
    #[serde(default = "defaults::calls_per_guest")]
    pub calls_per_guest: u32,
    /// Most instances of one version on one node.
    #[serde(default = "defaults::max_instances")]
    pub max_instances: u32,
    /// Instances that are held ready on one node whether they are called or not, of the latest version and of each that
    /// an alias points to.
    #[serde(default)]
    pub min_instances: u32,
    /// Idle time after which an instance goes, in milliseconds. Without it the history of calls decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// How the function is mostly called; decides who gives way when memory is short.
    #[serde(default)]
    pub class: Class,
    /// What the function may reach: `"none"`, `"internet"` or a list of rules.
    #[serde(default)]
    pub network: Network,
    /// What of the platform the function may call.
    #[serde(default)]
    pub calls: Calls,
    /// Largest request body for a handler that takes it whole, in bytes.
    #[serde(default = "defaults::request_bytes_max")]
    pub request_bytes_max: u64,
    /// Largest response body of a handler that returns it whole, in bytes.
    #[serde(default = "defaults::response_bytes_max")]
    pub response_bytes_max: u64,
    /// Size of `/tmp` in megabytes. Without it, it follows from the memory: see [`FunctionSpec::tmp_mb`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmp_mb: Option<u32>,
    /// Processes and threads of one instance. Without it, they follow from the memory: see
    /// [`FunctionSpec::processes_max`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_max: Option<u32>,
    /// Port that an `http` function listens on inside its sandbox; it is also told in `$PORT`.
    #[serde(default = "defaults::port")]
    pub port: u16,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Secrets of the namespace that it gets as environment variables: a list of their names, or a table
    /// `VARIABLE = "secret"`; `secret@3` means one version for good.
    #[serde(default, skip_serializing_if = "SecretUses::is_empty")]
    pub secrets: SecretUses,
    /// Method and path patterns that lead to this function on the public port, such as `GET /users/{id}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// How the code is built before it runs; languages with a lock file need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildSpec>,
    /// How calls are treated that nobody waits for.
    #[serde(rename = "async", default, skip_serializing_if = "is_default")]
    pub asynchronous: AsyncSpec,
    /// How many requests it takes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: FunctionLimits,
    /// What makes it run besides somebody who calls it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// What its owner promises of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<SloSpec>,
    /// What is watched about it and who is told.
    #[serde(default, skip_serializing_if = "is_default")]
    pub alarm: AlarmSpec,
    /// When calls are refused because the last ones failed.
    #[serde(default = "defaults::breaker", skip_serializing_if = "Switch::is_usual")]
    pub breaker: Switch<BreakerSpec>,
    /// What is answered when it cannot answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<DegradedSpec>,
    /// Calls at once that follow its latency.
    #[serde(default = "defaults::adaptive", skip_serializing_if = "defaults::is_off")]
    pub adaptive: Switch<AdaptiveSpec>,
}

/// A build step of the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildSpec {
    /// Run by `/bin/sh -c` in the code's folder, with network access, before the version is published.
    pub command: String,
    /// Files whose content decides whether an earlier build can be used again; empty means the whole source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache_key: Vec<String>,
    /// Memory of the build in megabytes.
    #[serde(default = "defaults::build_memory_mb")]
    pub memory_mb: u32,
    /// Time the build may take, in milliseconds.
    #[serde(default = "defaults::build_timeout_ms")]
    pub timeout_ms: u64,
}

/// How a function is mostly called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Somebody waits for each answer.
    #[default]
    Sync,
    /// Called by the clock.
    Scheduled,
    /// Called through the queue.
    Async,
}

/// What of the platform a function may call from inside its sandbox, whatever its network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Calls {
    /// Nothing: there is no way to the platform in the sandbox.
    None,
    /// Functions, topics and buckets of its own namespace.
    #[default]
    Namespace,
}

/// A field of a spec is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct SpecError {
    /// The field as it stands in `alula.toml`.
    pub field: &'static str,
    /// What is wrong and what is allowed.
    pub reason: String,
}

impl FunctionSpec {
    /// A spec with every default, for `runtime`.
    #[must_use]
    pub fn new(runtime: &str) -> Self {
        Self {
            runtime: runtime.to_owned(),
            handler: None,
            command: Vec::new(),
            description: String::new(),
            app: None,
            access: None,
            memory_mb: limits::MEMORY_MB_DEFAULT,
            timeout_ms: limits::TIMEOUT_MS_DEFAULT,
            init_timeout_ms: limits::INIT_TIMEOUT_MS_DEFAULT,
            concurrency: limits::CONCURRENCY_DEFAULT,
            calls_per_guest: limits::CALLS_PER_GUEST_DEFAULT,
            max_instances: limits::INSTANCES_DEFAULT,
            min_instances: 0,
            idle_timeout_ms: None,
            class: Class::default(),
            network: Network::default(),
            calls: Calls::default(),
            request_bytes_max: limits::REQUEST_BYTES_DEFAULT,
            response_bytes_max: limits::RESPONSE_BYTES_DEFAULT,
            tmp_mb: None,
            processes_max: None,
            port: defaults::port(),
            env: BTreeMap::new(),
            secrets: SecretUses::default(),
            routes: Vec::new(),
            build: None,
            asynchronous: AsyncSpec::default(),
            limits: FunctionLimits::default(),
            triggers: Vec::new(),
            slo: None,
            alarm: AlarmSpec::default(),
            breaker: defaults::breaker(),
            degraded: None,
            adaptive: defaults::adaptive(),
        }
    }

    /// Size of `/tmp` in megabytes: what was stated, or a quarter of the memory within bounds.
    #[must_use]
    pub fn tmp_mb(&self) -> u32 {
        let follows = self.memory_mb / limits::TMP_MEMORY_PART;
        self.tmp_mb.unwrap_or(follows.clamp(limits::TMP_MB_LEAST, limits::TMP_MB_MOST))
    }

    /// Processes and threads of one instance: what was stated, or one for every megabyte within bounds.
    #[must_use]
    pub fn processes_max(&self) -> u32 {
        let follows = self.memory_mb.clamp(limits::PROCESSES_LEAST, limits::PROCESSES_MOST);
        self.processes_max.unwrap_or(follows)
    }

    /// Relative share of the CPU where there is not enough for all, in proportion to the memory; 100 is that of the usual
    /// memory.
    #[must_use]
    pub fn cpu_weight(&self) -> u32 {
        let weight = u64::from(self.memory_mb) * u64::from(limits::CPU_WEIGHT_USUAL);
        let weight = weight / u64::from(limits::MEMORY_MB_DEFAULT);
        u32::try_from(weight).unwrap_or(u32::MAX).clamp(1, limits::CPU_WEIGHT_MAX)
    }

    /// Checks every field against its bounds and names the first that is outside.
    pub fn validate(&self) -> Result<(), SpecError> {
        within(
            "memory_mb",
            self.memory_mb.into(),
            limits::MEMORY_MB_MIN.into(),
            limits::MEMORY_MB_MAX.into(),
        )?;
        within("timeout_ms", self.timeout_ms, 1, limits::TIMEOUT_MS_MAX)?;
        within("init_timeout_ms", self.init_timeout_ms, 1, limits::INIT_TIMEOUT_MS_MAX)?;
        within("concurrency", self.concurrency.into(), 1, limits::CONCURRENCY_MAX.into())?;
        within("calls_per_guest", self.calls_per_guest.into(), 1, limits::CALLS_PER_GUEST_MAX.into())?;
        within("max_instances", self.max_instances.into(), 1, limits::INSTANCES_MAX.into())?;
        within("min_instances", self.min_instances.into(), 0, self.max_instances.into())?;
        within("request_bytes_max", self.request_bytes_max, 0, limits::BUFFERED_BYTES_MAX)?;
        within("response_bytes_max", self.response_bytes_max, 0, limits::BUFFERED_BYTES_MAX)?;
        within("tmp_mb", self.tmp_mb().into(), 1, self.memory_mb.max(limits::TMP_MB_LEAST).into())?;
        within("processes_max", self.processes_max().into(), 1, limits::PROCESSES_STATED_MAX.into())?;
        within("port", self.port.into(), 1024, 65_535)?;
        within("routes", self.routes.len() as u64, 0, limits::ROUTES_MAX as u64)?;
        self.access.as_ref().map_or(Ok(()), AccessSpec::validate)?;
        self.asynchronous.validate()?;
        self.limits.validate()?;
        trigger::validate(&self.triggers)?;
        self.slo.as_ref().map_or(Ok(()), SloSpec::validate)?;
        self.alarm.validate()?;
        self.breaker.on().map_or(Ok(()), BreakerSpec::validate)?;
        self.degraded.as_ref().map_or(Ok(()), DegradedSpec::validate)?;
        self.adaptive.on().map_or(Ok(()), AdaptiveSpec::validate)?;
        self.validate_texts()
    }

    fn validate_texts(&self) -> Result<(), SpecError> {
        if self.runtime.is_empty() {
            return Err(SpecError { field: "runtime", reason: "must not be empty".to_owned() });
        }
        if self.description.chars().count() > limits::DESCRIPTION_LEN_MAX {
            let reason = format!("at most {} characters are allowed", limits::DESCRIPTION_LEN_MAX);
            return Err(SpecError { field: "description", reason });
        }
        if let Some(part) = self.command.iter().find(|part| part.contains('\0')) {
            return Err(SpecError { field: "command", reason: format!("{part:?} has a NUL byte") });
        }
        validate_env(&self.env)?;
        self.validate_secrets()
    }

    fn validate_secrets(&self) -> Result<(), SpecError> {
        let refuse = |reason: String| Err(SpecError { field: "secrets", reason });
        for (variable, _) in self.secrets.iter() {
            if !is_variable_name(variable) {
                return refuse(format!("{variable:?} is not a variable name: use letters, digits and _"));
            }
            if self.env.contains_key(variable) {
                return refuse(format!("{variable} is set by `env` as well; leave one of them out"));
            }
        }
        Ok(())
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn validate_env(env: &BTreeMap<String, String>) -> Result<(), SpecError> {
    let refuse = |reason: String| Err(SpecError { field: "env", reason });
    for (name, value) in env {
        if !is_variable_name(name) {
            return refuse(format!("{name:?} is not a variable name: use letters, digits and _"));
        }
        if value.contains('\0') {
            return refuse(format!("the value of {name} has a NUL byte"));
        }
    }
    let bytes: usize = env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if bytes > limits::ENV_BYTES_MAX {
        return refuse(format!("{bytes} bytes in all, at most {} are allowed", limits::ENV_BYTES_MAX));
    }
    Ok(())
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), SpecError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(SpecError { field, reason: format!("{value} is out of bounds, allowed is {min} to {max}") })
}

mod defaults {
    use crate::limits;
    use crate::resilience::{AdaptiveSpec, BreakerSpec, Switch};

    pub(super) fn breaker() -> Switch<BreakerSpec> {
        Switch::On(BreakerSpec::default())
    }
    /// It takes a function whose latency tells how loaded it is.
    pub(super) fn adaptive() -> Switch<AdaptiveSpec> {
        Switch::Off
    }
    pub(super) fn is_off(adaptive: &Switch<AdaptiveSpec>) -> bool {
        *adaptive == Switch::Off
    }

    pub(super) fn memory_mb() -> u32 {
        limits::MEMORY_MB_DEFAULT
    }
    pub(super) fn timeout_ms() -> u64 {
        limits::TIMEOUT_MS_DEFAULT
    }
    pub(super) fn init_timeout_ms() -> u64 {
        limits::INIT_TIMEOUT_MS_DEFAULT
    }
    pub(super) fn calls_per_guest() -> u32 {
        limits::CALLS_PER_GUEST_DEFAULT
    }
    pub(super) fn concurrency() -> u32 {
        limits::CONCURRENCY_DEFAULT
    }
    pub(super) fn max_instances() -> u32 {
        limits::INSTANCES_DEFAULT
    }
    pub(super) fn request_bytes_max() -> u64 {
        limits::REQUEST_BYTES_DEFAULT
    }
    pub(super) fn response_bytes_max() -> u64 {
        limits::RESPONSE_BYTES_DEFAULT
    }
    pub(super) fn port() -> u16 {
        8080
    }
    /// A compiler needs more than the function that it makes.
    pub(super) fn build_memory_mb() -> u32 {
        2048
    }
    /// Installing a large dependency tree over a slow line.
    pub(super) fn build_timeout_ms() -> u64 {
        900_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(FunctionSpec::new("exec").validate(), Ok(()));
    }

    #[test]
    fn the_first_field_out_of_bounds_is_named() {
        let spec = FunctionSpec { memory_mb: 1, ..FunctionSpec::new("exec") };
        assert_eq!(spec.validate().map_err(|e| e.field), Err("memory_mb"));
        let spec = FunctionSpec { timeout_ms: 0, ..FunctionSpec::new("exec") };
        assert_eq!(spec.validate().map_err(|e| e.field), Err("timeout_ms"));
        let env = BTreeMap::from([("A=B".to_owned(), String::new())]);
        let spec = FunctionSpec { env, ..FunctionSpec::new("exec") };
        assert_eq!(spec.validate().map_err(|e| e.field), Err("env"));
    }

    #[test]
    fn what_is_not_stated_follows_from_the_memory_within_bounds() {
        let of = |memory_mb| {
            let spec = FunctionSpec { memory_mb, ..FunctionSpec::new("exec") };
            (spec.tmp_mb(), spec.processes_max(), spec.cpu_weight())
        };
        assert_eq!(of(limits::MEMORY_MB_MIN), (64, 64, 6));
        assert_eq!(of(256), (64, 256, 100));
        assert_eq!(of(1_024), (256, 1_024, 400));
        assert_eq!(of(limits::MEMORY_MB_MAX), (2_048, 4_096, 10_000));
        let stated = FunctionSpec { tmp_mb: Some(7), processes_max: Some(9), ..FunctionSpec::new("exec") };
        assert_eq!((stated.tmp_mb(), stated.processes_max()), (7, 9));
    }

    /// The rows of the reference page: a key and what stands behind it.
    fn rows(page: &str) -> BTreeMap<&str, &str> {
        let row = |line: &'static str| line.strip_prefix("| `")?.split_once("` |");
        let page: &'static str = page.to_owned().leak();
        page.lines().filter_map(row).collect()
    }

    #[test]
    fn the_reference_page_names_every_key_with_its_default() {
        let (functions, builds) = include_str!("../../../docs/functions.md").split_once("## Build").unwrap();
        let spec = FunctionSpec {
            handler: Some("x".to_owned()),
            command: vec!["x".to_owned()],
            description: "x".to_owned(),
            env: BTreeMap::from([("X".to_owned(), "x".to_owned())]),
            app: Some(Name::new("x").unwrap()),
            access: Some(AccessSpec::only(crate::access::Way::Inside)),
            idle_timeout_ms: Some(1),
            tmp_mb: Some(1),
            processes_max: Some(1),
            routes: vec![Route::parse("/x").unwrap()],
            build: Some(serde_json::from_str(r#"{"command": "x", "cache_key": ["x"]}"#).unwrap()),
            asynchronous: AsyncSpec { dedicated: true, ..AsyncSpec::default() },
            triggers: serde_json::from_str(r#"[{"name": "x", "kind": "bucket", "bucket": "x"}]"#).unwrap(),
            secrets: serde_json::from_str(r#"["x"]"#).unwrap(),
            limits: serde_json::from_str(r#"{"in_flight": 1}"#).unwrap(),
            slo: serde_json::from_str(r#"{"availability": 99}"#).unwrap(),
            alarm: serde_json::from_str(r#"{"off": ["x"]}"#).unwrap(),
            breaker: Switch::Off,
            degraded: Some(DegradedSpec::default()),
            adaptive: Switch::On(AdaptiveSpec::default()),
            ..FunctionSpec::new("exec")
        };
        let mut spec = serde_json::to_value(spec).unwrap();
        let build = spec["build"].take();
        for (page, keys) in [(functions, spec), (builds, build)] {
            let rows = rows(page);
            for (key, default) in keys.as_object().unwrap() {
                let row = rows
                    .get(key.as_str())
                    .unwrap_or_else(|| panic!("docs/functions.md has no row for {key}"));
                // Without a number of its own it follows the history of calls, or the memory.
                let follows = ["idle_timeout_ms", "tmp_mb", "processes_max"];
                if default.is_number() && !follows.contains(&key.as_str()) {
                    assert!(
                        row.starts_with(&format!(" {default} |")),
                        "the default of {key} is {default}, not{row}"
                    );
                }
            }
            assert_eq!(rows.len(), keys.as_object().unwrap().len(), "docs/functions.md has a row too many");
        }
    }
}
