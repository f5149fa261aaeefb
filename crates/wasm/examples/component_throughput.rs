//! How fast the back end is by itself, without a gateway: calls a second on one thread with a fresh guest each and
//! with guests that run many, a body that is echoed, and a cold start from compiled code.
//!
//! `cargo run --release -p alula-wasm --example component_throughput [COMPONENT]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "an example that measures and prints")]

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{Fault, InstanceId};
use alula_runtime::conformance::{self, FixedClock};
use alula_runtime::{Backend, Body, BoxFuture, Door, Instance, NoEgress, NullLog, StopGrace, VersionPlan};
use alula_wasm::{Compiler, Parts, WasmBackend};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUND: Duration = Duration::from_secs(2);
const COLD_STARTS: usize = 500;
const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest/wasm/templates/hello/main.wasm");
const SUITE: &str = include_str!("../tests/fixtures/conformance.wat");

#[derive(Debug)]
struct InProcess;

impl Compiler for InProcess {
    fn compile(&self, mut component: File) -> BoxFuture<'_, Result<Vec<u8>, Fault>> {
        let mut bytes = Vec::new();
        component.read_to_end(&mut bytes).unwrap();
        Box::pin(async move { Ok(alula_wasm::compile(&bytes).unwrap()) })
    }
}

fn plan(dir: &Path, component: &[u8], calls_per_guest: u32) -> Arc<VersionPlan> {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("main.wasm"), component).unwrap();
    let plan = conformance::plan("wasm", |spec| {
        spec.handler = Some("main.wasm".to_owned());
        spec.calls_per_guest = calls_per_guest;
    });
    Arc::new(VersionPlan { code: dir.to_owned(), ..Arc::unwrap_or_clone(plan) })
}

async fn call(instance: &dyn Instance, target: &'static str, body: Body) {
    let answer = instance.call(conformance::call(target, body)).await.unwrap();
    if answer.body.as_full().is_none() {
        answer.body.collect(u64::MAX).await.unwrap();
    }
}

async fn calls(what: &str, instance: &dyn Instance, target: &'static str, body: &'static [u8]) {
    call(instance, target, Body::full(body)).await;
    let began = Instant::now();
    let mut count = 0_u32;
    while began.elapsed() < ROUND {
        call(instance, target, Body::full(body)).await;
        count += 1;
    }
    println!("{what}: {:.1} us a call", began.elapsed().as_secs_f64() * 1e6 / f64::from(count));
}

async fn cold(backend: &WasmBackend, plan: &Arc<VersionPlan>) {
    let mut took = Vec::new();
    for _ in 0..COLD_STARTS {
        let began = Instant::now();
        let started = backend.start(Arc::clone(plan), InstanceId::new("cold")).await.unwrap();
        call(&*started.instance, "/", Body::empty()).await;
        took.push(began.elapsed());
        started.instance.stop(StopGrace(Duration::ZERO)).await;
    }
    took.sort_unstable();
    println!("cold: p50 {:?}, p99 {:?}", took[COLD_STARTS / 2], took[COLD_STARTS * 99 / 100]);
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let backend = WasmBackend::new(Parts {
        dir: dir.path().join("compiled"),
        compiler: Arc::new(InProcess),
        log: Arc::new(NullLog),
        clock: Arc::new(FixedClock::default()),
        egress: Arc::new(NoEgress),
        door: Door::default(),
    });
    let file = std::env::args().nth(1).unwrap_or_else(|| HELLO.to_owned());
    let hello = std::fs::read(file).unwrap();
    let suite = wat::parse_str(SUITE).unwrap();
    let start = async |plan: &Arc<VersionPlan>| {
        backend.start(Arc::clone(plan), InstanceId::new("one")).await.unwrap().instance
    };
    let fresh = plan(&dir.path().join("fresh"), &hello, 1);
    calls("a fresh guest", &*start(&fresh).await, "/", b"").await;
    let reused = plan(&dir.path().join("reused"), &hello, 1_000_000);
    calls("a guest that runs many", &*start(&reused).await, "/", b"").await;
    let echo = plan(&dir.path().join("suite"), &suite, 1);
    calls("100 KB echoed", &*start(&echo).await, "/echo", &[b'x'; 100 << 10]).await;
    cold(&backend, &fresh).await;
}
