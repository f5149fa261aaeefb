//! Limits, and blocking and throttling at once.

use serde_json::{Value, json};

use super::access::key;
use super::world::World;

const CALL: &str = "/v1/functions/hello/invocations";

async fn protect(world: &World, token: Option<&str>, body: Value) -> (u16, Value) {
    let reply = match token {
        Some(token) => world.ask_as(token, "POST", "/v1/protections", body.to_string()).await,
        None => world.ask("POST", "/v1/protections", body.to_string()).await,
    };
    (reply.status.as_u16(), reply.json())
}

#[tokio::test]
async fn a_block_is_in_force_when_the_answer_comes_and_is_listed_counted_and_lifted() {
    let world = World::new().await;
    world.deploy_hello("one").await;
    let body = json!({"subject": "function/default/hello", "reason": "it floods", "for_ms": 60_000});
    let (status, made) = protect(&world, None, body).await;
    assert_eq!(status, 201, "{made}");
    let refused = world.ask("POST", CALL, "{}").await;
    assert_eq!((refused.status.as_u16(), refused.error().1.as_str()), (403, "blocked"));
    assert!(refused.error().2.contains("it floods"));
    let later = world.ask("POST", &format!("{CALL}?async=true"), "{}").await;
    assert_eq!(later.status, 403, "nor is it accepted for later");
    let list = world.get("/v1/protections").await.json();
    assert_eq!(list["protections"][0]["refused"], 2);
    assert_eq!(list["protections"][0]["by"], made["by"]);
    let uri = format!("/v1/protections/{}", made["id"].as_str().unwrap());
    assert_eq!(world.ask("DELETE", &uri, "").await.status, 204);
    assert_eq!(world.ask("POST", CALL, "{}").await.status, 200);
    let audit = world.get("/v1/audit").await.json().to_string();
    assert!(audit.contains("protection.block") && audit.contains("protection.lift"), "{audit}");
}

#[tokio::test]
async fn who_operates_a_namespace_protects_what_is_in_it_and_nothing_else() {
    let world = World::new().await;
    world.deploy_hello("one").await;
    let operator = key(&world, "default", None, "operator").await;
    let developer = key(&world, "default", None, "developer").await;
    let block =
        |subject: &str, within: Option<&str>| json!({"subject": subject, "within": within, "reason": "why"});
    let status = async |token: &str, body: Value| protect(&world, Some(token), body).await.0;
    assert_eq!(status(&operator, block("function/default/hello", None)).await, 201);
    assert_eq!(status(&operator, block("caller/key:bot", Some("default"))).await, 201);
    assert_eq!(status(&operator, block("source/192.0.2.0/24", Some("default"))).await, 201);
    for body in [
        block("function/bank/hello", None),
        block("namespace/default", None),
        block("caller/key:bot", None),
        block("caller/key:bot", Some("bank")),
        block("source/192.0.2.0/24", None),
    ] {
        assert_eq!(status(&operator, body.clone()).await, 403, "{body}");
    }
    assert_eq!(status(&developer, block("function/default/hello", None)).await, 403);
    // Operators of a namespace see what is in it, and not what is for all.
    let (_, for_all) = protect(&world, None, block("source/198.51.100.0/24", None)).await;
    let seen = world.ask_as(&operator, "GET", "/v1/protections?namespace=default", "").await.json();
    assert_eq!(seen["protections"].as_array().unwrap().len(), 3);
    assert_eq!(world.ask_as(&operator, "GET", "/v1/protections", "").await.status, 403);
    let uri = format!("/v1/protections/{}", for_all["id"].as_str().unwrap());
    assert_eq!(world.ask_as(&operator, "DELETE", &uri, "").await.status, 404);
    let own = seen["protections"][0]["id"].as_str().unwrap();
    let uri = format!("/v1/protections/{own}");
    assert_eq!(world.ask_as(&developer, "DELETE", &uri, "").await.status, 403);
    assert_eq!(world.ask_as(&operator, "DELETE", &uri, "").await.status, 204);
}

#[tokio::test]
async fn limits_are_set_listed_and_taken_back() {
    let world = World::new().await;
    world.deploy_hello("one").await;
    let set = json!({"target": "function/default/hello", "limit": {"requests_per_second": 1}});
    assert_eq!(world.ask("PUT", "/v1/limits", set.to_string()).await.status, 200);
    let statuses = [world.ask("POST", CALL, "{}").await, world.ask("POST", CALL, "{}").await];
    let refused = statuses.iter().find(|reply| reply.status == 429).unwrap();
    assert_eq!(refused.error().1, "rate_limited");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.headers["ratelimit-policy"], "\"function.requests_per_second\";q=1;w=1");
    assert_eq!(refused.headers["ratelimit"], "\"function.requests_per_second\";r=0;t=1");
    let listed = world.get("/v1/limits?namespace=default").await.json();
    assert_eq!(listed["limits"][0]["target"], "function/default/hello");
    assert_eq!(listed["limits"][0]["is_set"], true);
    let all = world.get("/v1/limits").await.json();
    assert!(all["limits"].as_array().unwrap().iter().any(|limit| limit["target"] == "node"));
    let uri = "/v1/limits?target=function/default/hello";
    assert_eq!(world.ask("DELETE", uri, "").await.status, 204);
    assert_eq!(world.ask("DELETE", uri, "").await.status, 404);
    assert_eq!(world.ask("POST", CALL, "{}").await.status, 200);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name() {
    let world = World::new().await;
    for (body, part) in [
        (json!({"subject": "node", "reason": "why"}), "subject"),
        (json!({"subject": "namespace/default", "within": "default", "reason": "why"}), "within"),
        (json!({"subject": "namespace/default", "reason": ""}), "reason"),
        (json!({"subject": "namespace/default", "reason": "why", "for_ms": 0}), "for_ms"),
        (json!({"subject": "namespace/default", "reason": "why", "throttle": {}}), "throttle"),
        (json!({"subject": "namespace/default", "reason": "why", "throttle": {"in_flight": 0}}), "in_flight"),
    ] {
        let (status, answer) = protect(&world, None, body.clone()).await;
        assert_eq!(status, 400, "{body}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(part), "{body}: {answer}");
    }
    for body in [json!({"target": "nodes", "limit": {"in_flight": 1}}), json!({"target": "node"})] {
        assert_eq!(world.ask("PUT", "/v1/limits", body.to_string()).await.status, 400, "{body}");
    }
}
