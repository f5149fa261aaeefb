//! Every component, made and connected.

use std::sync::Arc;

use alula_alarm::Told;
use alula_api::{Api, Ceilings};
use alula_control::{Catalog, Control};
use alula_gateway::PlatformEvents;
use alula_guard::protect::Book;
use alula_guard::{FunctionGuard, Guard};
use alula_identity::calling::Gate;
use alula_identity::{Identity, Tokens};
use alula_invoke::degraded::Degrader;
use alula_invoke::later::{Calls, LoopReports, LoopWatch, watch_loops};
use alula_invoke::{Hands, Invoker, LineageSeal};
use alula_model::InvocationId;
use alula_pool::{Pool, PoolOptions};
use alula_runtime::language::Languages;
use alula_runtime::{Backend, Buffers, Door, Launcher, ProcessBackend, StemOptions, Stems, Visits, door};
use alula_sandbox::{EgressGate, Sandbox, SpawnerLink, SpawnerWatch};
use alula_store::{DataDir, DiskPackages, PostgresOptions, SqliteOptions, Store, open_postgres, open_sqlite};
use alula_telemetry::logs::{self, LogHandle, LogOptions, LogService};
use alula_telemetry::metrics::Metrics;
use alula_telemetry::runs::{self, RunOptions, RunService};
use alula_telemetry::signals::Signals;
use alula_telemetry::usage;
use alula_trigger::folder::Allowed;
use alula_vault::Vault;
use tokio_util::sync::CancellationToken;

use crate::adapters::{GatewayMetrics, RunFanOut, UnpackFirst};
use crate::alarms;
use crate::announce::base_url;
use crate::backends::Backends;
use crate::breakers::{self, BreakerNews, CodeFiles};
use crate::brokers;
use crate::buckets;
use crate::clock::{SystemClock, random};
use crate::config::Config;
use crate::guards;
use crate::histories::Histories;
use crate::identities;
use crate::inside::Inside;
use crate::later::{self, Later};
use crate::limits;
use crate::network::{self, WithinCeiling};
use crate::observing;
use crate::secret::Secret;
use crate::secrets::{self, LateVault, WithSecrets};
use crate::sources::Sources;
use crate::token::AdminToken;
use crate::triggers::{self, KnownTriggers};
use crate::up::Error;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What was prepared before there were threads.
pub(crate) struct Prepared {
    pub(crate) config: Config,
    pub(crate) data_dir: DataDir,
    pub(crate) languages: Arc<Languages>,
    pub(crate) spawner: SpawnerLink,
    pub(crate) token: AdminToken,
    /// What lineages are signed with.
    pub(crate) lineage_secret: Secret,
    /// The runtime that serves calls.
    pub(crate) data_plane: tokio::runtime::Handle,
    pub(crate) build_env: std::collections::BTreeMap<String, String>,
    pub(crate) build_tools: Vec<std::path::PathBuf>,
    /// The file of this program.
    pub(crate) program: std::path::PathBuf,
}

/// The assembled platform, not yet serving.
pub(crate) struct Platform {
    pub(crate) config: Config,
    pub(crate) token: AdminToken,
    pub(crate) data_plane: tokio::runtime::Handle,
    pub(crate) gateway: alula_gateway::Parts<Invoker, Catalog>,
    pub(crate) api: Api,
    pub(crate) buckets: alula_bucket::Buckets,
    pub(crate) inside: Inside,
    pub(crate) pool: Pool,
    pub(crate) histories: Histories,
    pub(crate) control: Control,
    pub(crate) launcher: Arc<dyn Launcher>,
    pub(crate) spawner: SpawnerWatch,
    pub(crate) languages: Arc<Languages>,
    pub(crate) stems: Stems,
    pub(crate) queue_worker: alula_invoke::later::Service,
    pub(crate) sources: Sources,
    pub(crate) log_service: LogService,
    pub(crate) run_service: RunService,
    pub(crate) signals: Signals,
    pub(crate) usage: usage::Service,
    pub(crate) metrics: Metrics,
    pub(crate) draining: CancellationToken,
}

