use std::fs;

use alula_model::limits::VERSIONS_KEPT;
use alula_model::{ErrorCode, Name};
use alula_store::{Batch, Expect, Key};

use super::world::{World, manifest, name};
use crate::AuditReport;

async fn with_versions(count: u64) -> World {
    let world = World::start().await;
    for number in 1..=count {
        let toml = manifest("hello", "");
        world.deploy(&[("alula.toml", &toml), ("main.toy", &format!("v{number}"))]).await.unwrap();
    }
    world
}

fn ns() -> Name {
    Name::default_namespace()
}

#[tokio::test]
async fn a_rollback_moves_latest_and_survives_a_restart() {
    let mut world = with_versions(3).await;
    let function = world.control.rollback("tester", &ns(), &name("hello"), None).await.unwrap();
    assert_eq!((function.latest, function.newest), (2, 3));
    assert_eq!(world.read("hello", "main.toy").await, "v2");
    world.control.rollback("tester", &ns(), &name("hello"), Some(1)).await.unwrap();
    assert_eq!(world.read("hello", "main.toy").await, "v1");
    let fault = world.control.rollback("tester", &ns(), &name("hello"), None).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::VersionNotFound);
    let fault = world.control.rollback("tester", &ns(), &name("hello"), Some(9)).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::VersionNotFound);
    let fault = world.control.rollback("tester", &ns(), &name("nobody"), None).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::FunctionNotFound);
    world.restart().await;
    assert_eq!(world.resolve("hello").unwrap().key.version, 1);
    assert_eq!(world.resolve("hello:3").unwrap().key.version, 3);
    let next = world.deploy(&[("alula.toml", &manifest("hello", "")), ("main.toy", "v3")]).await.unwrap();
    assert_eq!(next[0].version.key.version, 4, "a publish after a rollback is a new version");
    let audit = world.control.audit(&ns(), Some("hello"), None, 10).await.unwrap();
    let actions: Vec<_> = audit.iter().map(|entry| entry.entry.action.as_str()).collect();
    assert_eq!(actions[..3], ["function.publish", "function.rollback", "function.rollback"]);
    assert_eq!(audit[1].entry.detail, "from version 2 to version 1");
}

#[tokio::test]
async fn aliases_move_and_go() {
    let mut world = with_versions(2).await;
    let control = world.control.clone();
    let hello = name("hello");
    control.set_alias("tester", &ns(), &hello, name("live"), 1).await.unwrap();
    assert_eq!(world.read("hello:live", "main.toy").await, "v1");
    control.set_alias("tester", &ns(), &hello, name("live"), 2).await.unwrap();
    world.restart().await;
    assert_eq!(world.read("hello:live", "main.toy").await, "v2");
    let fault = control.set_alias("tester", &ns(), &hello, name("live"), 7).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::VersionNotFound);
    for unreachable in ["latest", "12"] {
        let fault = control.set_alias("tester", &ns(), &hello, name(unreachable), 1).await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::InvalidRequest);
    }
    world.control.remove_alias("tester", &ns(), &hello, name("live")).await.unwrap();
    assert_eq!(world.resolve("hello:live").unwrap_err().code, ErrorCode::AliasNotFound);
    let fault = world.control.remove_alias("tester", &ns(), &hello, name("live")).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::AliasNotFound);
    let audited = world.control.audit(&ns(), None, None, 100).await.unwrap();
    assert_eq!(audited.iter().filter(|entry| entry.entry.action.starts_with("alias.")).count(), 3);
    assert!(audited.is_sorted_by(|a, b| a.entry.at >= b.entry.at), "the newest is first");
}

#[tokio::test]
async fn a_change_by_somebody_else_is_seen_and_kept() {
    let world = with_versions(2).await;
    let mut other = world;
    let first = other.control.clone();
    other.restart().await;
    // Two controls on one store: the second does not know what the first did.
    first.set_alias("one", &ns(), &name("hello"), name("live"), 1).await.unwrap();
    let function = other.control.set_alias("two", &ns(), &name("hello"), name("next"), 2).await.unwrap();
    assert_eq!(function.aliases.len(), 2, "the decision was made anew on what is recorded");
}

#[tokio::test]
async fn a_removed_function_is_gone_and_its_numbers_stay_used() {
    let mut world = with_versions(2).await;
    let plan = world.resolve("hello").unwrap();
    world.control.remove("tester", &ns(), &name("hello")).await.unwrap();
    assert_eq!(world.resolve("hello").unwrap_err().code, ErrorCode::FunctionNotFound);
    assert_eq!(
        world.control.remove("tester", &ns(), &name("hello")).await.unwrap_err().code,
        ErrorCode::FunctionNotFound
    );
    // An instance that still runs keeps its code; without it, everything goes.
    world.control.collect_garbage(&|_| false).await.unwrap();
    assert!(plan.code.is_dir());
    let (key, code) = (plan.key.clone(), plan.code.clone());
    drop(plan);
    world.control.collect_garbage(&|running| *running == key).await.unwrap();
    assert!(code.is_dir());
    world.control.collect_garbage(&|_| false).await.unwrap();
    assert_eq!(fs::read_dir(world.data().join("code")).unwrap().count(), 1, "only the boot's mark is left");
    use alula_store::Packages as _;
    assert!(world.packages.list().await.unwrap().is_empty());
    world.restart().await;
    let again = world.deploy(&[("alula.toml", &manifest("hello", "")), ("main.toy", "v1")]).await.unwrap();
    assert_eq!(again[0].version.key.version, 3);
    world.restart().await;
    assert_eq!(world.resolve("hello").unwrap().key.version, 3);
}

