//! Calling functions and looking at what became of it.

use crate::fake::{Fake, Says};
use crate::terminal::Terminal;

const INVOCATIONS: &str = "POST /v1/functions/hello/invocations";

#[test]
fn the_answer_comes_out_byte_for_byte() {
    let body: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let fake = Fake::start().on(INVOCATIONS, Says::bytes(&body));
    let terminal = Terminal::of(&fake);
    assert_eq!(terminal.run(&["invoke", "hello"]).exits(0).stdout, body);
    terminal.run(&["invoke", "hello", "--output", "out.bin"]).exits(0);
    assert_eq!(std::fs::read(terminal.folder().join("out.bin")).unwrap(), body);
}

#[test]
fn data_is_sent_from_anywhere_with_the_type_it_seems_to_be() {
    let fake = Fake::start().on(INVOCATIONS, Says::bytes(b""));
    let terminal = Terminal::of(&fake);
    terminal.write("event.json", "{\"a\":2}");
    terminal.run(&["invoke", "hello:live", "--data", "{\"a\":1}"]).exits(0);
    terminal.run(&["invoke", "hello", "--data", "@event.json"]).exits(0);
    terminal.pipe(b"\xff\xd8\xff", &["invoke", "hello"]).exits(0);
    terminal.run(&["invoke", "hello", "--data", "x", "--content-type", "text/csv"]).exits(0);
    terminal.run(&["invoke", "hello"]).exits(0);
    let asked = fake.asked();
    let sent = |index: usize| {
        let asked: &crate::fake::Asked = &asked[index];
        (&asked.body[..], asked.headers.get("content-type").map(String::as_str))
    };
    assert_eq!(sent(0), (&b"{\"a\":1}"[..], Some("application/json")));
    assert_eq!(asked[0].query["qualifier"], "live");
    assert_eq!(sent(1), (&b"{\"a\":2}"[..], Some("application/json")));
    assert_eq!(sent(2), (&b"\xff\xd8\xff"[..], None));
    assert_eq!(sent(3), (&b"x"[..], Some("text/csv")));
    assert_eq!(sent(4), (&b""[..], None));
}

#[test]
fn what_a_function_answers_is_handed_on_and_its_status_decides() {
    let fake = Fake::start().on(INVOCATIONS, Says::bytes(b"teapot").status(418));
    let outcome = Terminal::of(&fake).run(&["invoke", "hello"]).exits(1);
    assert_eq!(outcome.stdout, b"teapot");
    assert!(outcome.stderr.contains("hello answered 418"), "{}", outcome.stderr);
}

#[test]
fn a_crash_shows_the_last_log_lines() {
    let error = r#"{"error":{"code":"function_crashed","message":"the process of hello ended by signal 11",
        "blame":"function","retryable":false,"log_tail":["about to fail"],"help":"x"}}"#;
    let says = Says::json(error).status(502).header("x-alula-error", "function_crashed");
    let fake = Fake::start().on(INVOCATIONS, says);
    let outcome = Terminal::of(&fake).run(&["invoke", "hello"]).exits(1);
    assert!(outcome.stdout.is_empty());
    assert!(outcome.stderr.starts_with("| about to fail\nerror: the process"), "{}", outcome.stderr);
}

#[test]
fn logs_and_details_go_to_standard_error() {
    let says = Says::bytes(b"hi")
        .header("x-alula-log-result", "bGluZSAxCmxpbmUgMg==")
        .header("x-alula-invocation-id", "r1")
        .header("x-alula-version", "3")
        .header("server-timing", "run;dur=1.5");
    let fake = Fake::start().on(INVOCATIONS, says);
    let outcome = Terminal::of(&fake).run(&["invoke", "hello", "--log", "--verbose"]).exits(0);
    assert_eq!(outcome.stdout, b"hi");
    for expect in ["| line 1\n| line 2\n", "r1", "run;dur=1.5"] {
        assert!(outcome.stderr.contains(expect), "{expect}: {}", outcome.stderr);
    }
    assert_eq!(fake.asked_once().query["log"], "tail");
}

