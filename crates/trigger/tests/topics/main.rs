//! Topics over the store in memory and the fake back end, with paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod world;

use alula_model::{ErrorCode, Lineage, Name, Timestamp};
use alula_trigger::topic::{EVENT_BYTES_MAX, Replay};
use alula_trigger::{Pause, Pauses, TriggerKey};
use serde_json::json;

use world::{EPOCH_MS, World, event, id};

fn pairs(told: &[(String, String)]) -> Vec<(&str, &str)> {
    told.iter().map(|(function, id)| (function.as_str(), id.as_str())).collect()
}

#[tokio::test]
async fn an_event_reaches_everyone_who_listens_and_whose_filter_matches() {
    let world = World::new().await;
    world.listen("all", "orders", json!({}), json!({})).await;
    let big = json!({"filter": {"type": ["order.placed"], "data": {"total": [{"numeric": [">", 100]}]}}});
    world.listen("big", "orders", big, json!({})).await;
    world.listen("other", "invoices", json!({}), json!({})).await;
    world.listen("off", "orders", json!({"enabled": false}), json!({})).await;
    let published = world.publish("orders", event("1", json!({"total": 7}))).await;
    assert_eq!((published.id.as_str(), published.calls, published.is_repeat), ("1", 1, false));
    assert_eq!(world.publish("orders", event("2", json!({"total": 700}))).await.calls, 2);
    assert_eq!(pairs(&world.told().await), [("all", "1"), ("all", "2"), ("big", "2")]);
    world.stop().await;
}

#[tokio::test]
async fn the_same_event_is_accepted_once_and_a_batch_whole_or_not_at_all() {
    let world = World::new().await;
    world.listen("all", "orders", json!({}), json!({})).await;
    world.publish("orders", event("1", json!(1))).await;
    assert!(world.publish("orders", event("1", json!(1))).await.is_repeat);
    let batch = vec![event("1", json!(1)), event("2", json!(2))];
    let published = world.try_publish("orders", batch, Lineage::default()).await.unwrap();
    assert_eq!(published.iter().map(|event| event.is_repeat).collect::<Vec<_>>(), [true, false]);
    let large = vec![event("3", json!(3)), event("4", json!("x".repeat(EVENT_BYTES_MAX)))];
    let fault = world.try_publish("orders", large, Lineage::default()).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::RequestTooLarge);
    assert_eq!(pairs(&world.told().await), [("all", "1"), ("all", "2")]);
    world.stop().await;
}

#[tokio::test]
async fn a_paused_subscription_gets_nothing_until_it_is_resumed() {
    let world = World::new().await;
    world.listen("all", "orders", json!({}), json!({})).await;
    let name = |text| Name::new(text).unwrap();
    let key = TriggerKey { namespace: Name::default_namespace(), function: name("all"), trigger: name("t") };
    let pauses = Pauses::new(world.store.clone());
    pauses.set(&key, &Pause { at: Timestamp(1), by: "tester".to_owned() }).await.unwrap();
    assert_eq!(world.publish("orders", event("1", json!(1))).await.calls, 0);
    pauses.clear(&key).await.unwrap();
    assert_eq!(world.publish("orders", event("2", json!(1))).await.calls, 1);
    assert_eq!(pairs(&world.told().await), [("all", "2")]);
    world.stop().await;
}

#[tokio::test]
async fn events_are_replayed_from_a_moment_to_who_listens_now() {
    let world = World::new().await;
    for number in 0..50 {
        world.publish("orders", event(&format!("{number:02}"), json!(number))).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    assert!(world.told().await.is_empty(), "nobody listened");
    world.listen("late", "orders", json!({}), json!({})).await;
    world.listen("other", "orders", json!({}), json!({})).await;
    let replay = Replay {
        id: id("replay-1"),
        namespace: Name::default_namespace(),
        topic: Name::new("orders").unwrap(),
        since: Timestamp(EPOCH_MS).plus_millis(20_000),
        until: None,
        function: Some(Name::new("late").unwrap()),
    };
    let done = world.topics.replay(&replay).await.unwrap();
    let handed = world.handed().await;
    assert_eq!((done.events, done.calls), (handed.len() as u64, handed.len() as u64));
    // The clock of the runtime moves while functions are deployed.
    let first: u32 =
        handed.iter().map(|handed| handed.event["id"].as_str().unwrap().parse().unwrap()).min().unwrap();
    assert!((15..=20).contains(&first), "{first}");
    assert!(
        handed.iter().all(|handed| handed.function == "late" && handed.event["alulareplay"] == "replay-1")
    );
    world.stop().await;
}

#[tokio::test]
async fn lineage_goes_through_topics_and_destinations() {
    let world = World::new().await;
    world.listen("pay", "orders", json!({}), json!({"on_success": ["topic:paid"]})).await;
    world.listen("ship", "paid", json!({}), json!({"on_success": ["topic:orders"]})).await;
    let lineage: Lineage = "web.default".parse().unwrap();
    world.try_publish("orders", vec![event("1", json!(1))], lineage).await.unwrap();
    let handed = world.handed().await;
    let chains: Vec<_> = handed.iter().map(|handed| handed.lineage.to_string()).collect();
    assert_eq!(chains[..2], ["web.default>pay.default", "web.default>pay.default>ship.default"]);
    assert_eq!(handed.len(), 32, "sixteen times each, then it is stopped");
    let record = &handed[1].event;
    assert_eq!(
        (record["type"].as_str(), record["source"].as_str()),
        (Some("alula.call.succeeded"), Some("/functions/default/pay"))
    );
    assert_eq!(record["data"]["requestPayload"]["id"], "1");
    world.stop().await;
}

#[tokio::test]
async fn topics_are_listed_with_who_listens() {
    let world = World::new().await;
    let filter = json!({"data": {"total": [1]}});
    world.listen("all", "orders", json!({"filter": filter}), json!({})).await;
    world.publish("nobody", event("1", json!(1))).await;
    let topics = world.topics.list(&Name::default_namespace()).await.unwrap();
    assert_eq!(topics.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["nobody", "orders"]);
    let subscription = &topics[1].subscriptions[0];
    assert_eq!(
        (subscription.key.to_string().as_str(), &subscription.filter),
        ("default/all/t", &Some(filter))
    );
    world.stop().await;
}
