//! Calls that nobody waits for, from the request to the result or the dead letter.

use std::sync::Arc;

use alula_model::{ErrorCode, Fault};
use alula_runtime::fake::Does;
use serde_json::{Value, json};

use super::world::{Reply, World, read, with_token};

const INVOKE: &str = "/v1/functions/hello/invocations";

async fn hello() -> World {
    let world = World::new().await;
    world.deploy_hello("one").await;
    world
}

/// A function that fails for good at its first attempt.
async fn failing() -> World {
    let world = World::new().await;
    let overrides = "overrides=%7B%22async%22%3A%7B%22retry%22%3A%22none%22%7D%7D";
    let uri = format!("/v1/deploy?file=hello.sh&{overrides}");
    let reply = world.ask("POST", &uri, "#!/bin/sh\n").await;
    assert_eq!(reply.lines().last().unwrap()["event"], "deployed", "{:?}", reply.lines());
    fails(&world);
    world
}

fn fails(world: &World) {
    let fault = || Fault::new(ErrorCode::HandlerError, "the handler raised an error");
    world.backend.change(|script| script.handler = Arc::new(move |_| Does::Fails(fault())));
}

fn answers(world: &World, text: &'static str) {
    world.backend.change(|script| script.handler = Arc::new(move |_| Does::answers(text)));
}

async fn post(world: &World, uri: &str, headers: &[(&'static str, &'static str)]) -> Reply {
    let mut request = with_token("POST", uri, "{}");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    read(world.send(request).await).await
}

/// Hands a call in and gives its id.
async fn accepted(world: &World, headers: &[(&'static str, &'static str)]) -> String {
    let reply = post(world, &format!("{INVOKE}?async=true"), headers).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    reply.json()["id"].as_str().unwrap().to_owned()
}

async fn ended(world: &World, id: &str) -> Value {
    let call = world.get(&format!("/v1/invocations/{id}/wait?timeout_ms=60000")).await.json();
    assert!(call["finished_at_ms"].is_i64(), "{call}");
    call
}

#[tokio::test]
async fn an_accepted_call_can_be_waited_for_and_its_result_fetched() {
    let world = hello().await;
    answers(&world, "\"done\"");
    let reply =
        post(&world, INVOKE, &[("prefer", "respond-async"), ("content-type", "application/json")]).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["preference-applied"]),
        (202, &"respond-async".parse().unwrap())
    );
    let accepted = reply.json();
    let id = accepted["id"].as_str().unwrap();
    assert_eq!(reply.headers["x-alula-invocation-id"], id);
    assert_eq!(accepted["status"], format!("/v1/invocations/{id}"));

    let call = ended(&world, id).await;
    assert_eq!(
        (&call["state"], &call["attempts"], &call["http_status"]),
        (&json!("done"), &json!(1), &json!(200))
    );
    assert_eq!(call["runs"][0]["trigger"], "api");
    let result = world.get(&format!("/v1/invocations/{id}/result")).await;
    assert_eq!((result.status.as_u16(), &result.body[..]), (200, &b"\"done\""[..]));
    assert_eq!(result.headers["x-alula-function-status"], "200");
}

#[tokio::test]
async fn the_same_call_under_the_same_key_is_accepted_once() {
    let world = hello().await;
    let key = [("idempotency-key", "order-7")];
    let uri = format!("{INVOKE}?async=true");
    let (first, second) = (post(&world, &uri, &key).await.json(), post(&world, &uri, &key).await.json());
    assert_eq!((&first["id"], &first["repeated"]), (&second["id"], &json!(false)));
    assert_eq!(second["repeated"], true);
}