/// The parts that log lines and runs go to.
pub(crate) struct Telemetry {
    log_service: LogService,
    pub(crate) logs: LogHandle,
    run_service: RunService,
    pub(crate) recorder: runs::RunRecorder,
    pub(crate) signals: Signals,
    pub(crate) usage: usage::Service,
    pub(crate) metrics: Metrics,
}

/// Makes everything.
pub(crate) async fn assemble(prepared: Prepared) -> Result<Platform, Error> {
    let core = Core::assemble(prepared).await?;
    let key = later::signing_key(&core.data_dir)?;
    let Later { calls, worker: queue_worker, events } = later::assemble(&core, key.clone())?;
    let mut sources = Sources::default();
    let schedules = triggers::schedules(&core, &calls, &mut sources);
    let alarms = alarms::alarms(&core, (&calls, &schedules), &key, &mut sources)?;
    let folders = triggers::folders(&core, &calls, &mut sources);
    let brokers = brokers::brokers(&core, &calls, &mut sources)?;
    let buckets = buckets::assemble(&core, &calls, &mut sources)?;
    let rules = Rules::load(&core, &mut sources).await?;
    let topics = events.topics.clone();
    let gateway = gateway_parts(&core, &calls, events, rules.gate.clone());
    tell_of_loops(core.loop_reports, &calls, &mut sources);
    let draining = CancellationToken::new();
    let api = alula_api::Parts {
        control: core.control.clone(),
        invoker: core.invoker,
        hands: rules.hands,
        calls,
        schedules,
        folders,
        topics,
        buckets: buckets.clone(),
        brokers: Arc::new(brokers),
        pool: core.pool.clone(),
        logs: core.telemetry.logs,
        history: core.store,
        recorder: core.telemetry.recorder,
        languages: Arc::clone(&core.languages),
        launcher: Arc::clone(&core.launcher),
        metrics: core.telemetry.metrics.clone(),
        signals: core.telemetry.signals.clone(),
        usage: core.telemetry.usage.clone(),
        alarms,
        clock: Arc::clone(&core.clock),
        ids: Arc::new(invocation_id),
        tokens: rules.tokens,
        identity: rules.identity,
        book: rules.book,
        gate: rules.gate,
        vault: rules.vault,
        ceilings: rules.ceilings,
        signing_key: key.text().to_owned(),
        draining: draining.clone(),
    };
    Ok(Platform {
        gateway,
        inside: Inside::new(core.visits, buckets.clone()),
        buckets,
        api: Api::new(api_options(&core.config, &core.data_dir, &core.clock), api),
        histories: Histories::load_into(&core.pool, &core.data_dir),
        config: core.config,
        token: core.token,
        data_plane: core.data_plane,
        pool: core.pool,
        control: core.control,
        launcher: core.launcher,
        spawner: core.spawner,
        languages: core.languages,
        stems: core.stems,
        queue_worker,
        sources,
        log_service: core.telemetry.log_service,
        run_service: core.telemetry.run_service,
        signals: core.telemetry.signals,
        usage: core.telemetry.usage,
        metrics: core.telemetry.metrics,
        draining,
    })
}

/// Who may do what, what keeps them from each other, and what they keep to themselves.
struct Rules {
    identity: Identity,
    tokens: Tokens,
    gate: Gate,
    book: Book,
    vault: Vault,
    hands: Hands,
    ceilings: Arc<dyn Ceilings>,
}

