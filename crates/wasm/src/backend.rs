//! The back end: from a version with a component to an instance that can be called.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use alula_model::{Clock, ErrorCode, Fault, InstanceId, SpecError, Tier};
use alula_runtime::{
    Backend, BoxFuture, Door, Egress, InstanceLog, LogSink, Output, Started, VersionPlan,
    build_without_processes, validate_environment,
};
use tokio::time::Instant;
use wasmtime::Engine;
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::cache::{self, Cache};
use crate::compiler::Compiler;
use crate::crew::Crew;
use crate::engine::{self, MEMORY_BYTES_MAX, Ticker};
use crate::guest::{self, Guest};
use crate::instance::{Called, Loaded, WasmInstance};
use crate::loader;

/// Components whose digest is remembered, so that a start need not read the whole component.
const REMEMBERED_MAX: usize = 10_000;

/// What the back end works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where compiled components are kept; nothing else may be in it.
    pub dir: PathBuf,
    /// Compiles them.
    pub compiler: Arc<dyn Compiler>,
    /// Where the lines go that guests write.
    pub log: Arc<dyn LogSink>,
    /// Tells when a line was written.
    pub clock: Arc<dyn Clock>,
    /// The way out for functions that have a network.
    pub egress: Arc<dyn Egress>,
    /// Where functions call the platform.
    pub door: Door,
}

/// Runs components of `wasi:http/proxy`. Clones share everything.
#[derive(Debug, Clone)]
pub struct WasmBackend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    parts: Parts,
    /// Made for the first component: who has none pays nothing.
    machine: OnceLock<Machine>,
    digests: Mutex<HashMap<PathBuf, String>>,
    /// One compilation at a time, since each may use much memory.
    compiling: tokio::sync::Mutex<()>,
}

/// The engine and what belongs to it.
struct Machine {
    engine: Engine,
    linker: Linker<Guest>,
    ticker: Arc<Ticker>,
    crew: Arc<Crew<Called>>,
    cache: Cache,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl WasmBackend {
    /// A back end that keeps compiled components in `parts.dir`.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let shared = Shared {
            parts,
            machine: OnceLock::new(),
            digests: Mutex::default(),
            compiling: tokio::sync::Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    async fn start_instance(&self, plan: Arc<VersionPlan>, id: InstanceId) -> Result<Started, Fault> {
        let began = Instant::now();
        let value = plan.spec.init_timeout_ms;
        let loading = tokio::time::timeout(Duration::from_millis(value), self.load(&plan));
        let (machine, pre) = loading.await.unwrap_or_else(|_| {
            let message = format!("the component was not compiled and loaded after {value} ms");
            let setting = "init_timeout_ms in alula.toml";
            Err(Fault::limit(ErrorCode::InitTimeout, message, "init_timeout_ms", value, setting))
        })?;
        let parts = &self.shared.parts;
        let log = InstanceLog {
            key: plan.key.clone(),
            instance: id.clone(),
            clock: Arc::clone(&parts.clock),
            sink: Arc::clone(&parts.log),
        };
        let env = build_without_processes(&plan, &id);
        let (ticker, egress) = (Arc::clone(&machine.ticker), Arc::clone(&parts.egress));
        let output = Output::new(log, plan.secrets.mask());
        let loaded = Loaded::new(plan, pre, ticker, env, output, egress, parts.door.clone());
        let loaded = Arc::new(loaded);
        let instance = Arc::new(WasmInstance { id, loaded, crew: Arc::clone(&machine.crew) });
        Ok(Started { instance, tier: Tier::Cold, start: Duration::ZERO, init: began.elapsed() })
    }

    async fn load(&self, plan: &VersionPlan) -> Result<(&Machine, ProxyPre<Guest>), Fault> {
        let component = component_file(plan).map_err(|error| init_failed(&error))?;
        let machine = self.shared.machine()?;
        let digest = self.digest(&component).await?;
        let path = match self.compiled(machine, &digest).await? {
            Some(path) => path,
            None => self.compile(machine, &component, &digest).await?,
        };
        if let Ok(pre) = machine.load(&path) {
            return Ok((machine, pre));
        }
        // Such as code for a processor that this machine is not any more.
        machine.cache.forget(&digest);
        let path = self.compile(machine, &component, &digest).await?;
        let pre = machine.load(&path).map_err(|error| {
            tracing::error!(
                error = format!("{error:#}"),
                "a component that was just compiled cannot be loaded"
            );
            Fault::new(ErrorCode::Internal, "the platform cannot load what it has compiled")
        })?;
        Ok((machine, pre))
    }

    /// The file with the compiled code, if there is one.
    async fn compiled(&self, machine: &Machine, digest: &str) -> Result<Option<PathBuf>, Fault> {
        if machine.cache.is_checked(digest) || !machine.cache.has(digest) {
            return Ok(machine.cache.get(digest));
        }
        let (shared, digest) = (Arc::clone(&self.shared), digest.to_owned());
        let check = move || Ok(shared.machine.get().and_then(|machine| machine.cache.get(&digest)));
        blocking("read a compiled component", check).await
    }

    /// Compiles a component and keeps the result, unless somebody else did so meanwhile.
    async fn compile(&self, machine: &Machine, component: &Path, digest: &str) -> Result<PathBuf, Fault> {
        let _one_at_a_time = self.shared.compiling.lock().await;
        if let Some(path) = self.compiled(machine, digest).await? {
            return Ok(path);
        }
        let file = File::open(component).map_err(|error| broken("open a component", &error))?;
        let compiled = self.shared.parts.compiler.compile(file).await?;
        let (shared, component) = (Arc::clone(&self.shared), digest.to_owned());
        let put = move || match shared.machine.get() {
            Some(machine) => machine.cache.put(&component, &compiled),
            None => Ok(()),
        };
        blocking("keep a compiled component", put).await?;
        let path = machine.cache.get(digest);
        path.ok_or_else(|| Fault::new(ErrorCode::Internal, "a compiled component is gone again"))
    }

    /// The digest of a component in a package's folder, whose content never changes.
    async fn digest(&self, component: &Path) -> Result<String, Fault> {
        if let Some(digest) = self.shared.digests().get(component) {
            return Ok(digest.clone());
        }
        let digest = digest_of(component.to_owned()).await?;
        let mut digests = self.shared.digests();
        if digests.len() >= REMEMBERED_MAX {
            digests.clear();
        }
        digests.insert(component.to_owned(), digest.clone());
        Ok(digest)
    }

    async fn prepare_component(&self, plan: &VersionPlan) -> Result<(), Fault> {
        let machine = self.shared.machine()?;
        let component = component_file(plan).map_err(|error| init_failed(&error))?;
        // Not remembered: a deploy's folder is not named by its content.
        let digest = digest_of(component.clone()).await?;
        if machine.cache.has(&digest) {
            return Ok(());
        }
        self.compile(machine, &component, &digest).await.map(drop)
    }
}

impl Shared {
    fn machine(&self) -> Result<&Machine, Fault> {
        if let Some(machine) = self.machine.get() {
            return Ok(machine);
        }
        let made = Machine::new(&self.parts.dir).map_err(|error| {
            tracing::error!(error = format!("{error:#}"), "the WebAssembly engine cannot be set up");
            Fault::new(
                ErrorCode::RuntimeUnavailable,
                "the WebAssembly engine cannot be set up on this machine",
            )
        })?;
        Ok(self.machine.get_or_init(|| made))
    }