#[tokio::test]
async fn what_cannot_be_accepted_is_refused_at_once() {
    let world = hello().await;
    let code = async |uri: &str, headers: &[(&'static str, &'static str)]| {
        post(&world, uri, headers).await.error().1
    };
    let uri = format!("{INVOKE}?async=true");
    assert_eq!(code("/v1/functions/other/invocations?async=true", &[]).await, "function_not_found");
    assert_eq!(code(&format!("{uri}&qualifier=live"), &[]).await, "alias_not_found");
    assert_eq!(code(&uri, &[("x-alula-at", "tomorrow")]).await, "invalid_request");
    assert_eq!(code(&uri, &[("x-callback-url", "ftp://a")]).await, "invalid_request");
    assert_eq!(code(&format!("{uri}&log=tail"), &[]).await, "invalid_request");
    assert_eq!(world.get("/v1/queue").await.json()["totals"]["accepted"], 0);
}

#[tokio::test]
async fn a_call_that_waits_is_cancelled_and_then_has_ended() {
    let world = hello().await;
    let id = accepted(&world, &[("x-alula-delay-ms", "3600000")]).await;
    let call = world.get(&format!("/v1/invocations/{id}")).await.json();
    assert_eq!((&call["state"], call["available_at_ms"].is_i64()), (&json!("waiting"), true));
    assert_eq!(world.get(&format!("/v1/invocations/{id}/result")).await.error().1, "conflict");
    assert_eq!(&world.get(&format!("/v1/invocations/{id}/content")).await.body[..], b"{}");
    let uri = format!("/v1/invocations/{id}");
    assert_eq!(world.ask("DELETE", &uri, "").await.json()["state"], "cancelled");
    assert_eq!(world.ask("DELETE", &uri, "").await.error().1, "conflict");
    assert_eq!(world.get(&uri).await.json()["state"], "cancelled");
    let audit = world.get("/v1/audit?function=hello&limit=1").await.json();
    assert_eq!(
        (&audit["entries"][0]["action"], &audit["entries"][0]["detail"]),
        (&json!("call.cancel"), &json!(id))
    );
}

#[tokio::test]
async fn a_call_that_somebody_waited_for_is_found_by_its_run() {
    let world = hello().await;
    answers(&world, "hi");
    let reply = world.ask("POST", INVOKE, "").await;
    let id = reply.headers["x-alula-invocation-id"].to_str().unwrap();
    let call = world.get(&format!("/v1/invocations/{id}")).await.json();
    assert_eq!((&call["state"], &call["runs"][0]["id"]), (&json!("done"), &json!(id)));
    assert!(call.get("accepted_at_ms").is_none());
    assert_eq!(world.get("/v1/invocations/unknown").await.error().1, "not_found");
    assert_eq!(world.get("/v1/invocations/b%C3%A4d/wait").await.error().1, "not_found");
    assert_eq!(world.get("/v1/invocations/x/wait?timeout_ms=300001").await.error().1, "invalid_request");
}

#[tokio::test]
async fn a_dead_letter_tells_its_attempts_and_runs_again_once_the_cause_is_gone() {
    let world = failing().await;
    let id = accepted(&world, &[]).await;
    let call = ended(&world, &id).await;
    assert_eq!((&call["state"], &call["failures"][0]["error"]), (&json!("dead"), &json!("handler_error")));
    let page = world.get("/v1/dead-letters?function=hello").await.json();
    assert_eq!((&page["letters"][0]["id"], &page["letters"][0]["content_bytes"]), (&json!(id), &json!(2)));
    let letter = world.get(&format!("/v1/dead-letters/{id}")).await.json();
    assert_eq!(letter["failures"][0]["message"], "the handler raised an error");
    assert_eq!(letter["logs"], json!([]));

    answers(&world, "ok");
    assert_eq!(world.ask("POST", &format!("/v1/dead-letters/{id}/redrive"), "").await.status, 204);
    assert_eq!(ended(&world, &id).await["state"], "done");
    assert_eq!(world.get(&format!("/v1/dead-letters/{id}")).await.error().1, "not_found");
    let audit = world.get("/v1/audit?function=hello&limit=1").await.json();
    assert_eq!(audit["entries"][0]["action"], "dead_letter.redrive");
}

