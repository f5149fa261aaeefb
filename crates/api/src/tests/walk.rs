//! What holds for every operation of the OpenAPI document, so that a new one cannot be forgotten.

use std::collections::BTreeSet;

use axum::body::Body;
use http::Request;
use serde_json::Value;

use super::world::{World, read};
use crate::auth::{OPEN_PATHS, OPEN_POSTS};
use crate::document;

pub(super) struct Operation {
    pub(super) method: String,
    pub(super) path: String,
    about: Value,
}

impl Operation {
    /// The path with its parameters filled in.
    pub(super) fn uri(&self) -> String {
        let filled = [
            ("{name}", "hello"),
            ("{function}", "hello"),
            ("{trigger}", "tick"),
            ("{version}", "1"),
            ("{alias}", "live"),
            ("{id}", "run-1"),
            ("{topic}", "orders"),
            ("{bucket}", "photos"),
            ("{user}", "anna"),
            ("{role}", "viewer"),
            ("{secret}", "db_password"),
        ];
        filled.iter().fold(self.path.clone(), |path, (parameter, value)| path.replace(parameter, value))
    }

    pub(super) fn is_open(&self) -> bool {
        self.about["security"].as_array().is_some_and(|ways| ways.contains(&serde_json::json!({})))
    }

    pub(super) fn body(&self) -> &'static str {
        match (self.method.as_str(), self.path.as_str()) {
            ("PUT", path) if path.ends_with("/aliases/{alias}") => r#"{"version": 1}"#,
            ("POST", "/v1/dead-letters/redrive" | "/v1/dead-letters/purge") => r#"{"which": {}}"#,
            ("POST", "/v1/keys") => {
                r#"{"name": "ci", "grants": [{"namespace": "default", "role": "viewer"}]}"#
            }
            ("POST", "/v1/protections") => r#"{"subject": "function/default/hello", "reason": "it floods"}"#,
            ("PUT", "/v1/limits") => r#"{"target": "namespace/default", "limit": {"in_flight": 5}}"#,
            ("PUT", "/v1/network") => r#"{"ceiling": ["a.b:1"]}"#,
            ("PUT", "/v1/secrets/{secret}") => r#"{"value": "hunter2"}"#,
            ("POST", "/v1/secrets/{secret}/rollback") => "{}",
            ("POST", "/v1/alarm-silences") => r#"{"matcher": "rule=disk", "for_ms": 1000, "reason": "x"}"#,
            ("POST", "/v1/queue/flow") => r#"{"flow": "open"}"#,
            _ => "",
        }
    }
}

pub(super) fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(document()).unwrap();
    let paths = document["paths"].as_object().unwrap().clone();
    let operations: Vec<_> = paths
        .into_iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().clone();
            methods.into_iter().map(move |(method, about)| (method, path.clone(), about))
        })
        .map(|(method, path, about)| Operation { method: method.to_uppercase(), path, about })
        .collect();
    assert!(operations.len() > 20, "the document is not complete");
    operations
}

async fn without_token(world: &World, method: &str, uri: &str) -> super::world::Reply {
    let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
    read(world.send(request).await).await
}

#[tokio::test]
async fn without_a_token_only_the_open_routes_answer() {
    let world = World::new().await;
    let mut open = BTreeSet::new();
    for operation in operations() {
        let Operation { method, path, .. } = &operation;
        let reply = without_token(&world, method, &operation.uri()).await;
        assert_eq!(reply.status == 401, !operation.is_open(), "{method} {path} answers {}", reply.status);
        if operation.is_open() {
            open.insert(path.clone());
        } else {
            assert_eq!(reply.error().1, "unauthenticated");
            assert!(reply.headers.contains_key("www-authenticate"));
        }
    }
    let documented = OPEN_PATHS
        .iter()
        .chain(OPEN_POSTS)
        .filter(|path| !path.starts_with("/docs"))
        .map(|path| (*path).to_owned());
    assert_eq!(open, documented.collect());
}

#[tokio::test]
async fn strangers_cannot_tell_which_routes_exist() {
    let world = World::new().await;
    for (method, uri) in [
        ("GET", "/"),
        ("GET", "/v1/nothing"),
        ("PATCH", "/v1/functions"),
        ("POST", "/livez"),
        ("GET", "/docs/../v1/info"),
        ("GET", "/docs/"),
        ("GET", "//livez"),
        ("OPTIONS", "/v1/info"),
    ] {
        assert_eq!(without_token(&world, method, uri).await.status, 401, "{method} {uri}");
    }
    let forged =
        Request::get("/v1/info").header("authorization", "Bearer guess").body(Body::empty()).unwrap();
    assert_eq!(world.send(forged).await.status(), 401);
}

#[tokio::test]
async fn metrics_are_open_only_where_the_configuration_says_so() {
    assert_eq!(without_token(&World::new().await, "GET", "/metrics").await.status, 401);
    let open = World::with(|options| options.metrics_open = true).await;
    assert_eq!(without_token(&open, "GET", "/metrics").await.status, 200);
}

#[tokio::test]
async fn with_a_token_every_answer_is_a_documented_one() {
    for operation in operations() {
        let world = World::new().await;
        world.deploy_hello("one").await;
        let Operation { method, path, about } = &operation;
        let reply = world.ask(method, &operation.uri(), operation.body()).await;
        let documented = about["responses"].as_object().unwrap();
        assert!(documented.contains_key(reply.status.as_str()), "{method} {path} answers {reply:?}");
        if !reply.status.is_success() {
            assert_eq!(reply.headers["x-alula-error"].to_str().unwrap(), reply.error().1);
        }
    }
}

#[tokio::test]
async fn unknown_parameters_are_refused_by_name() {
    let world = World::new().await;
    world.deploy_hello("one").await;
    for operation in operations() {
        let Operation { method, path, .. } = &operation;
        let reply = world.ask(method, &format!("{}?bogus=1", operation.uri()), operation.body()).await;
        let (status, code, message) = reply.error();
        assert_eq!((status, code.as_str()), (400, "invalid_request"), "{method} {path}");
        assert!(message.contains("bogus"), "{method} {path}: {message}");
    }
}
