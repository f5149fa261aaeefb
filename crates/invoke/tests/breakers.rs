//! Breakers, adaptive limits and degraded answers around calls of deployed functions on the fake back end.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula_control::{AnyTriggers, Control, DryRun, Options, Overrides, Parts, Upload};
use alula_guard::breaker::{BreakerEvent, BreakerParts, BreakerWatch, Breakers, HandKey, Held, Scope};
use alula_guard::{FunctionGuard, Guard};
use alula_invoke::degraded::{Degrader, PackageFiles};
use alula_invoke::later::Miss;
use alula_invoke::{Failure, Hands, Invocation, Invoker, LineageSeal, OpenRun, Outcome, RunSink};
use alula_model::{
    By, Clock, Degraded, ErrorCode, Fault, InvocationId, Lineage, Name, Run, RunStatus, Timestamp,
    TriggerKind, VersionKey,
};
use alula_pool::{Pool, PoolOptions};
use alula_runtime::bare::BareLauncher;
use alula_runtime::fake::{Does, FakeBackend};
use alula_runtime::language::{Host, Languages};
use alula_runtime::{Answer, Body, BoxFuture, Call, VersionPlan, Waiters};
use alula_store::{MemoryPackages, MemoryStore, Unaudited};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tokio::time::Instant;

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000)
    }
}

#[derive(Debug, Default)]
struct Recorded {
    runs: Mutex<Vec<Run>>,
    degraded: Mutex<Vec<Degraded>>,
}

#[derive(Debug)]
struct Sink(Arc<Recorded>);

impl RunSink for Sink {
    fn begin(&self, _plan: &VersionPlan) -> OpenRun {
        let recorded = Arc::clone(&self.0);
        OpenRun::new(move |run| recorded.runs.lock().unwrap().push(run))
    }

    fn degraded(&self, _key: &VersionKey, reason: Degraded) {
        self.0.degraded.lock().unwrap().push(reason);
    }
}

#[derive(Debug)]
struct Quiet;

impl BreakerWatch for Quiet {
    fn changed(&self, _event: &BreakerEvent) {}
    fn gone(&self, _namespace: &Name, _function: &Name, _version: u64, _scope: &Scope) {}
}

#[derive(Debug)]
struct OnePage;

impl PackageFiles for OnePage {
    fn read<'a>(&'a self, _: &'a Arc<VersionPlan>, path: &'a str, _: u64) -> BoxFuture<'a, Option<Bytes>> {
        let page = (path == "sorry.html").then(|| Bytes::from_static(b"<p>sorry"));
        Box::pin(std::future::ready(page))
    }
}

struct World {
    invoker: Invoker,
    hands: Hands,
    backend: FakeBackend,
    recorded: Arc<Recorded>,
    control: Control,
    folder: tempfile::TempDir,
}

impl World {
    /// A platform in memory with the function `hello` of this spec.
    async fn new(spec: serde_json::Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(FixedClock);
        let (backend, records) = (FakeBackend::default(), Arc::new(MemoryStore::new()));
        let host = Host { resolve: &|path| path.canonicalize().ok(), run: &|_| None };
        let parts = Parts {
            records: records.clone(),
            packages: Arc::new(MemoryPackages::default()),
            backend: Arc::new(backend.clone()),
            launcher: Arc::new(BareLauncher),
            languages: Arc::new(Languages::load(&folder.path().join("languages"), &[], &host).unwrap()),
            triggers: Arc::new(AnyTriggers),
            clock: Arc::clone(&clock),
        };
        let control = Control::open(Options::new(folder.path()), parts).await.unwrap();
        let pool = Pool::new(PoolOptions::default(), Arc::new(backend.clone()), "t".to_owned());
        let recorded = Arc::new(Recorded::default());
        let parts = BreakerParts { clock: Arc::clone(&clock), random: || 0, watch: Arc::new(Quiet) };
        let functions = FunctionGuard::new(Breakers::new(parts));
        let audit = Arc::new(Unaudited(records.clone()));
        let hands = Hands::new(records, audit, functions.breakers().clone(), Arc::clone(&clock));
        let sink = Arc::new(Sink(Arc::clone(&recorded)));
        let seal = LineageSeal::new(b"of these tests");
        let invoker = Invoker::new(control.catalog().clone(), pool, clock, sink, seal)
            .guarded_by(Guard::default().with_functions(functions))
            .degraded_by(Degrader::new(Arc::new(OnePage)));
        let world = Self { invoker, hands, backend, recorded, control, folder };
        world.deploy("hello", spec).await;
        world
    }

