//! The OpenAPI document and the page that shows it.

use std::path::Path;

use axum::body::Body;

use super::world::World;
use crate::document;

/// Names the environment variable that makes the test write the copy instead of comparing it.
const UPDATE: &str = "UPDATE_OPENAPI";

#[test]
#[allow(clippy::disallowed_methods, reason = "the test is told by the environment whether to write the copy")]
fn the_checked_in_copy_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let now = document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &now).unwrap();
        return;
    }
    let copy = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        copy == now,
        "docs/openapi.json is not what the code says; look at the difference after \
         `{UPDATE}=1 cargo test -p alula-api`, and keep what you meant"
    );
}

#[test]
fn every_operation_is_described() {
    let document = serde_json::to_value(document()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            assert!(operation["tags"].is_array(), "{method} {path} has no tag");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(
                    parameter["description"].is_string(),
                    "{method} {path}: {parameter} has no description"
                );
            }
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let text = document().to_json().unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is not defined");
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let world = World::new().await;
    for path in ["/docs", "/docs/app.js", "/docs/style.css"] {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let reply = super::world::read(world.send(request).await).await;
        assert_eq!(reply.status, 200, "{path}");
        let policy = reply.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("//cdn"), "{path}");
        assert!(
            !text.contains("innerHTML") && !text.contains(" style=") && !text.contains("onclick"),
            "{path}"
        );
    }
}
