//! The platform's side: a back end for the runtime `script`.
//!
//! [`ScriptBackend`] compiles at deploy time (`artifacts`), keeps a host for each namespace and network policy
//! (`hosts`, `host`) as long as it is used (`lease`), and gives the process back end a launcher (`cell`) whose cells are
//! slots of such a host.

mod artifacts;
mod cell;
mod host;
mod hosts;
mod lease;
mod output;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{Fault, InstanceId, SpecError};
use alula_runtime::{Backend, BoxFuture, ProcessBackend, Started, Stems, VersionPlan};

use artifacts::Artifacts;
use cell::HostLauncher;
use hosts::{Hosts, Reach};

/// Where the platform's binary is inside a cell.
const PROGRAM_DIR: &str = "/alula";
const PROGRAM: &str = "/alula/alula";

/// What script hosts are made of.
#[derive(Debug, Clone)]
pub struct ScriptOptions {
    /// A folder of ours: compiled scripts, and the binary as cells see it.
    pub dir: PathBuf,
    /// The platform's binary.
    pub program: PathBuf,
    /// Memory of one host, in bytes: of all scripts of a namespace together.
    pub host_memory_bytes: u64,
    /// Silence after which a host is taken for stuck and killed.
    pub silence_max: Duration,
    /// Time after which a host that nobody uses is stopped.
    pub unused_max: Duration,
    /// Hosts at once: a namespace has at most four.
    pub hosts_max: usize,
}

impl ScriptOptions {
    /// The defaults: 512 MiB, room for a thousand idle scripts and a few large ones; 3 s of silence, which is longer
    /// than what a script may compute without a pause; a minute unused, since a host starts in milliseconds; 256
    /// hosts, whose idle memory is a few gigabytes at most.
    #[must_use]
    pub fn new(dir: PathBuf, program: PathBuf) -> Self {
        Self {
            dir,
            program,
            host_memory_bytes: 512 << 20,
            silence_max: Duration::from_secs(3),
            unused_max: Duration::from_secs(60),
            hosts_max: 256,
        }
    }
}

/// Runs light scripts in script hosts.
#[derive(Debug, Clone)]
pub struct ScriptBackend {
    processes: ProcessBackend,
    artifacts: Arc<Artifacts>,
    hosts: Arc<Hosts>,
}

impl ScriptBackend {
    /// A back end whose hosts and compilers are started by the launcher of `processes`. Puts the binary where cells can
    /// be shown it.
    pub fn open(options: ScriptOptions, processes: ProcessBackend) -> std::io::Result<Self> {
        let program_dir = artifacts::install_program(&options)?;
        let launcher = Arc::clone(&processes.launcher);
        let artifacts = Artifacts::open(&options.dir, program_dir.clone(), Arc::clone(&launcher))?;
        let hosts = Hosts::new(options, program_dir, launcher, processes.door.clone());
        Ok(Self { processes, artifacts: Arc::new(artifacts), hosts: Arc::new(hosts) })
    }
}

impl Backend for ScriptBackend {
    /// Compiles as well. Blocks, and needs a thread that may and a tokio runtime around it.
    fn validate(&self, plan: &VersionPlan) -> Result<(), SpecError> {
        self.processes.validate(plan)?;
        let compiled = tokio::runtime::Handle::current().block_on(self.artifacts.of(plan));
        compiled.map(drop).map_err(|fault| SpecError { field: "handler", reason: fault.message })
    }

    fn start(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        Box::pin(async move {
            let artifact = self.artifacts.of(&plan).await?;
            let lease = Arc::new(self.hosts.of(&plan.key.namespace, Reach::of(&plan.spec)).await?);
            let launcher = Arc::new(HostLauncher { lease, artifact });
            // A place in a host is made at once, so none is prepared ahead.
            let stems = Stems::default();
            ProcessBackend { launcher, stems, ..self.processes.clone() }.start(plan, id).await
        })
    }
}
