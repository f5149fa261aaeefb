//! Calls through the API, their logs and their runs.

use std::sync::Arc;

use alula_model::{ErrorCode, Fault, InstanceId, LogLevel, LogLine, LogStream, Name, Timestamp, VersionKey};
use alula_runtime::fake::Does;
use alula_runtime::{Answer, Body, LogSink};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;

use super::world::{Reply, World, read, with_token};

const INVOKE: &str = "/v1/functions/hello/invocations";

async fn hello() -> World {
    let world = World::new().await;
    world.deploy_hello("one").await;
    world
}

fn behaves(world: &World, handler: impl Fn(&alula_runtime::Call) -> Does + Send + Sync + 'static) {
    world.backend.change(|script| script.handler = Arc::new(handler));
}

async fn post(world: &World, uri: &str, media_type: &str, body: &str) -> Reply {
    let mut request = with_token("POST", uri, body.to_owned());
    request.headers_mut().insert("content-type", HeaderValue::from_str(media_type).unwrap());
    read(world.send(request).await).await
}

fn line(text: &str, invocation: &alula_model::InvocationId) -> LogLine {
    LogLine {
        at: Timestamp(1_700_000_000_000),
        key: VersionKey {
            namespace: Name::default_namespace(),
            function: Name::new("hello").unwrap(),
            version: 1,
        },
        instance: InstanceId::new("i1"),
        invocation: Some(invocation.clone()),
        stream: LogStream::Stdout,
        level: LogLevel::Info,
        text: text.into(),
    }
}

#[tokio::test]
async fn json_is_an_event_and_anything_else_a_request() {
    let world = hello().await;
    behaves(&world, |call| {
        Does::answers(format!("{} {} {:?}", call.is_event, call.method, call.headers.get("authorization")))
    });
    let event = post(&world, INVOKE, "application/json", "{}").await;
    assert_eq!(event.body, "true POST None");
    let request = post(&world, INVOKE, "text/plain", "{}").await;
    assert_eq!(request.body, "false POST None");
}

#[tokio::test]
async fn the_answer_is_the_functions_own_with_what_the_platform_adds() {
    let world = hello().await;
    behaves(&world, |_| {
        let headers =
            HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("text/teapot"))]);
        Does::Answers(Answer::new(StatusCode::IM_A_TEAPOT, headers, Body::full("short and stout")))
    });
    let mut request = with_token("POST", INVOKE, "");
    request.headers_mut().insert("x-alula-invocation-id", HeaderValue::from_static("mine-1"));
    let reply = read(world.send(request).await).await;
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (418, &b"short and stout"[..]));
    assert_eq!(reply.headers["content-type"], "text/teapot");
    assert_eq!(reply.headers["x-alula-invocation-id"], "mine-1");
    assert_eq!(reply.headers["x-alula-version"], "1");
    assert!(reply.headers["server-timing"].to_str().unwrap().contains("run;dur="));
    assert!(!reply.headers.contains_key("x-alula-error"));

    let runs = world.get("/v1/runs?function=hello").await.json();
    assert_eq!((&runs["runs"][0]["id"], &runs["runs"][0]["trigger"]), (&"mine-1".into(), &"api".into()));
    let run = world.get("/v1/runs/mine-1").await.json();
    assert_eq!(
        (&run["attempts"][0]["status"], &run["attempts"][0]["http_status"]),
        (&"done".into(), &418.into())
    );
    let detail = world.get("/v1/functions/hello").await.json();
    assert_eq!((&detail["recent"]["counted"], &detail["function"]["instances"]), (&1.into(), &1.into()));
    assert_eq!(world.get("/v1/instances").await.json()["instances"][0]["calls"], 1);
}

