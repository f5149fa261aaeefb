//! Every limit, by what it lets through.

use std::time::Duration;

use alula_model::{Caller, ErrorCode, Phases};
use tokio::time::{Instant, advance};

use super::{Call, guard};
use crate::breaker::Called;
use crate::{Ended, Guard};

#[tokio::test(start_paused = true)]
async fn without_limits_all_is_let_through_and_given_back() {
    let guard = Guard::default();
    let held: Vec<_> = (0..50).map(|_| Call::of("acme/hello").admit(&guard).unwrap()).collect();
    assert_eq!(guard.in_flight(), 50);
    drop(held);
    assert_eq!(guard.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_functions_own_limits_hold_for_all_of_its_callers() {
    let guard = Guard::default();
    let call = Call::of("acme/hello").limited(r#"{"requests_per_second": 10, "burst": 3, "in_flight": 2}"#);
    assert_eq!(call.through(&guard, 9), 3);
    let refusal = call.admit(&guard).unwrap_err();
    assert_eq!(refusal.fault.code, ErrorCode::RateLimited);
    assert_eq!(refusal.retry_after_ms, Some(100));
    assert_eq!(refusal.fault.quota.unwrap().remaining, 0);
    advance(Duration::from_secs(1)).await;
    let (_one, two) = (call.admit(&guard).unwrap(), call.admit(&guard).unwrap());
    assert_eq!(call.hits(&guard).as_deref(), Some("function.in_flight"));
    let ask = call.ask();
    let called = Called { key: ask.key, qualifier: ask.qualifier, spec: ask.spec };
    two.end(
        &called,
        &Ended { error: None, http_status: Some(200), phases: Phases::default(), now: Instant::now() },
    );
    assert_eq!(call.hits(&guard), None);
    assert_eq!(Call::of("acme/other").through(&guard, 9), 9, "others have limits of their own");
}

#[tokio::test(start_paused = true)]
async fn each_caller_of_a_function_has_its_own() {
    let guard = Guard::default();
    let call = || Call::of("acme/hello").limited(r#"{"per_caller": {"requests_per_second": 2}}"#);
    assert_eq!(call().through(&guard, 9), 2);
    assert_eq!(call().hits(&guard).as_deref(), Some("function.per_caller.requests_per_second"));
    assert_eq!(call().from("192.0.2.2").through(&guard, 9), 2);
    assert_eq!(call().by(Caller::Known("key:a".into())).through(&guard, 9), 2);
    assert_eq!(call().by(Caller::Known("key:b".into())).through(&guard, 9), 2);
    assert_eq!(call().by(Caller::Platform).through(&guard, 9), 9, "a schedule is nobody's flood");
}

#[tokio::test(start_paused = true)]
async fn namespaces_apps_functions_and_callers_have_the_operators_limits() {
    let guard = guard(
        r#"{"namespace": {"in_flight": 5}, "namespaces": {"acme": {"requests_per_second": 4}},
            "app": {"requests_per_second": 3}, "functions": {"other/hello": {"requests_per_second": 2}},
            "callers": {"key:a": {"requests_per_second": 1}}}"#,
    );
    let hit = |call: Call, count| {
        let through = call.through(&guard, count);
        (through, call.hits(&guard).unwrap_or_default())
    };
    assert_eq!(hit(Call::of("acme/hello"), 9), (4, "namespace.requests_per_second".to_owned()));
    assert_eq!(hit(Call::of("third/hello").in_app("shop"), 9), (3, "app.requests_per_second".to_owned()));
    assert_eq!(hit(Call::of("other/hello"), 9), (2, "function.requests_per_second".to_owned()));
    let known = || Call::of("other/free").by(Caller::Known("key:a".into()));
    assert_eq!(hit(known(), 9), (1, "caller.requests_per_second".to_owned()));
    let held: Vec<_> = (0..5).map(|_| Call::of("fourth/f").admit(&guard).unwrap()).collect();
    assert_eq!(Call::of("fourth/g").hits(&guard).as_deref(), Some("namespace.in_flight"));
    drop(held);
    assert_eq!(Call::of("fourth/g").hits(&guard), None);
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_at_a_narrow_limit_takes_nothing_of_a_wide_one() {
    let guard = guard(r#"{"namespace": {"requests_per_second": 10}}"#);
    let flooded = Call::of("acme/flooded").limited(r#"{"per_caller": {"requests_per_second": 1}}"#);
    assert_eq!(flooded.through(&guard, 1_000), 1);
    assert_eq!(Call::of("acme/other").through(&guard, 100), 9);
    // The other way round, a refusal by the namespace gives the function back what it took.
    let slow = Call::of("acme/slow").limited(r#"{"requests_per_second": 5}"#);
    assert_eq!(slow.hits(&guard).as_deref(), Some("namespace.requests_per_second"));
    advance(Duration::from_secs(1)).await;
    assert_eq!(slow.through(&guard, 100), 5);
}

#[tokio::test(start_paused = true)]
async fn a_full_node_refuses_the_flood_and_nobody_else() {
    let guard = guard(r#"{"node": {"in_flight": 8}}"#);
    let flood: Vec<_> = (0..50).filter_map(|_| Call::of("flood/f").admit(&guard).ok()).collect();
    assert_eq!(flood.len(), 8);
    let others: Vec<_> = (0..4).map(|_| Call::of("quiet/f").admit(&guard).unwrap()).collect();
    let refusal = Call::of("flood/f").admit(&guard).unwrap_err();
    assert_eq!(refusal.fault.limit.unwrap().name, "node.in_flight");
    assert!(Call::of("quiet/f").admit(&guard).is_err(), "beyond its share it waits for room, as all do");
    drop((flood, others));
    assert_eq!(guard.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_look_ahead_counts_nothing_and_acceptance_only_asks_who_calls() {
    let guard = guard(r#"{"caller": {"requests_per_second": 2}, "namespace": {"requests_per_second": 1}}"#);
    let call = Call::of("acme/hello");
    let peek = |call: &Call| guard.peek(call.origin(), Instant::now(), alula_model::Timestamp(0));
    (0..9).for_each(|_| peek(&call).unwrap());
    assert!(call.accept(&guard).is_ok() && call.accept(&guard).is_ok());
    assert_eq!(call.accept(&guard).unwrap_err().fault.limit.unwrap().name, "caller.requests_per_second");
    assert!(peek(&call).is_err());
    assert!(peek(&Call::of("acme/hello").from("192.0.2.9")).is_ok());
    // When it runs it is the platform that calls, within what the namespace has.
    let run = Call::of("acme/hello").by(Caller::Platform);
    assert_eq!(run.through(&guard, 9), 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_the_api_is_limited_by_name_or_address() {
    let guard = guard(r#"{"api": {"requests_per_second": 2, "in_flight": 1}}"#);
    let from = |text: &str| text.parse().unwrap();
    let pass = |name, source: &str| guard.pass(name, from(source), Instant::now());
    let held = pass(Some("user:anna"), "192.0.2.1").unwrap();
    assert_eq!(pass(Some("user:anna"), "192.0.2.2").unwrap_err().fault.limit.unwrap().name, "api.in_flight");
    assert!(pass(Some("user:bob"), "192.0.2.1").is_ok());
    drop(held);
    assert!(pass(Some("user:anna"), "192.0.2.1").is_ok());
    let refusal = pass(Some("user:anna"), "192.0.2.1").unwrap_err();
    assert_eq!(refusal.fault.limit.unwrap().name, "api.requests_per_second");
    assert!(pass(None, "192.0.2.1").is_ok(), "an address is somebody else than a name");
}