    async fn deploy(&self, name: &str, spec: serde_json::Value) {
        let upload = Upload {
            namespace: Name::default_namespace(),
            archive: script(self.folder.path(), name),
            file_name: Some(format!("{name}.sh")),
            overrides: Overrides { spec: spec.as_object().unwrap().clone(), ..Overrides::default() },
            message: String::new(),
            dry_run: DryRun::No,
        };
        let (progress, _told) = tokio::sync::mpsc::channel(64);
        self.control.deploy("tester", upload, progress).await.unwrap();
    }

    fn does(&self, what: impl Fn(&Call) -> Does + Send + Sync + 'static) {
        self.backend.change(|script| script.handler = Arc::new(what));
    }

    async fn call(&self) -> Result<Outcome, Failure> {
        self.invoker.invoke(invocation("hello", "/")).await
    }

    /// The status, the reason and the content of what a caller is given.
    async fn told(&self, invocation: Invocation) -> (u16, Option<Degraded>, String) {
        match self.invoker.invoke(invocation).await {
            Ok(outcome) => {
                let body = outcome.answer.body.collect(10_000).await.unwrap();
                let text = String::from_utf8(body.to_vec()).unwrap();
                (outcome.answer.status.as_u16(), outcome.served.degraded, text)
            }
            Err(failure) => (failure.fault.code.http_status(), None, failure.fault.code.to_string()),
        }
    }

    fn runs(&self) -> Vec<Run> {
        std::mem::take(&mut *self.recorded.runs.lock().unwrap())
    }

    async fn hold(&self, held: Option<Held>) {
        let function = Name::new("hello").unwrap();
        let key = HandKey { namespace: Name::default_namespace(), function, scope: Scope::All };
        self.hands.set(By::from("anna"), &key, held, "why").await.unwrap();
    }
}

fn script(folder: &Path, name: &str) -> std::path::PathBuf {
    let archive = folder.join(format!("tmp/{name}.sh"));
    std::fs::write(&archive, "#!/bin/sh\necho hello\n").unwrap();
    archive
}

fn fails() -> Does {
    Does::Fails(Fault::new(ErrorCode::HandlerError, "boom"))
}

