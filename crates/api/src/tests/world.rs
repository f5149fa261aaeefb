//! A platform in memory and requests to it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alula_control::{CheckTriggers, Control};
use alula_identity::Tokens;
use alula_identity::calling::{Gate, NoFetch};
use alula_invoke::later::{
    Acceptor, AcceptorParts, BoxFuture, Calls, Courier, CourierError, Delivery, NoTopics, Unobserved,
    WorkerParts,
};
use alula_invoke::{Invoker, OpenRun, RunSink};
use alula_model::trigger::Trigger;
use alula_model::{AccessSpec, Clock, InvocationId, SpecError, Timestamp, Way};
use alula_pool::{Pool, PoolOptions};
use alula_runtime::VersionPlan;
use alula_runtime::bare::BareLauncher;
use alula_runtime::fake::FakeBackend;
use alula_runtime::language::{Host, Languages};
use alula_store::{MemoryPackages, MemoryStore};
use alula_telemetry::logs::{self, LogHandle, LogOptions};
use alula_telemetry::metrics::Metrics;
use alula_telemetry::runs::{self, RunOptions, RunRecorder};
use alula_telemetry::signals::{Signals, Terms};
use alula_telemetry::usage;
use alula_trigger::schedule;
use alula_trigger::topic::{self, Topics};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{Api, NoBrokers, Options, Parts};

pub(super) const TOKEN: &str = "let-me-in";
pub(super) const PACKAGE_BYTES_MAX: u64 = 100_000;

#[derive(Debug)]
struct TestClock;

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000)
    }
}

#[derive(Debug)]
struct Recorder(RunRecorder, Signals);

impl RunSink for Recorder {
    fn begin(&self, plan: &VersionPlan) -> OpenRun {
        let (recorder, terms) = (self.0.clone(), Terms::of(&plan.spec));
        let counts = self.1.function(&plan.key.namespace, &plan.key.function, &plan.spec);
        OpenRun::new(move |run| {
            counts.record(&run, terms);
            recorder.record(run);
        })
    }
}

