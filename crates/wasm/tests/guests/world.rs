//! A back end that compiles in this process, and plans of components.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alula_model::{ErrorCode, Fault, FunctionSpec, InstanceId};
use alula_runtime::conformance::{self, CollectedLog, FixedClock};
use alula_runtime::{Backend, BoxFuture, Door, Egress, Instance, NoEgress, VersionPlan};
use alula_wasm::{Compiler, Parts, WasmBackend};

/// Compiles in this process and counts.
#[derive(Debug, Default)]
pub(crate) struct InProcess {
    pub(crate) compiled: AtomicUsize,
}

impl Compiler for InProcess {
    fn compile(&self, mut component: File) -> BoxFuture<'_, Result<Vec<u8>, Fault>> {
        self.compiled.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let mut bytes = Vec::new();
            component.read_to_end(&mut bytes).unwrap();
            alula_wasm::compile(&bytes)
                .map_err(|error| Fault::new(ErrorCode::InvalidPackage, error.to_string()))
        })
    }
}

pub(crate) struct World {
    pub(crate) backend: WasmBackend,
    pub(crate) compiler: Arc<InProcess>,
    pub(crate) log: Arc<CollectedLog>,
    pub(crate) dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_egress(Arc::new(NoEgress))
    }

    pub(crate) fn with_egress(egress: Arc<dyn Egress>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (compiler, log) = (Arc::new(InProcess::default()), Arc::new(CollectedLog::default()));
        let backend = WasmBackend::new(Parts {
            dir: dir.path().join("compiled"),
            compiler: compiler.clone(),
            log: log.clone(),
            clock: Arc::new(FixedClock::default()),
            egress,
            door: Door::default(),
        });
        Self { backend, compiler, log, dir }
    }

    /// A version whose component is `content`, text or binary.
    pub(crate) fn plan(&self, content: &[u8], change: impl FnOnce(&mut FunctionSpec)) -> Arc<VersionPlan> {
        let code = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        std::fs::write(code.join("main.wasm"), content).unwrap();
        self.plan_of(&code, change)
    }

    pub(crate) fn plan_of(&self, code: &Path, change: impl FnOnce(&mut FunctionSpec)) -> Arc<VersionPlan> {
        let plan = conformance::plan("wasm", |spec| {
            spec.handler = Some("main.wasm".to_owned());
            spec.concurrency = 8;
            change(spec);
        });
        let plan = Arc::unwrap_or_clone(plan);
        Arc::new(VersionPlan { code: code.to_owned(), ..plan })
    }

    /// An instance of the suite's program.
    pub(crate) async fn start(&self, change: impl FnOnce(&mut FunctionSpec)) -> Arc<dyn Instance> {
        let plan = self.plan(&program(), change);
        self.backend.start(plan, InstanceId::new("one")).await.unwrap().instance
    }
}

/// The program of the conformance suite.
pub(crate) fn program() -> Vec<u8> {
    wat::parse_str(include_str!("../fixtures/conformance.wat")).unwrap()
}
