//! Calls that nobody waits for, dead letters, the queue.

use crate::fake::{Fake, Says};
use crate::terminal::Terminal;

const INVOCATIONS: &str = "POST /v1/functions/hello/invocations";
const ACCEPTED: &str = r#"{"id":"c1","repeated":false,"status":"/v1/invocations/c1"}"#;

fn accepts() -> Says {
    Says::json(ACCEPTED).status(202)
}

fn call(state: &str, more: &str) -> String {
    format!(
        r#"{{"id":"c1","namespace":"default","function":"hello","version":3,"state":"{state}","attempts":2,
        "accepted_at_ms":0{more}}}"#
    )
}

fn letter(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","namespace":"default","function":"hello","class":"general","accepted_at_ms":0,"dead_at_ms":1000,
        "attempts":2,"reason":"2 attempts failed, the last: boom","content_bytes":12,"failures":[{{"number":1,"at_ms":0,
        "end":"failed","error":"handler_error","message":"boom"}}]}}"#
    )
}

#[test]
fn a_call_is_handed_in_with_everything_that_was_said_of_it() {
    let fake = Fake::start().on(INVOCATIONS, accepts());
    let terminal = Terminal::of(&fake);
    let outcome = terminal
        .run(&[
            "invoke",
            "hello:live",
            "--async",
            "--data",
            "{}",
            "--delay",
            "1m30s",
            "--key",
            "k 1",
            "--ordering-key",
            "o",
            "--callback",
            "https://a.test/done",
        ])
        .exits(0);
    assert_eq!(outcome.text(), "c1\n");
    assert!(outcome.stderr.contains("alula calls show c1"), "{}", outcome.stderr);
    let asked = fake.asked_once();
    assert_eq!((asked.query["async"].as_str(), asked.query["qualifier"].as_str()), ("true", "live"));
    for (name, expect) in [
        ("x-alula-delay-ms", "90000"),
        ("idempotency-key", "k 1"),
        ("x-alula-ordering-key", "o"),
        ("x-callback-url", "https://a.test/done"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(asked.headers[name], expect, "{name}");
    }
    terminal.run(&["invoke", "hello", "--async", "--at", "2030-01-01T00:00:00Z", "--json"]).exits(0);
    assert_eq!(fake.asked()[1].headers["x-alula-at"], "2030-01-01T00:00:00Z");
}

#[test]
fn options_of_later_calls_without_async_are_a_mistake() {
    let fake = Fake::start();
    let terminal = Terminal::of(&fake);
    for arguments in [
        &["invoke", "hello", "--delay", "1m"][..],
        &["invoke", "hello", "--wait"],
        &["invoke", "hello", "--async", "--delay", "soon"],
        &["invoke", "hello", "--async", "--delay", "1s", "--at", "2030-01-01T00:00:00Z"],
        &["invoke", "hello", "--async", "--path", "/x"],
        &["invoke", "hello", "--async", "--log"],
        &["dead", "redrive"],
        &["dead", "redrive", "c1", "--since", "1h"],
        &["dead", "redrive", "c1", "--rate", "5"],
        &["dead", "redrive", "a", "b", "--all", "--yes"],
        &["dead", "purge", "c1"],
        &["dead", "redrive", "--all"],
        &["queue", "pause", "hello", "--all"],
        &["queue", "pause", "hello:3"],
    ] {
        terminal.run(arguments).exits(2);
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn waiting_ends_with_the_result_or_with_why_there_is_none() {
    let done = call("done", r#","http_status":200,"result_bytes":2"#);
    let fake = Fake::start()
        .on(INVOCATIONS, accepts())
        .on("GET /v1/invocations/c1/wait", Says::json(&done))
        .on("GET /v1/invocations/c1/result", Says::bytes(b"\x00hi"));
    let outcome = Terminal::of(&fake).run(&["invoke", "hello", "--async", "--wait"]).exits(0);
    assert_eq!(outcome.stdout, b"\x00hi");

    let dead = call("dead", r#","message":"2 attempts failed""#);
    let fake = Fake::start().on(INVOCATIONS, accepts()).on("GET /v1/invocations/c1/wait", Says::json(&dead));
    let terminal = Terminal::of(&fake);
    let outcome = terminal.run(&["invoke", "hello", "--async", "--wait"]).exits(1);
    assert!(outcome.stderr.contains("call c1 is dead: 2 attempts failed"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("alula dead show c1"), "{}", outcome.stderr);
    terminal.run(&["calls", "wait", "c1"]).exits(1);
}

#[test]
fn a_call_is_shown_waited_for_and_cancelled() {
    let waiting = call(
        "waiting",
        r#","available_at_ms":1000,"failures":[{"number":1,"at_ms":0,"end":"timeout",
        "error":"function_timeout","message":"too slow"}]"#,
    );
    let fake = Fake::start()
        .on("GET /v1/invocations/c1", Says::json(&waiting))
        .on("GET /v1/invocations/c1/wait", Says::json(&waiting))
        .on("GET /v1/invocations/c1/result", Says::error(409, "conflict", "call c1 has not ended"))
        .on("DELETE /v1/invocations/c1", Says::json(&call("cancelled", "")));
    let terminal = Terminal::of(&fake);
    let shown = terminal.run(&["calls", "show", "c1"]).exits(0).text();
    assert!(shown.contains("waiting") && shown.contains("timed out: too slow [function_timeout]"), "{shown}");
    let outcome = terminal.run(&["calls", "wait", "c1", "--timeout", "0s"]).exits(1);
    assert!(outcome.stderr.contains("[not_ended]"), "{}", outcome.stderr);
    assert_eq!(fake.asked()[1].query["timeout_ms"], "0");
    terminal.run(&["calls", "result", "c1"]).exits(1);
    let outcome = terminal.run(&["calls", "cancel", "c1"]).exits(0);
    assert!(outcome.stderr.contains("call c1 is cancelled"), "{}", outcome.stderr);
    let json: serde_json::Value =
        serde_json::from_str(&terminal.run(&["calls", "show", "c1", "--json"]).exits(0).text()).unwrap();
    assert_eq!(json["state"], "waiting");
}

#[test]
fn dead_letters_are_listed_and_one_is_shown_in_full() {
    let page = format!(r#"{{"letters":[{}],"next":"default/hello/general:c1"}}"#, letter("c1"));
    let log = r#"{"at_ms":0,"namespace":"default","function":"hello","version":3,"instance":"i","stream":"stdout",
        "level":"info","text":"last words"}"#;
    let detail = letter("c1").replace(r#""content_bytes""#, &format!(r#""logs":[{log}],"content_bytes""#));
    let fake = Fake::start()
        .on("GET /v1/dead-letters", Says::json(&page))
        .on("GET /v1/dead-letters/c1", Says::json(&detail));
    let terminal = Terminal::of(&fake);
    let outcome = terminal.run(&["dead", "list", "hello", "--search", "boom", "--limit", "7"]).exits(0);
    assert!(
        outcome.text().lines().nth(1).unwrap().starts_with("c1  hello     general  2"),
        "{}",
        outcome.text()
    );
    assert!(outcome.stderr.contains("--cursor default/hello/general:c1"), "{}", outcome.stderr);
    let asked = fake.asked_once();
    let said =
        (asked.query["function"].as_str(), asked.query["search"].as_str(), asked.query["limit"].as_str());
    assert_eq!(said, ("hello", "boom", "7"));
    let shown = terminal.run(&["dead", "show", "c1"]).exits(0).text();
    assert!(shown.contains("failed: boom [handler_error]") && shown.contains("| last words"), "{shown}");
}

#[test]
fn dead_letters_run_again_and_go_one_by_one_or_all() {
    let fake = Fake::start()
        .on("POST /v1/dead-letters/c1/redrive", Says::bytes(b"").status(204))
        .on("DELETE /v1/dead-letters/c1", Says::bytes(b"").status(204))
        .on("POST /v1/dead-letters/redrive", Says::json(r#"{"count":3}"#))
        .on("POST /v1/dead-letters/purge", Says::json(r#"{"count":1}"#));
    let terminal = Terminal::of(&fake);
    terminal.run(&["dead", "redrive", "c1"]).exits(0);
    terminal.run(&["dead", "purge", "c1", "--yes"]).exits(0);
    let outcome = terminal.run(&["dead", "redrive", "hello.shop", "--all", "--rate", "5", "--yes"]).exits(0);
    assert!(outcome.stderr.contains("3 dead letters run again"), "{}", outcome.stderr);
    let outcome = terminal.run(&["dead", "purge", "--all", "--search", "boom", "--yes", "--json"]).exits(0);
    assert_eq!(outcome.text(), "{\"count\":1}\n");
    let asked = fake.asked();
    let json = |index: usize| -> serde_json::Value { serde_json::from_slice(&asked[index].body).unwrap() };
    assert_eq!(json(2), serde_json::json!({"which": {"function": "hello"}, "per_second": 5}));
    assert_eq!(
        (asked[2].query["namespace"].as_str(), asked[3].query["namespace"].as_str()),
        ("shop", "default")
    );
    assert_eq!(json(3), serde_json::json!({"which": {"search": "boom"}}));
}

#[test]
fn the_queue_is_a_table_and_is_paused_by_function_namespace_or_whole() {
    let queue = |imbalance: i64| {
        format!(
            r#"{{"totals":{{"accepted":9,"done":5,"cancelled":0,"purged":0,"waiting":2,"running":1,"dead":1,
            "imbalance":{imbalance}}},"lanes":[{{"namespace":"default","function":"hello","class":"general","available":2,
            "delayed":0,"held_back":0,"running":1,"dead":1,"oldest_ms":61000,"ended_per_second":1.25}}],
            "flows":[{{"flow":"paused","namespace":"shop"}}]}}"#
        )
    };
    let fake = Fake::start().on("GET /v1/queue", Says::json(&queue(0))).on(
        "POST /v1/queue/flow",
        Says::json(r#"{"flow":"paused","namespace":"default","function":"hello"}"#),
    );
    let terminal = Terminal::of(&fake);
    let text = terminal.run(&["queue"]).exits(0).text();
    assert!(text.starts_with("9 accepted: 2 waiting, 1 running") && text.contains("shop: paused"), "{text}");
    assert!(text.contains("1m01s") && text.ends_with("1.2\n"), "{text}");
    let outcome = terminal.run(&["queue", "pause", "hello"]).exits(0);
    assert!(
        outcome.stderr.contains("hello in the namespace default are accepted and wait"),
        "{}",
        outcome.stderr
    );
    terminal.run(&["queue", "drain", "-n", "shop"]).exits(0);
    terminal.run(&["queue", "resume", "--all"]).exits(0);
    let asked = fake.asked();
    assert!(asked[0].query.is_empty(), "without a name the whole queue is shown");
    let body = |index: usize| String::from_utf8(asked[index].body.to_vec()).unwrap();
    assert_eq!(body(1), r#"{"flow":"paused","namespace":"default","function":"hello"}"#);
    assert_eq!(body(2), r#"{"flow":"draining","namespace":"shop"}"#);
    assert_eq!(body(3), r#"{"flow":"open"}"#);

    let fake = Fake::start().on("GET /v1/queue", Says::json(&queue(1)));
    let outcome = Terminal::of(&fake).run(&["queue"]).exits(1);
    assert!(outcome.stderr.contains("[imbalance]"), "{}", outcome.stderr);
}
