//! The contract, and what a hostile script can and cannot do to others.

use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Name, SpecError};
use alula_runtime::conformance::{self, Fixtures, Traits, call};
use alula_runtime::{Backend as _, Body, Call, Instance, StopGrace};

use crate::world::{World, fixture, text, world};

type Case = (&'static str, fn());

pub(crate) const ALL: &[Case] = &[
    ("conforms", || run(conforms)),
    ("event_handlers_conform", || run(event_handlers_conform)),
    ("errors_of_source_are_refused_at_deploy_time", || run(errors_of_source_are_refused_at_deploy_time)),
    ("versions_run_side_by_side_in_one_process", || run(versions_run_side_by_side_in_one_process)),
    ("limits_end_one_context_alone", || run(limits_end_one_context_alone)),
    ("a_stuck_host_is_replaced", || run(a_stuck_host_is_replaced)),
    ("cpu_time_is_told", || run(cpu_time_is_told)),
    ("a_quiet_host_gives_way_and_a_busy_one_does_not", || {
        run(a_quiet_host_gives_way_and_a_busy_one_does_not)
    }),
    ("what_is_compiled_is_kept", || run(what_is_compiled_is_kept)),
];

fn run<F: Future<Output = ()>>(case: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { case(world()).await });
}

async fn get(instance: &dyn Instance, target: &'static str) -> String {
    text(instance.call(call(target, Body::empty())).await.unwrap()).await
}

async fn conforms(world: World) {
    let fixtures = Fixtures {
        plan: fixture("suite", |spec| spec.concurrency = 8),
        broken: Some(fixture("broken", |_| {})),
        never_ready: Some(fixture("never", |spec| spec.init_timeout_ms = 300)),
        log: Arc::clone(&world.log),
        has: Traits {
            processes: true,
            streams_both_ways: true,
            limits_responses: false,
            refuses_garbage: true,
        },
    };
    conformance::check(&world.backend, &fixtures).await;
}

