//! Triggers as operators see them.

use axum::body::Body;
use serde_json::{Value, json};

use super::world::World;

/// Deploys `hello` with these triggers, tables of TOML.
async fn deploy(world: &World, triggers: &str) -> super::world::Reply {
    let manifest = format!("name = \"hello\"\nruntime = \"exec\"\ncommand = [\"./hello.sh\"]\n{triggers}");
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in [("alula.toml", manifest.as_str()), ("hello.sh", "#!/bin/sh\necho hello\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        archive.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    world.ask("POST", "/v1/deploy", archive.into_inner().unwrap()).await
}

const TICK: &str = "[[triggers]]\nname = \"tick\"\nkind = \"schedule\"\nevery = \"90s\"\n";

/// Asks until the scheduler has taken in what was deployed.
async fn slots(world: &World, uri: &str) -> Value {
    loop {
        let json = world.get(uri).await.json();
        if json["slots"].as_array().is_some_and(|slots| !slots.is_empty()) {
            return json;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn triggers_are_listed_told_paused_and_resumed() {
    let world = World::new().await;
    let others = r#"
        [[triggers]]
        name = "orders"
        kind = "topic"
        topic = "orders"
        [[triggers]]
        name = "nightly"
        kind = "schedule"
        cron = "0 3 * * *"
        zone = "Europe/Berlin"
    "#;
    let reply = deploy(&world, &format!("{TICK}{others}")).await;
    assert_eq!(reply.lines().last().unwrap()["event"], "deployed", "{:?}", reply.lines());
    let next = slots(&world, "/v1/triggers/next?limit=2").await;
    assert_eq!(next["slots"].as_array().unwrap().len(), 2);
    assert_eq!(next["slots"][0]["trigger"]["name"], "tick");
    assert_eq!(next["slots"][0]["slot_ms"], 1_700_000_010_000_u64);

    let list = world.get("/v1/triggers").await.json();
    let names: Vec<_> = list["triggers"].as_array().unwrap().iter().map(|trigger| &trigger["name"]).collect();
    assert_eq!(names, ["nightly", "orders", "tick"]);
    assert_eq!(list["triggers"][0]["watches"], "at 03:00, Europe/Berlin");
    assert_eq!(list["triggers"][1]["watches"], "topic orders");
    assert_eq!(list["triggers"][0]["schedule"]["readiness"], "unknown");
    let page = world.get("/v1/triggers?limit=2").await.json();
    assert_eq!(page["next"], "hello/orders");
    let page = world.get("/v1/triggers?limit=2&cursor=hello/orders").await.json();
    assert_eq!((page["triggers"][0]["name"].as_str(), page["next"].as_str()), (Some("tick"), None));

    for trigger in ["tick", "orders"] {
        let paused = world.ask("POST", &format!("/v1/triggers/hello/{trigger}/pause"), Body::empty()).await;
        assert_eq!(paused.json()["paused"]["by"], "tester", "{trigger}");
    }
    let next = slots(&world, "/v1/triggers/next").await;
    assert!(next["slots"].as_array().unwrap().iter().all(|slot| slot["trigger"]["name"] == "nightly"));
    let resumed = world.ask("POST", "/v1/triggers/hello/tick/resume", Body::empty()).await.json();
    assert_eq!(
        (resumed["paused"].as_str(), &resumed["schedule"]["next_ms"]),
        (None, &json!(1_700_000_010_000_u64))
    );
    let audit = world.get("/v1/audit?function=hello&limit=3").await.json();
    let actions: Vec<_> = audit["entries"].as_array().unwrap().iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["trigger.resume", "trigger.pause", "trigger.pause"]);
}

#[tokio::test]
async fn a_schedule_that_cannot_be_is_refused_when_it_is_deployed() {
    let world = World::new().await;
    let reply = deploy(&world, &TICK.replace("every = \"90s\"", "cron = \"0 0 31 2 *\"")).await;
    let event = reply.lines().into_iter().last().unwrap();
    assert_eq!(event["event"], "failed", "{event}");
    let text = event.to_string();
    assert!(
        text.contains("invalid_spec") && text.contains("tick: cron:") && text.contains("never comes"),
        "{text}"
    );
    assert_eq!(world.get("/v1/triggers").await.json()["triggers"], json!([]));
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let world = World::new().await;
    deploy(&world, TICK).await;
    let pause = async |uri: &str| world.ask("POST", uri, Body::empty()).await.error();
    let (status, code, message) = pause("/v1/triggers/hello/tock/pause").await;
    assert_eq!((status, code.as_str()), (404, "not_found"));
    assert!(message.contains("it has tick"), "{message}");
    assert_eq!(pause("/v1/triggers/nobody/tick/resume").await.1, "function_not_found");
    for uri in [
        "/v1/triggers?cursor=x",
        "/v1/triggers?limit=0",
        "/v1/triggers/next?limit=1001",
        "/v1/triggers?kind=x",
    ] {
        assert_eq!(world.get(uri).await.error().0, 400, "{uri}");
    }
}
