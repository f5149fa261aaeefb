//! What becomes a call, and what does not.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::world::World;

#[tokio::test(start_paused = true)]
async fn a_file_calls_when_it_is_closed_or_moved_in_and_when_it_goes() {
    let world = World::new();
    let running = world.start();
    world.write("a.csv", "one");
    std::fs::write(world.outside("b.part"), "whole").unwrap();
    std::fs::rename(world.outside("b.part"), world.path("b.csv")).unwrap();
    assert_eq!(world.called(2).await, ["put a.csv 3", "put b.csv 5"]);
    std::fs::remove_file(world.path("a.csv")).unwrap();
    std::fs::rename(world.path("b.csv"), world.outside("b.csv")).unwrap();
    assert_eq!(world.called(4).await[..2], ["delete a.csv", "delete b.csv"]);
    let event = &world.events().await[0]["Records"][0];
    assert_eq!(event["eventSource"], "alula:folder");
    assert_eq!(event["trigger"], "in");
    assert_eq!(event["folder"]["path"], world.folder().to_str().unwrap());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_half_written_file_calls_nobody_however_long_it_rests() {
    let world = World::new();
    let running = world.start();
    world.looked().await;
    let mut file = File::create(world.path("slow")).unwrap();
    world.looked().await;
    file.write_all(b"half").unwrap();
    world.clock.jump(3_600_000);
    world.looked().await;
    assert_eq!(world.events().await, Vec::<serde_json::Value>::new());
    file.write_all(b" and half").unwrap();
    drop(file);
    assert_eq!(world.called(1).await, ["put slow 13"]);

    // Written on, under the same name.
    let mut file = OpenOptions::new().append(true).open(world.path("slow")).unwrap();
    file.write_all(b", more").unwrap();
    world.clock.jump(3_600_000);
    world.looked().await;
    assert_eq!(world.events().await.len(), 1);
    drop(file);
    assert_eq!(world.called(2).await, ["put slow 13", "put slow 19"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_name_of_a_whole_file_calls_although_nobody_closes_it() {
    let world = World::new();
    let running = world.start();
    world.looked().await;
    std::fs::write(world.outside("tmp"), "mail").unwrap();
    std::fs::hard_link(world.outside("tmp"), world.path("new")).unwrap();
    std::fs::remove_file(world.outside("tmp")).unwrap();
    world.clock.jump(3_600_000);
    assert_eq!(world.called(1).await, ["put new 4"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_same_content_calls_once() {
    let world = World::new();
    let running = world.start();
    world.write("a", "same");
    assert_eq!(world.called(1).await, ["put a 4"]);
    world.write("a", "same");
    File::open(world.path("a")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    std::fs::write(world.outside("again"), "same").unwrap();
    std::fs::rename(world.outside("again"), world.path("a")).unwrap();
    world.looked().await;
    assert_eq!(world.events().await.len(), 1);
    world.write("a", "diff");
    assert_eq!(world.called(2).await, ["put a 4", "put a 4"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn names_may_be_anything() {
    let world = World::new();
    let running = world.start();
    let names: [&[u8]; 5] = [b"a b", b"line\nbreak", b"\xff\xfe", "gr\u{fc}n%41".as_bytes(), b"-rf *"];
    for name in names {
        std::fs::write(world.path(OsStr::from_bytes(name)), "x").unwrap();
    }
    assert_eq!(world.called(5).await.len(), 5);
    let events = world.events().await;
    let files: Vec<_> = events.iter().map(|event| &event["Records"][0]["file"]).collect();
    let exact = files.iter().find(|file| file["nameBase64"] == "//4=").unwrap();
    assert_eq!(exact["name"], "\u{fffd}\u{fffd}");
    assert!(files.iter().any(|file| file["name"] == "line\nbreak" && file.get("nameBase64").is_none()));
    world.looked().await;
    assert_eq!(world.events().await.len(), 5);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_files_of_the_folder_itself_count() {
    let world = World::new();
    std::fs::write(world.outside("secret"), "secret").unwrap();
    std::fs::create_dir(world.outside("private")).unwrap();
    std::fs::write(world.outside("private/secret"), "secret").unwrap();
    let running = world.start();
    symlink(world.outside("secret"), world.path("link")).unwrap();
    symlink(world.outside("private"), world.path("folder-link")).unwrap();
    std::fs::create_dir(world.path("sub")).unwrap();
    std::fs::write(world.path("sub/inner"), "x").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, world.path("pipe"), rustix::fs::Mode::RWXU).unwrap();
    // A file that gives its place to a link.
    world.write("swapped", "mine");
    assert_eq!(world.called(1).await, ["put swapped 4"]);
    symlink(world.outside("secret"), world.outside("l")).unwrap();
    std::fs::rename(world.outside("l"), world.path("swapped")).unwrap();
    assert_eq!(world.called(2).await, ["delete swapped", "put swapped 4"]);
    world.clock.jump(3_600_000);
    world.looked().await;
    assert_eq!(world.events().await.len(), 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_what_is_asked_for_calls() {
    let world = World::new();
    let running = world.start_with(json!({"prefix": "in-", "suffix": ".csv", "on": ["put"]}));
    for name in ["in-1.csv", "out-1.csv", "in-1.txt", "in-1.csv.part"] {
        world.write(name, "x");
    }
    assert_eq!(world.called(1).await, ["put in-1.csv 1"]);
    std::fs::rename(world.path("in-1.csv.part"), world.path("in-2.csv")).unwrap();
    std::fs::remove_file(world.path("in-1.csv")).unwrap();
    assert_eq!(world.called(2).await, ["put in-1.csv 1", "put in-2.csv 1"]);
    world.write("in-1.csv", "x");
    assert_eq!(world.called(3).await.len(), 3, "it had gone, so it is new");
    running.stop().await;

    let deletes = world.start_with(json!({"prefix": "in-", "suffix": ".csv", "on": ["delete"]}));
    world.write("in-3.csv", "x");
    std::fs::remove_file(world.path("in-2.csv")).unwrap();
    assert_eq!(world.called(4).await[0], "delete in-2.csv");
    deletes.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_at_once_call_once_each() {
    const FILES: usize = 900;
    let world = World::new();
    let running = world.start();
    for number in 0..FILES {
        world.write(&format!("{number}"), "x");
    }
    assert_eq!(world.called(FILES).await.len(), FILES);
    world.looked().await;
    assert_eq!(world.events().await.len(), FILES);
    running.stop().await;
}