#[tokio::test]
async fn a_failure_names_its_call() {
    let world = hello().await;
    behaves(&world, |_| {
        let mut fault = Fault::new(ErrorCode::HandlerError, "the handler raised an error");
        fault.payload = Some(r#"{"errorType": "KeyError"}"#.to_owned());
        Does::Fails(fault.with_log_tail(vec!["last words".into()]))
    });
    let reply = world.ask("POST", INVOKE, "").await;
    assert_eq!((reply.status.as_u16(), reply.error().1.as_str()), (502, "handler_error"));
    let error = &reply.json()["error"];
    assert_eq!(
        reply.headers["x-alula-invocation-id"].to_str().unwrap(),
        error["invocation_id"].as_str().unwrap()
    );
    assert_eq!(
        (&error["payload"]["errorType"], &error["log_tail"][0]),
        (&"KeyError".into(), &"last words".into())
    );
}

#[tokio::test]
async fn a_bad_invocation_id_is_refused() {
    let world = hello().await;
    let mut request = with_token("POST", INVOKE, "");
    request.headers_mut().insert("x-alula-invocation-id", HeaderValue::from_static("../x"));
    assert_eq!(read(world.send(request).await).await.error().1, "invalid_request");
}

#[tokio::test]
async fn the_tail_of_the_log_comes_with_the_answer() {
    let world = hello().await;
    let logs = world.logs.clone();
    behaves(&world, move |call| {
        for number in 0..500 {
            logs.write(line(&format!("line {number} of many"), &call.id));
        }
        Does::answers("done")
    });
    let reply = world.ask("POST", &format!("{INVOKE}?log=tail"), "").await;
    assert_eq!(reply.body, "done");
    let tail = BASE64_STANDARD.decode(reply.headers["x-alula-log-result"].as_bytes()).unwrap();
    assert!(
        tail.len() <= 4096 && tail.ends_with(b"line 499 of many\n"),
        "{}",
        String::from_utf8_lossy(&tail)
    );
}

#[tokio::test]
async fn logs_are_filtered_and_followed_until_the_platform_shuts_down() {
    let world = hello().await;
    let (one, two) =
        (alula_model::InvocationId::new("one").unwrap(), alula_model::InvocationId::new("two").unwrap());
    world.logs.write(line("first", &one));
    world.logs.write(line("second", &two));
    let found = world.get("/v1/logs?function=hello&invocation=two").await.lines();
    assert_eq!((found.len(), &found[0]["text"]), (1, &"second".into()));

    let response = world.send(with_token("GET", "/v1/logs?follow=true", "")).await;
    let mut body = response.into_body();
    let mut next = async || -> serde_json::Value {
        let frame = body.frame().await.unwrap().unwrap();
        serde_json::from_slice(&frame.into_data().unwrap()).unwrap()
    };
    assert_eq!(next().await["text"], "first");
    assert_eq!(next().await["text"], "second");
    world.logs.write(line("third", &one));
    assert_eq!(next().await["text"], "third");
    world.draining.cancel();
    assert!(body.frame().await.is_none(), "the stream ends");
}

#[tokio::test]
async fn followers_are_limited_and_make_room_when_they_go() {
    let world = World::new().await;
    let follow = || world.send(with_token("GET", "/v1/logs?follow=true", ""));
    let mut followers = Vec::new();
    while followers.len() < crate::state::FOLLOWERS_MAX {
        let response = follow().await;
        assert_eq!(response.status(), 200);
        followers.push(response);
    }
    let refused = read(follow().await).await;
    assert_eq!((refused.status.as_u16(), refused.error().1.as_str()), (429, "concurrency_exceeded"));
    assert_eq!(refused.json()["error"]["limit"]["name"], "log_followers_max");
    followers.pop();
    assert_eq!(follow().await.status(), 200);
}

#[tokio::test]
async fn the_platform_shows_itself() {
    let world = hello().await;
    let info = world.get("/v1/info").await.json();
    assert_eq!(
        (&info["version"], &info["functions"], &info["actor"]),
        (&"1.2.3".into(), &1.into(), &"tester".into())
    );
    assert_eq!(info["uptime_ms"], 1_000);
    let runtimes = world.get("/v1/runtimes").await.json();
    let python = runtimes["runtimes"].as_array().unwrap().iter().find(|one| one["name"] == "python").cloned();
    let python = python.unwrap_or_else(|| panic!("{runtimes}"));
    assert_eq!(python["available"], false);
    assert!(python["remedy"].as_str().unwrap().contains("python3"));
    assert_eq!(world.get("/v1/doctor").await.json()["complete"], false);
    assert!(!world.get("/v1/templates").await.json()["templates"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn the_list_and_the_description_agree_that_a_start_failed() {
    let world = hello().await;
    let is_ready = async || {
        let listed = world.get("/v1/functions").await.json()["functions"][0]["invocable"].as_bool().unwrap();
        let described =
            world.get("/v1/functions/hello").await.json()["function"]["invocable"].as_bool().unwrap();
        assert_eq!(listed, described);
        listed
    };
    assert!(is_ready().await);
    let fault = Fault::new(ErrorCode::InitFailed, "SyntaxError");
    world.backend.change(|script| script.start_faults.push_back(fault));
    assert_eq!(post(&world, INVOKE, "text/plain", "").await.status, 502);
    assert!(!is_ready().await);
    // A new version has failed nowhere.
    world.deploy_hello("two").await;
    assert!(is_ready().await);
}
