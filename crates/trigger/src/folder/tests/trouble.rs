//! Restarts, folders that go, calls that are refused, notices that are lost.

use std::os::unix::fs::{PermissionsExt, symlink};

use alula_model::{ErrorCode, Fault};
use alula_store::QueueCounts as _;
use serde_json::json;

use super::world::{World, key};
use crate::{Pause, Pauses};

#[tokio::test(start_paused = true)]
async fn what_lies_there_before_calls_nobody_and_what_comes_while_nobody_watches_does() {
    let world = World::new();
    world.write("old", "x");
    let world = world.deployed_later().await;
    let running = world.start();
    world.looked().await;
    world.write("new", "xx");
    assert_eq!(world.called(1).await, ["put new 2"]);
    running.stop().await;

    std::fs::remove_file(world.path("old")).unwrap();
    world.write("new", "xxx");
    let running = world.start();
    world.clock.jump(3_600_000);
    assert_eq!(world.called(3).await, ["delete old", "put new 2", "put new 3"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_came_before_the_first_look_calls() {
    let world = World::new();
    world.write("early", "x");
    world.clock.jump(3_600_000);
    let running = world.start();
    assert_eq!(world.called(1).await, ["put early 1"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_was_seen_to_close_waits_until_it_rests() {
    let world = World::new();
    world.write("fresh", "half");
    let running = world.start();
    tokio::time::sleep(super::super::REST / 2).await;
    assert_eq!(world.events().await.len(), 0, "somebody may be writing it");
    world.clock.jump(3_600_000);
    assert_eq!(world.called(1).await, ["put fresh 4"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_file_calls_once_however_often_the_watch_ends() {
    const FILES: usize = 300;
    let world = World::new();
    for number in 0..FILES {
        world.write(&format!("{number}"), "x");
    }
    world.clock.jump(3_600_000);
    // Ended as soon as some more are there, with others on their way.
    for some in (0..FILES).step_by(7) {
        let running = world.start();
        world.called(some).await;
        running.kill().await;
    }
    let running = world.start();
    assert_eq!(world.called(FILES).await.len(), FILES);
    world.looked().await;
    let events = world.events().await;
    let names: std::collections::BTreeSet<_> =
        events.iter().map(|event| event["Records"][0]["file"]["name"].to_string()).collect();
    assert_eq!((events.len(), names.len()), (FILES, FILES));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_goes_and_comes_back_is_watched_again() {
    let world = World::new();
    let running = world.start();
    world.write("a", "x");
    world.called(1).await;
    std::fs::rename(world.folder(), world.outside("away")).unwrap();
    std::fs::write(world.outside("away/b"), "xx").unwrap();
    world.looked().await;
    assert!(world.problem().unwrap().starts_with("the folder cannot be read"), "{:?}", world.problem());
    assert_eq!(world.events().await.len(), 1, "a folder that is not there says nothing of its files");

    std::fs::create_dir(world.folder()).unwrap();
    world.write("c", "xxx");
    world.clock.jump(3_600_000);
    assert_eq!(world.called(3).await, ["delete a", "put a 1", "put c 3"]);
    world.looked().await;
    assert_eq!(world.problem(), None);
    // The kernel tells of the new folder, not of the old one.
    std::fs::write(world.outside("away/d"), "x").unwrap();
    world.write("e", "x");
    assert_eq!(world.called(4).await[3], "put e 1");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_in_the_place_of_the_folder_leads_nowhere() {
    let world = World::new();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("secret"), "x").unwrap();
    let running = world.start();
    world.write("a", "x");
    world.called(1).await;
    std::fs::rename(world.folder(), world.outside("away")).unwrap();
    symlink(elsewhere.path(), world.folder()).unwrap();
    world.clock.jump(3_600_000);
    world.looked().await;
    std::fs::write(elsewhere.path().join("another"), "x").unwrap();
    world.looked().await;
    assert!(world.problem().unwrap().contains("triggers.folders"), "{:?}", world.problem());
    assert_eq!(world.events().await.len(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_during_a_pause_calls_when_it_is_over() {
    let world = World::new();
    let pauses = Pauses::new(std::sync::Arc::new(world.store.clone()));
    let pause = Pause { at: alula_model::Timestamp(0), by: "ada".to_owned() };
    let running = world.start();
    world.looked().await;
    pauses.set(&key(), &pause).await.unwrap();
    world.write("a", "x");
    world.write("a", "xx");
    world.write("b", "x");
    std::fs::remove_file(world.path("b")).unwrap();
    world.clock.jump(3_600_000);
    world.looked().await;
    assert_eq!(world.events().await.len(), 0);
    pauses.clear(&key()).await.unwrap();
    assert_eq!(world.called(1).await, ["put a 2"], "only how things are now counts");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_is_handed_in_later() {
    let world = World::new();
    *world.calls.refusal.lock().unwrap() = Some(Fault::new(ErrorCode::Draining, "it is drained"));
    let running = world.start();
    world.write("a", "x");
    world.looked().await;
    assert!(world.problem().unwrap().contains("it is drained"));
    *world.calls.refusal.lock().unwrap() = None;
    world.clock.jump(3_600_000);
    assert_eq!(world.called(1).await, ["put a 1"]);
    // What is not there takes no call, and the file does not wait for it.
    *world.calls.refusal.lock().unwrap() = Some(Fault::new(ErrorCode::AliasNotFound, "no such alias"));
    world.write("b", "x");
    world.looked().await;
    *world.calls.refusal.lock().unwrap() = None;
    world.looked().await;
    assert_eq!(world.store.totals(alula_model::Timestamp(1)).await.unwrap().accepted, 1);
    assert_eq!(world.problem(), None);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_read_keeps_no_other_from_calling() {
    if rustix::process::geteuid().is_root() && world_reads_everything() {
        println!("SKIPPED: this user may read every file");
        return;
    }
    let world = World::new();
    world.write("a", "secret");
    std::fs::set_permissions(world.path("a"), PermissionsExt::from_mode(0o000)).unwrap();
    world.write("b", "x");
    world.clock.jump(3_600_000);
    let running = world.start();
    assert_eq!(world.called(1).await, ["put b 1"]);
    world.looked().await;
    assert!(
        world.problem().unwrap().contains("1 of its files cannot be read, \"a\""),
        "{:?}",
        world.problem()
    );
    std::fs::set_permissions(world.path("a"), PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(world.called(2).await, ["put a 6", "put b 1"]);
    running.stop().await;
}

fn world_reads_everything() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
    std::fs::File::open(path).is_ok()
}

#[tokio::test(start_paused = true)]
async fn another_filter_begins_anew() {
    let world = World::new();
    let running = world.start_with(json!({"suffix": ".csv"}));
    world.write("a.csv", "x");
    world.write("b.txt", "x");
    world.called(1).await;
    running.stop().await;
    let later = world.deployed_later().await;
    later.clock.jump(3_600_000);
    let running = later.start_with(json!({}));
    later.looked().await;
    assert_eq!(later.events().await.len(), 1, "what lay there at the deploy calls nobody");
    std::fs::remove_file(later.path("b.txt")).unwrap();
    assert_eq!(later.called(2).await, ["delete b.txt", "put a.csv 1"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_where_the_kernel_loses_count() {
    let most: usize =
        std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    if most > 100_000 {
        println!("SKIPPED: the kernel's queue is too long to be filled here");
        return;
    }
    let world = World::new();
    let running = world.start();
    world.looked().await;
    // Without a wait in between, so that nobody takes anything out of the queue.
    let (a, b) = (world.path("a"), world.path("b"));
    std::fs::write(&a, "x").unwrap();
    for _ in 0..most / 2 + 1 {
        std::fs::rename(&a, &b).unwrap();
        std::fs::rename(&b, &a).unwrap();
    }
    world.write("last", "xx");
    world.clock.jump(3_600_000);
    assert_eq!(world.called(2).await, ["put a 1", "put last 2"]);
    running.stop().await;
}
