//! The invoker over a deployed function on the fake back end: every call ends in exactly one run record.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula_control::{AnyTriggers, Control, DryRun, Options, Overrides, Parts, Upload};
use alula_invoke::{Invocation, Invoker, LINEAGE_HEADER, LineageSeal, OpenRun, RunSink};
use alula_model::{
    Clock, ErrorCode, Fault, InvocationId, Lineage, Name, Run, RunStatus, Tier, Timestamp, TriggerKind,
    VersionKey,
};
use alula_pool::{Pool, PoolOptions};
use alula_runtime::bare::BareLauncher;
use alula_runtime::fake::{Does, FakeBackend};
use alula_runtime::language::{Host, Languages};
use alula_runtime::{Answer, Body, BodyError, VersionPlan, Waiters};
use alula_store::{MemoryPackages, MemoryStore};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::time::Instant;

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000)
    }
}

#[derive(Debug, Default)]
struct Recorded(Arc<Mutex<Vec<Run>>>);

impl RunSink for Recorded {
    fn begin(&self, _plan: &VersionPlan) -> OpenRun {
        let runs = Arc::clone(&self.0);
        OpenRun::new(move |run| runs.lock().unwrap().push(run))
    }
}

struct World {
    invoker: Invoker,
    backend: FakeBackend,
    recorded: Arc<Recorded>,
    _folder: tempfile::TempDir,
}

impl World {
    /// A platform in memory with one function, `hello`, that has one slot.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(FixedClock);
        let backend = FakeBackend::default();
        let parts = Parts {
            records: Arc::new(MemoryStore::new()),
            packages: Arc::new(MemoryPackages::default()),
            backend: Arc::new(backend.clone()),
            launcher: Arc::new(BareLauncher),
            languages: Arc::new(languages(folder.path())),
            triggers: Arc::new(AnyTriggers),
            clock: Arc::clone(&clock),
        };
        let control = Control::open(Options::new(folder.path()), parts).await.unwrap();
        deploy(&control, folder.path()).await;
        let pool = Pool::new(PoolOptions::default(), Arc::new(backend.clone()), "t".to_owned());
        let recorded = Arc::new(Recorded::default());
        let invoker = Invoker::new(control.catalog().clone(), pool, clock, recorded.clone(), seal());
        Self { invoker, backend, recorded, _folder: folder }
    }

    fn does(&self, what: impl Fn() -> Does + Send + Sync + 'static) {
        self.backend.change(|script| script.handler = Arc::new(move |_| what()));
    }

    /// The one run that was recorded since the last look.
    fn only_run(&self) -> Run {
        let runs = std::mem::take(&mut *self.recorded.0.lock().unwrap());
        let [run] = runs.try_into().unwrap();
        run
    }
}

fn languages(folder: &Path) -> Languages {
    let host = Host { resolve: &|path| path.canonicalize().ok(), run: &|_| None };
    Languages::load(&folder.join("languages"), &[], &host).unwrap()
}

async fn deploy(control: &Control, folder: &Path) {
    let archive = folder.join("tmp/hello.sh");
    std::fs::write(&archive, "#!/bin/sh\necho hello\n").unwrap();
    let upload = Upload {
        namespace: Name::default_namespace(),
        archive,
        file_name: Some("hello.sh".to_owned()),
        overrides: Overrides {
            spec: [("max_instances".to_owned(), 1.into())].into_iter().collect(),
            ..Overrides::default()
        },
        message: String::new(),
        dry_run: DryRun::No,
    };
    let (progress, _told) = tokio::sync::mpsc::channel(64);
    control.deploy("tester", upload, progress).await.unwrap();
}

fn seal() -> LineageSeal {
    LineageSeal::new(b"of these tests")
}

fn invocation(target: &str) -> Invocation {
    Invocation {
        id: InvocationId::new("call-1").unwrap(),
        target: target.parse().unwrap(),
        version: None,
        trigger: TriggerKind::Http,
        lineage: Lineage::default(),
        attempt: 1,
        method: Method::POST,
        uri: "/".parse().unwrap(),
        headers: HeaderMap::new(),
        body: Body::full("four"),
        caller: alula_model::Caller::Public,
        remote: None,
        parameters: Vec::new(),
        is_event: false,
        received: Instant::now(),
        received_at: Timestamp(5),
        waiters: Waiters::default(),
        began: None,
    }
}