pub(super) struct World {
    pub(super) api: Api,
    pub(super) backend: FakeBackend,
    pub(super) logs: LogHandle,
    pub(super) draining: CancellationToken,
    dir: tempfile::TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The values of a newline-delimited answer.
    pub(super) fn lines(&self) -> Vec<serde_json::Value> {
        let lines = self.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// The status, code and message of an error.
    pub(super) fn error(&self) -> (u16, String, String) {
        let json = self.json();
        let text = |field: &str| json["error"][field].as_str().unwrap_or_else(|| panic!("{json}")).to_owned();
        (self.status.as_u16(), text("code"), text("message"))
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(TestClock);
        let backend = FakeBackend::default();
        let (logs, recorder, history) = telemetry(dir.path(), &clock);
        let languages = Arc::new(languages(dir.path()));
        let launcher = Arc::new(BareLauncher);
        let parts = alula_control::Parts {
            records: Arc::new(MemoryStore::new()),
            packages: Arc::new(MemoryPackages::default()),
            backend: Arc::new(backend.clone()),
            launcher: launcher.clone(),
            languages: Arc::clone(&languages),
            triggers: Arc::new(KnownTriggers),
            clock: Arc::clone(&clock),
        };
        let control = Control::open(alula_control::Options::new(dir.path()), parts).await.unwrap();
        let pool = Pool::new(PoolOptions::default(), Arc::new(backend.clone()), "t".into());
        let (signals, usage) = counting(&clock);
        let sink = Arc::new(Recorder(recorder.clone(), signals.clone()));
        let seal = alula_invoke::LineageSeal::new(b"of this test");
        let invoker = Invoker::new(control.catalog().clone(), pool.clone(), Arc::clone(&clock), sink, seal);
        let hands = hands(&clock);
        let invoker = invoker.guarded_by(
            alula_guard::Guard::default()
                .with_functions(alula_guard::FunctionGuard::new(hands.breakers().clone())),
        );
        let queue = Arc::new(MemoryStore::new());
        let calls = calls(&control, &invoker, &queue, &clock);
        let schedules = schedules(&control, &calls, &pool, &clock);
        let topics = topics(&control, &calls, &queue, &clock);
        let buckets = buckets(dir.path(), &clock);
        let draining = CancellationToken::new();
        let mut options = Options {
            data_dir: dir.path().to_owned(),
            package_bytes_max: PACKAGE_BYTES_MAX,
            metrics_open: false,
            data_plane_url: "http://localhost:8080".into(),
            public_url: None,
            s3_url: None,
            version: "1.2.3".into(),
            started_at: Timestamp(1_699_999_999_000),
        };
        change(&mut options);
        let numbers = AtomicU64::new(0);
        let ids =
            move || InvocationId::new(&format!("id-{}", numbers.fetch_add(1, Ordering::Relaxed))).unwrap();
        let identity = identity(&control, &clock).await;
        let tokens = Tokens::default().with("tester", Tokens::digest_of(TOKEN));
        let gate = gate(&identity, &tokens);
        let book = book(&control, &clock, &invoker).await;
        let vault = vault(dir.path(), &control, &clock).await;
        let parts = Parts {
            identity,
            book,
            gate,
            vault,
            ceilings: Arc::new(crate::NoCeilings),
            control,
            hands,
            invoker,
            calls,
            schedules,
            folders: alula_trigger::folder::Handle::default(),
            topics,
            buckets,
            brokers: Arc::new(NoBrokers),
            pool,
            logs: logs.clone(),
            history,
            recorder,
            languages,
            launcher,
            metrics: Metrics::new(),
            alarms: alarms(&signals, &clock),
            signals,
            usage,
            clock,
            ids: Arc::new(ids),
            tokens,
            signing_key: "alula_sign_test".to_owned(),
            draining: draining.clone(),
        };
        Self { api: Api::new(options, parts), backend, logs, draining, dir }
    }

    /// Sends a request as it is.
    pub(super) async fn send(&self, request: Request<Body>) -> axum::response::Response {
        self.api.router().oneshot(request).await.unwrap()
    }

    /// Sends a request with the token and reads the whole answer.
    pub(super) async fn ask(&self, method: &str, uri: &str, body: impl Into<Body>) -> Reply {
        read(self.send(with_token(method, uri, body)).await).await
    }

    /// Asks with another token than the administrator's.
    pub(super) async fn ask_as(&self, token: &str, method: &str, uri: &str, body: impl Into<Body>) -> Reply {
        let request =
            Request::builder().method(method).uri(uri).header("authorization", format!("Bearer {token}"));
        read(self.send(request.body(body.into()).unwrap()).await).await
    }

    pub(super) async fn get(&self, uri: &str) -> Reply {
        self.ask("GET", uri, Body::empty()).await
    }

    /// Deploys the program `hello`.
    pub(super) async fn deploy_hello(&self, text: &str) -> Reply {
        let reply = self.ask("POST", "/v1/deploy?file=hello.sh", format!("#!/bin/sh\necho {text}\n")).await;
        assert_eq!(reply.lines().last().unwrap()["event"], "deployed", "{:?}", reply.lines());
        reply
    }

    /// Files in the folder for uploads.
    pub(super) fn uploads(&self) -> usize {
        let entries = std::fs::read_dir(self.dir.path().join("tmp")).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("upload-"))
            .count()
    }
}

pub(super) fn with_token(method: &str, uri: &str, body: impl Into<Body>) -> Request<Body> {
    let builder =
        Request::builder().method(method).uri(uri).header("authorization", format!("Bearer {TOKEN}"));
    builder.body(body.into()).unwrap()
}

pub(super) async fn read(response: axum::response::Response) -> Reply {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Reply { status: parts.status, headers: parts.headers, body }
}

async fn book(control: &Control, clock: &Arc<dyn Clock>, invoker: &Invoker) -> alula_guard::protect::Book {
    static LAST: AtomicU64 = AtomicU64::new(1);
    let parts = alula_guard::protect::Parts {
        records: Arc::new(MemoryStore::new()),
        clock: Arc::clone(clock),
        audit: Arc::new(control.clone()),
        random: || u128::from(LAST.fetch_add(1, Ordering::Relaxed)),
        options: alula_guard::limit::Options::default(),
        guard: invoker.guard().clone(),
    };
    alula_guard::protect::Book::load(parts).await.unwrap()
}

