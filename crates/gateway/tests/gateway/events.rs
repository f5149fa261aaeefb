//! Topics, webhooks and CloudEvents at the edge.

use alula_gateway::Options;
use alula_invoke::LineageSeal;
use alula_invoke::cloudevents::STRUCTURED;
use alula_runtime::{Answer, Body};
use alula_trigger::topic::NamedBy;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{Gateway, SECRET, outcome, post};

const BINARY: &str = "ce-specversion: 1.0\r\nce-id: 7\r\nce-source: /shop\r\nce-type: order.placed\r\n\
                      content-type: application/json\r\n";

fn structured(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "order.placed", "data": {"total": 7}})
}

fn content_type(media_type: &str) -> String {
    format!("content-type: {media_type}\r\n")
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

/// A gateway whose function answers with the content that it got, and says whether that was an event.
async fn mirror() -> Gateway {
    Gateway::start(Options::default(), |invocation| async move {
        let is_event = invocation.is_event.to_string();
        let mut headers = HeaderMap::new();
        headers.insert("x-is-event", HeaderValue::try_from(is_event).unwrap());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(sent) = invocation.headers.get(header::CONTENT_TYPE) {
            headers.insert("x-sent-type", sent.clone());
        }
        let body = invocation.body.collect(100_000).await.unwrap();
        Ok(outcome(Answer::new(StatusCode::OK, headers, Body::full(body))))
    })
    .await
}

#[tokio::test]
async fn a_function_sees_an_event_in_the_structured_form_however_it_was_sent() {
    let gateway = mirror().await;
    let whole = structured("7").to_string();
    for (headers, body) in [(BINARY.to_owned(), "{\"total\": 7}"), (content_type(STRUCTURED), &*whole)] {
        let answer = gateway.exchange(post("/function/hello", &headers, body)).await;
        assert!(answer.contains("x-is-event: true"), "{answer}");
        assert!(answer.contains(&format!("x-sent-type: {STRUCTURED}")), "{answer}");
        assert!(
            answer.contains(&format!("\r\ncontent-type: {STRUCTURED}")),
            "what it answers is an event: {answer}"
        );
        let event: Value = serde_json::from_str(body_of(&answer)).unwrap();
        assert_eq!((&event["id"], &event["data"]), (&json!("7"), &json!({"total": 7})));
    }
    let batch = json!([structured("1"), structured("2")]).to_string();
    let headers = content_type("application/cloudevents-batch+json");
    let answer = gateway.exchange(post("/function/hello", &headers, &batch)).await;
    assert_eq!(serde_json::from_str::<Value>(body_of(&answer)).unwrap()[1]["id"], "2");
    let plain = gateway.exchange(post("/function/hello", &content_type("application/json"), "{}")).await;
    assert!(plain.contains("x-is-event: false"), "{plain}");
}

#[tokio::test]
async fn what_only_looks_like_an_event_is_refused() {
    let gateway = mirror().await;
    for (path, headers, body) in [
        ("/function/hello", content_type(STRUCTURED), "{}"),
        ("/function/hello", BINARY.to_owned(), "{"),
        ("/async-function/hello", content_type(STRUCTURED), "[]"),
        ("/topic/orders", content_type("application/cloudevents+xml"), "<x/>"),
        ("/topic/orders", BINARY.replace("ce-id: 7", "ce-id: %ff"), "{}"),
    ] {
        let answer = gateway.exchange(post(path, &headers, body)).await;
        assert_eq!(status(&answer), "400", "{path}: {answer}");
    }
    assert!(gateway.events.published.lock().unwrap().is_empty());
}

#[tokio::test]
async fn each_event_of_a_batch_is_an_asynchronous_call_of_its_own() {
    let gateway = Gateway::echo().await;
    let batch = json!([structured("1"), structured("2")]).to_string();
    let headers = content_type("application/cloudevents-batch+json");
    let answer = gateway.exchange(post("/async-function/hello", &headers, &batch)).await;
    assert_eq!(status(&answer), "202", "{answer}");
    let told: Value = serde_json::from_str(body_of(&answer)).unwrap();
    let kept = gateway.later.0.lock().unwrap();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|call| call.is_event));
    assert_ne!(kept[0].idempotency_key, kept[1].idempotency_key);
    assert_eq!(
        [&told["calls"][0]["id"], &told["calls"][1]["id"]],
        [kept[0].id.as_str(), kept[1].id.as_str()]
    );
    let second: Value = serde_json::from_slice(&kept[1].body).unwrap();
    assert_eq!(second["id"], "2");
}