#[tokio::test]
async fn old_versions_go_unless_they_are_named() {
    let world = with_versions(1).await;
    world.control.set_alias("tester", &ns(), &name("hello"), name("first"), 1).await.unwrap();
    for number in 2..=VERSIONS_KEPT as u64 + 4 {
        let toml = manifest("hello", "");
        world.deploy(&[("alula.toml", &toml), ("main.toy", &format!("v{number}"))]).await.unwrap();
    }
    let kept = world.control.versions(&ns(), &name("hello")).await.unwrap();
    let numbers: Vec<_> = kept.iter().map(|version| version.key.version).collect();
    assert_eq!(numbers.len(), VERSIONS_KEPT + 2, "those that are kept, latest and the alias");
    assert_eq!((numbers[0], numbers.last().copied()), (VERSIONS_KEPT as u64 + 4, Some(1)));
    assert_eq!(world.resolve("hello:2").unwrap_err().code, ErrorCode::VersionNotFound);
    let before = fs::read_dir(world.data().join("code")).unwrap().count();
    let collected = world.control.collect_garbage(&|_| false).await.unwrap();
    assert_eq!(collected.code_folders, 2);
    assert_eq!(fs::read_dir(world.data().join("code")).unwrap().count(), before - 2);
    assert_eq!(world.read("hello:first", "main.toy").await, "v1");
}

#[tokio::test]
async fn the_audit_record_is_a_chain_that_tells_what_was_done_to_it() {
    let world = World::start().await;
    let note = async |number: u64| {
        world.control.note("me", "test.note", "default/x", format!("number {number}")).await.unwrap();
    };
    assert_eq!(world.control.verify_audit(&ns()).await.unwrap(), AuditReport::default());
    for number in 1..=5 {
        note(number).await;
    }
    let report = world.control.verify_audit(&ns()).await.unwrap();
    assert_eq!((report.entries, report.first, report.last, report.fault), (5, 1, 5, None));
    let links = world.control.audit(&ns(), None, None, 10).await.unwrap();
    assert_eq!(report.head, Some(links[0].hash));
    assert!(links.windows(2).all(|pair| pair[0].previous == pair[1].hash));
    assert_eq!(world.control.audit(&ns(), None, Some(3), 10).await.unwrap(), links[3..]);

    let records = world.records();
    let key = |number: u64| Key::new(&["audit-log", "default", &format!("{:020}", u64::MAX - number)]);
    let whole = records.get(&key(3)).await.unwrap().unwrap().value;
    let forged = String::from_utf8(whole.to_vec()).unwrap().replace("number 3", "number 9");
    let put = async |value: Vec<u8>| {
        records.commit(Batch::default().put(key(3), value, Expect::Any)).await.unwrap()
    };
    put(forged.into_bytes()).await;
    assert_eq!(world.control.verify_audit(&ns()).await.unwrap().fault.unwrap(), "entry 3 was changed");
    records.commit(Batch::default().delete(key(3), Expect::Any)).await.unwrap();
    assert_eq!(world.control.verify_audit(&ns()).await.unwrap().fault.unwrap(), "entry 3 is missing");
    put(whole.to_vec()).await;
    let sixth = String::from_utf8(whole.to_vec()).unwrap().replace("\"number\":3", "\"number\":6");
    records.commit(Batch::default().put(key(6), sixth, Expect::Any)).await.unwrap();
    let found = world.control.verify_audit(&ns()).await.unwrap().fault.unwrap();
    assert_eq!(found, "entry 6 was put in behind the last one");
    records.commit(Batch::default().delete(key(6), Expect::Any)).await.unwrap();
    records.commit(Batch::default().delete(key(5), Expect::Any)).await.unwrap();
    assert_eq!(world.control.verify_audit(&ns()).await.unwrap().fault.unwrap(), "entry 5 is missing");
}

#[tokio::test]
async fn two_processes_go_on_with_one_chain() {
    let world = World::start().await;
    let other = world.again().await;
    for number in 0..4 {
        let control = if number % 2 == 0 { &world.control } else { &other };
        control.note("me", "test.note", "default/x", format!("number {number}")).await.unwrap();
    }
    let report = other.verify_audit(&ns()).await.unwrap();
    assert_eq!((report.entries, report.fault), (4, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_grows_while_it_is_looked_through_is_whole() {
    let world = World::start().await;
    let control = world.control.clone();
    let writing = tokio::spawn(async move {
        for number in 0..1_000 {
            control.note("me", "test.note", "default/x", format!("number {number}")).await.unwrap();
        }
    });
    while !writing.is_finished() {
        assert_eq!(world.control.verify_audit(&ns()).await.unwrap().fault, None);
    }
    writing.await.unwrap();
}
