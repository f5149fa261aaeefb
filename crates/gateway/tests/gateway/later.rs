//! Requests that ask for a call to be made later.

use http::Method;

use crate::support::{Gateway, LATER_BODY_BYTES_MAX, post};

#[tokio::test]
async fn the_path_or_the_preference_asks_for_it() {
    let gateway = Gateway::echo().await;
    for request in [
        post("/async-function/hello.shop:live/a?b", "", "body"),
        post("/function/hello/a", "Prefer: wait=5, respond-async\r\n", "body"),
        post("/users/7", "Prefer: respond-async\r\n", "body"),
    ] {
        let answer = gateway.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
        for header in ["x-alula-invocation-id: ", "x-call-id: ", "preference-applied: respond-async"] {
            assert!(answer.contains(header), "{answer}");
        }
        assert!(answer.contains("\"status\":\"/v1/invocations/"), "{answer}");
    }
    let kept = gateway.later.0.lock().unwrap();
    let told: Vec<_> = kept.iter().map(|deferred| format!("{} {}", deferred.target, deferred.uri)).collect();
    assert_eq!(told, ["hello.shop:live /a?b", "hello.default:latest /a", "users.shop:live /users/7"]);
    assert!(kept.iter().all(|deferred| deferred.method == Method::POST && &deferred.body[..] == b"body"));
}

#[tokio::test]
async fn wishes_are_the_platforms_to_read() {
    let gateway = Gateway::echo().await;
    let headers =
        "Idempotency-Key: k\r\nX-Callback-Url: https://a.test/\r\nX-Alula-Ordering-Key: o\r\nX-Own: kept\r\n";
    let answer = gateway.exchange(post("/async-function/hello", headers, "{}")).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let kept = gateway.later.0.lock().unwrap();
    let deferred = kept.first().unwrap();
    assert_eq!(deferred.idempotency_key.as_deref(), Some("k"));
    assert_eq!(deferred.ordering_key.as_deref(), Some("o"));
    assert_eq!(deferred.callback.as_ref().map(|callback| callback.url.as_str()), Some("https://a.test/"));
    assert!(deferred.headers.contains_key("x-own") && !deferred.headers.contains_key("idempotency-key"));
}

#[tokio::test]
async fn what_cannot_be_accepted_is_refused_with_its_own_status() {
    let gateway = Gateway::echo().await;
    let refused = async |path: &str, headers: &str, body: &str| {
        let answer = gateway.exchange(post(path, headers, body)).await;
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let large = "x".repeat(LATER_BODY_BYTES_MAX as usize + 1);
    assert_eq!(refused("/async-function/nobody", "", "{}").await, "404");
    assert_eq!(refused("/async-function/Bad", "", "{}").await, "400");
    assert_eq!(refused("/async-function/hello", "X-Alula-Delay-Ms: soon\r\n", "{}").await, "400");
    assert_eq!(refused("/async-function/hello", "", &large).await, "413");
}
