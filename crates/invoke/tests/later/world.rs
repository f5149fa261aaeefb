//! A platform in memory: functions of the fake back end, a worker, a courier that keeps what it is given.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula_control::{AnyTriggers, Control, DryRun, Overrides, Parts, Upload};
use alula_invoke::later::{
    Acceptor, AcceptorParts, Call, CallState, Calls, Courier, CourierError, Deferred, Delivery, LoopWatch,
    NoTopics, Options, Outcome, Unobserved, WorkerParts, watch_loops,
};
use alula_invoke::{Invoker, LineageSeal, OpenRun, RunSink};
use alula_model::{Clock, ErrorCode, Fault, FunctionRef, InvocationId, Name, Run, Timestamp, TriggerKind};
use alula_pool::{Pool, PoolOptions};
use alula_runtime::VersionPlan;
use alula_runtime::bare::BareLauncher;
use alula_runtime::fake::{Does, FakeBackend};
use alula_runtime::language::{Host, Languages};
use alula_store::{MemoryPackages, MemoryStore};
use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A clock that moves with the paused one of the runtime.
#[derive(Debug)]
pub(crate) struct TestClock(Instant);

const EPOCH_MS: i64 = 1_700_000_000_000;

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(EPOCH_MS).plus_millis(i64::try_from(self.0.elapsed().as_millis()).unwrap())
    }
}

#[derive(Debug)]
struct Recorded {
    runs: Arc<Mutex<Vec<Run>>>,
    loops: LoopWatch,
}

impl RunSink for Recorded {
    fn begin(&self, _plan: &VersionPlan) -> OpenRun {
        let (runs, loops) = (Arc::clone(&self.runs), self.loops.clone());
        OpenRun::new(move |run| {
            if run.error == Some(ErrorCode::LoopDetected) {
                loops.stopped(&run);
            }
            runs.lock().unwrap().push(run);
        })
    }
}

/// Keeps what it is given; refuses the first `refusals`.
#[derive(Debug, Default)]
pub(crate) struct TestCourier {
    pub(crate) sent: Mutex<Vec<(Delivery, Bytes)>>,
    pub(crate) refusals: Mutex<VecDeque<CourierError>>,
}

impl Courier for TestCourier {
    fn send<'a>(
        &'a self,
        delivery: &'a Delivery,
        body: Bytes,
    ) -> alula_invoke::later::BoxFuture<'a, Result<(), CourierError>> {
        let refusal = self.refusals.lock().unwrap().pop_front();
        if refusal.is_none() {
            self.sent.lock().unwrap().push((delivery.clone(), body));
        }
        Box::pin(async move { refusal.map_or(Ok(()), Err) })
    }
}

pub(crate) struct World {
    pub(crate) calls: Calls,
    pub(crate) backend: FakeBackend,
    pub(crate) courier: Arc<TestCourier>,
    pub(crate) clock: Arc<TestClock>,
    recorded: Arc<Recorded>,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<()>,
    ids: Mutex<u32>,
    control: Control,
    folder: tempfile::TempDir,
    /// When the time was stopped: until then it has passed as fast as the machine is.
    began: Timestamp,
}

impl World {
    /// A platform with the function `hello`, whose table `async` is `table`.
    pub(crate) async fn new(table: serde_json::Value) -> Self {
        Self::with_options(Options::default(), table).await
    }

