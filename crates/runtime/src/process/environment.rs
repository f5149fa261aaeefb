//! The environment variables that a function's processes start with.
//!
//! Three layers: defaults that the function may replace (`PATH`, `LANG`, `TZ`...), the function's own with its secrets, and those
//! that the platform tells, which cannot be replaced: a spec that names one is refused at deploy time, so that
//! nothing is overridden in silence. Nothing of the platform's own environment is ever passed on.

use std::collections::BTreeMap;

use alula_model::{Calls, InstanceId, SpecError};
use zeroize::Zeroize as _;

use super::cells::CODE_DIR;
use crate::language::{Language, Protocol, SHIM_DIR};
use crate::{DOOR_URL, EGRESS_PROXY_PORT, VersionPlan};

/// Where programs are looked for inside a cell.
pub(super) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Never through the proxy: what is inside the sandbox.
const NO_PROXY: &str = "localhost,127.0.0.1,::1,gateway";
/// A region must be named for the AWS libraries to load; the value has no meaning here.
const REGION: &str = "us-east-1";
/// The variable that an `exec` function sets to choose the form of its output.
const OUTPUT_CHOICE: &str = "ALULA_OUTPUT";

type Variables = BTreeMap<String, String>;

/// The whole environment of the instance `id`.
pub(super) fn build(plan: &VersionPlan, language: &Language, id: &InstanceId) -> Variables {
    let mut env = defaults(language);
    env.extend(language.manifest.env.clone());
    env.extend(plan.spec.env.clone());
    env.extend(secrets(plan));
    env.extend(told(plan));
    env.insert("ALULA_INSTANCE".to_owned(), id.to_string());
    env.insert("AWS_LAMBDA_LOG_STREAM_NAME".to_owned(), id.to_string());
    if language.protocol() == Protocol::Provided {
        env.insert("AWS_LAMBDA_RUNTIME_API".to_owned(), super::lambda::API_ADDRESS.to_owned());
    }
    env
}

/// The environment of a guest that an engine runs inside this process: no paths of programs, no proxy, and none of
/// what only the libraries of another platform read.
#[must_use]
pub fn build_without_processes(plan: &VersionPlan, id: &InstanceId) -> Variables {
    let defaults = [("HOME", "/tmp"), ("LANG", "C.UTF-8"), ("TZ", "UTC")];
    let mut env: Variables = defaults.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    env.extend(plan.spec.env.clone());
    env.extend(secrets(plan));
    env.extend(told(plan).into_iter().filter(|(name, _)| name.starts_with("ALULA_")));
    env.insert("ALULA_INSTANCE".to_owned(), id.to_string());
    env
}

/// The environment of a process that waits for a function: what all functions of the language have in common.
pub(super) fn of_stem(language: &Language) -> Variables {
    let mut env = defaults(language);
    env.extend(language.manifest.env.clone());
    env
}

/// Refuses a spec that sets what only the platform sets.
pub fn validate(plan: &VersionPlan) -> Result<(), SpecError> {
    let told = told(plan);
    let is_reserved = |name: &str| {
        let prefixed = name.starts_with("ALULA_") || name.starts_with("AWS_LAMBDA_");
        told.contains_key(name) || (prefixed && name != OUTPUT_CHOICE)
    };
    let refuse =
        |field, name: &str| Err(SpecError { field, reason: format!("{name} is set by the platform") });
    if let Some(name) = plan.spec.env.keys().find(|name| is_reserved(name)) {
        return refuse("env", name);
    }
    match plan.spec.secrets.iter().find(|(name, _)| is_reserved(name)) {
        Some((name, _)) => refuse("secrets", name),
        None => Ok(()),
    }
}

fn secrets(plan: &VersionPlan) -> impl Iterator<Item = (String, String)> {
    plan.secrets.iter().map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Wipes the values of secrets from an environment that is not needed any more.
pub(super) fn wipe(env: &mut Variables, plan: &VersionPlan) {
    for (name, _) in plan.secrets.iter() {
        if let Some(value) = env.get_mut(name) {
            value.zeroize();
        }
    }
}

fn defaults(language: &Language) -> Variables {
    let installed = language.manifest.programs.iter().map(|folder| format!("{CODE_DIR}/{folder}:"));
    let path = installed.chain([PATH.to_owned()]).collect::<String>();
    let pairs = [
        ("PATH", &*path),
        ("HOME", "/tmp"),
        ("TMPDIR", "/tmp"),
        ("LANG", "C.UTF-8"),
        ("TZ", "UTC"),
        ("AWS_REGION", REGION),
        ("AWS_DEFAULT_REGION", REGION),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// What the platform tells and a spec cannot replace.
fn told(plan: &VersionPlan) -> Variables {
    let (key, spec) = (&plan.key, &plan.spec);
    let (function, version) = (key.function.to_string(), key.version.to_string());
    let memory = spec.memory_mb.to_string();
    let mut told: Variables = [
        ("ALULA_NAMESPACE", key.namespace.to_string()),
        ("ALULA_FUNCTION", function.clone()),
        ("ALULA_VERSION", version.clone()),
        ("ALULA_MEMORY_MB", memory.clone()),
        ("ALULA_TIMEOUT_MS", spec.timeout_ms.to_string()),
        ("ALULA_CONCURRENCY", spec.concurrency.to_string()),
        ("AWS_LAMBDA_FUNCTION_NAME", function.clone()),
        ("AWS_LAMBDA_FUNCTION_VERSION", version),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/alula/{function}")),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("LAMBDA_TASK_ROOT", CODE_DIR.to_owned()),
        ("LAMBDA_RUNTIME_DIR", SHIM_DIR.to_owned()),
        ("_HANDLER", spec.handler.clone().unwrap_or_default()),
        ("PORT", spec.port.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if spec.concurrency > 1 {
        told.insert("AWS_LAMBDA_MAX_CONCURRENCY".to_owned(), spec.concurrency.to_string());
    }
    if !spec.network.is_none() {
        told.extend(proxies());
    }
    if spec.calls == Calls::Namespace {
        // One address for both: a request of S3 is known by its signature.
        told.insert("ALULA_FUNCTIONS_URL".to_owned(), DOOR_URL.to_owned());
        told.insert("ALULA_S3_ENDPOINT".to_owned(), DOOR_URL.to_owned());
    }
    told
}

fn proxies() -> Variables {
    let mut proxies = Variables::new();
    let proxy = format!("http://127.0.0.1:{EGRESS_PROXY_PORT}");
    // Some programs read one spelling, some the other, and none both.
    for (name, value) in [("http_proxy", &*proxy), ("https_proxy", &*proxy), ("no_proxy", NO_PROXY)] {
        proxies.insert(name.to_owned(), value.to_owned());
        proxies.insert(name.to_ascii_uppercase(), value.to_owned());
    }
    proxies
}