#[tokio::test]
async fn dead_letters_come_in_pages_and_go_in_bulk() {
    let world = failing().await;
    for _ in 0..5 {
        let id = accepted(&world, &[]).await;
        ended(&world, &id).await;
    }
    let first = world.get("/v1/dead-letters?limit=3").await.json();
    assert_eq!(first["letters"].as_array().unwrap().len(), 3);
    let next = first["next"].as_str().unwrap();
    let second = world.get(&format!("/v1/dead-letters?limit=3&cursor={next}")).await.json();
    assert_eq!((second["letters"].as_array().unwrap().len(), second.get("next")), (2, None));
    assert_eq!(world.get("/v1/dead-letters?cursor=x").await.error().1, "invalid_request");
    assert_eq!(world.get("/v1/dead-letters?search=nothing").await.json()["letters"], json!([]));
    assert_eq!(world.get("/v1/dead-letters?namespace=shop").await.json()["letters"], json!([]));

    let id = first["letters"][0]["id"].as_str().unwrap();
    assert_eq!(world.ask("DELETE", &format!("/v1/dead-letters/{id}"), "").await.status, 204);
    let bulk = async |what: &str, body: &str| {
        world.ask("POST", &format!("/v1/dead-letters/{what}"), body.to_owned()).await
    };
    assert_eq!(bulk("purge", "").await.error().1, "invalid_request", "all must be said");
    assert_eq!(bulk("redrive", r#"{"which": {}, "per_second": 0}"#).await.error().1, "invalid_request");
    assert_eq!(bulk("purge", r#"{"which": {"search": "nothing"}}"#).await.json()["count"], 0);
    answers(&world, "ok");
    assert_eq!(bulk("redrive", r#"{"which": {"function": "hello"}}"#).await.json()["count"], 4);
    assert_eq!(bulk("purge", r#"{"which": {}}"#).await.json()["count"], 0);
    let totals = world.get("/v1/queue").await.json()["totals"].clone();
    assert_eq!(
        (&totals["accepted"], &totals["purged"], &totals["imbalance"]),
        (&json!(5), &json!(1), &json!(0))
    );
}

#[tokio::test]
async fn the_queue_is_shown_paused_drained_and_opened() {
    let world = hello().await;
    let flow = async |body: Value| world.ask("POST", "/v1/queue/flow", body.to_string()).await;
    let paused = flow(json!({"flow": "paused", "function": "hello"})).await.json();
    assert_eq!(paused, json!({"flow": "paused", "namespace": "default", "function": "hello"}));
    let id = accepted(&world, &[]).await;
    let waiting = world.get(&format!("/v1/invocations/{id}/wait?timeout_ms=0")).await.json();
    assert_eq!(waiting["state"], "waiting");
    let queue = world.get("/v1/queue?function=hello").await.json();
    let lane = &queue["lanes"][0];
    assert_eq!((&lane["class"], &lane["available"]), (&json!("general"), &json!(1)));
    assert_eq!(queue["flows"], json!([paused]));
    assert_eq!(world.get("/v1/queue?namespace=shop").await.json()["lanes"], json!([]));

    flow(json!({"flow": "draining", "function": "hello"})).await;
    let refused = post(&world, &format!("{INVOKE}?async=true"), &[]).await;
    assert_eq!((refused.status.as_u16(), refused.error().1.as_str()), (503, "draining"));
    assert_eq!(ended(&world, &id).await["state"], "done", "what is there runs");
    flow(json!({"flow": "open", "namespace": "default", "function": "hello"})).await;
    assert_eq!(world.get("/v1/queue").await.json()["flows"], json!([]));
    accepted(&world, &[]).await;

    assert_eq!(flow(json!({"flow": "paused", "function": "other"})).await.error().1, "function_not_found");
    assert_eq!(flow(json!({"flow": "open", "function": "other"})).await.status, 200);
    assert_eq!(flow(json!({"flow": "paused"})).await.json(), json!({"flow": "paused"}));
    let audit = world.get("/v1/audit?limit=1").await.json();
    assert_eq!(
        (&audit["entries"][0]["action"], &audit["entries"][0]["actor"]),
        (&json!("queue.pause"), &json!("tester"))
    );
}
