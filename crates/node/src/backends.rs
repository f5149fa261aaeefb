//! Which back end runs which function: the one that the language of its runtime is at home in.

use std::path::PathBuf;
use std::sync::Arc;

use alula_model::{Fault, InstanceId, SpecError};
use alula_runtime::language::Home;
use alula_runtime::{Backend, BoxFuture, Bred, ProcessBackend, Started, VersionPlan};
use alula_sandbox::{CheckedEgress, EgressGate};
use alula_script_host::{ScriptBackend, ScriptOptions};
use alula_store::DataDir;
use alula_wasm::{CellCompiler, WasmBackend};

use crate::up::Error;

/// All back ends of this node.
#[derive(Debug, Clone)]
pub(crate) struct Backends {
    /// Processes in cells; also for runtimes that nobody knows, which it refuses.
    pub(crate) processes: ProcessBackend,
    /// Light scripts.
    scripts: ScriptBackend,
    /// WebAssembly components.
    components: WasmBackend,
}

impl Backends {
    /// All of them. Script hosts and the compiler of components are processes of `program`, this very binary; `gate`
    /// leads components to the outside.
    pub(crate) fn open(
        processes: ProcessBackend,
        gate: EgressGate,
        program: PathBuf,
        data_dir: &DataDir,
    ) -> Result<Self, Error> {
        let options = ScriptOptions::new(data_dir.path().join("script"), program.clone());
        let scripts = ScriptBackend::open(options, processes.clone());
        let scripts = scripts.map_err(Error::system("script hosts cannot be set up"))?;
        let components = WasmBackend::new(alula_wasm::Parts {
            dir: data_dir.path().join("wasm"),
            compiler: Arc::new(CellCompiler { launcher: Arc::clone(&processes.launcher), program }),
            log: Arc::clone(&processes.log),
            clock: Arc::clone(&processes.clock),
            egress: Arc::new(CheckedEgress::new(gate)),
            door: processes.door.clone(),
        });
        Ok(Self { processes, scripts, components })
    }

    fn of(&self, plan: &VersionPlan) -> &dyn Backend {
        let language = self.processes.languages.get(&plan.spec.runtime);
        match language.map(|language| language.manifest.home) {
            Some(Home::ScriptHost) => &self.scripts,
            Some(Home::Engine) => &self.components,
            Some(Home::Cell) | None => &self.processes,
        }
    }
}

impl Backend for Backends {
    fn validate(&self, plan: &VersionPlan) -> Result<(), SpecError> {
        self.of(plan).validate(plan)
    }

    fn prepare<'a>(&'a self, plan: &'a VersionPlan) -> BoxFuture<'a, Result<(), Fault>> {
        self.of(plan).prepare(plan)
    }

    fn start(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        self.of(&plan).start(plan, id)
    }

    fn breed(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Bred, Fault>> {
        self.of(&plan).breed(plan, id)
    }
}
