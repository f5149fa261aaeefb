use std::fs;

use alula_model::{ErrorCode, Name, Qualifier};

use super::world::{World, manifest, name, overrides};
use crate::{DryRun, Progress, Stage};

#[tokio::test]
async fn a_deploy_is_in_force_when_it_returns_and_after_a_restart() {
    let mut world = World::start().await;
    let files = [("alula.toml", manifest("hello", "memory_mb = 64")), ("main.toy", "one".to_owned())];
    let files = files.each_ref().map(|(path, content)| (*path, content.as_str()));
    let (deployed, progress) = world.deploy_with(world.upload(&files)).await;
    let deployed = deployed.unwrap();
    assert_eq!((deployed[0].version.key.version, deployed[0].is_new), (1, true));
    assert_eq!(deployed[0].version.spec.runtime, "toy1", "the alias is resolved");
    let stages: Vec<_> = progress
        .iter()
        .filter_map(|p| if let Progress::Stage { stage, .. } = p { Some(*stage) } else { None })
        .collect();
    assert_eq!(stages, [Stage::Upload, Stage::Validate, Stage::Publish, Stage::Ready]);
    assert_eq!(world.read("hello", "main.toy").await, "one");
    world.restart().await;
    assert_eq!(world.resolve("hello").unwrap().spec.memory_mb, 64);
    assert_eq!(world.read("hello", "main.toy").await, "one");
    assert_eq!(fs::read_dir(world.data().join("tmp")).unwrap().count(), 0, "nothing unfinished is left");
}

#[tokio::test]
async fn the_same_again_makes_no_new_version() {
    let world = World::start().await;
    let toml = manifest("hello", "");
    let files = [("alula.toml", toml.as_str()), ("main.toy", "one")];
    world.deploy(&files).await.unwrap();
    let again = world.deploy(&files).await.unwrap();
    assert_eq!((again[0].version.key.version, again[0].is_new), (1, false));
    let changed = world.deploy(&[("alula.toml", &toml), ("main.toy", "two")]).await.unwrap();
    assert_eq!((changed[0].version.key.version, changed[0].is_new), (2, true));
    let toml = manifest("hello", "memory_mb = 99");
    let changed = world.deploy(&[("alula.toml", &toml), ("main.toy", "two")]).await.unwrap();
    assert_eq!((changed[0].version.key.version, changed[0].is_new), (3, true));
}

#[tokio::test]
async fn a_single_file_needs_nothing_else() {
    let world = World::start().await;
    let (deployed, _) = world.deploy_with(world.upload_bytes(b"hi", Some("Hello.toy"))).await;
    let version = deployed.unwrap().remove(0).version;
    assert_eq!((version.key.function.as_str(), version.spec.runtime.as_str()), ("hello", "toy1"));
    assert_eq!(version.spec.command, ["./Hello.toy"]);
    let (deployed, _) = world.deploy_with(world.upload_bytes(b"#!/bin/sh\necho", Some("script"))).await;
    assert_eq!(deployed.unwrap()[0].version.spec.runtime, "exec");
    let (deployed, _) = world.deploy_with(world.upload_bytes(b"hello", Some("notes.txt"))).await;
    assert_eq!(deployed.unwrap_err().code, ErrorCode::InvalidSpec);
    let (deployed, _) = world.deploy_with(world.upload_bytes(b"hello", None)).await;
    assert_eq!(deployed.unwrap_err().code, ErrorCode::InvalidPackage);
    let (deployed, _) = world.deploy_with(world.upload_bytes(b"hello", Some("../x.toy"))).await;
    assert_eq!(deployed.unwrap_err().code, ErrorCode::InvalidPackage);
}

#[tokio::test]
async fn a_folder_without_a_manifest_is_named_by_the_upload() {
    let world = World::start().await;
    let mut upload = world.upload(&[("project/main.toy", "x"), ("project/lib/a.toy", "y")]);
    upload.overrides = overrides("shop");
    assert_eq!(world.deploy_with(upload).await.0.unwrap()[0].version.key.function, name("shop"));
    assert_eq!(world.read("shop", "lib/a.toy").await, "y");
    let unnamed = world.deploy(&[("main.toy", "x")]).await.unwrap_err();
    assert!(unnamed.message.contains("no name"), "{unnamed}");
    let mut ambiguous = world.upload(&[("a.toy", "x"), ("b.toy", "x")]);
    ambiguous.overrides = overrides("shop");
    let fault = world.deploy_with(ambiguous).await.0.unwrap_err();
    assert!(fault.message.contains("a.toy and b.toy"), "{fault}");
}