    pub(crate) async fn with_options(options: Options, table: serde_json::Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock(Instant::now()));
        let backend = FakeBackend::default();
        let store = Arc::new(MemoryStore::new());
        let packages = Arc::new(MemoryPackages::default());
        let parts = Parts {
            records: store.clone(),
            packages: packages.clone(),
            backend: Arc::new(backend.clone()),
            launcher: Arc::new(BareLauncher),
            languages: Arc::new(languages(folder.path())),
            triggers: Arc::new(AnyTriggers),
            clock: clock.clone(),
        };
        let control = Control::open(alula_control::Options::new(folder.path()), parts).await.unwrap();
        let pool = Pool::new(PoolOptions::default(), Arc::new(backend.clone()), "t".to_owned());
        let (loops, loop_reports) = watch_loops();
        let recorded = Arc::new(Recorded { runs: Arc::default(), loops });
        let seal = LineageSeal::new(b"of this test");
        let invoker = Invoker::new(control.catalog().clone(), pool, clock.clone(), recorded.clone(), seal);
        let acceptor = Acceptor::new(
            options,
            AcceptorParts {
                guard: alula_invoke::Guard::default(),
                catalog: control.catalog().clone(),
                records: store.clone(),
                blobs: packages,
                clock: clock.clone(),
                observe: Arc::new(Unobserved),
            },
        );
        let courier = Arc::new(TestCourier::default());
        let parts = WorkerParts {
            acceptor,
            queue: store,
            invoker,
            courier: courier.clone(),
            topics: Arc::new(NoTopics),
            random: || 0,
            data_plane: tokio::runtime::Handle::current(),
        };
        let (calls, worker) = Calls::with_worker(parts);
        tokio::spawn(loop_reports.told_through(calls.acceptor().clone()).run());
        let stop = CancellationToken::new();
        let worker = tokio::spawn(worker.run(stop.clone()));
        let ids = Mutex::default();
        let began = Timestamp(0);
        let mut world =
            Self { calls, backend, courier, clock, recorded, stop, worker, ids, control, folder, began };
        world.deploy("hello", table).await;
        tokio::time::pause();
        world.began = world.clock.now();
        world
    }

    pub(crate) async fn deploy(&self, name: &str, table: serde_json::Value) {
        let archive = self.folder.path().join(format!("tmp/{name}.sh"));
        std::fs::write(&archive, "#!/bin/sh\necho hello\n").unwrap();
        let upload = Upload {
            namespace: Name::default_namespace(),
            archive,
            file_name: Some(format!("{name}.sh")),
            overrides: Overrides {
                spec: [("async".to_owned(), table)].into_iter().collect(),
                ..Overrides::default()
            },
            message: String::new(),
            dry_run: DryRun::No,
        };
        let (progress, _told) = tokio::sync::mpsc::channel(64);
        self.control.deploy("tester", upload, progress).await.unwrap();
    }

    /// What calls do from now on.
    pub(crate) fn does(&self, what: impl Fn() -> Does + Send + Sync + 'static) {
        self.backend.change(|script| script.handler = Arc::new(move |_| what()));
    }

    /// How long calls take from now on.
    pub(crate) fn takes(&self, time: Duration) {
        self.backend.change(|script| script.call = time);
    }

    pub(crate) fn fails(&self) {
        self.does(|| Does::Fails(Fault::new(ErrorCode::HandlerError, "the handler raised an error")));
    }

    /// A call of `function` that is not handed in yet.
    pub(crate) fn call_of(&self, function: &str) -> Deferred {
        let mut last = self.ids.lock().unwrap();
        *last += 1;
        let target = FunctionRef { name: Name::new(function).unwrap(), ..hello() };
        let id = InvocationId::new(&format!("call-{last:04}")).unwrap();
        Deferred::event(id, target, TriggerKind::Http, Bytes::from_static(b"{}"))
    }

    pub(crate) fn call(&self) -> Deferred {
        self.call_of("hello")
    }

    pub(crate) async fn accept(&self, deferred: Deferred) -> InvocationId {
        self.calls.acceptor().accept(deferred).await.unwrap().id
    }

    /// Where the call stands when it has ended, or after a day.
    pub(crate) async fn ended(&self, id: &InvocationId) -> Call {
        let call = self.calls.wait(id, Duration::from_secs(86_400)).await.unwrap().unwrap();
        assert!(call.state.is_final(), "{call:?}");
        call
    }

    pub(crate) async fn outcome(&self, id: &InvocationId) -> Outcome {
        match self.ended(id).await.state {
            CallState::Ended(outcome) => *outcome,
            other => panic!("{id}: {other:?}"),
        }
    }

    /// Starts of the attempts that were recorded of a call, in milliseconds since the world began, to the tenth of a
    /// second: timers and the work between them take some milliseconds.
    pub(crate) fn attempts_ms(&self, id: &InvocationId) -> Vec<i64> {
        let runs = self.recorded.runs.lock().unwrap();
        runs.iter()
            .filter(|run| run.id == *id)
            .map(|run| (run.started_at.0 - self.began.0) / 100 * 100)
            .collect()
    }

    /// Everything that ran.
    pub(crate) fn runs(&self) -> Vec<Run> {
        self.recorded.runs.lock().unwrap().clone()
    }

    /// The calls in the order in which they were begun.
    pub(crate) fn order(&self) -> Vec<String> {
        let mut runs: Vec<_> = self.recorded.runs.lock().unwrap().clone();
        runs.sort_by_key(|run| run.started_at);
        runs.iter().map(|run| run.id.to_string()).collect()
    }

    /// Everything that was accepted is accounted for.
    pub(crate) async fn assert_balanced(&self) {
        let info = self.calls.queue().await.unwrap();
        assert_eq!(info.totals.imbalance(), 0, "{:?}", info.totals);
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.worker.await.unwrap();
    }
}

fn hello() -> FunctionRef {
    "hello".parse().unwrap()
}

fn languages(folder: &std::path::Path) -> Languages {
    let host = Host { resolve: &|path| path.canonicalize().ok(), run: &|_| None };
    Languages::load(&folder.join("languages"), &[], &host).unwrap()
}
