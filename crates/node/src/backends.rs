//! Which back end runs which function: the one that the language of its runtime is at home in.

use std::sync::Arc;

use alula_model::{Fault, InstanceId, SpecError};
use alula_runtime::language::Home;
use alula_runtime::{Backend, BoxFuture, ProcessBackend, Started, VersionPlan};
use alula_script_host::ScriptBackend;

/// All back ends of this node.
#[derive(Debug, Clone)]
pub(crate) struct Backends {
    /// Processes in cells; also for runtimes that nobody knows, which it refuses.
    pub(crate) processes: ProcessBackend,
    /// Light scripts.
    pub(crate) scripts: ScriptBackend,
}

impl Backends {
    fn of(&self, plan: &VersionPlan) -> &dyn Backend {
        let language = self.processes.languages.get(&plan.spec.runtime);
        match language.map(|language| language.manifest.home) {
            Some(Home::ScriptHost) => &self.scripts,
            Some(Home::Cell) | None => &self.processes,
        }
    }
}

impl Backend for Backends {
    fn validate(&self, plan: &VersionPlan) -> Result<(), SpecError> {
        self.of(plan).validate(plan)
    }

    fn start(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        self.of(&plan).start(plan, id)
    }
}
