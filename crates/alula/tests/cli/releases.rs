//! Deploying, and what is shown of functions and versions.

use std::io::Read;

use crate::fake::{Fake, Says};
use crate::terminal::Terminal;

const DEPLOYED: &str = r#"{"event":"stage","function":"","stage":"upload","detail":"12 bytes"}
{"event":"build_line","function":"hello","text":"Collecting \u001b[31mpillow"}
{"event":"deployed","functions":[{"namespace":"default","name":"hello","version":3,"is_new":true,
 "build_cached":false,"runtime":"python3.11","package_bytes":12,"url":"http://127.0.0.1:8080/function/hello",
 "dry_run":false,"took_ms":41}]}"#;

fn deployed() -> Says {
    // One event a line: the fake's text is folded for reading.
    Says::json(&DEPLOYED.replace(",\n ", ","))
}

fn summary(name: &str) -> String {
    format!(
        r#"{{"namespace":"default","name":"{name}","runtime":"python3.11","class":"sync","latest":2,"newest":3,
        "aliases":{{"live":1}},"url":"http://127.0.0.1:8080/function/{name}","invocable":true,"instances":0,
        "created_at_ms":0,"updated_at_ms":0}}"#
    )
}

#[test]
fn one_file_is_sent_as_it_is() {
    let fake = Fake::start().on("POST /v1/deploy", deployed());
    let terminal = Terminal::of(&fake);
    terminal.write("hello.py", "x = 1");
    let arguments =
        ["deploy", "hello.py", "--env", "A=b=c", "--memory-mb", "128", "-m", "why & how", "-n", "shop"];
    let outcome = terminal.run(&arguments).exits(0);
    assert_eq!(outcome.text(), "hello version 3  http://127.0.0.1:8080/function/hello\n");
    assert!(outcome.stderr.contains("hello | Collecting [31mpillow"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("deployed (python3.11, 41 ms)"), "{}", outcome.stderr);
    let asked = fake.asked_once();
    assert_eq!(&asked.body[..], b"x = 1");
    assert_eq!(asked.query["file"], "hello.py");
    assert_eq!(asked.query["namespace"], "shop");
    assert_eq!(asked.query["message"], "why & how");
    assert_eq!(asked.query["overrides"], r#"{"memory_mb":128,"env":{"A":"b=c"}}"#);
    assert_eq!(asked.headers["content-length"], "5");
    assert!(!asked.query.contains_key("dry_run") && !asked.query.contains_key("name"));
}

#[test]
fn a_folder_is_packed_without_what_is_ignored() {
    let fake = Fake::start().on("POST /v1/deploy", deployed());
    let terminal = Terminal::of(&fake);
    terminal.write("shop/main.py", "x = 1");
    terminal.write("shop/secret.env", "x");
    terminal.write("shop/.alulaignore", "*.env\n");
    terminal.write("shop/.git/config", "x");
    terminal.run(&["deploy", "shop", "--quiet"]).exits(0);
    let asked = fake.asked_once();
    assert_eq!(asked.query["file"], "shop.tar.gz");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&asked.body[..]));
    let paths = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
    assert_eq!(paths.collect::<Vec<_>>(), [".alulaignore", "main.py"]);
}

#[test]
fn code_comes_from_the_command_line_or_a_pipe() {
    let fake = Fake::start().on("POST /v1/deploy", deployed());
    let terminal = Terminal::of(&fake);
    let arguments = ["deploy", "--name", "hi", "--runtime", "python", "--code"];
    terminal.run(&[&arguments[..], &["x = 1"]].concat()).exits(0);
    terminal.pipe(b"x = 2", &[&arguments[..], &["-"]].concat()).exits(0);
    let asked = fake.asked();
    assert_eq!((&asked[0].body[..], &asked[1].body[..]), (&b"x = 1"[..], &b"x = 2"[..]));
    assert_eq!((asked[0].query["file"].as_str(), asked[0].query["name"].as_str()), ("hi.py", "hi"));
    terminal.pipe(b"", &[&arguments[..], &["-"]].concat()).exits(2);
}