fn invocation(target: &str, uri: &str) -> Invocation {
    Invocation {
        id: InvocationId::new("call-1").unwrap(),
        target: target.parse().unwrap(),
        version: None,
        trigger: TriggerKind::Http,
        lineage: Lineage::default(),
        attempt: 1,
        method: Method::GET,
        uri: uri.parse().unwrap(),
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

async fn advance(millis: u64) {
    tokio::time::advance(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_function_is_refused_and_comes_back_by_probes() {
    let world = World::new(json!({})).await;
    world.does(|_| fails());
    for _ in 0..20 {
        assert_eq!(world.call().await.unwrap_err().fault.code, ErrorCode::HandlerError);
    }
    let refused = world.call().await.unwrap_err();
    assert_eq!((refused.fault.code, refused.retry_after_ms), (ErrorCode::CircuitOpen, Some(1_000)));
    // For who calls again later it never began: no attempt is burnt, and it waits at least as long as it is told to.
    let miss = Miss::of_failure(&refused, false);
    assert_eq!((miss.hope, miss.retry_after_ms), (alula_invoke::later::Hope::NeverBegan, Some(1_000)));
    assert_eq!(world.runs().len(), 20, "a call that is refused has no run");
    for _ in 0..5 {
        advance(1_000).await;
        world.call().await.unwrap_err();
    }
    assert_eq!(world.call().await.unwrap_err().retry_after_ms, Some(5_000));
    world.does(|_| Does::answers("well"));
    advance(5_000).await;
    for _ in 0..50 {
        world.call().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn faults_of_the_platform_open_no_breaker() {
    let world = World::new(json!({})).await;
    world.does(|_| Does::Fails(Fault::new(ErrorCode::SandboxLost, "gone")));
    for _ in 0..100 {
        assert_eq!(world.call().await.unwrap_err().fault.code, ErrorCode::SandboxLost);
    }
    let views = world.hands.breakers().views(None, None, Instant::now());
    assert_eq!((views[0].counts.platform, views[0].state.as_str()), (100, "closed"));
}

#[tokio::test(start_paused = true)]
async fn a_fixed_answer_is_marked_counted_and_recorded() {
    let spec = json!({"degraded": {"body": "later", "status": 503, "headers": {"retry-after": "60"}}});
    let world = World::new(spec).await;
    world.does(|_| fails());
    let outcome = world.call().await.unwrap();
    assert_eq!(outcome.answer.headers[header::RETRY_AFTER], "60");
    assert_eq!(outcome.answer.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!((outcome.served.degraded, outcome.served.instance), (Some(Degraded::Broken), None));
    let [run] = world.runs().try_into().unwrap();
    assert_eq!((run.status, run.degraded), (RunStatus::Failed, Some(Degraded::Broken)));
    assert_eq!((run.error, run.http_status), (Some(ErrorCode::HandlerError), Some(503)));
    // What the breaker refuses is answered too, and still counts as failing.
    for _ in 0..30 {
        assert_eq!(world.told(invocation("hello", "/")).await.2, "later");
    }
    assert_eq!(world.runs().len(), 19);
    assert_eq!(world.recorded.degraded.lock().unwrap().len(), 31);
}

#[tokio::test(start_paused = true)]
async fn who_calls_again_later_is_told_the_truth() {
    let world = World::new(json!({"degraded": {"body": "later"}})).await;
    world.does(|_| fails());
    let began = Some(Arc::default());
    let queued = Invocation { began, ..invocation("hello", "/") };
    assert_eq!(world.told(queued).await.2, "handler_error");
    let timer = Invocation { trigger: TriggerKind::Schedule, ..invocation("hello", "/") };
    assert_eq!(world.told(timer).await.2, "handler_error");
}

#[tokio::test(start_paused = true)]
async fn reasons_are_selected() {
    let world =
        World::new(json!({"degraded": {"body": "later", "on": ["overdue"], "overdue_ms": 100}})).await;
    world.does(|_| fails());
    assert_eq!(world.told(invocation("hello", "/")).await.2, "handler_error");
    world.does(|_| Does::Hangs);
    let asked = Instant::now();
    assert_eq!(
        world.told(invocation("hello", "/")).await,
        (200, Some(Degraded::Overdue), "later".to_owned())
    );
    assert_eq!(asked.elapsed().as_millis(), 100);
    let run = world.runs().pop().unwrap();
    assert_eq!((run.status, run.degraded), (RunStatus::Timeout, Some(Degraded::Overdue)));
}

#[tokio::test(start_paused = true)]
async fn a_file_of_the_package_is_served_with_its_type() {
    let world = World::new(json!({"degraded": {"file": "sorry.html"}})).await;
    world.does(|_| fails());
    for _ in 0..2 {
        let outcome = world.call().await.unwrap();
        assert_eq!(outcome.answer.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(outcome.answer.body.as_full().unwrap(), b"<p>sorry");
    }
    world.deploy("hello", json!({"degraded": {"file": "missing.html"}})).await;
    assert_eq!(world.told(invocation("hello", "/")).await.2, "handler_error");
}

/// Answers with the path and query, in pieces.
fn echo(call: &Call) -> Does {
    let body = Full::new(Bytes::from(call.target.to_string())).map_err(|never| match never {});
    Does::Answers(Answer::new(StatusCode::OK, HeaderMap::new(), Body::stream(body)))
}

#[tokio::test(start_paused = true)]
async fn the_last_good_answer_is_that_of_the_same_question() {
    let world = World::new(json!({"degraded": {"last_good": {"key_query": ["page"]}}})).await;
    world.does(echo);
    let with = |uri: &str, name, value: &'static str| {
        let headers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
        Invocation { headers, ..invocation("hello", uri) }
    };
    world.told(invocation("hello", "/a?page=1&x=1")).await;
    world.told(Invocation { method: Method::POST, ..invocation("hello", "/posted") }).await;
    world.told(with("/mine", header::AUTHORIZATION, "Bearer anna")).await;
    // An answer that its caller does not read to the end is none to keep.
    drop(world.invoker.invoke(invocation("hello", "/unread")).await);
    world.does(|_| fails());
    let kept = world.told(invocation("hello", "/a?x=2&page=1")).await;
    assert_eq!(kept, (200, Some(Degraded::Broken), "/a?page=1&x=1".to_owned()));
    let others = [
        invocation("hello", "/a?page=2"),
        invocation("hello", "/b?page=1"),
        Invocation { method: Method::HEAD, ..invocation("hello", "/a?page=1") },
        Invocation { method: Method::POST, ..invocation("hello", "/posted") },
        with("/mine", header::AUTHORIZATION, "Bearer bob"),
        with("/a?page=1", header::COOKIE, "session=bob"),
        invocation("hello", "/unread"),
    ];
    for other in others {
        assert_eq!(world.told(other).await.2, "handler_error");
    }
    advance(3_600_001).await;
    assert_eq!(world.told(invocation("hello", "/a?page=1")).await.2, "handler_error");
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_one_callers_own_are_not_kept() {
    let world = World::new(json!({"degraded": {"last_good": {}}})).await;
    for (name, value) in [(header::SET_COOKIE, "a=b"), (header::CACHE_CONTROL, "max-age=1, Private")] {
        world.does(move |_| {
            let headers = HeaderMap::from_iter([(name.clone(), value.parse().unwrap())]);
            Does::Answers(Answer::new(StatusCode::OK, headers, Body::full("own")))
        });
        assert_eq!(world.told(invocation("hello", "/")).await.2, "own");
        world.does(|_| fails());
        assert_eq!(world.told(invocation("hello", "/")).await.2, "handler_error");
    }
}

#[tokio::test(start_paused = true)]
async fn another_function_answers_and_nothing_stands_in_for_it() {
    let world = World::new(json!({"degraded": {"function": "spare"}})).await;
    world.deploy("spare", json!({"degraded": {"function": "hello"}})).await;
    world.does(|call| match call.id.as_str().ends_with("-degraded") {
        true => Does::Echoes,
        false => fails(),
    });
    assert_eq!(world.told(invocation("hello", "/")).await, (200, Some(Degraded::Broken), "four".to_owned()));
    let runs = world.runs();
    let of: Vec<_> = runs.iter().map(|run| (run.key.function.as_str(), run.degraded)).collect();
    assert_eq!(of, [("spare", None), ("hello", Some(Degraded::Broken))]);
    assert_eq!(runs[0].parent, Some(runs[1].id.clone()));
    // Both fail, and each would fall back to the other.
    world.does(|_| fails());
    assert_eq!(world.told(invocation("hello", "/")).await.2, "handler_error");
    assert_eq!(world.runs().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_operator_switches_it_and_holds_breakers_durably() {
    let world = World::new(json!({"degraded": {"body": "later", "on": []}})).await;
    world.does(|_| Does::answers("well"));
    world.hold(Some(Held::Degraded)).await;
    assert_eq!(
        world.told(invocation("hello", "/")).await,
        (200, Some(Degraded::Switched), "later".to_owned())
    );
    world.hold(Some(Held::Open)).await;
    assert_eq!(world.told(invocation("hello", "/")).await.2, "circuit_open");
    // Another process with the same store.
    world.hands.breakers().hold(std::collections::HashMap::new());
    assert_eq!(world.told(invocation("hello", "/")).await.2, "well");
    world.hands.load().await.unwrap();
    assert_eq!(world.told(invocation("hello", "/")).await.2, "circuit_open");
    world.hold(None).await;
    assert_eq!(world.told(invocation("hello", "/")).await.2, "well");
}

#[tokio::test(start_paused = true)]
async fn calls_at_once_follow_the_latency_where_it_is_switched_on() {
    let spec = json!({"adaptive": {"initial": 2, "max": 2}, "concurrency": 10, "degraded": {"body": "full"}});
    let world = World::new(spec).await;
    world.does(|_| Does::answers("well"));
    world.backend.change(|script| script.call = Duration::from_millis(50));
    let (one, two, three) = tokio::join!(
        world.told(invocation("hello", "/")),
        world.told(invocation("hello", "/")),
        world.told(invocation("hello", "/"))
    );
    assert_eq!((one.2.as_str(), two.2.as_str()), ("well", "well"));
    assert_eq!(three, (200, Some(Degraded::Limited), "full".to_owned()));
    assert_eq!(world.told(invocation("hello", "/")).await.2, "well");
}