#[tokio::test]
async fn several_functions_are_all_published_or_none() {
    let world = World::start().await;
    let toml =
        "[defaults]\nruntime = \"toy\"\n[functions.a]\nsource = \"a\"\n[functions.b]\nsource = \"b\"\n";
    let good = [("alula.toml", toml), ("a/main.toy", "a"), ("b/main.toy", "b")];
    let bad = toml.replace("source = \"b\"", "source = \"b\"\nruntime = \"nope\"");
    let fault = world.deploy(&[("alula.toml", &bad), good[1], good[2]]).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::RuntimeUnknown);
    assert_eq!(world.control.catalog().load().functions(&Name::default_namespace()).count(), 0);
    assert_eq!(world.deploy(&good).await.unwrap().len(), 2);
    assert_eq!(world.read("b", "main.toy").await, "b");
    assert!(!world.resolve("b").unwrap().code.join("alula.toml").exists(), "each has its own package");
    let again = world.deploy(&[good[0], good[1], ("b/main.toy", "B")]).await.unwrap();
    let news: Vec<_> = again.iter().map(|d| (d.version.key.function.as_str(), d.is_new)).collect();
    assert_eq!(news, [("a", false), ("b", true)]);
    let mut one = world.upload(&[good[0], ("a/main.toy", "A"), ("b/main.toy", "BB")]);
    one.overrides = overrides("a");
    assert_eq!(world.deploy_with(one).await.0.unwrap().len(), 1, "the name picks one");
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let world = World::start().await;
    let toml = manifest("hello", "");
    let mut upload = world.upload(&[("alula.toml", &toml), ("main.toy", "x"), ("deps.txt", "d")]);
    upload.dry_run = DryRun::Yes;
    let deployed = world.deploy_with(upload).await.0.unwrap();
    assert_eq!((deployed[0].version.key.version, deployed[0].is_new), (1, true));
    assert!(world.resolve("hello").is_err());
    assert_eq!(world.builds(), 0);
}

