//! The configuration: one TOML file, then `ALULA_...` environment variables, then flags.
//!
//! The structure below is the reference: every key with its meaning and its default stands here, `alula config show`
//! prints what is in force, and unknown keys are errors. Sections of other crates are their own `Options`.

mod database_url;
mod hidden;
mod load;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use alula_model::{AccessSpec, Way};
use serde::{Deserialize, Serialize};

pub use database_url::DatabaseUrl;
pub use hidden::Hidden;
pub use load::{ConfigError, Overrides, Sources};

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept that must survive. Empty means `/var/lib/alula` for root and
    /// `~/.local/share/alula` for others.
    pub data_dir: PathBuf,
    /// Where records, queue and run history are kept.
    pub store: Store,
    /// Addresses.
    pub listen: Listen,
    /// Threads of the server.
    pub threads: Threads,
    /// The public data plane.
    pub gateway: alula_gateway::Options,
    /// The control API.
    pub control: Control,
    /// Limits of requests.
    pub limits: alula_guard::limit::Options,
    /// Who may call functions.
    pub access: Access,
    /// How people log in.
    pub login: Login,
    /// Instances.
    pub pool: Pool,
    /// Calls that nobody waits for.
    #[serde(rename = "async")]
    pub asynchronous: alula_invoke::later::Options,
    /// How owners are told by mail.
    pub mail: alula_courier::MailOptions,
    /// Buckets.
    pub bucket: alula_bucket::Options,
    /// What functions may watch.
    pub triggers: Triggers,
    /// Brokers that triggers watch.
    pub broker: Brokers,
    /// Sandboxes that are prepared ahead.
    pub stems: Stems,
    /// Isolation.
    pub sandbox: Sandbox,
    /// What functions may reach outside.
    pub network: Network,
    /// Secrets of functions.
    pub secrets: Secrets,
    /// Uploads and build steps.
    pub build: Build,
    /// Logs of functions.
    pub logs: Logs,
    /// Run history.
    pub runs: Runs,
    /// What functions used, for bills.
    pub usage: Usage,
    /// What is watched and where operators are told.
    pub alarm: alula_alarm::Options,
    /// Languages.
    pub languages: Languages,
    /// What the platform says about itself.
    pub log: ServerLog,
}

/// Where records, queue and run history are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// A PostgreSQL server, `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, which several nodes may share. Empty means
    /// SQLite in the data directory. Never shown with its password.
    pub url: DatabaseUrl,
}

/// Brokers that triggers watch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Brokers {
    /// Networks that brokers may be in although they are private, such as `10.1.0.0/16` or `127.0.0.1`, besides those of
    /// `sandbox.egress_allow`. Functions themselves do not reach them by this.
    pub allow: Vec<String>,
}

/// Addresses that the platform listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// The public data plane: calls of functions.
    pub data_plane: SocketAddr,
    /// The control API. Functions can never reach it; keep it off public networks all the same.
    pub control: SocketAddr,
    /// The S3-compatible endpoint of the buckets; without an address there is none.
    pub s3: Option<SocketAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            data_plane: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            control: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            s3: None,
        }
    }
}

/// Threads of the server. The two planes have their own, so that a deploy does not delay a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Threads {
    /// Threads that serve calls. One serves some 100 000 requests a second and leaves the cores to the functions;
    /// more than one pays from about eight cores on.
    pub data_plane: usize,
    /// Threads for everything else.
    pub control: usize,
}

impl Default for Threads {
    fn default() -> Self {
        Self { data_plane: 1, control: 1 }
    }
}

/// The control API.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Whether `/metrics` is served without a token, for scrapers that can hold none.
    pub metrics_open: bool,
}

/// How people log in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Login {
    /// Where browsers find the control API, such as `https://alula.example.com`, where a proxy stands before it. With
    /// `https` cookies are for TLS only.
    pub public_url: Option<String>,
}

/// Who may call functions from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// What holds for functions and topics where neither they nor their namespaces say anything: `public`, `namespace`,
    /// `inside`, or whatever else `access` in `alula.toml` may be.
    pub default: AccessSpec,
}

impl Default for Access {
    fn default() -> Self {
        // One person on one machine calls what was just deployed. Who serves strangers writes `namespace`.
        Self { default: AccessSpec::only(Way::Public) }
    }
}

/// Instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// Starts that run at once; further ones wait their turn. Zero means two for every core.
    pub starts_at_once: usize,
    /// Starts in a second on average, so that a storm of calls of different functions leaves CPU to the calls that run.
    /// Further ones wait their turn. Zero means a hundred for every core.
    pub starts_per_second: u32,
    /// Starts that may follow each other without regard to the rate after a quiet time. Zero means those of one second.
    pub starts_burst: u32,
    /// Instances of all functions together. When a further one is needed, an idle one gives way.
    pub instances_max: usize,
    /// Instances of the functions of one namespace. Zero means no limit but that of all.
    pub namespace_instances_max: usize,
    /// Memory of the instances of one namespace, in megabytes. Zero means no limit but that of all.
    pub namespace_memory_mb_max: u64,
    /// Instances of the functions of one app. Zero means no limit but that of its namespace.
    pub app_instances_max: usize,
    /// Memory of the instances of one app, in megabytes. Zero means no limit but that of its namespace.
    pub app_memory_mb_max: u64,
    /// Memory that instances may take together, in megabytes. When a further one does not fit, idle ones give way. Zero
    /// means four fifths of the machine's memory.
    pub memory_mb_max: u64,
    /// An instance is kept for at least this long after a call, in milliseconds.
    pub keep_alive_min_ms: u64,
    /// An instance is held idle for at most this long in one go, in milliseconds.
    pub keep_alive_max_ms: u64,
    /// Calls that may wait for a slot of one version; the next is answered 429.
    pub waiting_max: usize,
    /// How long an instance is idle until it is frozen, in ms. A frozen one uses no CPU, and the next call waits some
    /// tenths of a millisecond for it. Zero: never.
    pub freeze_after_ms: u64,
    /// How long an instance may take to end by itself when it is let go.
    pub stop_grace_ms: u64,
    /// Ceilings of single namespaces, by their names; they stand in for those of every namespace.
    pub namespaces: BTreeMap<String, Ceiling>,
    /// Ceilings of single apps, by `NAMESPACE/APP`; they stand in for those of every app.
    pub apps: BTreeMap<String, Ceiling>,
}

/// What the instances of one namespace or app may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ceiling {
    /// Instances. Zero means no limit.
    pub instances_max: usize,
    /// Memory, in megabytes. Zero means no limit.
    pub memory_mb_max: u64,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            starts_at_once: 0,
            starts_per_second: 0,
            starts_burst: 0,
            instances_max: 1_000,
            namespace_instances_max: 0,
            namespace_memory_mb_max: 0,
            app_instances_max: 0,
            app_memory_mb_max: 0,
            memory_mb_max: 0,
            keep_alive_min_ms: 10_000,
            keep_alive_max_ms: 4 * 3_600_000,
            waiting_max: 5_000,
            freeze_after_ms: 1_000,
            stop_grace_ms: 2_000,
            namespaces: BTreeMap::new(),
            apps: BTreeMap::new(),
        }
    }
}

/// Sandboxes that are prepared before it is known which function runs in them, each with the started process of its
/// runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stems {
    /// Kept ready for every runtime that has been used since the start; zero turns them off.
    pub per_runtime: usize,
    /// Most that are kept ready for one runtime while starts find none.
    pub per_runtime_max: usize,
    /// Made at the same time. Zero means one for every two cores.
    pub made_at_once: usize,
}

impl Default for Stems {
    fn default() -> Self {
        // Three serve a small burst and cost a few megabytes each; sixteen a large one for a minute.
        Self { per_runtime: 3, per_runtime_max: 16, made_at_once: 0 }
    }
}

/// Isolation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sandbox {
    /// First of the user ids that instances run as on the host; each gets a range of its own above it. No account of
    /// the host may lie there.
    pub uid_base: u32,
    /// Host folders that functions may read besides `/usr`, at the same path.
    pub extra_readonly: Vec<PathBuf>,
    /// Networks that functions with `network = "internet"` may reach although they are private, such as
    /// `10.1.0.0/16`. Never the host itself.
    pub egress_allow: Vec<String>,
    /// Bytes of request and response bodies that the platform holds for buffered handlers, all together.
    pub buffer_bytes_max: u64,
    /// Longest body, in bytes, that goes to and from a function through its socket where it could go through memory that
    /// both share. 65536 at least; more than 16777216: none goes through memory.
    pub socket_body_bytes_max: u64,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            // Above the ranges that distributions hand out to accounts (up to 60 000) and to rootless containers.
            uid_base: 0x5000_0000,
            extra_readonly: Vec::new(),
            egress_allow: Vec::new(),
            buffer_bytes_max: 256 * 1024 * 1024,
            // What fits into one frame: from there on, memory is faster.
            socket_body_bytes_max: 64 * 1024,
        }
    }
}