impl Rules {
    /// Reads them from the store; they follow what other nodes change.
    async fn load(core: &Core, sources: &mut Sources) -> Result<Self, Error> {
        let identity = identities::load(core, sources).await?;
        let of_instances = limits::pool_options(&core.config, core.clock.now())?.ceilings;
        let book = guards::load(core, of_instances, sources).await?;
        let vault = secrets::open(core, sources).await?;
        let hands = breakers::hands(core, sources).await?;
        breakers::forget(core, sources);
        let ceilings = network::ceilings(core, sources).await?;
        let tokens = identities::tokens(core);
        let gate = identities::gate(core, &identity, sources)?;
        Ok(Self { identity, tokens, gate, book, vault, hands, ceilings })
    }
}

/// Owners are told of chains of calls that go in circles.
fn tell_of_loops(reports: LoopReports, calls: &Calls, sources: &mut Sources) {
    let notices = reports.told_through(calls.acceptor().clone());
    sources.add(|stop| async move {
        tokio::select! {
            () = notices.run() => {}
            () = stop.cancelled() => {}
        }
    });
}

/// What the edges stand on: everything between the store and the invoker.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) data_dir: DataDir,
    pub(crate) token: AdminToken,
    /// The runtime that serves calls.
    pub(crate) data_plane: tokio::runtime::Handle,
    pub(crate) clock: Arc<dyn alula_model::Clock>,
    pub(crate) store: Arc<dyn Store>,
    /// Where functions, and the platform in their name, reach the outside.
    pub(crate) egress: EgressGate,
    pub(crate) control: Control,
    pub(crate) pool: Pool,
    /// Secrets, from when they are read.
    pub(crate) vault: LateVault,
    pub(crate) invoker: Invoker,
    /// Breakers and adaptive limits.
    pub(crate) functions: FunctionGuard,
    /// Answers where functions cannot.
    pub(crate) degrader: Degrader,
    /// Chains of calls that were stopped, to be told about.
    pub(crate) loop_reports: LoopReports,
    /// What alarms are told by whoever knows of it first.
    pub(crate) told: Told,
    pub(crate) telemetry: Telemetry,
    /// Functions that call the platform.
    visits: Visits,
    launcher: Arc<dyn Launcher>,
    spawner: SpawnerWatch,
    languages: Arc<Languages>,
    stems: Stems,
}

impl Core {
    async fn assemble(prepared: Prepared) -> Result<Self, Error> {
        let Prepared {
            config,
            data_dir,
            languages,
            spawner,
            token,
            lineage_secret,
            data_plane,
            build_env,
            build_tools,
            program,
        } = prepared;
        let clock: Arc<dyn alula_model::Clock> = Arc::new(SystemClock);
        let store = open_store(&config.store, &data_dir).await?;
        let telemetry = telemetry(&config, &data_dir, &store, &clock);
        let egress = network::gate(&config, telemetry.metrics.egress())?;
        let sandbox = connect(spawner, egress.clone(), &data_plane).await?;
        let (spawner, launcher): (_, Arc<dyn Launcher>) = (sandbox.watch(), Arc::new(sandbox));
        let stems = Stems::new(stem_options(&config), Arc::clone(&launcher), data_plane.clone());
        let log = Arc::new(telemetry.logs.clone());
        let (door, visits) = door();
        let processes = process_backend(&config, &launcher, &languages, log, &clock, stems.clone());
        let processes = ProcessBackend { door, ..processes };
        let backends = Backends::open(processes, egress.clone(), program, &data_dir)?;
        let env = Arc::new(config.network.env.clone());
        let backends = WithinCeiling { gate: egress.clone(), env, inner: backends };
        let vault = LateVault::default();
        let backends = WithSecrets { vault: Arc::clone(&vault), inner: backends };
        let options =
            alula_control::Options { build_env, build_tools, ..control_options(&config, &data_dir) };
        let folders = Allowed::new(&config.triggers.folders);
        let control = open_control(options, &data_dir, store.clone(), (&backends, folders)).await?;
        let unpacking = UnpackFirst { control: control.clone(), inner: backends };
        let pool = make_pool(limits::pool_options(&config, clock.now())?, &data_plane, Arc::new(unpacking));
        let (loops, loop_reports) = watch_loops();
        let sink = run_sink(&telemetry, loops);
        let seal = LineageSeal::new(lineage_secret.text.as_bytes());
        let guard = Guard::new(&config.limits).map_err(Error::component("a limit is wrong"))?;
        let invoker =
            Invoker::new(control.catalog().clone(), pool.clone(), Arc::clone(&clock), Arc::new(sink), seal);
        let told = Told::default();
        let functions =
            breakers::function_guard(&clock, BreakerNews::new(telemetry.metrics.breakers(), told.clone()));
        let degrader = Degrader::new(Arc::new(CodeFiles(control.clone())));
        let guard = guard.with_functions(functions.clone());
        let invoker = invoker.guarded_by(guard).degraded_by(degrader.clone());
        Ok(Self {
            config,
            data_dir,
            token,
            data_plane,
            clock,
            store,
            egress,
            control,
            pool,
            vault,
            invoker,
            functions,
            degrader,
            loop_reports,
            told,
            telemetry,
            visits,
            launcher,
            spawner,
            languages,
            stems,
        })
    }
}