#[tokio::test]
async fn anything_can_be_published_and_becomes_an_event() {
    let gateway = Gateway::echo().await;
    let headers = "X-Alula-Event-Type: order.placed\r\nX-Alula-Ordering-Key: 9\r\nIdempotency-Key: k\r\n";
    let answer = gateway.exchange(post("/topic/orders.shop", headers, "{\"total\": 7}")).await;
    assert_eq!(status(&answer), "202", "{answer}");
    assert_eq!(serde_json::from_str::<Value>(body_of(&answer)).unwrap()["events"][0]["id"], "k");
    gateway.exchange(post("/topic/orders", BINARY, "{}")).await;
    gateway.exchange(post("/topic/orders", "", "{}")).await;
    let read = gateway.exchange("GET /topic/orders HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status(&read), "405");
    let published = gateway.events.published.lock().unwrap();
    let wrapped = published[0].events[0].clone().into_value();
    assert_eq!((published[0].namespace.as_str(), published[0].topic.as_str()), ("shop", "orders"));
    assert_eq!(
        (&wrapped["type"], &wrapped["partitionkey"], &wrapped["data"]),
        (&json!("order.placed"), &json!("9"), &json!({"total": 7}))
    );
    let named: Vec<_> = published.iter().map(|publication| publication.named_by).collect();
    assert_eq!(named, [NamedBy::Publisher, NamedBy::Publisher, NamedBy::Platform]);
}

#[tokio::test]
async fn a_webhook_is_checked_over_the_very_body_and_accepted() {
    let gateway = Gateway::echo().await;
    let answer = gateway.exchange(post("/webhook/shop/pay/stripe/x?y", "", "{ }")).await;
    assert_eq!(status(&answer), "202", "{answer}");
    assert_eq!(status(&gateway.exchange(post("/webhook/shop/pay/stripe", "", "forged")).await), "401");
    let challenged = gateway.exchange(post("/webhook/shop/pay/stripe", "", "challenge")).await;
    assert!(status(&challenged) == "200" && body_of(&challenged) == "3eZbrw1a", "{challenged}");
    let kept = gateway.later.0.lock().unwrap();
    let [call] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(
        (call.target.to_string().as_str(), call.uri.to_string().as_str()),
        ("pay.shop:latest", "/x?y")
    );
    assert_eq!((&call.body[..], call.idempotency_key.as_deref()), (&b"{ }"[..], Some("webhook-1")));
    assert_eq!(gateway.events.hooks.lock().unwrap()[0].0.to_string(), "shop/pay/stripe");
}

#[tokio::test]
async fn only_a_lineage_that_was_signed_goes_on() {
    let gateway = Gateway::echo().await;
    let signed = LineageSeal::new(SECRET).sign(&"a.default*3".parse().unwrap());
    let forged = LineageSeal::new(b"another").sign(&"a.default*3".parse().unwrap());
    for header in [signed, forged] {
        let header = format!("X-Alula-Lineage: {}\r\n", header.to_str().unwrap());
        gateway.exchange(post("/async-function/hello", &header, "{}")).await;
    }
    let kept = gateway.later.0.lock().unwrap();
    let told: Vec<_> = kept.iter().map(|call| call.lineage.to_string()).collect();
    assert_eq!(told, ["a.default*3", ""]);
    assert!(kept.iter().all(|call| !call.headers.contains_key("x-alula-lineage")));
}