#[tokio::test]
async fn a_whole_answer_is_recorded_at_once_and_frees_its_slot() {
    let world = World::new().await;
    world.does(|| Does::answers("hello"));
    let outcome = world.invoker.invoke(invocation("hello")).await.unwrap();
    let run = world.only_run();
    assert_eq!((run.status, run.http_status, run.tier), (RunStatus::Done, Some(200), Tier::Cold));
    assert_eq!((run.request_bytes, run.response_bytes, world.invoker.in_flight()), (4, 5, 0));
    assert_eq!(outcome.served.key.version, 1);

    world.invoker.invoke(invocation("hello:1")).await.unwrap();
    let run = world.only_run();
    assert_eq!((run.tier, run.qualifier.as_str()), (Tier::Warm, "1"));
}

fn streamed(content: &'static str) -> Answer {
    let body = Full::new(Bytes::from(content)).map_err(|never| match never {});
    Answer::new(StatusCode::OK, HeaderMap::new(), Body::stream(body))
}

#[tokio::test]
async fn a_stream_is_recorded_at_its_end_and_an_abandoned_one_as_cancelled() {
    let world = World::new().await;
    world.does(|| Does::Answers(streamed("piece by piece")));
    let outcome = world.invoker.invoke(invocation("hello")).await.unwrap();
    assert_eq!(world.invoker.in_flight(), 1);
    outcome.answer.body.collect(100).await.unwrap();
    let run = world.only_run();
    assert_eq!((run.status, run.response_bytes, world.invoker.in_flight()), (RunStatus::Done, 14, 0));

    let outcome = world.invoker.invoke(invocation("hello")).await.unwrap();
    drop(outcome);
    assert_eq!((world.only_run().status, world.invoker.in_flight()), (RunStatus::Cancelled, 0));
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_the_functions_failure() {
    let world = World::new().await;
    world.does(|| {
        let pieces: [Result<Frame<Bytes>, BodyError>; 2] =
            [Ok(Frame::data(Bytes::from("half"))), Err(BodyError::Disconnected)];
        let broken = StreamBody::new(futures_util::stream::iter(pieces));
        Does::Answers(Answer::new(StatusCode::OK, HeaderMap::new(), Body::stream(broken)))
    });
    let outcome = world.invoker.invoke(invocation("hello")).await.unwrap();
    assert!(outcome.answer.body.collect(100).await.is_err());
    let run = world.only_run();
    assert_eq!(
        (run.status, run.error, run.response_bytes),
        (RunStatus::Failed, Some(ErrorCode::FunctionCrashed), 4)
    );
}

#[tokio::test]
async fn failures_are_recorded_with_their_code() {
    let world = World::new().await;
    let fault = Fault::new(ErrorCode::HandlerError, "it raised");
    world.does(move || Does::Fails(fault.clone()));
    let failure = world.invoker.invoke(invocation("hello")).await.unwrap_err();
    assert_eq!((failure.fault.code, failure.retry_after_ms), (ErrorCode::HandlerError, None));
    let run = world.only_run();
    assert_eq!((run.status, run.error), (RunStatus::Failed, Some(ErrorCode::HandlerError)));

    world.does(|| Does::Crashes);
    assert!(world.invoker.invoke(invocation("hello")).await.is_err());
    assert_eq!(world.only_run().status, RunStatus::Failed);
    world.does(|| Does::answers("again"));
    assert!(world.invoker.invoke(invocation("hello")).await.is_ok());
}

#[tokio::test]
async fn what_does_not_exist_is_refused_and_leaves_no_record() {
    let world = World::new().await;
    for (target, code) in [
        ("nobody", ErrorCode::FunctionNotFound),
        ("hello:7", ErrorCode::VersionNotFound),
        ("hello:live", ErrorCode::AliasNotFound),
    ] {
        let failure = world.invoker.invoke(invocation(target)).await.unwrap_err();
        assert_eq!(failure.fault.code, code, "{target}");
    }
    assert!(world.recorded.0.lock().unwrap().is_empty());
}

/// What the function is told of where its call comes from.
async fn lineage_told(world: &World, lineage: &str) -> Lineage {
    let told = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&told);
    world.backend.change(|script| {
        script.handler = Arc::new(move |call| {
            *tell.lock().unwrap() = call.headers.get(LINEAGE_HEADER).cloned();
            Does::answers("ok")
        });
    });
    let call = Invocation { lineage: lineage.parse().unwrap(), ..invocation("hello") };
    world.invoker.invoke(call).await.unwrap();
    seal().open(told.lock().unwrap().as_ref().unwrap()).unwrap()
}