fn run_sink(telemetry: &Telemetry, loops: LoopWatch) -> RunFanOut {
    RunFanOut {
        metrics: telemetry.metrics.clone(),
        signals: telemetry.signals.clone(),
        recorder: telemetry.recorder.clone(),
        loops,
        breakers: telemetry.metrics.breakers(),
    }
}

fn process_backend(
    config: &Config,
    launcher: &Arc<dyn Launcher>,
    languages: &Arc<Languages>,
    log: Arc<LogHandle>,
    clock: &Arc<dyn alula_model::Clock>,
    stems: Stems,
) -> ProcessBackend {
    ProcessBackend {
        launcher: Arc::clone(launcher),
        languages: Arc::clone(languages),
        log,
        clock: Arc::clone(clock),
        buffers: Buffers::new(config.sandbox.buffer_bytes_max),
        socket_body_bytes_max: config.sandbox.socket_body_bytes_max,
        stems,
        door: Door::default(),
    }
}

/// What the public data plane works with.
fn gateway_parts(
    core: &Core,
    calls: &Calls,
    events: PlatformEvents,
    gate: Gate,
) -> alula_gateway::Parts<Invoker, Catalog> {
    alula_gateway::Parts {
        invoke: core.invoker.clone(),
        later: Arc::new(calls.acceptor().clone()),
        events: Arc::new(events),
        seal: core.invoker.seal().clone(),
        gate,
        routes: core.control.catalog().clone(),
        clock: Arc::clone(&core.clock),
        random: Arc::new(random),
        observe: Arc::new(GatewayMetrics(core.telemetry.metrics.clone())),
    }
}

/// Opens the back end that the configuration names.
async fn open_store(config: &crate::config::Store, data_dir: &DataDir) -> Result<Arc<dyn Store>, Error> {
    let failed = Error::component("the store cannot be opened");
    if config.url.is_empty() {
        let store = open_sqlite(data_dir, &SqliteOptions::default()).map_err(failed)?;
        return Ok(Arc::new(store));
    }
    let store = open_postgres(&PostgresOptions::new(config.url.with_password())).await.map_err(failed)?;
    Ok(Arc::new(store))
}

/// Opens the control service over the packages on disk and the backend that its instances will run on.
async fn open_control(
    options: alula_control::Options,
    data_dir: &DataDir,
    records: Arc<dyn Store>,
    (backends, folders): (&WithSecrets<WithinCeiling<Backends>>, Allowed),
) -> Result<Control, Error> {
    let processes = &backends.inner.inner.processes;
    let packages = DiskPackages::open(data_dir).map_err(Error::component("the packages cannot be opened"))?;
    let parts = alula_control::Parts {
        records,
        packages: Arc::new(packages),
        backend: Arc::new(backends.clone()),
        launcher: Arc::clone(&processes.launcher),
        languages: Arc::clone(&processes.languages),
        triggers: Arc::new(KnownTriggers { folders }),
        clock: Arc::clone(&processes.clock),
    };
    let opening = Control::open(options, parts).await;
    opening.map_err(Error::component("what is deployed cannot be read"))
}