    fn digests(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, String>> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    fn new(dir: &Path) -> wasmtime::Result<Self> {
        let engine = Engine::new(&engine::config())?;
        let linker = guest::linker(&engine)?;
        let ticker = Arc::new(Ticker::start(&engine)?);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let crew = Arc::new(Crew::start(cores)?);
        let cache = Cache::open(dir, &engine)?;
        Ok(Self { engine, linker, ticker, crew, cache })
    }

    fn load(&self, path: &Path) -> wasmtime::Result<ProxyPre<Guest>> {
        let component = loader::load(&self.engine, path)?;
        ProxyPre::new(self.linker.instantiate_pre(&component)?)
    }
}

impl Backend for WasmBackend {
    fn validate(&self, plan: &VersionPlan) -> Result<(), SpecError> {
        validate_environment(plan)?;
        let (memory_mb, memory_mb_max) = (u64::from(plan.spec.memory_mb), MEMORY_BYTES_MAX >> 20);
        if memory_mb > memory_mb_max {
            let reason =
                format!("{memory_mb} is out of bounds, a WebAssembly guest has at most {memory_mb_max}");
            return Err(SpecError { field: "memory_mb", reason });
        }
        let refuse = |reason: String| Err(SpecError { field: "command", reason });
        if !plan.spec.command.is_empty() {
            return refuse("a component has no command; `handler` names its file".to_owned());
        }
        component_file(plan).map(drop)
    }

    fn prepare<'a>(&'a self, plan: &'a VersionPlan) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.prepare_component(plan))
    }

    fn start(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        Box::pin(self.start_instance(plan, id))
    }
}

/// The component's file, below the code's folder.
fn component_file(plan: &VersionPlan) -> Result<PathBuf, SpecError> {
    let refuse = |reason: String| SpecError { field: "handler", reason };
    let handler = plan.spec.handler.as_deref();
    let handler = handler.ok_or_else(|| refuse("name the component's file, such as main.wasm".to_owned()))?;
    let missing = |_| refuse(format!("there is no file {handler}"));
    let folder = plan.code.canonicalize().map_err(missing)?;
    let file = folder.join(handler).canonicalize().map_err(missing)?;
    if !file.starts_with(&folder) || !file.is_file() {
        return Err(refuse(format!("{handler} is not a file of the package")));
    }
    Ok(file)
}

async fn digest_of(component: PathBuf) -> Result<String, Fault> {
    let read = move || {
        let mut content = Vec::new();
        File::open(component)?.read_to_end(&mut content)?;
        Ok(cache::digest(&content))
    };
    blocking("read a component", read).await
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| broken(what, &error)),
        Err(_) => Err(Fault::new(ErrorCode::Internal, "a file operation was broken off")),
    }
}

fn broken(what: &str, error: &io::Error) -> Fault {
    tracing::error!(%error, "cannot {what}");
    Fault::new(ErrorCode::StoreUnavailable, format!("the platform cannot {what}"))
}

fn init_failed(error: &SpecError) -> Fault {
    Fault::new(ErrorCode::InitFailed, error.to_string())
}
