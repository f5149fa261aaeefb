//! Clients of the Runtime API on the bare launcher: one on the standard library alone, and the published ones.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use alula_model::ErrorCode;
use http_body_util::BodyExt;

use super::*;
use crate::conformance::{self, Fixtures, Traits, call};
use crate::process::testing::{Bench, fixture_plan, starting};
use crate::{Backend, BodyError, VersionPlan};

fn fixture(concurrency: u32) -> Arc<VersionPlan> {
    fixture_plan("provided", "lambda", |spec| {
        spec.concurrency = concurrency;
        spec.response_bytes_max = 1024 * 1024;
    })
}

async fn text(answer: Answer) -> String {
    String::from_utf8(answer.body.collect(1 << 22).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn lambda_conforms() {
    let bench = Bench::new();
    for concurrency in [1, 4] {
        let fixtures = Fixtures {
            plan: fixture(concurrency),
            broken: Some(starting("provided", "lambda", "broken")),
            never_ready: Some(starting("provided", "lambda", "never")),
            log: Arc::clone(&bench.log),
            has: Traits {
                processes: true,
                limits_responses: true,
                refuses_garbage: true,
                ..Traits::default()
            },
        };
        conformance::check(&bench.backend, &fixtures).await;
    }
}

#[tokio::test]
async fn an_error_report_reaches_the_caller() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let fault = instance.call(call("/fail", Body::empty())).await.unwrap_err();
    assert_eq!((fault.code, fault.message.as_str()), (ErrorCode::HandlerError, "ValueError: on purpose"));
    let payload: serde_json::Value = serde_json::from_str(&fault.payload.unwrap()).unwrap();
    assert_eq!(payload["errorType"], "ValueError");
    let broken = fixture_plan("provided", "lambda", |spec| {
        spec.env.insert("START".to_owned(), "init-error".to_owned());
    });
    let fault = bench.backend.start(broken, alula_model::InstanceId::new("b")).await.unwrap_err();
    assert_eq!((fault.code, fault.message.as_str()), (ErrorCode::InitFailed, "ImportError: no module"));
    assert!(fault.payload.is_some());
}

#[tokio::test]
async fn an_event_passes_as_it_is() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let event = r#"{"n": 1, "text": "ü"}"#;
    let mut asked = call("/", Body::full(event));
    asked.is_event = true;
    let answer = instance.call(asked).await.unwrap();
    assert_eq!(answer.headers["content-type"], "application/json");
    let back: serde_json::Value = serde_json::from_str(&text(answer).await).unwrap();
    assert_eq!(back, serde_json::json!({"n": 1, "text": "ü"}));
}

#[tokio::test]
async fn the_program_is_told_about_the_invocation() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let mut asked = call("/headers", Body::empty());
    asked.deadline_at = alula_model::Timestamp(1_700_000_000_123);
    asked.headers.insert("x-amzn-trace-id", HeaderValue::from_static("Root=1-2-3"));
    let id = asked.id.to_string();
    let told: serde_json::Value =
        serde_json::from_str(&text(instance.call(asked).await.unwrap()).await).unwrap();
    let expected = [
        ("lambda-runtime-aws-request-id", id.as_str()),
        ("lambda-runtime-deadline-ms", "1700000000123"),
        ("lambda-runtime-trace-id", "Root=1-2-3"),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:000000000000:function:conformance:1",
        ),
        ("content-type", "application/json"),
    ];
    for (name, value) in expected {
        assert_eq!(told[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_shaped_result_is_an_answer() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let answer = instance.call(call("/shaped", Body::empty())).await.unwrap();
    assert_eq!(
        (answer.status, &answer.headers["x-one"]),
        (StatusCode::CREATED, &HeaderValue::from_static("1"))
    );
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(text(answer).await, "made");
    let plain = instance.call(call("/text", Body::empty())).await.unwrap();
    assert_eq!(plain.headers["content-type"], "text/plain");
    assert_eq!(text(plain).await, "plain words");
}

#[tokio::test]
async fn misuse_is_refused_as_lambda_refuses_it() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let answer = instance.call(call("/misuse", Body::empty())).await.unwrap();
    assert_eq!(text(answer).await, "[403, 403]", "a second event, and an init error after the start");
    let line = bench.line("misuse").await;
    assert_eq!(line.text, r#"misuse [400, 404, 202, 403, "InvalidRequestID"]"#);
}

#[tokio::test]
async fn a_response_is_streamed() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let answer = instance.call(call("/stream", Body::empty())).await.unwrap();
    assert_eq!(
        (answer.status, &answer.headers["x-two"]),
        (StatusCode::ACCEPTED, &HeaderValue::from_static("2"))
    );
    assert_eq!(answer.headers["set-cookie"], "c=3");
    assert_eq!(text(answer).await, "first,second");
    let plain = instance.call(call("/stream-plain", Body::empty())).await.unwrap();
    assert_eq!(plain.headers["content-type"], "text/csv");
    assert_eq!(
        text(plain).await.len(),
        2 * 1024 * 1024,
        "a stream is not held to the limit of whole responses"
    );
    assert_eq!(bench.line("streamed").await.text, "streamed 202");
}

#[tokio::test]
async fn a_stream_that_fails_is_broken_off() {
    let bench = Bench::new();
    let instance = bench.start(&fixture(1)).await;
    let answer = instance.call(call("/stream-fails", Body::empty())).await.unwrap();
    let error = answer.body.collect(1000).await.unwrap_err();
    assert!(matches!(&error, BodyError::Malformed { reason } if reason.contains("Bad.Luck")), "{error:?}");
    let fault = instance.call(call("/stream-garbage", Body::empty())).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::BadResponse);
    assert!(!instance.is_gone());
    let mut late = call("/stream-hangs", Body::empty());
    late.deadline = Instant::now() + Duration::from_millis(500);
    let mut body = instance.call(late).await.unwrap().body;
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(body.frame().await.unwrap().unwrap_err(), BodyError::TimedOut);
    drop(body);
    assert!(instance.is_gone(), "the program cannot be told to stop");
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_before_it_reaches_the_program() {
    let bench = Bench::new();
    let plan = fixture_plan("provided", "lambda", |spec| spec.request_bytes_max = 10);
    let instance = bench.start(&plan).await;
    let fault = instance.call(call("/echo", Body::full("12345678901"))).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::RequestTooLarge);
    assert_eq!(
        text(instance.call(call("/echo", Body::full("1234567890"))).await.unwrap()).await,
        "1234567890"
    );
}

