//! Loading code, several calls at once, deadlines, cancelling, ending.

use std::time::Duration;

use alula_model::ErrorCode;
use serde_json::json;
use tokio::time::Instant;

use super::super::{Events, Room};
use super::*;
use crate::StopGrace;
use crate::process::Guest as _;

const SHORT: Duration = Duration::from_millis(300);
/// Long enough for a call to have reached its handler, also on a busy machine.
const LOADED: Duration = Duration::from_secs(2);

#[tokio::test]
async fn handlers_are_found_in_many_shapes() {
    let bench = Bench::new();
    let cjs = "exports.handler = () => 'here'";
    let esm = "import fs from 'node:fs'; export const handler = async () => fs ? 'here' : 0";
    let py = "def handler(event, context):\n    return 'here'\n";
    let helper = "from helper import word\ndef lambda_handler(event, context):\n    return word\n";
    for (runtime, handler, files) in [
        ("python", None, vec![("main.py", py)]),
        ("python", None, vec![("my-name.py", py)]),
        ("python", Some("main.handler"), vec![("main.py", py)]),
        ("python", Some("src/deep.handler"), vec![("src/deep.py", py)]),
        ("python", Some("src.deep.handler"), vec![("src/deep.py", py)]),
        ("python", None, vec![("lambda_function.py", helper), ("helper.py", "word = 'here'")]),
        ("python", None, vec![("main.py", helper), (".packages/helper.py", "word = 'here'")]),
        ("node", None, vec![("index.js", cjs)]),
        ("node", None, vec![("hello.cjs", cjs)]),
        ("node", None, vec![("index.mjs", esm)]),
        ("node", None, vec![("hello.js", esm)]),
        ("node", None, vec![("index.js", esm), ("package.json", r#"{"type":"module"}"#)]),
        ("node", None, vec![("index.js", "module.exports = () => 'here'")]),
        ("node", None, vec![("index.mjs", "export default () => 'here'")]),
        (
            "node",
            Some("src/a.run"),
            vec![("src/a.js", "exports.run = () => require('./b')"), ("src/b.js", "module.exports = 'here'")],
        ),
        ("perl", None, vec![("hello.pl", "sub handler { return 'here' } 1;")]),
        ("perl", Some("hello.run"), vec![("hello.pl", "sub run { return 'here' } 1;")]),
    ] {
        let (_folder, plan) = package(runtime, handler, &files);
        let instance = bench.start(&plan).await;
        assert_eq!(get(&*instance, "/").await, json!("here"), "{runtime} {handler:?} {files:?}");
    }
}

#[tokio::test]
async fn code_that_cannot_be_loaded_says_why() {
    let bench = Bench::new();
    for (runtime, handler, files, expected) in [
        ("python", Some("nothing.handler"), vec![("main.py", "")], "No module named 'nothing'"),
        ("python", Some("main.gone"), vec![("main.py", "x = 1")], "main has no 'gone'"),
        ("python", None, vec![("main.py", "x = 1")], "main has none of handler"),
        ("python", None, vec![("main.py", "import no_such_package\n")], "no_such_package"),
        ("python", None, vec![("main.py", "def handler(:")], "SyntaxError"),
        ("python", None, vec![("main.py", "handler = 3")], "main has none of"),
        ("node", Some("nothing.handler"), vec![("index.js", "")], "the code has no file nothing.js"),
        ("node", Some("index.gone"), vec![("index.js", "exports.here = 1")], "exported are: here"),
        ("node", None, vec![("index.js", "require('no-such-package')")], "no-such-package"),
        ("node", None, vec![("index.js", "function (")], "SyntaxError"),
        ("perl", Some("main.gone"), vec![("main.pl", "1;")], "main.pl has no sub gone"),
        ("perl", None, vec![("main.pl", "sub {")], "syntax error"),
    ] {
        let (_folder, plan) = package(runtime, handler, &files);
        let fault = bench.backend.start(plan, InstanceId::new("i")).await.map(|_| ()).unwrap_err();
        assert_eq!(fault.code, ErrorCode::InitFailed, "{files:?}: {fault}");
        assert!(fault.message.contains(expected), "{runtime} {files:?}: {fault}");
        assert!(!fault.log_tail.is_empty(), "{files:?}");
    }
}

#[test]
fn a_plan_without_a_handler_is_refused() {
    let bench = Bench::new();
    let (_folder, plan) = package("python", None, &[("readme.txt", "")]);
    let error = bench.backend.validate(&plan).unwrap_err();
    assert!(error.field == "handler" && error.reason.contains("main.py"), "{error}");
}

#[tokio::test]
async fn calls_meet_where_the_function_allows_it() {
    let bench = Bench::new();
    for (runtime, name) in [("node", "node"), ("python", "python-async")] {
        let instance = bench.start(&fixture(runtime, name, |spec| spec.concurrency = 4)).await;
        let meet = || call("/meet", Body::empty());
        let (one, two) = (meet(), meet());
        let ids = [one.id.clone(), two.id.clone()];
        let (first, second) = tokio::join!(instance.call(one), instance.call(two));
        assert_eq!((json(first.unwrap()).await, json(second.unwrap()).await), (json!(2), json!(2)));
        for (n, id) in ids.iter().enumerate() {
            let text = format!("arrived {}", n + 1);
            let line = bench.log.wait_for(|line| line.text == text && line.invocation.as_ref() == Some(id));
            tokio::time::timeout(Duration::from_secs(30), line).await.expect("a line knows its call");
        }
    }
}

#[tokio::test]
async fn an_async_python_handler_runs_alone_as_well() {
    let bench = Bench::new();
    let instance = bench.start_fixture("python", "python-async").await;
    assert_eq!(get(&*instance, "/").await, json!("slept"));
    still_works(&*instance).await;
}

#[tokio::test]
async fn the_deadline_stops_python_code_and_keeps_the_instance() {
    let bench = Bench::new();
    for (runtime, name) in [("python", "python"), ("python", "python-async"), ("python", "wsgi")] {
        let instance = bench.start_fixture(runtime, name).await;
        let mut late = call("/hang", Body::empty());
        late.deadline = Instant::now() + SHORT;
        let fault = instance.call(late).await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::FunctionTimeout, "{fault}");
        assert_eq!(fault.limit.unwrap().name, "timeout_ms");
        still_works(&*instance).await;
    }
}

#[tokio::test]
async fn code_that_does_not_stop_takes_its_instance_along() {
    let bench = Bench::new();
    for (runtime, name, target) in
        [("python", "python", "/hang-hard"), ("node", "node", "/hang"), ("perl", "perl", "/hang")]
    {
        let instance = bench.start_fixture(runtime, name).await;
        let mut late = call(target, Body::empty());
        late.deadline = Instant::now() + SHORT;
        assert_eq!(instance.call(late).await.unwrap_err().code, ErrorCode::FunctionTimeout);
        instance.settled().await;
        assert!(instance.is_gone(), "{runtime}");
        tokio::time::timeout(Duration::from_secs(30), instance.gone()).await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_call_is_cancelled() {
    let bench = Bench::new();
    let python = bench.start_fixture("python", "python").await;
    assert!(tokio::time::timeout(LOADED, python.call(call("/hang", Body::empty()))).await.is_err());
    still_works(&*python).await;
    let node = bench.start_fixture("node", "node").await;
    assert!(tokio::time::timeout(LOADED, node.call(call("/hang-aborted", Body::empty()))).await.is_err());
    bench.line("aborted").await;
    still_works(&*node).await;
}

#[tokio::test]
async fn a_stopped_guest_says_goodbye() {
    let bench = Bench::new();
    let python =
        "import atexit\natexit.register(print, 'goodbye')\ndef handler(event, context):\n    return 1\n";
    let node = "process.on('exit', () => console.log('goodbye')); exports.handler = () => 1";
    for (runtime, file, code) in [("python", "main.py", python), ("node", "index.js", node)] {
        let (_folder, plan) = package(runtime, None, &[(file, code)]);
        let instance = bench.start(&plan).await;
        instance.stop(StopGrace(Duration::from_secs(10))).await;
        let said = |line: &alula_model::LogLine| line.text == "goodbye" && line.key == plan.key;
        tokio::time::timeout(Duration::from_secs(30), bench.log.wait_for(said)).await.expect(runtime);
        assert!(instance.is_gone());
        assert_eq!(
            instance.call(call("/", Body::empty())).await.unwrap_err().code,
            ErrorCode::FunctionCrashed
        );
    }
}

#[tokio::test]
async fn a_call_with_others_waiting_is_answered_the_same() {
    let bench = Bench::new();
    let instance = bench.start_fixture("python", "python").await;
    for _ in 0..50 {
        instance.hint_waiting(3);
        still_works(&*instance).await;
    }
}

#[test]
fn a_handler_in_a_file_that_is_not_there_is_refused_at_deploy_time() {
    let bench = Bench::new();
    let files =
        [("main.py", ""), ("api/users.py", ""), (".packages/installed/app.py", ""), ("lib/own.py", "")];
    let check = |handler: &str, path: Option<&str>| {
        let (_folder, plan) = package("python3", Some(handler), &files);
        let mut plan = (*plan).clone();
        plan.spec.env.extend(path.map(|path| ("PYTHONPATH".to_owned(), path.to_owned())));
        bench.backend.validate(&plan).map_err(|error| error.field)
    };
    for there in
        ["main.handler", "main", "api/users.get", "api.users.get", "installed.app.app", "lib.own.handler"]
    {
        assert_eq!(check(there, None), Ok(()), "{there}");
    }
    for missing in ["mian.handler", "mai", "users.get", "own.handler"] {
        assert_eq!(check(missing, None), Err("handler"), "{missing}");
    }
    assert_eq!(check("own.handler", Some("/code/lib:/usr/share")), Ok(()), "the search path leads to it");
}

/// Code that holds its interpreter for good right after it has printed.
const BLOCKING: [(&str, &str, &str); 2] = [
    (
        "python",
        "main.py",
        "import re\n\
         def handler(event, context):\n    \
             print('first words')\n    \
             print('last words')\n    \
             re.match('(a+)+$', 'a' * 50 + 'b')\n",
    ),
    (
        "node",
        "index.js",
        "exports.handler = () => { console.log('first words'); console.log('last words'); for (;;); }",
    ),
];

#[tokio::test]
async fn what_was_printed_before_a_block_is_in_the_log() {
    for (runtime, file, code) in BLOCKING {
        let bench = Bench::new();
        let (_folder, plan) = package(runtime, None, &[(file, code)]);
        let instance = bench.start(&plan).await;
        let blocked = instance.call(call("/", Body::empty()));
        // The call blocks its only thread, so that nothing but what was sent before can come.
        tokio::select! {
            ended = blocked => panic!("{runtime}: the call has ended: {ended:?}"),
            line = bench.line("last words") => assert_eq!(line.text, "last words"),
        }
        bench.line("first words").await;
    }
}

#[tokio::test]
async fn every_shim_says_when_it_may_be_frozen() {
    let bench = Bench::new();
    for (runtime, name) in [
        ("python", "python"),
        ("python", "python-async"),
        ("python", "asgi"),
        ("python", "wsgi"),
        ("node", "node"),
        ("node", "fetch"),
        ("perl", "perl"),
    ] {
        let plan = fixture(runtime, name, |_| {});
        let language = bench.backend.languages.get(runtime).unwrap();
        let room = Room::open(&bench.backend, plan, language, InstanceId::new("i")).await.unwrap();
        let events = Events::start(&room).await.unwrap();
        for turn in ["first", "second"] {
            let quiet = tokio::time::timeout(Duration::from_secs(30), events.quiesce()).await;
            assert!(quiet.is_ok(), "{name}: nothing was said the {turn} time");
            let answer = events.call(call("/echo", Body::full(Bytes::from("again")))).await.unwrap();
            assert_eq!(answer.body.collect(100).await.unwrap(), "again", "{name} goes on after a rest");
        }
    }
}
