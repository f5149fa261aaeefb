//! A back end with hosts of this binary.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alula_model::{Fault, FunctionSpec, InstanceId};
use alula_runtime::bare::BareLauncher;
use alula_runtime::conformance::{self, CollectedLog, FixedClock};
use alula_runtime::language::{Host, Languages};
use alula_runtime::{Answer, Backend as _, Buffers, Door, Instance, ProcessBackend, Stems, VersionPlan};
use alula_script_host::{ScriptBackend, ScriptOptions};

pub(crate) struct World {
    pub(crate) backend: ScriptBackend,
    processes: ProcessBackend,
    pub(crate) log: Arc<CollectedLog>,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let host = Host { resolve: &|_| None, run: &|_| None };
    let log = Arc::new(CollectedLog::default());
    let processes = ProcessBackend {
        launcher: Arc::new(BareLauncher),
        languages: Arc::new(Languages::load(dir.path(), &[], &host).unwrap()),
        log: Arc::clone(&log) as _,
        clock: Arc::new(FixedClock::default()),
        buffers: Buffers::new(64 << 20),
        socket_body_bytes_max: 64 << 10,
        stems: Stems::default(),
        door: Door::default(),
    };
    let backend = ScriptBackend::open(options_in(&dir), processes.clone()).unwrap();
    World { backend, processes, log, dir }
}

fn options_in(dir: &tempfile::TempDir) -> ScriptOptions {
    ScriptOptions::new(dir.path().join("script"), std::env::current_exe().unwrap())
}

/// A plan for a folder of `tests/fixtures`.
pub(crate) fn fixture(name: &str, change: impl FnOnce(&mut FunctionSpec)) -> Arc<VersionPlan> {
    plan_of(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name), change)
}

fn plan_of(code: PathBuf, change: impl FnOnce(&mut FunctionSpec)) -> Arc<VersionPlan> {
    let made = conformance::plan("script", |spec| {
        spec.handler = Some("main".to_owned());
        spec.env.insert("CONFORMANCE".to_owned(), "yes".to_owned());
        change(spec);
    });
    Arc::new(VersionPlan { code, ..(*made).clone() })
}

impl World {
    /// The same with other options.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut ScriptOptions)) -> Self {
        let mut options = options_in(&self.dir);
        change(&mut options);
        self.backend = ScriptBackend::open(options, self.processes.clone()).unwrap();
        self
    }

    /// A plan for a script with this source, in a folder of its own.
    pub(crate) fn script(&self, version: u64, source: &str) -> Arc<VersionPlan> {
        let code = self.dir.path().join(format!("code-{version}"));
        std::fs::create_dir_all(&code).unwrap();
        std::fs::write(code.join("main.ts"), source).unwrap();
        let mut plan = (*plan_of(code, |spec| spec.concurrency = 4)).clone();
        plan.key.version = version;
        Arc::new(plan)
    }

    pub(crate) async fn start(&self, plan: &Arc<VersionPlan>) -> Arc<dyn Instance> {
        self.try_start(plan).await.unwrap()
    }

    /// Starts as soon as whoever is about to rest does.
    pub(crate) async fn start_soon(&self, plan: &Arc<VersionPlan>) -> Arc<dyn Instance> {
        let trying = async {
            loop {
                match self.try_start(plan).await {
                    Ok(instance) => return instance,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), trying).await.unwrap()
    }

    pub(crate) async fn try_start(&self, plan: &Arc<VersionPlan>) -> Result<Arc<dyn Instance>, Fault> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = InstanceId::new(&format!("script-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        Ok(self.backend.start(Arc::clone(plan), id).await?.instance)
    }
}

pub(crate) async fn text(answer: Answer) -> String {
    String::from_utf8(answer.body.collect(64 << 20).await.unwrap().to_vec()).unwrap()
}