async fn event_handlers_conform(world: World) {
    let fixtures = Fixtures {
        plan: fixture("handler", |spec| spec.concurrency = 8),
        broken: None,
        never_ready: None,
        log: Arc::clone(&world.log),
        has: Traits {
            processes: true,
            streams_both_ways: false,
            limits_responses: false,
            refuses_garbage: true,
        },
    };
    conformance::check(&world.backend, &fixtures).await;
    let instance = world.start(&fixtures.plan).await;
    let event =
        Call { is_event: true, ..call("/", Body::full(r#"{"rawPath":"/log","rawQueryString":"an-event"}"#)) };
    assert_eq!(text(instance.call(event).await.unwrap()).await, "\"logged\"");
}

async fn errors_of_source_are_refused_at_deploy_time(world: World) {
    let cases = [
        ("export default () => new Response('x')", None),
        ("const x: = 1", Some("main.ts:1:10: ")),
        ("export const x = 1", Some("main.ts: the module exports no handler")),
        ("import 'fs'", Some("main.ts:1:1: \"fs\" cannot be imported")),
    ];
    for (version, (source, expected)) in cases.into_iter().enumerate() {
        let (backend, plan) = (world.backend.clone(), world.script(version as u64, source));
        let validated = tokio::task::spawn_blocking(move || backend.validate(&plan)).await.unwrap();
        match (validated, expected) {
            (Ok(()), None) => {}
            (Err(SpecError { reason, .. }), Some(expected)) => {
                assert!(reason.starts_with(expected), "{reason}")
            }
            (other, _) => panic!("{source}: {other:?}"),
        }
    }
}

async fn versions_run_side_by_side_in_one_process(world: World) {
    let source = |text: &str| format!("let n = 0; export default () => new Response(`{text} ${{++n}}`)");
    let one = world.start(&world.script(1, &source("one"))).await;
    let two = world.start(&world.script(2, &source("two"))).await;
    for round in 1..=3 {
        assert_eq!(get(&*one, "/").await, format!("one {round}"));
        assert_eq!(get(&*two, "/").await, format!("two {round}"));
    }
    one.stop(StopGrace(Duration::from_secs(1))).await;
    assert!(one.is_gone() && !two.is_gone());
    assert_eq!(get(&*two, "/").await, "two 4");
}

async fn limits_end_one_context_alone(world: World) {
    let hostile = world.start(&fixture("suite", |spec| spec.memory_mb = 32)).await;
    let neighbour =
        world.start(&world.script(1, "let n = 0; export default () => new Response(`${++n}`)")).await;
    assert_eq!(get(&*neighbour, "/").await, "1");
    let fault = hostile.call(call("/memory", Body::empty())).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::OutOfMemory, "{fault}");
    let fault = hostile.call(call("/loop", Body::empty())).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::HandlerError, "{fault}");
    assert!(fault.message.contains("without a pause"), "{fault}");
    assert_eq!(get(&*neighbour, "/").await, "2", "its state is untouched");
    assert_eq!(get(&*hostile, "/env?CONFORMANCE").await, "yes", "and the script itself has a new context");
}

async fn a_stuck_host_is_replaced(world: World) {
    let hostile = world.start(&fixture("suite", |_| {})).await;
    let plan = world.script(
        1,
        "export default (r) => r.url.endsWith('/wait') ? new Promise(() => {}) : new Response('fine')",
    );
    let neighbour = world.start(&plan).await;
    let (guilty, innocent) = tokio::join!(
        hostile.call(call("/crash", Body::empty())),
        neighbour.call(call("/wait", Body::empty()))
    );
    let (guilty, innocent) = (guilty.unwrap_err(), innocent.unwrap_err());
    assert_eq!(guilty.code, ErrorCode::FunctionCrashed, "{guilty}");
    assert_eq!(innocent.code, ErrorCode::SandboxLost, "{innocent}");
    tokio::time::timeout(Duration::from_secs(20), neighbour.gone()).await.unwrap();
    assert_eq!(get(&*world.start(&plan).await, "/").await, "fine", "a new host is there");
}

async fn cpu_time_is_told(world: World) {
    let source = "export default () => { const end = Date.now() + 20; while (Date.now() < end); return new Response('x') }";
    let instance = world.start(&world.script(1, source)).await;
    let told = async {
        while instance.usage().cpu_us < 10_000 {
            get(&*instance, "/").await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    assert!(instance.usage().memory_bytes > 10_000, "{:?}", instance.usage());
}

async fn a_quiet_host_gives_way_and_a_busy_one_does_not(world: World) {
    let world = world.with(|options| options.hosts_max = 1);
    let source = "let n = 0; export default () => new Response(`${++n}`)";
    let ours = world.script(1, source);
    let mut others = (*world.script(2, source)).clone();
    others.key.namespace = Name::new("others").unwrap();
    let others = Arc::new(others);
    let first = world.start(&ours).await;
    let fault = world.try_start(&others).await.unwrap_err();
    assert_eq!((fault.code, fault.is_retryable()), (ErrorCode::SandboxFailed, true), "{fault}");
    assert_eq!(get(&*first, "/").await, "1", "a call may come at any time, so it stays");

    first.rest();
    assert_eq!(get(&*first, "/").await, "2", "whoever rests wakes up");
    assert!(world.try_start(&others).await.is_err());

    first.rest();
    let second = world.start_soon(&others).await;
    assert_eq!(get(&*second, "/").await, "1");
    tokio::time::timeout(Duration::from_secs(20), first.gone()).await.unwrap();
    second.rest();
    assert_eq!(get(&*world.start_soon(&ours).await, "/").await, "1", "and it gives way in turn");
}

async fn what_is_compiled_is_kept(world: World) {
    let kept = || std::fs::read_dir(world.dir.path().join("script/compiled")).unwrap().count();
    let source = "export default () => new Response('x')";
    for version in 1..=3 {
        get(&*world.start(&world.script(version, source)).await, "/").await;
    }
    assert_eq!(kept(), 1, "the same source is compiled once");
    get(&*world.start(&world.script(4, &source.replace("'x'", "'y'"))).await, "/").await;
    assert_eq!(kept(), 2);
}
