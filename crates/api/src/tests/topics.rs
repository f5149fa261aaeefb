//! Topics as clients see them.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use super::world::{World, read, with_token};

/// Deploys `hello`, which listens to `orders` where the total is over ten.
async fn listen(world: &World) {
    let trigger = json!({
        "name": "big", "kind": "topic", "topic": "orders", "filter": {"data": {"total": [{"numeric": [">", 10]}]}},
    });
    let overrides = json!({ "triggers": [trigger] }).to_string();
    let overrides: String = overrides.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let uri = format!("/v1/deploy?file=hello.sh&overrides={overrides}");
    let reply = world.ask("POST", &uri, "#!/bin/sh\necho hello\n").await;
    assert_eq!(reply.lines().last().unwrap()["event"], "deployed", "{:?}", reply.lines());
}

async fn publish(world: &World, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
    let mut request: Request<Body> = with_token("POST", "/v1/topics/orders/events", body.to_string());
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(http::HeaderName::try_from(*name).unwrap(), http::HeaderValue::try_from(*value).unwrap());
    }
    let reply = read(world.send(request).await).await;
    (reply.status.as_u16(), reply.json())
}

#[tokio::test]
async fn events_are_published_once_listed_and_replayed() {
    let world = World::new().await;
    listen(&world).await;
    let (status, answer) = publish(&world, &[("idempotency-key", "k")], &json!({"total": 11})).await;
    assert_eq!((status, &answer), (202, &json!({"events": [{"id": "k", "calls": 1, "repeated": false}]})));
    let (_, again) = publish(&world, &[("idempotency-key", "k")], &json!({"total": 11})).await;
    assert_eq!(again["events"][0]["repeated"], true);
    let (_, small) = publish(&world, &[], &json!({"total": 1})).await;
    assert_eq!(small["events"][0]["calls"], 0);

    let topics = world.get("/v1/topics").await.json();
    assert_eq!(topics["topics"][0]["name"], "orders");
    assert_eq!(topics["topics"][0]["subscriptions"][0]["trigger"], "big");

    let replay = json!({"since_ms": 0}).to_string();
    let mut request = with_token("POST", "/v1/topics/orders/replay", replay);
    request.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    let done = read(world.send(request).await).await.json();
    assert_eq!((&done["events"], &done["calls"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn what_cannot_be_published_is_refused() {
    let world = World::new().await;
    let structured = [("content-type", "application/cloudevents+json")];
    let (status, answer) = publish(&world, &structured, &json!({"id": "1"})).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("invalid_request")), "{answer}");
    let (status, _) = publish(&world, &[], &json!("x".repeat(300_000))).await;
    assert_eq!(status, 413);
    let (status, _) = publish(&world, &[], &json!("x".repeat(7_000_000))).await;
    assert_eq!(status, 413);
    assert_eq!(world.ask("POST", "/v1/topics/Orders/events", "{}").await.status.as_u16(), 400);
}