async fn identity(control: &Control, clock: &Arc<dyn Clock>) -> alula_identity::Identity {
    static LAST: AtomicU64 = AtomicU64::new(1);
    let parts = alula_identity::Parts {
        records: Arc::new(MemoryStore::new()),
        clock: Arc::clone(clock),
        audit: Arc::new(control.clone()),
        random: || u128::from(LAST.fetch_add(1, Ordering::Relaxed)) * 0x9e37_79b9_7f4a_7c15_f39c,
    };
    alula_identity::Identity::load(parts).await.unwrap()
}

fn gate(identity: &alula_identity::Identity, tokens: &Tokens) -> Gate {
    let public = AccessSpec::only(Way::Public);
    Gate::new(identity.clone(), tokens.clone(), public, Arc::new(NoFetch))
}

async fn vault(dir: &Path, control: &Control, clock: &Arc<dyn Clock>) -> alula_vault::Vault {
    let parts = alula_vault::Parts {
        records: Arc::new(MemoryStore::new()),
        clock: Arc::clone(clock),
        audit: Arc::new(control.clone()),
        keys: alula_vault::Keyring::open(&dir.join("master.key")).unwrap(),
    };
    alula_vault::Vault::load(parts).await.unwrap()
}

/// Alarms of a platform on which nothing but calls is measured and nobody is told.
fn alarms(signals: &Signals, clock: &Arc<dyn Clock>) -> alula_alarm::Alarms {
    let (service, alarms) = alula_alarm::Service::new(alula_alarm::Parts {
        options: alula_alarm::Options::default(),
        node: "test".to_owned(),
        signals: signals.clone(),
        told: alula_alarm::Told::default(),
        measure: Arc::new(alula_alarm::NothingMeasured),
        deployed: Arc::new(alula_alarm::NothingDeployed),
        deliver: Arc::new(alula_alarm::NoDelivery),
        records: Arc::new(MemoryStore::new()),
        observe: Arc::new(alula_alarm::Unobserved),
        clock: Arc::clone(clock),
    });
    tokio::spawn(service.run(CancellationToken::new()));
    alarms
}

fn counting(clock: &Arc<dyn Clock>) -> (Signals, usage::Service) {
    let ledger = usage::Ledger::default();
    let signals = Signals::new(Arc::clone(clock), ledger.clone());
    let parts = usage::ServiceParts {
        signals: signals.clone(),
        ledger,
        records: Arc::new(MemoryStore::new()),
        clock: Arc::clone(clock),
        writer: "test".to_owned(),
        keep_days: 400,
    };
    (signals, usage::Service::new(parts))
}

fn telemetry(dir: &Path, clock: &Arc<dyn Clock>) -> (LogHandle, RunRecorder, Arc<MemoryStore>) {
    let history = Arc::new(MemoryStore::new());
    let options = LogOptions { dir: dir.join("logs"), ..LogOptions::default() };
    let (log_service, logs) = logs::start(options, Arc::clone(clock));
    let (run_service, recorder) = runs::start(RunOptions::default(), history.clone(), Arc::clone(clock));
    tokio::spawn(log_service.run(CancellationToken::new()));
    tokio::spawn(run_service.run(CancellationToken::new()));
    (logs, recorder, history)
}

/// The languages of a machine on which no interpreter is installed.
fn languages(dir: &Path) -> Languages {
    let host = Host { resolve: &|_| None, run: &|_| None };
    Languages::load(&dir.join("guest"), &[], &host).unwrap()
}

