//! What windows tell after calls at a clock that the test moves.

use std::sync::atomic::{AtomicI64, Ordering};

use alula_model::{
    ErrorCode, InstanceId, InvocationId, Phases, Run, RunStatus, Tier, Timestamp, TriggerKind, VersionKey,
};

use super::*;

#[derive(Debug, Clone, Default)]
pub(crate) struct Hands(Arc<AtomicI64>);

impl Hands {
    pub(crate) fn set(&self, ms: i64) {
        self.0.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn pass(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A run that was answered after `total_us`, or failed with `error`.
pub(crate) fn run(function: &str, error: Option<ErrorCode>, total_us: u64) -> Run {
    Run {
        id: InvocationId::new("r").unwrap(),
        key: VersionKey { namespace: name("shop"), function: name(function), version: 1 },
        qualifier: "latest".to_owned(),
        caller: None,
        degraded: None,
        trigger: TriggerKind::Http,
        attempt: 1,
        status: if error.is_some() { RunStatus::Failed } else { RunStatus::Done },
        http_status: None,
        error,
        message: None,
        started_at: Timestamp(0),
        phases: Phases { run_us: total_us, total_us, ..Phases::default() },
        tier: Tier::Warm,
        instance: Some(InstanceId::new("i")),
        request_bytes: 3,
        response_bytes: 5,
        parent: None,
    }
}

pub(crate) fn spec(json: &str) -> FunctionSpec {
    serde_json::from_str(json).unwrap()
}

const PLAIN: &str = r#"{"runtime": "exec", "memory_mb": 512}"#;
const IN_APP: &str = r#"{"runtime": "exec", "app": "till"}"#;
const PROMISED: &str =
    r#"{"runtime": "exec", "slo": {"availability": 99, "latency": 90, "latency_ms": 100}}"#;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn count(signals: &Signals, run: &Run, json: &str) {
    let spec = spec(json);
    signals.function(&run.key.namespace, &run.key.function, &spec).record(run, Terms::of(&spec));
}

fn world() -> (Signals, Hands) {
    let hands = Hands::default();
    hands.set(1_000 * 24 * HOUR);
    (Signals::new(Arc::new(hands.clone()), Ledger::default()), hands)
}

#[test]
fn calls_count_for_function_app_namespace_and_node() {
    let (signals, _) = world();
    count(&signals, &run("cart", None, 1_000), IN_APP);
    count(&signals, &run("cart", Some(ErrorCode::HandlerError), 1_000), IN_APP);
    count(&signals, &run("search", Some(ErrorCode::SandboxLost), 1_000), PLAIN);
    count(&signals, &run("search", Some(ErrorCode::ConcurrencyExceeded), 1_000), PLAIN);
    count(&signals, &run("search", Some(ErrorCode::CallerGone), 1_000), PLAIN);
    let shop = name("shop");
    let check = |subject: Subject, expect: [u64; 5]| {
        assert_eq!(signals.tally(&subject, Window::Minute).ends, expect, "{subject:?}");
    };
    check(Subject::Function(shop.clone(), name("cart")), [1, 0, 0, 1, 0]);
    check(Subject::App(shop.clone(), name("till")), [1, 0, 0, 1, 0]);
    check(Subject::Function(shop.clone(), name("search")), [0, 1, 1, 0, 1]);
    check(Subject::Namespace(shop), [1, 1, 1, 1, 1]);
    check(Subject::Node, [1, 1, 1, 1, 1]);
    check(Subject::Namespace(name("other")), [0; 5]);
}

#[test]
fn what_a_function_answers_counts_as_it_says() {
    let (signals, _) = world();
    for status in [200, 302, 404, 429, 500, 503] {
        count(&signals, &Run { http_status: Some(status), ..run("web", None, 1_000) }, PLAIN);
    }
    let tally = signals.tally(&Subject::Node, Window::Minute);
    assert_eq!(tally.ends, [2, 2, 0, 2, 0]);
    assert_eq!(tally.success(), Some(0.5));
}

#[test]
fn windows_forget_one_span_after_the_other() {
    let (signals, hands) = world();
    count(&signals, &run("cart", None, 1_000), PLAIN);
    let calls = |window| signals.tally(&Subject::Node, window).calls();
    let all = || [calls(Window::Minute), calls(Window::FiveMinutes), calls(Window::Hour), calls(Window::Day)];
    assert_eq!(all(), [1, 1, 1, 1]);
    hands.pass(MINUTE + 5_000);
    assert_eq!(all(), [0, 1, 1, 1]);
    hands.pass(5 * MINUTE);
    assert_eq!(all(), [0, 0, 1, 1]);
    hands.pass(HOUR);
    assert_eq!(all(), [0, 0, 0, 1]);
    hands.pass(24 * HOUR);
    assert_eq!(all(), [0, 0, 0, 0]);
    signals.forget_quiet();
    signals.forget_quiet();
    assert_eq!(signals.functions(), 0, "who has not been called for a day takes no memory");
}

#[test]
fn a_clock_that_goes_back_loses_no_call() {
    let (signals, hands) = world();
    count(&signals, &run("cart", None, 1_000), PLAIN);
    signals.gather();
    hands.pass(-3 * HOUR);
    count(&signals, &run("cart", None, 1_000), PLAIN);
    signals.gather();
    hands.pass(3 * HOUR);
    assert_eq!(signals.tally(&Subject::Node, Window::Minute).calls(), 2);
}

#[test]
fn a_function_that_changes_its_app_is_counted_for_each() {
    let (signals, _) = world();
    count(&signals, &run("cart", None, 1_000), PLAIN);
    count(&signals, &run("cart", None, 1_000), IN_APP);
    count(&signals, &run("cart", None, 1_000), IN_APP);
    let shop = name("shop");
    assert_eq!(signals.tally(&Subject::App(shop.clone(), name("till")), Window::Hour).calls(), 2);
    assert_eq!(signals.tally(&Subject::Function(shop, name("cart")), Window::Hour).calls(), 3);
    assert_eq!(signals.functions(), 1);
}

#[test]
fn functions_beyond_the_limit_count_for_their_namespace() {
    let (signals, _) = world();
    let spec = spec(PLAIN);
    for number in 0..FUNCTIONS_MAX + 50 {
        let name = format!("f{number}");
        let one = run(&name, None, 1_000);
        signals.function(&one.key.namespace, &one.key.function, &spec).record(&one, Terms::of(&spec));
    }
    let beyond = signals.function(&name("shop"), &name("x"), &spec);
    assert_eq!(beyond.whose.function_name(), OTHER);
    assert_eq!(signals.functions(), FUNCTIONS_MAX);
    let calls = |subject| signals.tally(&subject, Window::Minute).calls();
    assert_eq!(calls(Subject::Namespace(name("shop"))), FUNCTIONS_MAX as u64 + 50);
    assert_eq!(calls(Subject::Function(name("shop"), name("f0"))), 1);
}

#[test]
fn objectives_see_hours_and_what_was_before_the_restart() {
    let (signals, hands) = world();
    let begin = hands.now().as_millis();
    let (shop, cart) = (name("shop"), name("cart"));
    signals.remember(&shop, &cart, begin - 50 * HOUR, Kept { judged: 1_000, failed: 10, slow: 5 });
    count(&signals, &run("cart", None, 99_000), PROMISED);
    count(&signals, &run("cart", None, 101_000), PROMISED);
    count(&signals, &run("cart", Some(ErrorCode::HandlerError), 1_000), PROMISED);
    let spans = [Span::Minutes(5), Span::Hours(1), Span::Hours(6), Span::Hours(72)];
    let now = Kept { judged: 3, failed: 1, slow: 1 };
    let all = Kept { judged: 1_003, failed: 11, slow: 6 };
    assert_eq!(signals.kept(&shop, &cart, &spans), [now, now, now, all]);
    hands.pass(2 * HOUR);
    let nothing = Kept::default();
    assert_eq!(signals.kept(&shop, &cart, &spans), [nothing, nothing, now, all]);
    hands.pass(29 * 24 * HOUR);
    count(&signals, &run("cart", None, 1_000), PROMISED);
    let month = signals.kept(&shop, &cart, &[Span::Hours(30 * 24)]);
    assert_eq!(month[0].judged, 4, "what is older than the window is forgotten: {month:?}");
}

#[test]
fn counting_from_many_threads_loses_nothing() {
    let (signals, _) = world();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5_000).for_each(|_| count(&signals, &run("cart", None, 1_000), PLAIN)));
        }
        scope.spawn(|| (0..200).for_each(|_| signals.gather()));
    });
    let tally = signals.tally(&Subject::Node, Window::Hour);
    assert_eq!((tally.calls(), tally.bins.iter().map(|(_, count)| count).sum::<u32>()), (20_000, 20_000));
}
