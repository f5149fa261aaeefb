//! Who may do what, over the whole API.

use std::collections::BTreeSet;

use serde_json::json;

use super::walk::operations;
use super::world::World;
use crate::access::routes;

/// What anybody may ask who is known: it tells nothing of anybody.
const HARMLESS: [&str; 5] = ["/v1/info", "/v1/runtimes", "/v1/templates", "/v1/whoami", "/v1/namespaces"];

/// A key of `namespace` with one role there.
pub(super) async fn key(world: &World, namespace: &str, app: Option<&str>, role: &str) -> String {
    let mut grant = json!({"namespace": namespace, "role": role});
    if let Some(app) = app {
        grant["app"] = json!(app);
    }
    let name = format!("{role}-{}", app.unwrap_or("all"));
    let body = json!({"name": name, "grants": [grant]}).to_string();
    let made = world.ask("POST", &format!("/v1/keys?namespace={namespace}"), body).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.json()["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_operation_has_its_row_and_every_row_its_operation() {
    let documented: BTreeSet<(String, String)> = operations()
        .into_iter()
        .filter(|operation| !operation.is_open())
        .map(|operation| (operation.method, operation.path))
        .collect();
    let rows: BTreeSet<_> = routes().map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(rows.len(), routes().count(), "a row is there twice");
    assert_eq!(documented, rows);
}

#[tokio::test]
async fn the_owner_of_one_namespace_is_a_stranger_in_another() {
    let world = World::new().await;
    world.deploy_hello("one").await;
    let called = world.ask("POST", "/v1/functions/hello/invocations?async=true", "{}").await;
    let id = called.json()["id"].as_str().unwrap().to_owned();
    let stranger = key(&world, "bank", None, "owner").await;
    for operation in operations().iter().filter(|operation| !operation.is_open()) {
        let (method, path) = (&operation.method, operation.path.as_str());
        if HARMLESS.contains(&path) && method == "GET" {
            continue;
        }
        let uri = operation.uri().replace("run-1", &id);
        let reply = world.ask_as(&stranger, method, &uri, operation.body()).await;
        assert!([403, 404].contains(&reply.status.as_u16()), "{method} {uri}: {reply:?}");
        assert!(["forbidden", "not_found"].contains(&reply.error().1.as_str()), "{method} {uri}: {reply:?}");
    }
    assert_eq!(world.get("/v1/functions/hello").await.status, 200, "nothing has happened to it");
    assert_eq!(world.ask_as(&stranger, "GET", "/v1/namespaces", "").await.json()["namespaces"], json!([]));
}

#[tokio::test]
async fn who_only_looks_changes_nothing() {
    let world = World::new().await;
    world.deploy_hello("one").await;
    let viewer = key(&world, "default", None, "viewer").await;
    for operation in operations().iter().filter(|operation| operation.method != "GET" && !operation.is_open())
    {
        let reply = world.ask_as(&viewer, &operation.method, &operation.uri(), operation.body()).await;
        let (status, uri) = (reply.status.as_u16(), operation.uri());
        assert!([403, 404].contains(&status), "{} {uri}: {reply:?}", operation.method);
    }
    for uri in
        ["/v1/functions", "/v1/functions/hello", "/v1/runs", "/v1/queue?namespace=default", "/v1/members"]
    {
        assert_eq!(world.ask_as(&viewer, "GET", uri, "").await.status, 200, "{uri}");
    }
    for uri in ["/v1/queue", "/metrics", "/v1/keys", "/v1/audit", "/v1/signing-key", "/v1/users"] {
        assert_eq!(world.ask_as(&viewer, "GET", uri, "").await.status, 403, "{uri}");
    }
    let queue = world.ask_as(&viewer, "GET", "/v1/queue?namespace=default", "").await.json();
    assert_eq!(queue.get("totals"), None, "the totals are those of everybody");
}

#[tokio::test]
async fn roles_do_what_they_are_for() {
    let world = World::new().await;
    world.deploy_hello("one").await;
    let developer = key(&world, "default", None, "developer").await;
    let operator = key(&world, "default", None, "operator").await;
    let pause = json!({"flow": "paused", "function": "hello"}).to_string();
    let everything = json!({"flow": "paused"}).to_string();
    let status = async |token: &str, method: &str, uri: &str, body: &str| {
        world.ask_as(token, method, uri, body.to_owned()).await.status.as_u16()
    };
    assert_eq!(status(&developer, "POST", "/v1/functions/hello/invocations", "{}").await, 200);
    assert_eq!(status(&developer, "POST", "/v1/queue/flow", &pause).await, 403);
    assert_eq!(status(&operator, "POST", "/v1/queue/flow", &pause).await, 200);
    assert_eq!(status(&operator, "POST", "/v1/queue/flow", &everything).await, 403);
    assert_eq!(status(&operator, "DELETE", "/v1/functions/hello", "").await, 403);
    assert_eq!(status(&developer, "DELETE", "/v1/functions/hello", "").await, 204);
}

#[tokio::test]
async fn a_namespace_that_is_named_twice_is_refused() {
    let world = World::new().await;
    let viewer = key(&world, "default", None, "viewer").await;
    for uri in
        ["/v1/functions?namespace=default&namespace=bank", "/v1/functions?namespace=bank&namespace=default"]
    {
        let reply = world.ask_as(&viewer, "GET", uri, "").await;
        assert!([400, 403].contains(&reply.status.as_u16()), "{uri}: {reply:?}");
    }
    let encoded = world.ask_as(&viewer, "GET", "/v1/functions/%68ello", "").await;
    assert_eq!(encoded.status, 400, "{encoded:?}");
}

#[tokio::test]
async fn people_have_keys_of_their_own_and_roles_that_owners_give() {
    let world = World::new().await;
    assert_eq!(world.ask("PUT", "/v1/users/anna", r#"{"email": "anna@example.com"}"#).await.status, 201);
    let made = world.ask("POST", "/v1/keys", r#"{"name": "laptop", "user": "anna"}"#).await;
    let (anna, id) = (made.json()["key"].as_str().unwrap().to_owned(), made.json()["id"].clone());
    let me = world.ask_as(&anna, "GET", "/v1/whoami", "").await.json();
    assert_eq!(me, json!({"name": "user:anna", "is_administrator": false, "grants": []}));
    assert_eq!(world.ask_as(&anna, "GET", "/v1/functions", "").await.status, 403);

    let owner = key(&world, "default", None, "owner").await;
    assert_eq!(world.ask_as(&owner, "PUT", "/v1/members/anna/viewer", "").await.status, 204);
    assert_eq!(world.ask_as(&owner, "PUT", "/v1/members/anna/viewer?namespace=bank", "").await.status, 403);
    assert_eq!(world.ask_as(&anna, "GET", "/v1/functions", "").await.status, 200);
    assert_eq!(world.ask_as(&anna, "PUT", "/v1/members/anna/owner", "").await.status, 403);
    let members = world.ask_as(&anna, "GET", "/v1/members", "").await.json();
    assert_eq!(members["users"][0]["grants"], json!([{"namespace": "default", "role": "viewer"}]));

    // Her keys are hers: the owner of the namespace sees none of them.
    assert_eq!(world.ask_as(&owner, "GET", "/v1/keys?user=anna", "").await.status, 403);
    let uri = format!("/v1/keys/{}", id.as_str().unwrap());
    assert_eq!(world.ask_as(&owner, "DELETE", &uri, "").await.status, 404);
    let rotated = world.ask_as(&anna, "POST", &format!("{uri}/rotate"), "").await;
    assert_eq!(world.ask_as(&anna, "GET", "/v1/whoami", "").await.status, 401, "the old secret is over");
    let anna = rotated.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(world.ask_as(&anna, "DELETE", &uri, "").await.status, 204);
    assert_eq!(world.ask_as(&anna, "GET", "/v1/whoami", "").await.status, 401);
}

#[tokio::test]
async fn whoever_has_a_role_in_an_app_deploys_to_functions_of_that_app() {
    let world = World::new().await;
    world.deploy_hello("one").await;
    let of_cart = key(&world, "default", Some("cart"), "developer").await;
    let of_till = key(&world, "default", Some("till"), "developer").await;
    let viewer = key(&world, "default", Some("cart"), "viewer").await;
    let deploy = async |token: &str, name: &str, app: &str| {
        let overrides = if app.is_empty() { "{}".to_owned() } else { format!(r#"{{"app":"{app}"}}"#) };
        let overrides = overrides.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        let uri = format!("/v1/deploy?file=x.sh&name={name}&overrides={overrides}");
        let reply = world.ask_as(token, "POST", &uri, "#!/bin/sh\necho x\n").await;
        match reply.status.as_u16() {
            200 => reply.lines().last().unwrap()["event"].as_str().unwrap().to_owned(),
            status => status.to_string(),
        }
    };
    assert_eq!(deploy(&of_cart, "basket", "cart").await, "deployed");
    assert_eq!(deploy(&of_cart, "basket", "till").await, "failed", "it does not move to another app");
    assert_eq!(deploy(&of_cart, "basket", "").await, "failed", "nor to none");
    assert_eq!(deploy(&of_till, "basket", "till").await, "failed", "nobody takes it over");
    assert_eq!(deploy(&of_cart, "hello", "cart").await, "failed", "which is of no app");
    assert_eq!(deploy(&of_cart, "other", "till").await, "failed");
    assert_eq!(deploy(&viewer, "basket", "cart").await, "403");
    let basket = world.get("/v1/functions/basket").await.json();
    assert_eq!(basket["function"]["latest"], 1, "{basket}");
    assert_eq!(world.get("/v1/functions/other").await.status, 404);
}

#[tokio::test]
async fn a_namespace_says_who_may_call_and_the_record_says_what_it_was() {
    let world = World::new().await;
    let owner = key(&world, "shop", None, "owner").await;
    let developer = key(&world, "shop", None, "developer").await;
    let uri = "/v1/access?namespace=shop";
    let public = world.ask_as(&developer, "GET", uri, "").await.json();
    assert_eq!(public, json!({"in_force": "public"}));
    let namespace = r#"{"default": "namespace"}"#;
    assert_eq!(world.ask_as(&developer, "PUT", uri, namespace).await.status, 403);
    let set = world.ask_as(&owner, "PUT", uri, namespace).await.json();
    assert_eq!(set, json!({"default": "namespace", "in_force": "namespace"}));
    for wrong in [r#"{"default": "everyone"}"#, r#"{"default": []}"#, r#"{"default": 7}"#] {
        assert_eq!(world.ask_as(&owner, "PUT", uri, wrong).await.status, 400, "{wrong}");
    }
    let hs256 = json!({"jwt": [{"issuer": "a", "audience": ["b"], "keys": [{"kty": "oct",
        "k": "dGhpcnR5LXR3byBjaGFyYWN0ZXJzIG9mIGEgc2VjcmV0IQ"}]}]});
    let body = json!({ "default": hs256 }).to_string();
    assert_eq!(world.ask_as(&owner, "PUT", uri, body).await.status, 200);
    let audit = world.ask_as(&owner, "GET", "/v1/audit?namespace=shop", "").await;
    let text = audit.json().to_string();
    assert!(!text.contains("dGhpcnR5"), "{text}");
    let entries = audit.json();
    let first =
        entries["entries"].as_array().unwrap().iter().rfind(|entry| entry["action"] == "access.default");
    let first = first.unwrap();
    assert_eq!((&first["before"], &first["after"]), (&json!(null), &json!({"default": "namespace"})));
    let whole = world.ask_as(&owner, "GET", "/v1/audit/verification?namespace=shop", "").await.json();
    assert_eq!(whole["is_whole"], true, "{whole}");
}
