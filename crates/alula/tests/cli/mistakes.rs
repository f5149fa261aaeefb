//! What is said, and with which exit status, when something is wrong.

use crate::fake::{Fake, Says};
use crate::terminal::Terminal;

#[test]
fn a_wrong_command_line_is_a_2() {
    let terminal = Terminal::new();
    for arguments in [
        &["frobnicate"][..],
        &["invoke"],
        &["describe", "Not A Name"],
        &["deploy", "--code", "x"],
        &["invoke", "hello", "--header", "no colon"],
        &["deploy", "--env", "novalue"],
        &["list", "--url", "not a url"],
        &["list", "--namespace", "Not/One"],
        &["list", "--profile", "nobody"],
        &["logs", "hello", "--since", "yesterday"],
        &["remove", "hello"],
    ] {
        let outcome = terminal.run(arguments).exits(2);
        assert!(outcome.stdout.is_empty(), "{arguments:?}");
        assert!(outcome.stderr.starts_with("error:"), "{arguments:?}: {}", outcome.stderr);
    }
}

#[test]
fn a_platform_that_is_not_there_is_a_3_with_a_remedy() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let terminal = Terminal::new().with("ALULA_URL", &format!("http://{address}"));
    let outcome = terminal.run(&["list"]).exits(3);
    assert!(outcome.stderr.contains("connection refused"), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains(&format!("is `alula up` running at http://{address}?")),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("[unreachable]"));
}

#[test]
fn something_else_on_the_port_is_told_apart() {
    let fake = Fake::start().on("GET /v1/functions", Says::bytes(b"<html>hello</html>"));
    let outcome = Terminal::of(&fake).run(&["list"]).exits(3);
    assert!(outcome.stderr.contains("[not_alula]"), "{}", outcome.stderr);
}

#[test]
fn a_wrong_token_is_a_4_and_the_token_is_not_repeated() {
    let fake = Fake::start();
    let terminal = Terminal::of(&fake).with("ALULA_TOKEN", "secret-but-wrong");
    let outcome = terminal.run(&["list"]).exits(4);
    assert!(outcome.stderr.contains("--token"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("secret-but-wrong"));
    assert_eq!(fake.asked_once().headers["authorization"], "Bearer secret-but-wrong");
}

#[test]
fn a_function_that_is_not_there_is_a_5() {
    let fake = Fake::start().on(
        "GET /v1/functions/hello",
        Says::error(404, "function_not_found", "no function is named hello in the namespace default"),
    );
    let outcome = Terminal::of(&fake).run(&["describe", "hello"]).exits(5);
    assert_eq!(
        outcome.stderr,
        "error: no function is named hello in the namespace default [function_not_found]\n  \
         try: `alula list` shows the functions there are\n"
    );
}

#[test]
fn failures_are_json_where_json_is_asked_for() {
    let fake = Fake::start();
    let outcome = Terminal::of(&fake).run(&["describe", "hello", "--json"]).exits(5);
    let failure: serde_json::Value = serde_json::from_str(&outcome.stderr).unwrap();
    assert_eq!(failure["error"]["code"], "not_found");
    assert!(outcome.stdout.is_empty());
}

#[test]
fn bad_paths_are_found_before_anything_is_sent() {
    let fake = Fake::start();
    let terminal = Terminal::of(&fake);
    terminal.write("good.py", "x = 1");
    terminal.write("empty.py", "");
    std::fs::create_dir(terminal.folder().join("void")).unwrap();
    for (path, reason) in [("missing.py", "missing.py"), ("empty.py", "is empty"), ("void", "no files")] {
        let outcome = terminal.run(&["deploy", "good.py", path]).exits(2);
        assert!(outcome.stderr.contains(reason), "{path}: {}", outcome.stderr);
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let lines = "{\"at_ms\":0,\"namespace\":\"default\",\"function\":\"f\",\"version\":1,\"instance\":\"i\",\
                 \"stream\":\"stdout\",\"level\":\"info\",\"text\":\"x\"}\n";
    let fake = Fake::start().on("GET /v1/logs", Says::json(&lines.repeat(20_000)));
    let mut child = Terminal::of(&fake).command(&["logs"]).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
