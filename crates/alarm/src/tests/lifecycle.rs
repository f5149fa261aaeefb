//! When an alarm is raised, told, repeated, resolved; what outlives a restart.

use alula_model::alarm::{AlarmRule, AlarmSpec, Audience, Signal};
use alula_model::{Decimal, Timestamp};

use super::world::*;
use crate::*;

#[tokio::test(start_paused = true)]
async fn an_alarm_is_raised_told_once_and_resolved() {
    let world = World::new();
    let running = world.start();
    world.depth(&[("cart", 11.0)]);
    pass(55).await;
    assert_eq!(running.alarms.list()[0].0.state, State::Pending);
    assert_eq!(world.told("http://ops"), []);
    pass(40).await;
    assert_eq!(running.alarms.list()[0].0.state, State::Firing);
    assert_eq!(world.told("http://ops"), [firing(&["cart"])]);
    pass(3_600).await;
    assert_eq!(world.told("http://ops"), [], "it is told once");
    // Between both bounds nothing changes.
    world.depth(&[("cart", 7.0)]);
    pass(600).await;
    assert_eq!(running.alarms.list()[0].0.state, State::Firing);
    world.depth(&[("cart", 5.0)]);
    pass(95).await;
    assert_eq!(world.told("http://ops"), [resolved(&["cart"])]);
    let events: Vec<_> = running.alarms.history(|_| true, 10).iter().map(|one| one.event).collect();
    assert_eq!(events, [Event::Resolved, Event::Raised]);
    pass(1_000).await;
    assert_eq!(running.alarms.list(), [], "what is over is forgotten after a while");
    assert_eq!(world.told("http://ops"), []);
}

#[tokio::test(start_paused = true)]
async fn what_passes_by_itself_is_not_told() {
    let world = World::new();
    let running = world.start();
    for _ in 0..20 {
        world.depth(&[("cart", 11.0)]);
        pass(40).await;
        world.depth(&[("cart", 3.0)]);
        pass(20).await;
    }
    assert_eq!((world.told("http://ops"), running.alarms.list().len()), (Vec::new(), 0));
}

#[tokio::test(start_paused = true)]
async fn many_functions_that_break_at_once_are_one_message() {
    let world = World::new();
    let running = world.start();
    let names: Vec<String> = (10..60).map(|number| format!("f{number}")).collect();
    let all: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 99.0)).collect();
    world.depth(&all);
    pass(120).await;
    let told = world.bodies("http://ops");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["firing"].as_array().unwrap().len(), 50);
    let text = told[0]["text"].as_str().unwrap();
    assert!(text.contains("and 30 more that are firing") && text.lines().count() < 30, "{text}");
    assert_eq!(told[0]["subject"], "[firing] deep: 50 of them");
    world.depth(&all[..49]);
    pass(200).await;
    let told = world.bodies("http://ops");
    assert_eq!(told.len(), 1, "one of them is over");
    let counts = (told[0]["firing"].as_array().unwrap().len(), told[0]["resolved"].as_array().unwrap().len());
    assert_eq!(counts, (49, 1));
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn what_lasts_is_repeated_until_somebody_knows() {
    let world = World::new();
    let running = world.start();
    world.depth(&[("cart", 11.0)]);
    pass(120).await;
    assert_eq!(world.told("http://ops").len(), 1);
    pass(4 * 3_600 + 20).await;
    assert_eq!(world.told("http://ops"), [firing(&["cart"])]);
    let id = running.alarms.list()[0].0.id.clone();
    assert!(running.alarms.acknowledge("nothing", "user:anna").is_none());
    let known = running.alarms.acknowledge(&id, "user:anna").unwrap();
    assert_eq!(known.acknowledged.unwrap().by, "user:anna");
    pass(24 * 3_600).await;
    assert_eq!(world.told("http://ops"), []);
    world.depth(&[]);
    pass(120).await;
    assert_eq!(world.told("http://ops"), [resolved(&["cart"])], "its end is told all the same");
    // When it begins anew, nobody knows of that.
    world.depth(&[("cart", 11.0)]);
    pass(120).await;
    assert_eq!(world.told("http://ops"), [firing(&["cart"])]);
}

#[tokio::test(start_paused = true)]
async fn a_silence_holds_for_its_time_and_for_what_it_means() {
    let world = World::new();
    let running = world.start();
    let matcher = Matcher::try_from("function=car*,namespace=shop".to_owned()).unwrap();
    let until = Timestamp(BEGIN_MS).plus_millis(3_600_000);
    let why = ("known".to_owned(), "user:anna".to_owned());
    running.alarms.silence(matcher, until, why).await.unwrap().unwrap();
    world.depth(&[("cart", 11.0), ("search", 11.0)]);
    pass(120).await;
    assert_eq!(world.told("http://ops"), [firing(&["search"])]);
    assert!(running.alarms.list()[0].1.is_some(), "the alarm shows its silence");
    running.kill().await;
    let running = world.start();
    pass(1_800).await;
    assert_eq!(world.told("http://ops"), [], "a silence outlives the process");
    pass(1_800).await;
    let told = world.told("http://ops");
    assert_eq!(told, [firing(&["cart", "search"])], "when it ends, what still fires is told");
    assert_eq!(running.alarms.silences(), []);
}