#[tokio::test]
async fn a_function_is_told_the_lineage_of_what_it_calls() {
    let world = World::new().await;
    assert_eq!(lineage_told(&world, "").await.to_string(), "hello.default");
    assert_eq!(
        lineage_told(&world, "").await.to_string(),
        "hello.default",
        "it is signed once and stays right"
    );
    let told = lineage_told(&world, "other.default*2>hello.default").await;
    assert_eq!(told.to_string(), "other.default*2>hello.default*2");
}

#[tokio::test]
async fn a_chain_that_goes_in_circles_is_stopped_with_a_record_that_names_it() {
    let world = World::new().await;
    world.does(|| Does::answers("never"));
    let call =
        Invocation { lineage: "hello.default*16>other.default".parse().unwrap(), ..invocation("hello") };
    let failure = world.invoker.invoke(call).await.unwrap_err();
    assert_eq!((failure.fault.code, failure.retry_after_ms), (ErrorCode::LoopDetected, None));
    let run = world.only_run();
    assert_eq!((run.status, run.error), (RunStatus::Failed, Some(ErrorCode::LoopDetected)));
    assert!(run.message.unwrap().contains("hello.default (16 times) -> other.default"));
    assert_eq!((world.backend.counts().starts, world.invoker.in_flight()), (0, 0), "nothing ran");
}

#[tokio::test]
async fn a_call_that_could_only_wait_for_itself_is_refused_at_once() {
    let world = World::new().await;
    world.does(|| Does::answers("ok"));
    let key = |version| VersionKey {
        namespace: Name::default_namespace(),
        function: Name::new("hello").unwrap(),
        version,
    };
    let waited_for_by = |versions: &[u64]| {
        let waiters =
            versions.iter().fold(Waiters::default(), |waiters, version| waiters.with(key(*version)));
        Invocation { waiters, ..invocation("hello") }
    };
    world.invoker.invoke(waited_for_by(&[2, 3])).await.unwrap();
    world.only_run();
    let failure = world.invoker.invoke(waited_for_by(&[2, 1, 3])).await.unwrap_err();
    assert_eq!((failure.fault.code, failure.retry_after_ms), (ErrorCode::CallDeadlock, None));
    let run = world.only_run();
    assert_eq!((run.status, run.error), (RunStatus::Failed, Some(ErrorCode::CallDeadlock)));
    assert_eq!(world.backend.counts().starts, 1);
}

