//! The shims and the platform's side of the protocol, with real interpreters on the bare launcher.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod ahead;
mod applications;
mod handlers;
mod hostile;
mod lifecycle;
mod shared;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use alula_model::{ErrorCode, FunctionSpec, InstanceId};
use bytes::Bytes;
use serde_json::Value;

use super::super::ProcessBackend;
use crate::bare::BareLauncher;
use crate::conformance::{self, CollectedLog, FixedClock, Fixtures, Traits, call};
use crate::language::{Host, Languages};
use crate::{Answer, Backend, Body, Buffers, Door, Instance, Stems, VersionPlan};

const MIB: u64 = 1024 * 1024;

/// A back end with the interpreters of this machine.
struct Bench {
    backend: ProcessBackend,
    log: Arc<CollectedLog>,
    _unpacked: tempfile::TempDir,
}

fn print_version(argv: &[String]) -> Option<String> {
    let output = Command::new(&argv[0]).args(&argv[1..]).output().ok()?;
    String::from_utf8(output.stdout).ok()
}

impl Bench {
    fn new() -> Self {
        Self::with_languages(&[])
    }

    fn with_languages(extra: &[PathBuf]) -> Self {
        let unpacked = tempfile::tempdir().unwrap();
        let host = Host { resolve: &|path| path.canonicalize().ok(), run: &print_version };
        let log = Arc::new(CollectedLog::default());
        let backend = ProcessBackend {
            launcher: Arc::new(BareLauncher),
            languages: Arc::new(Languages::load(unpacked.path(), extra, &host).unwrap()),
            log: Arc::clone(&log) as _,
            clock: Arc::new(FixedClock::default()),
            buffers: Buffers::new(64 * MIB),
            socket_body_bytes_max: 64 * 1024,
            stems: Stems::default(),
            door: Door::default(),
        };
        Self { backend, log, _unpacked: unpacked }
    }

    async fn start(&self, plan: &Arc<VersionPlan>) -> Arc<dyn Instance> {
        self.backend.validate(plan).unwrap();
        self.backend.start(Arc::clone(plan), InstanceId::new("an-instance")).await.unwrap().instance
    }

    async fn start_fixture(&self, runtime: &str, name: &str) -> Arc<dyn Instance> {
        self.start(&fixture(runtime, name, |_| {})).await
    }

    async fn line(&self, text: &str) -> alula_model::LogLine {
        let found = self.log.wait_for(|line| line.text.contains(text));
        match tokio::time::timeout(std::time::Duration::from_secs(10), found).await {
            Ok(line) => line,
            Err(_) => panic!("no line has {text:?}: {:#?}", self.log.lines()),
        }
    }
}

/// A plan for a program of `tests/fixtures/events`.
fn fixture(runtime: &str, name: &str, change: impl FnOnce(&mut FunctionSpec)) -> Arc<VersionPlan> {
    let code = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events").join(name);
    let made = conformance::plan(runtime, |spec| {
        spec.env.insert("CONFORMANCE".to_owned(), "yes".to_owned());
        spec.response_bytes_max = MIB;
        change(spec);
    });
    Arc::new(VersionPlan { code, ..(*made).clone() })
}

/// A plan for a function of these files.
fn package(
    runtime: &str,
    handler: Option<&str>,
    files: &[(&str, &str)],
) -> (tempfile::TempDir, Arc<VersionPlan>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let made = conformance::plan(runtime, |spec| spec.handler = handler.map(str::to_owned));
    let plan = Arc::new(VersionPlan { code: folder.path().to_owned(), ..(*made).clone() });
    (folder, plan)
}

async fn text(answer: Answer) -> String {
    String::from_utf8(answer.body.collect(64 * MIB).await.unwrap().to_vec()).unwrap()
}

async fn json(answer: Answer) -> Value {
    serde_json::from_str(&text(answer).await).unwrap()
}

/// Calls `target` and expects the answer's body as JSON.
async fn get(instance: &dyn Instance, target: &'static str) -> Value {
    json(instance.call(call(target, Body::empty())).await.unwrap()).await
}

/// Calls `target` and expects a fault of this code; gives its message.
async fn fault(instance: &dyn Instance, target: &'static str, code: ErrorCode) -> alula_model::Fault {
    let fault = instance.call(call(target, Body::empty())).await.map(|answer| answer.status).unwrap_err();
    assert_eq!(fault.code, code, "{target}: {fault}");
    fault
}

async fn still_works(instance: &dyn Instance) {
    assert!(!instance.is_gone());
    let answer = instance.call(call("/echo", Body::full(Bytes::from("again")))).await.unwrap();
    assert_eq!(answer.body.collect(100).await.unwrap(), "again");
}

async fn conforms(runtime: &str, name: &str, has: Traits) {
    let bench = Bench::new();
    let starting = |start: &'static str| {
        fixture(runtime, name, |spec| {
            spec.env.insert("START".to_owned(), start.to_owned());
            spec.init_timeout_ms = if start == "never" { 300 } else { 20_000 };
        })
    };
    let fixtures = Fixtures {
        plan: fixture(runtime, name, |_| {}),
        broken: Some(starting("broken")),
        never_ready: Some(starting("never")),
        log: Arc::clone(&bench.log),
        has,
    };
    conformance::check(&bench.backend, &fixtures).await;
}

const HANDLER: Traits =
    Traits { processes: true, streams_both_ways: false, limits_responses: true, refuses_garbage: true };
const APPLICATION: Traits =
    Traits { processes: true, streams_both_ways: true, limits_responses: false, refuses_garbage: true };

#[tokio::test]
async fn python_handlers_conform() {
    conforms("python", "python", HANDLER).await;
}

#[tokio::test]
async fn wsgi_applications_conform() {
    conforms("python", "wsgi", Traits { limits_responses: false, ..HANDLER }).await;
}

#[tokio::test]
async fn asgi_applications_conform() {
    conforms("python", "asgi", APPLICATION).await;
}

#[tokio::test]
async fn node_handlers_conform() {
    conforms("node", "node", HANDLER).await;
}

#[tokio::test]
async fn fetch_applications_conform() {
    conforms("node", "fetch", Traits { refuses_garbage: false, ..APPLICATION }).await;
}

#[tokio::test]
async fn perl_handlers_conform() {
    conforms("perl", "perl", HANDLER).await;
}
