//! Bad input of every kind, and what the client is told.

use super::world::World;

/// Sends a request and compares the status, the code and a part of the message.
async fn check(world: &World, request: (&str, &str, &str), expect: (u16, &str, &str)) {
    let (method, uri, body) = request;
    let (status, code, message) = world.ask(method, uri, body.to_owned()).await.error();
    assert_eq!((status, code.as_str()), (expect.0, expect.1), "{method} {uri}: {message}");
    assert!(message.contains(expect.2), "{method} {uri}: {message}");
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let world = World::new().await;
    let invalid = "invalid_request";
    for (uri, expect) in [
        ("/v1/functions/UPPER", "name \"UPPER\" is not allowed"),
        ("/v1/functions/a%2Fb", "is not allowed"),
        ("/v1/functions?namespace=..", "namespace: name \"..\""),
        ("/v1/functions?limit=0", "limit: 0 is out of bounds, allowed is 1 to 1000"),
        ("/v1/functions?limit=1001", "limit: 1001"),
        ("/v1/functions?limit=many", "limit"),
        ("/v1/functions?limit=1&limit=2", "duplicate field `limit`"),
        ("/v1/functions?cursor=A", "cursor"),
        ("/v1/runs?cursor=", "cursor"),
        ("/v1/runs?cursor=x", "cursor"),
        ("/v1/runs?status=odd", "unknown variant `odd`"),
        ("/v1/runs?since_ms=now", "since_ms"),
        ("/v1/logs?invocation=a%20b", "invocation"),
        ("/v1/logs?limit=10001", "allowed is 1 to 10000"),
        ("/v1/functions/hello/versions/1.0", "version"),
        ("/v1/functions/hello/diff?from=A", "from"),
    ] {
        check(&world, ("GET", uri, ""), (400, invalid, expect)).await;
    }
}

#[tokio::test]
async fn bad_bodies_are_explained() {
    let world = World::new().await;
    world.deploy_hello("one").await;
    let rollback = "/v1/functions/hello/rollback";
    let invalid = "invalid_request";
    check(&world, ("POST", rollback, "{"), (400, invalid, "body: EOF while parsing")).await;
    check(&world, ("POST", rollback, "\u{0}\u{1}"), (400, invalid, "body: a JSON object is expected")).await;
    check(&world, ("POST", rollback, "[]"), (400, invalid, "body: a JSON object is expected")).await;
    check(&world, ("POST", rollback, r#"{"to": -1}"#), (400, invalid, "body: invalid value")).await;
    check(&world, ("POST", rollback, r#"{"too": 1}"#), (400, invalid, "unknown field `too`")).await;
    check(&world, ("PUT", "/v1/functions/hello/aliases/live", ""), (400, invalid, "missing field `version`"))
        .await;
    let huge = format!("{{\"to\": {}1}}", " ".repeat(70_000));
    let reply = world.ask("POST", rollback, huge).await;
    assert_eq!(reply.status, 413);
    assert_eq!(reply.json()["error"]["limit"]["name"], "json_bytes_max");
    assert_eq!(reply.json()["error"]["limit"]["value"], 65_536);
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let world = World::new().await;
    world.deploy_hello("one").await;
    for (method, uri, code) in [
        ("GET", "/v1/functions/other", "function_not_found"),
        ("GET", "/v1/functions/hello?namespace=shop", "function_not_found"),
        ("DELETE", "/v1/functions/other", "function_not_found"),
        ("GET", "/v1/functions/hello/versions/7", "version_not_found"),
        ("GET", "/v1/functions/hello/versions/live/package", "alias_not_found"),
        ("DELETE", "/v1/functions/hello/aliases/live", "alias_not_found"),
        ("POST", "/v1/functions/other/invocations", "function_not_found"),
        ("GET", "/v1/runs/unknown", "not_found"),
        ("GET", "/v1/runs/b%C3%A4d", "not_found"),
        ("GET", "/v1/nothing", "not_found"),
    ] {
        check(&world, (method, uri, ""), (404, code, "")).await;
    }
    check(&world, ("PATCH", "/v1/functions", ""), (405, "method_not_allowed", "")).await;
}

#[tokio::test]
async fn an_error_has_the_shape_of_the_platform() {
    let world = World::new().await;
    let reply = world.get("/v1/functions/other").await;
    let expect = serde_json::json!({"error": {
        "code": "function_not_found",
        "message": "no function other in namespace default",
        "blame": "caller",
        "retryable": false,
        "help": "docs/errors/function_not_found.md",
    }});
    assert_eq!(reply.json(), expect);
    assert_eq!(reply.headers["content-type"], "application/json");
}

#[tokio::test]
async fn a_platform_that_shuts_down_is_alive_but_not_ready() {
    let world = World::new().await;
    assert_eq!(world.get("/readyz").await.status, 200);
    world.draining.cancel();
    assert_eq!(world.get("/livez").await.status, 200);
    check(&world, ("GET", "/readyz", ""), (503, "draining", "")).await;
}
