//! How fast the engine is by itself: calls a second on one thread, a cold start from bytecode, memory of idle
//! contexts.
//!
//! `cargo run --release -p alula-script --example script_throughput`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "an example that measures and prints")]

use std::time::Duration;

use alula_script::{Artifact, Engine, EngineOptions, Module, ModuleOptions, Request, RequestBody, compile};
use tokio::time::Instant;

const ROUND: Duration = Duration::from_secs(2);
const COLD_STARTS: usize = 1_000;

const SCRIPTS: [(&str, &str); 4] = [
    ("hello", "export default { fetch: () => new Response('hello') }"),
    ("async", "export default { async fetch() { await null; return new Response('hello') } }"),
    (
        "json",
        "export default { async fetch(r) { const { n } = await r.json(); return Response.json({ n, agent: r.headers.get('user-agent') }) } }",
    ),
    ("url", "export default { fetch(r) { return new Response(new URL(r.url).searchParams.get('name')) } }"),
];

fn module(engine: &Engine, artifact: &Artifact) -> Module {
    engine.module(ModuleOptions::new(artifact.clone(), |bytes| bytes.fill(4)))
}

fn request() -> Request {
    Request {
        method: "POST".to_owned(),
        url: "http://localhost/hello?name=world".to_owned(),
        headers: "host\0localhost\0user-agent\0example\0accept\0*/*".to_owned(),
        body: RequestBody::Whole("{\"n\":1}".into()),
        deadline: Some(Instant::now() + Duration::from_secs(10)),
        log_id: 0,
        call: alula_script::CallInfo::default(),
    }
}

async fn measure() {
    let engine = Engine::new(EngineOptions { memory_bytes_max: usize::MAX });
    for (name, source) in SCRIPTS {
        let began = Instant::now();
        let artifact = compile("main.ts", &|path| (path == "main.ts").then(|| source.into())).unwrap();
        let compiled = began.elapsed();
        let script = module(&engine, &artifact);
        script.load(None).await.unwrap();
        let (began, mut calls) = (Instant::now(), 0_u32);
        while began.elapsed() < ROUND {
            for _ in 0..100 {
                script.call(request()).await.unwrap();
                calls += 1;
            }
        }
        let us = began.elapsed().as_secs_f64() * 1e6 / f64::from(calls);
        println!(
            "{name}: {us:.2} us a call, compiled in {compiled:?}, {} bytes of heap",
            script.memory_bytes()
        );
    }
    cold(&engine).await;
}

async fn cold(engine: &Engine) {
    let artifact = compile("main.ts", &|path| (path == "main.ts").then(|| SCRIPTS[0].1.into())).unwrap();
    let before = resident_kb();
    let mut times = Vec::with_capacity(COLD_STARTS);
    let mut idle = Vec::with_capacity(COLD_STARTS);
    let mut prepared = Vec::with_capacity(COLD_STARTS);
    for number in 0..2 * COLD_STARTS {
        let is_prepared = number % 2 == 1;
        if is_prepared {
            engine.prepare().unwrap();
        }
        let began = Instant::now();
        let script = module(engine, &artifact);
        script.call(request()).await.unwrap();
        if is_prepared { &mut prepared } else { &mut times }.push(began.elapsed());
        idle.push(script);
    }
    times.sort_unstable();
    prepared.sort_unstable();
    let each_kb = (resident_kb() - before) / idle.len();
    println!(
        "cold: p50 {:?}, p99 {:?}; {each_kb} KB resident for each idle context",
        times[COLD_STARTS / 2],
        times[COLD_STARTS * 99 / 100]
    );
    println!("prepared: p50 {:?}, p99 {:?}", prepared[COLD_STARTS / 2], prepared[COLD_STARTS * 99 / 100]);
}

fn resident_kb() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, measure());
}