/// Runs a shell command that installs something into `folder`; false, with a loud word, where it does not work.
fn install(folder: &std::path::Path, command: &str) -> bool {
    let output =
        std::process::Command::new("/bin/sh").args(["-c", command]).current_dir(folder).output().unwrap();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        eprintln!("SKIPPED: `{command}` failed, so the published client was NOT tested: {why}");
    }
    output.status.success()
}

/// Checks a handler that answers `{"statusCode": 200, "body": "hello <body>"}`, raises for `/fail`, and gives an
/// event without a path back.
async fn check_client(bench: &Bench, folder: &std::path::Path, command: &[&str]) {
    let plan = fixture_plan("provided", "lambda", |spec| {
        spec.command = command.iter().map(|part| (*part).to_owned()).collect();
        spec.handler = Some("main.handler".to_owned());
    });
    let plan = Arc::new(VersionPlan { code: folder.to_owned(), ..(*plan).clone() });
    let instance = bench.start(&plan).await;
    for _ in 0..3 {
        let answer = instance.call(call("/", Body::full("world"))).await.unwrap();
        assert_eq!(text(answer).await, "hello world");
    }
    let fault = instance.call(call("/fail", Body::empty())).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::HandlerError);
    assert!(fault.message.contains("on purpose"), "{fault}");
    let mut event = call("/", Body::full(r#"{"n":1}"#));
    event.is_event = true;
    assert_eq!(text(instance.call(event).await.unwrap()).await.replace(' ', ""), r#"{"n":1}"#);
    instance.stop(crate::StopGrace(Duration::from_secs(2))).await;
}

#[tokio::test]
async fn the_published_python_client_runs_unmodified() {
    let folder = tempfile::tempdir().unwrap();
    let handler = "def handler(event, context):\n    if 'rawPath' not in event:\n        return event\n    \
        if event['rawPath'] == '/fail':\n        raise ValueError('on purpose')\n    \
        return {'statusCode': 200, 'body': 'hello ' + event['body']}\n";
    std::fs::write(folder.path().join("main.py"), handler).unwrap();
    if install(folder.path(), "/usr/bin/python3 -m pip install -q --target . 'awslambdaric==3.1.1'") {
        let command = ["/usr/bin/python3", "-m", "awslambdaric", "main.handler"];
        check_client(&Bench::new(), folder.path(), &command).await;
    }
}

/// Building the native part of this client takes minutes and tools that not every machine has, so it is asked for
/// by name and then fails where they are missing: `cargo test -p alula-runtime -- --ignored node_client`.
#[tokio::test]
#[ignore = "builds a native module: needs g++ make cmake autoconf automake libtool python3"]
async fn the_published_node_client_runs_unmodified() {
    let folder = tempfile::tempdir().unwrap();
    let handler = "exports.handler = async (event) => {\n  if (!('rawPath' in event)) return event;\n  \
        if (event.rawPath === '/fail') throw new Error('on purpose');\n  \
        return { statusCode: 200, body: 'hello ' + event.body };\n};\n";
    std::fs::write(folder.path().join("main.js"), handler).unwrap();
    let installed =
        install(folder.path(), "npm install --no-audit --no-fund --loglevel=error aws-lambda-ric@3");
    assert!(installed, "install: apt-get install g++ make cmake autoconf automake libtool python3 npm");
    let command = ["node", "node_modules/aws-lambda-ric/bin/index.mjs", "main.handler"];
    check_client(&Bench::new(), folder.path(), &command).await;
}