/// Calls that wait in memory, and a worker that runs them.
fn calls(control: &Control, invoker: &Invoker, queue: &Arc<MemoryStore>, clock: &Arc<dyn Clock>) -> Calls {
    let parts = AcceptorParts {
        guard: invoker.guard().clone(),
        catalog: control.catalog().clone(),
        records: queue.clone(),
        blobs: Arc::new(MemoryPackages::default()),
        clock: Arc::clone(clock),
        observe: Arc::new(Unobserved),
    };
    let (calls, worker) = Calls::with_worker(WorkerParts {
        acceptor: Acceptor::new(alula_invoke::later::Options::default(), parts),
        queue: queue.clone(),
        invoker: invoker.clone(),
        courier: Arc::new(NoCourier),
        topics: Arc::new(NoTopics),
        random: || 0,
        data_plane: tokio::runtime::Handle::current(),
    });
    tokio::spawn(worker.run(CancellationToken::new()));
    calls
}

/// Schedules over a memory of their own, running.
fn buckets(dir: &Path, clock: &Arc<dyn Clock>) -> alula_bucket::Buckets {
    let parts = alula_bucket::Parts {
        options: alula_bucket::Options::default(),
        data_dir: dir.to_owned(),
        records: Arc::new(MemoryStore::new()),
        packages: Arc::new(MemoryPackages::default()),
        announce: Arc::new(alula_bucket::Silent),
        audit: Arc::new(alula_store::Unaudited(Arc::new(MemoryStore::new()))),
        observe: Arc::new(alula_bucket::Nobody),
        seal: alula_invoke::LineageSeal::new(b"of this test"),
        clock: Arc::clone(clock),
        draw_id: || unreachable!("nothing is uploaded"),
        draw_secret: || 7,
    };
    alula_bucket::Buckets::open(parts).unwrap()
}

fn schedules(control: &Control, calls: &Calls, pool: &Pool, clock: &Arc<dyn Clock>) -> schedule::Handle {
    let (scheduler, schedules) = schedule::Service::new(
        schedule::Options::default(),
        schedule::Parts {
            deployed: Arc::new(control.catalog().clone()),
            records: Arc::new(MemoryStore::new()),
            accept: Arc::new(calls.clone()),
            pool: pool.clone(),
            observe: Arc::new(schedule::Unobserved),
            clock: Arc::clone(clock),
        },
    );
    tokio::spawn(scheduler.run(CancellationToken::new()));
    schedules
}

/// Topics over the memory in which calls wait.
fn topics(control: &Control, calls: &Calls, queue: &Arc<MemoryStore>, clock: &Arc<dyn Clock>) -> Topics {
    let parts = topic::Parts {
        catalog: control.catalog().clone(),
        records: queue.clone(),
        acceptor: calls.acceptor().clone(),
        clock: Arc::clone(clock),
    };
    Topics::new(topic::Options::default(), parts)
}

/// Checks triggers as the platform does.
#[derive(Debug)]
struct KnownTriggers;

impl CheckTriggers for KnownTriggers {
    fn check(&self, triggers: &[Trigger], _env: &BTreeMap<String, String>) -> Result<(), SpecError> {
        alula_trigger::check::check(triggers)
    }
}

/// Sends nothing.
#[derive(Debug)]
struct NoCourier;

impl Courier for NoCourier {
    fn send<'a>(&'a self, delivery: &'a Delivery, _body: Bytes) -> BoxFuture<'a, Result<(), CourierError>> {
        let refusal = CourierError::Final(format!("{} is not reached from here", delivery.url));
        Box::pin(async move { Err(refusal) })
    }
}

/// Breakers that nobody is told about, and a store for what is held by hand.
fn hands(clock: &Arc<dyn Clock>) -> alula_invoke::Hands {
    use alula_guard::breaker::{BreakerEvent, BreakerParts, BreakerWatch, Breakers, Scope};
    use alula_model::Name;

    #[derive(Debug)]
    struct Nobody;

    impl BreakerWatch for Nobody {
        fn changed(&self, _event: &BreakerEvent) {}
        fn gone(&self, _namespace: &Name, _function: &Name, _version: u64, _scope: &Scope) {}
    }

    let records = Arc::new(MemoryStore::new());
    let parts = BreakerParts { clock: Arc::clone(clock), random: || 0, watch: Arc::new(Nobody) };
    let audit = Arc::new(alula_store::Unaudited(records.clone()));
    alula_invoke::Hands::new(records, audit, Breakers::new(parts), Arc::clone(clock))
}
