//! What a finished call leads to.

use alula_invoke::later::{Callback, CourierError, DeadFilter, DeliveryKind, OutcomeStatus};
use alula_runtime::fake::Does;
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn the_result_is_sent_to_the_callback_and_tried_again_until_it_arrives() {
    let world = World::new(json!({})).await;
    world.does(|| Does::answers("done"));
    world.courier.refusals.lock().unwrap().push_back(CourierError::Passing("503".to_owned()));
    let mut deferred = world.call();
    deferred.callback = Some(Callback { url: "https://a.test/done".to_owned() });
    let id = world.accept(deferred).await;
    world.outcome(&id).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let sent = world.courier.sent.lock().unwrap().clone();
    let [(delivery, body)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((delivery.kind, delivery.url.as_str()), (DeliveryKind::Callback, "https://a.test/done"));
    assert_eq!(&body[..], b"done");
    let header =
        |name: &str| delivery.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!((header("x-call-id"), header("x-function-status")), (Some(id.as_str()), Some("200")));
    world.stop().await;
}

#[tokio::test]
async fn a_result_that_is_larger_than_a_message_is_sent_whole() {
    let world = World::new(json!({"on_success": ["https://a.test/ok"]})).await;
    let text = || "x".repeat(2 * 1024 * 1024);
    world.does(move || Does::answers(text()));
    let mut deferred = world.call();
    deferred.callback = Some(Callback { url: "https://a.test/done".to_owned() });
    let id = world.accept(deferred).await;
    world.outcome(&id).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let lengths: Vec<_> = world.courier.sent.lock().unwrap().iter().map(|(_, body)| body.len()).collect();
    assert_eq!(lengths.iter().filter(|length| **length == 2 * 1024 * 1024).count(), 1, "{lengths:?}");
    assert_eq!(lengths.iter().filter(|length| **length > 2 * 1024 * 1024).count(), 1, "{lengths:?}");
    let totals = world.calls.queue().await.unwrap().totals;
    assert_eq!((totals.done, totals.imbalance()), (3, 0));
    world.stop().await;
}

#[tokio::test]
async fn destinations_get_the_record_and_functions_run_with_it() {
    let world = World::new(json!({"on_success": ["function:audit", "https://a.test/ok"]})).await;
    world.deploy("audit", json!({})).await;
    world.does(|| Does::answers("{\"sum\": 3}"));
    let id = world.accept(world.call()).await;
    world.outcome(&id).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let sent = world.courier.sent.lock().unwrap().clone();
    let [(delivery, body)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(delivery.kind, DeliveryKind::Destination);
    let record: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(record["requestContext"]["condition"], "Success");
    assert_eq!(record["requestContext"]["requestId"], id.as_str());
    assert_eq!((&record["requestPayload"], &record["responsePayload"]), (&json!({}), &json!({"sum": 3})));
    let totals = world.calls.queue().await.unwrap().totals;
    assert_eq!((totals.accepted, totals.done), (3, 3), "the call, the destination's call, the delivery");
    world.stop().await;
}

#[tokio::test]
async fn a_record_that_its_destination_cannot_take_is_kept_and_goes_there_later() {
    let world = World::new(json!({"on_success": ["function:audit"]})).await;
    world.does(|| Does::answers("{\"sum\": 3}"));
    let id = world.accept(world.call()).await;
    world.outcome(&id).await;
    let dead = world.calls.dead(&DeadFilter::default(), None, 10).await.unwrap().letters;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0].delivery.as_ref().unwrap().url, "function:audit");
    assert!(dead[0].reason.contains("no function audit"), "{}", dead[0].reason);

    world.deploy("audit", json!({})).await;
    world.calls.redrive(&dead[0].id).await.unwrap();
    let forwarded = alula_model::InvocationId::new(&format!("{}-again", dead[0].id)).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(world.outcome(&forwarded).await.function.as_str(), "audit");
    world.assert_balanced().await;
    world.stop().await;
}

#[tokio::test]
async fn an_owner_is_told_once_for_a_streak() {
    let world = World::new(json!({"retry": "none", "notify": ["slack:https://hooks.test/x"]})).await;
    world.fails();
    let fail_two = async || {
        for _ in 0..2 {
            let id = world.accept(world.call()).await;
            world.ended(&id).await;
        }
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        world.courier.sent.lock().unwrap().len()
    };
    assert_eq!(fail_two().await, 1);
    world.does(|| Does::answers("ok"));
    let id = world.accept(world.call()).await;
    assert_eq!(world.outcome(&id).await.status, OutcomeStatus::Done);
    world.fails();
    assert_eq!(fail_two().await, 2, "a new streak is told about again");
    let text: Value = serde_json::from_slice(&world.courier.sent.lock().unwrap()[0].1).unwrap();
    assert!(text["text"].as_str().unwrap().contains("alula dead list hello"), "{text}");
    world.stop().await;
}