#[test]
fn a_failed_build_is_a_1_with_its_lines() {
    let failed = r#"{"event":"build_line","function":"hello","text":"no matching distribution"}
{"event":"failed","error":{"code":"build_failed","message":"the build of hello ended with 1","blame":"caller","retryable":false,"help":"x"}}"#;
    let fake = Fake::start().on("POST /v1/deploy", Says::json(failed));
    let terminal = Terminal::of(&fake);
    terminal.write("hello.py", "x = 1");
    let outcome = terminal.run(&["deploy", "hello.py"]).exits(1);
    assert!(outcome.stdout.is_empty());
    assert!(outcome.stderr.contains("hello | no matching distribution"), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("error: the build of hello ended with 1 [build_failed]"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_deploy_that_ends_without_an_outcome_is_not_taken_for_one() {
    let fake = Fake::start().on("POST /v1/deploy", Says::json(""));
    let terminal = Terminal::of(&fake);
    terminal.write("hello.py", "x = 1");
    let outcome = terminal.run(&["deploy", "hello.py"]).exits(1);
    assert!(outcome.stderr.contains("alula versions"), "{}", outcome.stderr);
}

#[test]
fn list_is_a_table_or_json() {
    let page = format!(r#"{{"functions":[{},{}]}}"#, summary("a"), summary("longer"));
    let fake = Fake::start().on("GET /v1/functions", Says::json(&page));
    let terminal = Terminal::of(&fake);
    let table = terminal.run(&["list"]).exits(0).text();
    let names = table.lines().map(|line| line.split_whitespace().next().unwrap().to_owned());
    assert_eq!(names.collect::<Vec<_>>(), ["NAME", "a", "longer"]);
    assert!(!table.contains('\x1b'), "no colour into a pipe");
    let json = terminal.run(&["list", "--json"]).exits(0).text();
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!((json.lines().count(), last["name"].as_str()), (2, Some("longer")));
}

#[test]
fn an_empty_list_prints_no_data() {
    let fake = Fake::start().on("GET /v1/functions", Says::json(r#"{"functions":[]}"#));
    let outcome = Terminal::of(&fake).run(&["list"]).exits(0);
    assert!(outcome.stdout.is_empty());
    assert!(outcome.stderr.contains("alula deploy"));
}

#[test]
fn instances_are_a_table_or_json_and_can_be_those_of_one_version() {
    let instance = |id: &str, version: u64, state: &str| {
        format!(
            r#"{{"id":"{id}","namespace":"default","function":"hello","version":{version},"state":"{state}",
            "in_flight":1,"memory_bytes":1024,"cpu_us":5,"calls":3,"idle_ms":0,"age_ms":1000}}"#
        )
    };
    let list = format!(r#"{{"instances":[{},{}]}}"#, instance("i1", 1, "idle"), instance("i2", 2, "busy"));
    let fake = Fake::start().on("GET /v1/instances", Says::json(&list));
    let terminal = Terminal::of(&fake);
    let table = terminal.run(&["instances"]).exits(0).text();
    assert!(table.contains("hello:1") && table.contains("hello:2"), "{table}");
    let json = terminal.run(&["instances", "hello:2", "--json"]).exits(0).text();
    let only: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((only["id"].as_str(), only["state"].as_str()), (Some("i2"), Some("busy")));
    assert_eq!(fake.asked()[1].query["function"], "hello");
}

#[test]
fn what_is_about_a_whole_function_takes_no_version() {
    let fake = Fake::start();
    let terminal = Terminal::of(&fake);
    for command in [
        &["remove", "hello:2", "--yes"][..],
        &["describe", "hello:2"],
        &["versions", "hello:live"],
        &["diff", "hello:2"],
        &["alias", "set", "hello:2", "live", "1"],
        &["audit", "hello:2"],
        &["rollback", "hello:2", "--to", "3"],
    ] {
        terminal.run(command).exits(2);
    }
    assert!(fake.asked().is_empty(), "nothing may be asked of the platform");
}

#[test]
fn rollback_alias_and_remove_say_what_they_do() {
    let fake = Fake::start()
        .on("POST /v1/functions/hello/rollback", Says::json(&summary("hello")))
        .on("PUT /v1/functions/hello/aliases/live", Says::bytes(b"").status(204))
        .on("DELETE /v1/functions/hello", Says::bytes(b"").status(204));
    let terminal = Terminal::of(&fake);
    let outcome = terminal.run(&["rollback", "hello", "--to", "2"]).exits(0);
    assert_eq!(outcome.text(), "hello version 2  http://127.0.0.1:8080/function/hello\n");
    terminal.run(&["alias", "set", "hello.shop", "live", "3"]).exits(0);
    terminal.run(&["remove", "hello", "--yes"]).exits(0);
    let asked = fake.asked();
    assert_eq!(&asked[0].body[..], br#"{"to":2}"#);
    assert_eq!(
        (&asked[1].body[..], asked[1].query["namespace"].as_str()),
        (&br#"{"version":3}"#[..], "shop")
    );
    assert_eq!(asked[2].method, "DELETE");
}

#[test]
fn a_built_binary_answers_for_itself() {
    let terminal = Terminal::new();
    let mut version = String::new();
    let mut child = terminal.command(&["--version"]).spawn().unwrap();
    child.stdout.take().unwrap().read_to_string(&mut version).unwrap();
    assert_eq!(version.trim(), concat!("alula ", env!("CARGO_PKG_VERSION")));
    assert!(child.wait().unwrap().success());
}
