//! What happens when a component is deployed and first loaded.

use std::sync::atomic::Ordering;

use alula_model::{ErrorCode, InstanceId};
use alula_runtime::Backend;

use crate::world::{World, program};

async fn refusal(content: &[u8]) -> String {
    let world = World::new();
    let plan = world.plan(content, |_| {});
    let fault = world.backend.prepare(&plan).await.expect_err("it is refused");
    assert_eq!(fault.code, ErrorCode::InvalidPackage);
    fault.message
}

#[tokio::test]
async fn what_cannot_be_called_is_refused_with_the_reason() {
    assert!(refusal(b"").await.contains("not WebAssembly"));
    assert!(refusal(&[0xff; 4096]).await.contains("not WebAssembly"));
    assert!(refusal(&wat::parse_str("(module)").unwrap()).await.contains("core module"));
    assert!(refusal(&wat::parse_str("(component)").unwrap()).await.contains("incoming-handler"));
    let mut torn = program();
    torn.truncate(torn.len() / 2);
    assert!(refusal(&torn).await.contains("cannot be compiled"));
    let text =
        include_str!("../fixtures/conformance.wat").replace("wasi:cli/stderr@0.2.0", "my:own/stderr@1.0.0");
    let said = refusal(&wat::parse_str(text).unwrap()).await;
    assert!(said.contains("my:own/stderr"), "{said}");
}

#[tokio::test]
async fn a_component_is_compiled_once_whatever_versions_have_it() {
    let world = World::new();
    let plan = world.plan(&program(), |_| {});
    world.backend.prepare(&plan).await.unwrap();
    let other = world.plan(&program(), |spec| spec.memory_mb = 32);
    world.backend.prepare(&other).await.unwrap();
    for _ in 0..3 {
        world.backend.start(other.clone(), InstanceId::new("one")).await.unwrap();
    }
    assert_eq!(world.compiler.compiled.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn compiled_code_that_is_gone_or_torn_is_compiled_again() {
    let world = World::new();
    let plan = world.plan(&program(), |_| {});
    world.backend.prepare(&plan).await.unwrap();
    let compiled =
        std::fs::read_dir(world.dir.path().join("compiled")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&compiled).unwrap();
    world.backend.start(plan, InstanceId::new("one")).await.unwrap();
    assert_eq!(world.compiler.compiled.load(Ordering::Relaxed), 2);
}

#[test]
fn a_spec_that_a_component_cannot_have_is_refused() {
    let world = World::new();
    let field = |change: fn(&mut alula_model::FunctionSpec)| {
        world.backend.validate(&world.plan(&program(), change)).err().map(|error| error.field)
    };
    assert_eq!(field(|_| {}), None);
    assert_eq!(field(|spec| spec.handler = None), Some("handler"));
    assert_eq!(field(|spec| spec.handler = Some("missing.wasm".to_owned())), Some("handler"));
    assert_eq!(field(|spec| spec.handler = Some("../compiled".to_owned())), Some("handler"));
    assert_eq!(field(|spec| spec.handler = Some("/etc/passwd".to_owned())), Some("handler"));
    assert_eq!(field(|spec| spec.memory_mb = 4_097), Some("memory_mb"));
    assert_eq!(field(|spec| spec.command = vec!["x".to_owned()]), Some("command"));
    assert_eq!(field(|spec| drop(spec.env.insert("ALULA_X".to_owned(), String::new()))), Some("env"));
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "the test is told by the environment whether to write the components"
)]
fn the_components_in_the_source_tree_are_what_their_text_says() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let made = wat::parse_file(format!("{root}/guest/wasm/templates/hello/main.wat")).unwrap();
    for component in ["guest/wasm/templates/hello/main.wasm", "bench/functions/wasm-hello/main.wasm"] {
        let path = format!("{root}/{component}");
        if std::env::var_os("UPDATE_COMPONENTS").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == made, "{component}: run this test with UPDATE_COMPONENTS=1");
    }
}
