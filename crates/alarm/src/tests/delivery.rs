//! Receivers that are down, that hang, that refuse; and what an Alertmanager is told.

use alula_model::alarm::AlarmRule;
use serde_json::Value;

use super::world::*;
use crate::*;

fn receivers(options: &mut Options, urls: &[&str]) {
    let template = options.receivers[0].clone();
    options.receivers = (0..)
        .zip(urls)
        .map(|(number, url)| ReceiverOptions {
            name: name(&format!("r{number}")),
            contact: Some(web(url)),
            ..template.clone()
        })
        .collect();
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_delays_no_other() {
    let world = World::with(|options| receivers(options, &["http://hangs", "http://ops"]));
    world.answers("http://hangs", Some(Answer::Never));
    let _running = world.start();
    for round in 0..5 {
        world.depth(&[("cart", 11.0)]);
        pass(100).await;
        assert_eq!(world.told("http://ops"), [firing(&["cart"])], "round {round}");
        world.depth(&[]);
        pass(100).await;
        assert_eq!(world.told("http://ops"), [resolved(&["cart"])], "round {round}");
    }
    assert_eq!(world.told("http://hangs"), []);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_was_down_learns_how_things_are_when_it_is_back() {
    let world = World::new();
    world.answers("http://ops", Some(Answer::Passing));
    let _running = world.start();
    world.depth(&[("cart", 11.0), ("search", 11.0)]);
    pass(3_600).await;
    world.depth(&[("search", 11.0)]);
    pass(600).await;
    world.answers("http://ops", None);
    pass(400).await;
    assert_eq!(world.told("http://ops"), [firing(&["search"])], "of what came and went nobody needs to hear");
    assert!(world.outside.outcomes.lock().unwrap()["failed"] > 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_on_its_way_when_the_process_was_killed_is_sent_again() {
    let world = World::new();
    world.answers("http://ops", Some(Answer::Never));
    let first = world.start();
    world.depth(&[("cart", 11.0)]);
    pass(90).await;
    first.kill().await;
    world.answers("http://ops", None);
    let _second = world.start();
    pass(30).await;
    assert_eq!(world.told("http://ops"), [firing(&["cart"])]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_one_receiver_is_bounded() {
    let rules = 300;
    let world = World::with(|options| {
        let rule = |number| AlarmRule { name: name(&format!("deep-{number}")), for_ms: 0, ..rule() };
        options.rules = (0..rules).map(rule).collect();
        receivers(options, &["http://hangs"]);
    });
    world.answers("http://hangs", Some(Answer::Never));
    let _running = world.start();
    world.depth(&[("cart", 11.0)]);
    pass(30).await;
    let dropped = world.outside.outcomes.lock().unwrap()["dropped"];
    assert!((150..rules).contains(&dropped), "{dropped} of {rules}");
}

#[tokio::test(start_paused = true)]
async fn a_test_tells_which_receivers_are_reached() {
    let world = World::with(|options| receivers(options, &["http://ops", "http://refuses"]));
    world.answers("http://refuses", Some(Answer::Final));
    let running = world.start();
    let outcomes = running.alarms.test(None).await;
    let failures: Vec<_> =
        outcomes.iter().map(|one| (one.receiver.as_str(), one.failure.as_deref())).collect();
    assert_eq!(failures, [("r0", None), ("r1", Some("it says no"))]);
    assert_eq!(world.bodies("http://ops")[0]["status"], "test");
    assert_eq!(running.alarms.test(Some("r1")).await.len(), 1);
    assert_eq!(running.alarms.test(Some("nobody")).await, []);
}

fn ends(alert: &Value) -> i64 {
    let text = alert["endsAt"].as_str().unwrap();
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond() - BEGIN_MS
}

#[tokio::test(start_paused = true)]
async fn an_alertmanager_is_told_of_everything_again_and_again_and_of_the_end() {
    let world = World::with(|options| {
        let receiver = &mut options.receivers[0];
        (receiver.contact, receiver.alertmanager) = (None, Some("http://am:9093/".to_owned()));
    });
    let _running = world.start();
    world.depth(&[("cart", 11.0)]);
    pass(75).await;
    let first = world.bodies("http://am:9093/api/v2/alerts");
    assert_eq!(first.len(), 1);
    let alert = &first[0][0];
    assert_eq!(alert["labels"]["alertname"], "deep");
    assert_eq!((&alert["labels"]["function"], &alert["labels"]["node"]), (&"cart".into(), &"node-1".into()));
    assert!(alert["labels"].get("app").is_none(), "a label without a value is none");
    pass(600).await;
    let again = world.bodies("http://am:9093/api/v2/alerts");
    assert!((8..=10).contains(&again.len()), "once a minute: {}", again.len());
    let sent = again.iter().chain(&first).map(|body| &body[0]).collect::<Vec<_>>();
    assert!(sent.iter().all(|alert| alert["startsAt"] == sent[0]["startsAt"]));
    for pair in again.windows(2) {
        assert!(ends(&pair[0][0]) > ends(&pair[1][0]) - 4 * 60_000, "sent again before it ends by itself");
    }
    world.depth(&[]);
    pass(75).await;
    let last = world.bodies("http://am:9093/api/v2/alerts");
    assert!(ends(&last.last().unwrap()[0]) <= 760_000, "its end is in the past: {last:?}");
    pass(1_200).await;
    let rest = world.bodies("http://am:9093/api/v2/alerts");
    assert!(rest.len() < 17, "what is over is told for a quarter of an hour: {}", rest.len());
}