/// What functions may reach outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// What the functions of a namespace may reach at the most, where nothing else is said of it: `"none"`, `"internet"` or
    /// rules as in `network` of `alula.toml`.
    pub ceiling: alula_model::Network,
    /// What every function reaches besides its own rules and whatever its ceiling, such as a name service.
    pub services: alula_model::Network,
    /// Connections of one instance to the outside at once; further ones wait.
    pub instance_connections_max: usize,
    /// Connections of the functions of one namespace to the outside at once; further ones are refused.
    pub namespace_connections_max: usize,
    /// Bytes that the functions of one namespace send and receive in a second. Zero means no limit.
    pub namespace_bytes_per_second: u64,
    /// The ceilings of single namespaces, by their names.
    pub namespaces: BTreeMap<String, alula_model::Network>,
    /// Names that functions find at these addresses. Also one of this machine may be named so.
    pub extra_hosts: BTreeMap<String, IpAddr>,
    /// Variables that every function gets, such as where that service is; a function's own win.
    pub env: BTreeMap<String, String>,
}

impl Default for Network {
    fn default() -> Self {
        let limits = alula_sandbox::EgressLimits::default();
        Self {
            ceiling: alula_model::Network::Internet,
            namespaces: BTreeMap::new(),
            extra_hosts: BTreeMap::new(),
            services: alula_model::Network::None,
            env: BTreeMap::new(),
            instance_connections_max: limits.instance_connections_max,
            namespace_connections_max: limits.namespace_connections_max,
            namespace_bytes_per_second: limits.namespace_bytes_per_second,
        }
    }
}

/// Secrets of functions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Secrets {
    /// The file of the master keys that secrets are encrypted with, one a line, the one that encrypts first. Made where it
    /// is not there. Without it: `master.key` in the data directory.
    pub master_key_file: Option<PathBuf>,
    /// The master keys themselves, for those who keep them elsewhere; then there is no file. Never shown.
    pub master_key: Hidden,
}

/// Uploads and build steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Build {
    /// Builds at once; further ones wait.
    pub at_once: usize,
    /// Largest uploaded archive, in bytes.
    pub package_bytes_max: u64,
    /// Largest unpacked source and largest result of a build, in bytes.
    pub unpacked_bytes_max: u64,
    /// Files and folders in one package.
    pub files_max: u64,
    /// Variables of the platform's own environment that builds get: which package index, which certificates. A `*` at
    /// the end stands for any rest.
    pub pass_env: Vec<String>,
    /// Host folders with a `bin` folder in them (compilers, say) that builds may use. Empty means the default Rust
    /// toolchain of the user that runs the platform, where rustup has one.
    pub tools: Vec<PathBuf>,
}

impl Default for Build {
    fn default() -> Self {
        let pass_env = [
            "PIP_*",
            "NPM_CONFIG_*",
            "npm_config_*",
            "NODE_EXTRA_CA_CERTS",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "GOPROXY",
            "CARGO_HTTP_*",
            "CARGO_REGISTRIES_*",
        ];
        Self {
            at_once: 2,
            package_bytes_max: 512 * 1024 * 1024,
            unpacked_bytes_max: 2 * 1024 * 1024 * 1024,
            files_max: 200_000,
            pass_env: pass_env.map(str::to_owned).to_vec(),
            tools: Vec::new(),
        }
    }
}

/// Logs of functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logs {
    /// How long lines are kept, in days.
    pub keep_days: u32,
    /// Bytes of all logs together; the oldest go first.
    pub total_bytes_max: u64,
    /// Bytes of one function's logs.
    pub function_bytes_max: u64,
}

impl Default for Logs {
    fn default() -> Self {
        Self { keep_days: 14, total_bytes_max: 4 * 1024 * 1024 * 1024, function_bytes_max: 256 * 1024 * 1024 }
    }
}

/// Run history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runs {
    /// How long runs are kept, in days.
    pub keep_days: u32,
    /// Runs that are kept at the most; the oldest go first.
    pub keep_max: u64,
}

impl Default for Runs {
    fn default() -> Self {
        Self { keep_days: 30, keep_max: 1_000_000 }
    }
}

/// What functions used, for bills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// How long a day's usage is kept, in days.
    pub keep_days: u32,
}

impl Default for Usage {
    fn default() -> Self {
        // A year and a month: a year's bill can be checked after it has come.
        Self { keep_days: 400 }
    }
}

/// What the platform says about itself, on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerLog {
    /// How much: `error`, `warn`, `info`, `debug`, `trace`, also per part: `info,alula_pool=debug`.
    pub filter: String,
    /// `text` for people, `json` for machines: one object a line.
    pub format: LogFormat,
}

impl Default for ServerLog {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How the platform writes its own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// What functions may watch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Triggers {
    /// Folders of this machine that triggers of kind `folder` may watch, absolute, with everything below them.
    pub folders: Vec<PathBuf>,
}

/// Languages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Languages {
    /// Folders with further languages, one folder with a `manifest.toml` each; they win over the built-in ones.
    pub folders: Vec<PathBuf>,
}

impl Config {
    /// The configuration in force as TOML, every default included.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self).map_err(|source| ConfigError::Unprintable { source: Box::new(source) })
    }
}