#[test]
fn a_call_with_a_path_goes_to_the_public_address_without_the_token() {
    let fake = Fake::start();
    let detail = format!(
        r#"{{"function":{{"namespace":"default","name":"hello","runtime":"http","class":"sync","latest":1,"newest":1,
        "aliases":{{}},"url":"{}/function/hello","invocable":true,"instances":0,"created_at_ms":0,"updated_at_ms":0}},
        "spec":{{"runtime":"http","memory_mb":1,"timeout_ms":1,"init_timeout_ms":1,"concurrency":1,"max_instances":1,
        "idle_timeout_ms":1,"class":"sync","network":"none","calls":"namespace","request_bytes_max":1,"response_bytes_max":1,"tmp_mb":1,
        "processes_max":1,"port":8080}},"versions":[],"instances":[],"recent":{{"counted":0,"failed":0,"cold":0}}}}"#,
        fake.url()
    );
    let fake = fake
        .on("GET /v1/functions/hello", Says::json(&detail))
        .on("GET /function/hello:live/users/7", Says::bytes(b"seven"));
    let arguments = ["invoke", "hello:live", "--path", "/users/7?full=1", "--header", "x-mine: 1"];
    let outcome = Terminal::of(&fake).run(&arguments).exits(0);
    assert_eq!(outcome.stdout, b"seven");
    let asked = fake.asked();
    assert_eq!((asked[1].query["full"].as_str(), asked[1].headers["x-mine"].as_str()), ("1", "1"));
    assert!(!asked[1].headers.contains_key("authorization"), "a function must not see the token");
}

#[test]
fn logs_ask_for_what_was_said_and_print_line_by_line() {
    let line = r#"{"at_ms":1000,"namespace":"default","function":"hello","version":3,"instance":"i1",
        "stream":"stderr","level":"error","text":"boom"}"#;
    let fake = Fake::start().on("GET /v1/logs", Says::json(&line.replace('\n', "")));
    let terminal = Terminal::of(&fake);
    let arguments = ["logs", "hello:3", "--since", "2001-09-09T01:46:40Z", "--search", "b m", "--limit", "7"];
    let outcome = terminal.run(&arguments).exits(0);
    assert!(outcome.text().ends_with(" hello:3 boom\n"), "{}", outcome.text());
    let asked = fake.asked_once();
    for (name, expect) in [
        ("function", "hello"),
        ("version", "3"),
        ("since_ms", "1000000000000"),
        ("search", "b m"),
        ("limit", "7"),
    ] {
        assert_eq!(asked.query[name], expect, "{name}");
    }
}

#[test]
fn runs_are_a_table_and_one_run_is_a_timeline() {
    let run = r#"{"id":"r1","namespace":"default","function":"hello","version":3,"qualifier":"latest",
        "trigger":"http","attempt":1,"status":"failed","http_status":502,"error":"handler_error","message":"bad",
        "started_at_ms":0,"phases":{"queue_us":0,"start_us":1000,"init_us":1000,"run_us":2000,"total_us":4000},
        "tier":"cold","request_bytes":1,"response_bytes":2}"#;
    let fake = Fake::start()
        .on("GET /v1/runs", Says::json(&format!(r#"{{"runs":[{run}],"next":"c2"}}"#)))
        .on("GET /v1/runs/r1", Says::json(&format!(r#"{{"id":"r1","attempts":[{run}]}}"#)));
    let terminal = Terminal::of(&fake);
    let outcome = terminal.run(&["runs", "hello", "--status", "failed"]).exits(0);
    assert!(
        outcome.text().lines().nth(1).unwrap().starts_with("r1  hello:3   failed  502"),
        "{}",
        outcome.text()
    );
    assert!(outcome.stderr.contains("--cursor c2"));
    assert_eq!(fake.asked_once().query["status"], "failed");
    let outcome = terminal.run(&["runs", "show", "r1"]).exits(0);
    assert!(outcome.text().contains("bad [handler_error]"), "{}", outcome.text());
    assert!(fake.asked().last().unwrap().query.is_empty(), "one run is asked for by its id alone");
    assert!(outcome.text().contains("|          ##########"), "{}", outcome.text());
}