#[tokio::test(start_paused = true)]
async fn a_restart_neither_forgets_nor_repeats() {
    let world = World::new();
    let first = world.start();
    world.depth(&[("cart", 11.0)]);
    pass(120).await;
    assert_eq!(world.told("http://ops").len(), 1);
    let before = first.alarms.list();
    first.stop().await;
    let second = world.start();
    pass(15).await;
    let after = second.alarms.list();
    assert_eq!((&after[0].0.id, after[0].0.raised_at), (&before[0].0.id, before[0].0.raised_at));
    pass(600).await;
    assert_eq!(world.told("http://ops"), []);
    second.kill().await;
    // It ends while nobody looks.
    world.depth(&[]);
    let third = world.start();
    pass(120).await;
    assert_eq!(world.told("http://ops"), [resolved(&["cart"])]);
    assert_eq!(third.alarms.history(|_| true, 10).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_measured_is_neither_well_nor_worse() {
    let world = World::new();
    let running = world.start();
    world.depth(&[("cart", 11.0)]);
    pass(120).await;
    world.depth(&[]);
    world.outside.round.lock().unwrap().unknown = vec![Signal::QueueDepth];
    pass(600).await;
    assert_eq!(running.alarms.list()[0].0.state, State::Firing);
    world.outside.round.lock().unwrap().unknown.clear();
    pass(120).await;
    assert_eq!(running.alarms.list()[0].0.state, State::Resolved);
}

#[tokio::test(start_paused = true)]
async fn functions_switch_rules_off_and_state_their_own() {
    let world = World::new();
    let running = world.start();
    let own = AlarmRule { for_ms: 0, ..AlarmRule::above(name("own"), Signal::QueueDepth, Decimal::whole(2)) };
    let stricter =
        AlarmRule { for_ms: 0, ..AlarmRule::above(name("deep"), Signal::QueueDepth, Decimal::whole(4)) };
    let watch = |function: &str, alarm: AlarmSpec| Watch {
        namespace: name("shop"),
        function: name(function),
        app: None,
        contacts: Vec::new(),
        alarm,
        slo: None,
    };
    *world.outside.watches.lock().unwrap() = vec![
        watch("quiet", AlarmSpec { off: vec![name("deep")], ..AlarmSpec::default() }),
        watch("own", AlarmSpec { rules: vec![own], ..AlarmSpec::default() }),
        watch("strict", AlarmSpec { rules: vec![stricter], ..AlarmSpec::default() }),
    ];
    world.depth(&[("quiet", 99.0), ("own", 3.0), ("strict", 5.0), ("other", 5.0)]);
    pass(15).await;
    let found: Vec<_> = running.alarms.list().iter().map(|(alarm, _)| alarm.subject.to_string()).collect();
    assert_eq!(found, ["strict in shop", "own in shop"]);
    // Who takes a rule back ends its alarms.
    world.outside.watches.lock().unwrap().clear();
    pass(15).await;
    let states: Vec<_> =
        running.alarms.list().iter().map(|(alarm, _)| (alarm.rule.to_string(), alarm.state)).collect();
    assert!(states.contains(&("own".to_owned(), State::Resolved)), "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn owners_are_told_of_theirs_and_operators_of_what_nobody_owns() {
    let world = World::with(|options| options.rules[0].to = Audience::Owner);
    let _running = world.start();
    *world.outside.watches.lock().unwrap() = vec![Watch {
        namespace: name("shop"),
        function: name("cart"),
        app: None,
        contacts: vec![web("https://owner.test/x"), web("slack:https://hooks.test/y")],
        alarm: AlarmSpec::default(),
        slo: None,
    }];
    world.depth(&[("cart", 11.0), ("search", 11.0)]);
    pass(120).await;
    assert_eq!(world.told("https://owner.test/x"), [firing(&["cart"])]);
    let slack = world.bodies("https://hooks.test/y");
    assert!(slack[0]["text"].as_str().unwrap().starts_with("*[firing] deep: cart in shop*\n"), "{slack:?}");
    assert_eq!(world.told("http://ops"), [firing(&["search"])]);
}

#[tokio::test(start_paused = true)]
async fn what_is_told_holds_until_it_is_taken_back() {
    let world = World::with(|options| {
        options.off.retain(|rule| *rule != name("breaker"));
    });
    let running = world.start();
    let subject = Subject::function(&name("shop"), &name("cart")).part("version 3");
    running.alarms.told().set(Signal::BreakerOpen, subject.clone(), 1.0, "closed -> open");
    pass(25).await;
    let told = world.bodies("http://ops");
    assert_eq!((told.len(), &told[0]["firing"][0]["detail"]), (1, &"closed -> open".into()));
    running.alarms.told().clear(Signal::BreakerOpen, &subject);
    pass(150).await;
    assert_eq!(world.told("http://ops"), [resolved(&["cart"])]);
}

#[tokio::test(start_paused = true)]
async fn the_history_is_bounded_and_kept() {
    let world = World::with(|options| {
        (options.rules[0].for_ms, options.rules[0].clear_for_ms, options.interval_ms) = (0, 0, 1_000);
    });
    let running = world.start();
    let names: Vec<String> = (0..HISTORY_MAX / 4).map(|number| format!("f{number}")).collect();
    let all: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 99.0)).collect();
    for _ in 0..3 {
        world.depth(&all);
        pass(2).await;
        world.depth(&[]);
        pass(2).await;
    }
    let last = running.alarms.history(|_| true, usize::MAX);
    assert_eq!(last.len(), HISTORY_MAX);
    running.stop().await;
    let running = world.start();
    pass(5).await;
    assert_eq!(running.alarms.history(|_| true, usize::MAX), last);
}
