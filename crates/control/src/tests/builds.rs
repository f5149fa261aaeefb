use alula_model::{ErrorCode, Name};

use super::world::{World, manifest, name};
use crate::Progress;

#[tokio::test]
async fn dependencies_are_built_once_for_each_lock_file() {
    let world = World::start().await;
    let toml = manifest("hello", "");
    let (deployed, progress) = world
        .deploy_with(world.upload(&[("alula.toml", &toml), ("main.toy", "one"), ("deps.txt", "d1")]))
        .await;
    let deployed = deployed.unwrap();
    assert!(deployed[0].is_new && !deployed[0].build_cached);
    let lines: Vec<_> = progress
        .iter()
        .filter_map(|p| if let Progress::BuildLine { text, .. } = p { Some(text.as_str()) } else { None })
        .collect();
    assert_eq!(lines, ["installed d1"]);
    assert_eq!(world.read("hello", ".packages/installed").await, "d1");
    assert_eq!(
        world.read("hello", "main.toy").await,
        "one",
        "a build of dependencies does not change the source"
    );

    let deployed =
        world.deploy(&[("alula.toml", &toml), ("main.toy", "two"), ("deps.txt", "d1")]).await.unwrap();
    assert!(deployed[0].is_new && deployed[0].build_cached);
    assert_eq!((world.builds(), world.read("hello", "main.toy").await.as_str()), (1, "two"));
    assert_eq!(world.read("hello", ".packages/installed").await, "d1");

    world.deploy(&[("alula.toml", &toml), ("main.toy", "two"), ("deps.txt", "d2")]).await.unwrap();
    assert_eq!(world.builds(), 2);
    let (ns, hello) = (Name::default_namespace(), name("hello"));
    let log = |version| world.control.build_log(&ns, &hello, version);
    assert_eq!(
        (log(1).await.unwrap(), log(2).await.unwrap()),
        ("installed d1\n".into(), "installed d1\n".into())
    );
    assert_eq!(log(3).await.unwrap(), "installed d2\n");
    assert_eq!(log(9).await.unwrap_err().code, ErrorCode::VersionNotFound);
}

#[tokio::test]
async fn a_failing_build_publishes_nothing_and_shows_its_last_lines() {
    let world = World::start().await;
    let toml = manifest("hello", "");
    let files = [("alula.toml", toml.as_str()), ("main.toy", "one"), ("deps.txt", "broken")];
    let fault = world.deploy(&files).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::BuildFailed);
    assert!(fault.message.contains("status 3"), "{fault}");
    assert_eq!(fault.log_tail, ["cannot install"]);
    assert!(world.resolve("hello").is_err());
    world.deploy(&files).await.unwrap_err();
    assert_eq!(world.builds(), 2, "a failure is not remembered");
}

#[tokio::test]
async fn a_command_of_the_users_own() {
    let world = World::start().await;
    let toml = manifest(
        "hello",
        "[build]\ncommand = \"echo x >> $COUNTER; tr a-z A-Z < main.toy > out; mv out main.toy\"",
    );
    world.deploy(&[("alula.toml", &toml), ("main.toy", "one")]).await.unwrap();
    assert_eq!(world.read("hello", "main.toy").await, "ONE", "its whole result is what runs");
    world.deploy(&[("alula.toml", &toml), ("main.toy", "two")]).await.unwrap();
    assert_eq!((world.builds(), world.read("hello", "main.toy").await.as_str()), (2, "TWO"));
    world.deploy(&[("alula.toml", &toml), ("main.toy", "one")]).await.unwrap();
    assert_eq!((world.builds(), world.read("hello", "main.toy").await.as_str()), (2, "ONE"));
}

#[tokio::test]
async fn a_build_that_takes_too_long_is_ended() {
    let world = World::start().await;
    let toml = manifest("hello", "[build]\ntimeout_ms = 200\ncommand = \"echo begun; sleep 600\"");
    let fault = world.deploy(&[("alula.toml", &toml), ("main.toy", "one")]).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::BuildFailed);
    assert!(fault.message.contains("build.timeout_ms"), "{fault}");
    assert_eq!(fault.log_tail, ["begun"]);
}

#[tokio::test]
async fn the_same_dependencies_of_two_functions_are_built_once() {
    let world = World::start().await;
    let toml =
        "[defaults]\nruntime = \"toy\"\n[functions.a]\nsource = \"a\"\n[functions.b]\nsource = \"b\"\n";
    let files = [
        ("alula.toml", toml),
        ("a/main.toy", "a"),
        ("a/deps.txt", "d"),
        ("b/main.toy", "b"),
        ("b/deps.txt", "d"),
    ];
    world.deploy(&files).await.unwrap();
    assert_eq!(world.builds(), 1);
    assert_eq!(world.read("b", ".packages/installed").await, "d");
}

#[tokio::test]
async fn an_old_build_that_no_version_came_from_goes_with_its_packages() {
    let world = World::start().await;
    let toml = manifest("hello", "");
    world.deploy(&[("alula.toml", &toml), ("main.toy", "one"), ("deps.txt", "d1")]).await.unwrap();
    world.control.remove("tester", &Name::default_namespace(), &name("hello")).await.unwrap();
    let collected = world.control.collect_garbage(&|_| false).await.unwrap();
    assert_eq!((collected.builds, collected.code_folders), (0, 1), "a build is kept for a week");
    world.deploy(&[("alula.toml", &toml), ("main.toy", "two"), ("deps.txt", "d1")]).await.unwrap();
    assert_eq!(world.builds(), 1);
}