async fn connect(
    spawner: SpawnerLink,
    gate: EgressGate,
    data_plane: &tokio::runtime::Handle,
) -> Result<Sandbox, Error> {
    // The sandbox's sockets belong to the runtime that serves calls.
    let connecting = data_plane.spawn(Sandbox::connect(spawner, gate));
    let sandbox = connecting.await.map_err(Error::component("the sandbox was not set up"))?;
    sandbox.map_err(Error::system("the sandbox cannot be set up"))
}

fn telemetry(
    config: &Config,
    data_dir: &DataDir,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn alula_model::Clock>,
) -> Telemetry {
    let log_options = LogOptions {
        dir: data_dir.path().join("logs"),
        total_bytes_max: config.logs.total_bytes_max,
        function_bytes_max: config.logs.function_bytes_max,
        retention_ms: i64::from(config.logs.keep_days) * DAY_MS,
        ..LogOptions::default()
    };
    let (log_service, logs) = logs::start(log_options, Arc::clone(clock));
    let run_options = RunOptions {
        retention_ms: i64::from(config.runs.keep_days) * DAY_MS,
        keep_max: config.runs.keep_max,
    };
    let (run_service, recorder) = runs::start(run_options, store.clone(), Arc::clone(clock));
    let metrics = Metrics::new();
    metrics.show_dropped_log_lines(&logs.dropped());
    metrics.show_dropped_runs(&recorder.dropped());
    let (signals, usage) = observing::count(config, store, clock);
    metrics.show_dropped_usage(&usage.dropped());
    Telemetry { log_service, logs, run_service, recorder, signals, usage, metrics }
}

fn control_options(config: &Config, data_dir: &DataDir) -> alula_control::Options {
    alula_control::Options {
        package_bytes_max: config.build.package_bytes_max,
        unpacked_bytes_max: config.build.unpacked_bytes_max,
        files_max: config.build.files_max,
        builds_at_once: config.build.at_once,
        mail: if config.mail.is_set() { alula_control::Mail::Sent } else { alula_control::Mail::NotSent },
        ..alula_control::Options::new(data_dir.path())
    }
}

/// Instances live on the runtime that serves calls.
fn make_pool(options: PoolOptions, data_plane: &tokio::runtime::Handle, backend: Arc<dyn Backend>) -> Pool {
    let _in_data_plane = data_plane.enter();
    let id_prefix = format!("{:x}", options.started_at.as_millis());
    Pool::new(options, backend, id_prefix)
}

fn stem_options(config: &Config) -> StemOptions {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let made_at_once = match config.stems.made_at_once {
        0 => cores.div_ceil(2),
        set => set,
    };
    let crate::config::Stems { per_runtime, per_runtime_max, .. } = config.stems;
    StemOptions { per_runtime, per_runtime_max, made_at_once }
}

fn api_options(
    config: &Config,
    data_dir: &DataDir,
    clock: &Arc<dyn alula_model::Clock>,
) -> alula_api::Options {
    alula_api::Options {
        data_dir: data_dir.path().to_owned(),
        package_bytes_max: config.build.package_bytes_max,
        metrics_open: config.control.metrics_open,
        data_plane_url: base_url(config.listen.data_plane, config.gateway.tls.is_some()),
        public_url: config.login.public_url.clone(),
        s3_url: config.listen.s3.map(buckets::url),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: clock.now(),
    }
}

#[expect(clippy::expect_used, reason = "a hyphenated UUID is letters, digits and hyphens")]
pub(crate) fn invocation_id() -> InvocationId {
    InvocationId::new(&uuid::Uuid::now_v7().to_string()).expect("a UUID is an invocation id")
}
