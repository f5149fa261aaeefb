//! WSGI, ASGI and fetch applications: what is theirs beyond the conformance suite.

use std::time::Duration;

use alula_model::ErrorCode;
use http_body_util::BodyExt as _;
use serde_json::json;

use super::*;
use crate::{BodyError, StopGrace};

#[tokio::test]
async fn cookies_of_an_application_stay_apart() {
    let bench = Bench::new();
    for (runtime, name, target) in
        [("python", "asgi", "/started"), ("python", "wsgi", "/echo"), ("node", "fetch", "/shaped")]
    {
        let instance = bench.start_fixture(runtime, name).await;
        let answer = instance.call(call(target, Body::empty())).await.unwrap();
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"], "{name}");
    }
}

#[tokio::test]
async fn lifespan_runs_at_start_and_end() {
    let bench = Bench::new();
    let instance = bench.start_fixture("python", "asgi").await;
    let answer = instance.call(call("/started", Body::empty())).await.unwrap();
    assert_eq!(text(answer).await, "True");
    instance.stop(StopGrace(Duration::from_secs(5))).await;
    bench.line("shut down").await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_a_whole_one_and_the_log_says_why() {
    let bench = Bench::new();
    let cases = [
        (
            "python",
            "asgi",
            "/half",
            "IncompleteResponse: the application returned before its response was complete",
        ),
        ("python", "wsgi", "/half", "ValueError: half-way"),
        ("node", "fetch", "/torn", "Error: torn"),
    ];
    for (runtime, name, target, reason) in cases {
        let instance = bench.start_fixture(runtime, name).await;
        let answer = instance.call(call(target, Body::empty())).await.unwrap();
        let error = answer.body.collect(100).await.unwrap_err();
        let named = matches!(&error, BodyError::Malformed { reason: told } if told.starts_with(reason));
        assert!(named, "{name}: {error:?}");
        bench.line(reason).await;
        still_works(&*instance).await;
    }
}

#[tokio::test]
async fn an_application_that_returns_without_an_answer_gave_a_bad_one() {
    let bench = Bench::new();
    let instance = bench.start_fixture("python", "asgi").await;
    for (target, due) in
        [("/headless", "http.response.start"), ("/bodiless", "http.response.body without more_body")]
    {
        let fault = instance.call(call(target, Body::empty())).await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::BadResponse, "{target}");
        assert!(fault.message.ends_with(&format!("{due} is due")), "{}", fault.message);
        still_works(&*instance).await;
    }
}

#[tokio::test]
async fn a_dropped_answer_tells_the_application() {
    let bench = Bench::new();
    let instance = bench.start_fixture("python", "asgi").await;
    let mut body = instance.call(call("/disconnect", Body::empty())).await.unwrap().body;
    assert!(body.frame().await.is_some());
    drop(body);
    bench.line("noticed that the caller is gone").await;
    still_works(&*instance).await;
}

#[tokio::test]
async fn a_request_that_breaks_off_is_the_callers_fault() {
    let bench = Bench::new();
    let instance = bench.start_fixture("node", "fetch").await;
    let frames = futures_util::stream::iter([
        Ok(http_body::Frame::data(Bytes::from_static(b"half"))),
        Err(BodyError::Disconnected),
    ]);
    let torn = call("/pace", Body::stream(http_body_util::StreamBody::new(frames)));
    // The answer may have begun before the request broke off.
    match instance.call(torn).await {
        Ok(answer) => assert_eq!(answer.body.collect(100).await, Err(BodyError::Disconnected)),
        Err(fault) => assert_eq!(fault.code, ErrorCode::CallerGone),
    }
    still_works(&*instance).await;
}

#[tokio::test]
async fn a_large_answer_waits_for_who_reads_it() {
    let bench = Bench::new();
    for (runtime, name) in [("python", "asgi"), ("python", "wsgi"), ("node", "fetch")] {
        let instance = bench.start_fixture(runtime, name).await;
        let answer = instance.call(call("/big?5000000", Body::empty())).await.unwrap();
        assert_eq!(answer.body.collect(8 * MIB).await.unwrap().len(), 5_000_000, "{name}");
    }
}

#[tokio::test]
async fn old_style_wsgi_writes_come_through() {
    let bench = Bench::new();
    let instance = bench.start_fixture("python", "wsgi").await;
    let answer = instance.call(call("/write", Body::empty())).await.unwrap();
    assert_eq!(answer.status.as_u16(), 201);
    assert_eq!(text(answer).await, "old style");
}

#[tokio::test]
async fn an_event_reaches_an_application_as_a_post() {
    let bench = Bench::new();
    let files = [(
        "index.mjs",
        "export const fetch = async (r) => Response.json([r.method, r.headers.get('content-type'), await r.json()]);",
    )];
    let (_folder, plan) = package("node", None, &files);
    let instance = bench.start(&plan).await;
    let mut event = call("/", Body::full(r#"{"a":1}"#));
    event.is_event = true;
    let value = json(instance.call(event).await.unwrap()).await;
    assert_eq!(value, json!(["POST", "application/json", {"a": 1}]));
}