#[tokio::test]
async fn a_route_belongs_to_one_function() {
    let world = World::start().await;
    let first = manifest("first", "routes = [\"GET /u/{id}\"]");
    world.deploy(&[("alula.toml", &first), ("main.toy", "x")]).await.unwrap();
    let second = manifest("second", "routes = [\"GET /u/{name}\"]");
    let fault = world.deploy(&[("alula.toml", &second), ("main.toy", "x")]).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::RouteConflict);
    assert!(fault.message.contains("second") && fault.message.contains("function first"), "{fault}");
    let more_exact = manifest("second", "routes = [\"GET /u/me\"]");
    world.deploy(&[("alula.toml", &more_exact), ("main.toy", "x")]).await.unwrap();
    let route = |path: &str| {
        world.control.catalog().load().route("GET", None, path).map(|m| m.target.name.to_string())
    };
    assert_eq!((route("/u/me"), route("/u/7")), (Some("second".to_owned()), Some("first".to_owned())));

    // A route that a function gave up is free; going back to the version that had it is refused.
    world.deploy(&[("alula.toml", &manifest("first", "")), ("main.toy", "x")]).await.unwrap();
    assert_eq!(route("/u/7"), None);
    world.deploy(&[("alula.toml", &second), ("main.toy", "x")]).await.unwrap();
    let fault =
        world.control.rollback("tester", &Name::default_namespace(), &name("first"), None).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::RouteConflict);
    let twice = "[defaults]\nruntime = \"toy\"\nroutes = [\"/x\"]\n[functions.a]\n[functions.b]\n";
    let fault = world.deploy(&[("alula.toml", twice), ("main.toy", "x")]).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::RouteConflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_deploys_of_one_function_get_numbers_of_their_own() {
    let world = std::sync::Arc::new(World::start().await);
    let deploys = (0..12).map(|number| {
        let world = std::sync::Arc::clone(&world);
        tokio::spawn(async move {
            let content = (number % 6).to_string();
            let toml = manifest("hello", "");
            world.deploy(&[("alula.toml", &toml), ("main.toy", &content)]).await.unwrap().remove(0)
        })
    });
    let mut numbers: Vec<u64> = Vec::new();
    for deploy in deploys.collect::<Vec<_>>() {
        let deployed = deploy.await.unwrap();
        if deployed.is_new {
            numbers.push(deployed.version.key.version);
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let kept = world.control.versions(&Name::default_namespace(), &name("hello")).await.unwrap();
    assert_eq!(kept.len(), numbers.len());
}

#[tokio::test]
async fn a_crash_between_unpacking_and_commit_leaves_nothing_in_the_way() {
    let mut world = World::start().await;
    let toml = manifest("hello", "");
    let files = [("alula.toml", toml.as_str()), ("main.toy", "one")];
    world.deploy(&files).await.unwrap();
    // What a crash can leave: half-unpacked folders in tmp, a package and its code that nobody refers to.
    fs::create_dir_all(world.data().join("tmp/code-7/half")).unwrap();
    fs::write(world.data().join("tmp/upload-1"), "half").unwrap();
    let orphan = world.data().join("code").join("ab".repeat(32));
    fs::create_dir(&orphan).unwrap();
    world.restart().await;
    assert_eq!(fs::read_dir(world.data().join("tmp")).unwrap().count(), 0);
    let collected = world.control.collect_garbage(&|_| false).await.unwrap();
    assert_eq!(collected.code_folders, 1);
    assert!(!orphan.exists());
    assert_eq!(world.read("hello", "main.toy").await, "one");
}

#[tokio::test]
async fn code_that_is_gone_or_from_another_boot_is_unpacked_again() {
    let mut world = World::start().await;
    let toml = manifest("hello", "");
    world.deploy(&[("alula.toml", &toml), ("main.toy", "one")]).await.unwrap();
    let code = world.resolve("hello").unwrap().code.clone();
    fs::write(world.data().join("code/boot-id"), "another boot").unwrap();
    world.restart().await;
    assert!(!code.exists());
    assert_eq!(world.read("hello", "main.toy").await, "one");
}

#[tokio::test]
async fn code_is_read_only() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::start().await;
    world.deploy(&[("alula.toml", &manifest("hello", "")), ("main.toy", "x"), ("d/f", "y")]).await.unwrap();
    let code = world.resolve("hello").unwrap().code.clone();
    let mode = |file: &str| fs::metadata(code.join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("main.toy"), mode("d"), mode("d/f")), (0o444, 0o555, 0o444));
}

#[tokio::test]
async fn versions_differ_by_fields_and_files() {
    let world = World::start().await;
    world.deploy(&[("alula.toml", &manifest("hello", "")), ("main.toy", "a\nb\n")]).await.unwrap();
    let toml = manifest("hello", "memory_mb = 99\n");
    world.deploy(&[("alula.toml", &toml), ("main.toy", "a\nc\n"), ("new", "n")]).await.unwrap();
    let ns = Name::default_namespace();
    let diff =
        world.control.diff(&ns, &name("hello"), &Qualifier::Version(1), &Qualifier::Latest).await.unwrap();
    assert_eq!((diff.from, diff.to), (1, 2));
    assert_eq!(diff.fields.iter().map(|field| field.field.as_str()).collect::<Vec<_>>(), ["memory_mb"]);
    let files: Vec<_> = diff.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["alula.toml", "main.toy", "new"]);
    assert!(diff.files[1].text.as_deref().unwrap().contains("-b\n+c\n"));
    let missing = world.control.diff(&ns, &name("hello"), &Qualifier::Version(9), &Qualifier::Latest).await;
    assert_eq!(missing.unwrap_err().code, ErrorCode::VersionNotFound);
}

#[tokio::test]
async fn a_trigger_that_cannot_be_watched_is_refused() {
    let world = World::start().await;
    let toml = |trigger: &str| {
        let triggers = format!("[[triggers]]\nname = \"{trigger}\"\nkind = \"schedule\"\nevery = \"1h\"\n");
        manifest("hello", &triggers)
    };
    let wrong = world.deploy(&[("alula.toml", &toml("tuesday")), ("main.toy", "one")]).await.unwrap_err();
    assert_eq!(wrong.code, ErrorCode::InvalidSpec);
    assert!(wrong.message.contains("tuesday: choose another day"), "{}", wrong.message);
    world.deploy(&[("alula.toml", &toml("monday")), ("main.toy", "one")]).await.unwrap();
}