#[tokio::test]
async fn a_run_names_the_call_that_led_to_it() {
    let world = World::new().await;
    world.does(|| Does::answers("ok"));
    let lineage: Lineage = "other.default@call-0".parse().unwrap();
    world.invoker.invoke(Invocation { lineage, ..invocation("hello") }).await.unwrap();
    assert_eq!(world.only_run().parent, InvocationId::new("call-0"));
    world.invoker.invoke(invocation("hello")).await.unwrap();
    assert_eq!(world.only_run().parent, None);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_is_cancelled_and_one_that_hangs_times_out() {
    let world = World::new().await;
    world.does(|| Does::Hangs);
    let call = world.invoker.invoke(invocation("hello"));
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    assert_eq!((world.only_run().status, world.invoker.in_flight()), (RunStatus::Cancelled, 0));

    let failure = world.invoker.invoke(invocation("hello")).await.unwrap_err();
    assert_eq!(failure.fault.code, ErrorCode::FunctionTimeout);
    assert_eq!(world.only_run().status, RunStatus::Timeout);
}

/// How long user code runs on that was told to stop.
const SETTLE: Duration = Duration::from_millis(300);

/// A world whose calls hang until `hangs` is cleared, and run on for [`SETTLE`] after they were told to stop.
async fn world_that_settles_late() -> (World, Arc<AtomicBool>) {
    let world = World::new().await;
    let hangs = Arc::new(AtomicBool::new(true));
    let still_hangs = Arc::clone(&hangs);
    world.does(move || if still_hangs.load(Ordering::SeqCst) { Does::Hangs } else { Does::answers("next") });
    world.backend.change(|script| {
        script.start = Duration::from_millis(40);
        script.settle = SETTLE;
    });
    (world, hangs)
}

#[tokio::test(start_paused = true)]
async fn the_slot_of_a_timed_out_call_is_held_until_its_code_has_stopped() {
    let (world, hangs) = world_that_settles_late().await;
    let failure = world.invoker.invoke(invocation("hello")).await.unwrap_err();
    assert_eq!(failure.fault.code, ErrorCode::FunctionTimeout);
    assert_eq!(world.only_run().phases.run_us, 30_000_000, "the caller does not wait for that");

    hangs.store(false, Ordering::SeqCst);
    world.invoker.invoke(invocation("hello")).await.unwrap();
    let next = world.only_run();
    assert_eq!(next.phases.queue_us / 1000, 300);
    assert_eq!(world.backend.counts().starts, 1);
}

#[tokio::test(start_paused = true)]
async fn the_slot_of_a_caller_that_left_is_held_until_its_code_has_stopped() {
    let (world, hangs) = world_that_settles_late().await;
    let call = world.invoker.invoke(invocation("hello"));
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    assert_eq!((world.only_run().status, world.invoker.in_flight()), (RunStatus::Cancelled, 0));

    hangs.store(false, Ordering::SeqCst);
    world.invoker.invoke(invocation("hello")).await.unwrap();
    assert_eq!(world.only_run().phases.queue_us / 1000, 300);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_given_up_while_it_settles_is_met_by_nobody() {
    let (world, hangs) = world_that_settles_late().await;
    let call = world.invoker.invoke(invocation("hello"));
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    let given_up = world.only_run().instance.unwrap();

    hangs.store(false, Ordering::SeqCst);
    let end = async {
        tokio::time::sleep(SETTLE / 2).await;
        assert!(world.backend.kill(&given_up));
    };
    let (next, ()) = tokio::join!(world.invoker.invoke(invocation("hello")), end);
    assert_ne!(next.unwrap().served.instance, Some(given_up));
    assert_eq!(world.backend.counts().starts, 2);
}

#[tokio::test]
async fn a_call_that_the_guard_refuses_takes_no_slot_and_has_no_run() {
    let world = World::new().await;
    let limits = r#"{"functions": {"default/hello": {"in_flight": 1}}}"#;
    let guard = alula_guard::Guard::new(&serde_json::from_str(limits).unwrap()).unwrap();
    let invoker = world.invoker.clone().guarded_by(guard.clone());
    world.does(|| Does::Answers(streamed("piece by piece")));
    let outcome = invoker.invoke(invocation("hello")).await.unwrap();
    let failure = invoker.invoke(invocation("hello")).await.unwrap_err();
    assert_eq!(failure.fault.code, ErrorCode::RateLimited);
    assert_eq!(failure.fault.limit.unwrap().name, "function.in_flight");
    assert_eq!((failure.retry_after_ms, guard.in_flight()), (Some(1_000), 1));
    outcome.answer.body.collect(100).await.unwrap();
    assert_eq!((world.only_run().status, guard.in_flight()), (RunStatus::Done, 0));

    let outcome = invoker.invoke(invocation("hello")).await.unwrap();
    drop(outcome);
    assert_eq!((world.only_run().status, guard.in_flight()), (RunStatus::Cancelled, 0));
    let fault = Fault::new(ErrorCode::HandlerError, "it raised");
    world.does(move || Does::Fails(fault.clone()));
    invoker.invoke(invocation("hello")).await.unwrap_err();
    assert_eq!((world.only_run().error, guard.in_flight()), (Some(ErrorCode::HandlerError), 0));
}
