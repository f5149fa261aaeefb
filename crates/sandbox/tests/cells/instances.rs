//! Every kind of process instance in real cells: the suite that all back ends pass, with the programs that the
//! runtime crate runs without isolation.
//!
//! What is tested there once more is only what the sandbox could break: sockets, pipes, signals, mounts, limits.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{Fault, FunctionSpec, InstanceId, SpecError, Tier};
use alula_runtime::conformance::{self, CollectedLog, FixedClock, Fixtures, Traits};
use alula_runtime::language::{Host, Languages};
use alula_runtime::{
    Backend, BoxFuture, Buffers, Door, ProcessBackend, Started, StemOptions, Stems, VersionPlan,
};
use alula_sandbox::Sandbox;

use crate::harness::{Outcome, tests};
use crate::programs::in_force;
use crate::room::MIB;

tests![
    python,
    wsgi,
    asgi,
    node,
    fetch,
    perl,
    exec,
    http,
    provided,
    python_from_stems,
    asgi_from_stems,
    node_from_stems,
    fetch_from_stems,
    perl_from_stems,
    exec_from_stems,
    http_from_stems,
    provided_from_stems,
];

/// What handlers that are given whole events can do.
const HANDLER: Traits =
    Traits { processes: true, streams_both_ways: false, limits_responses: true, refuses_garbage: true };
const APPLICATION: Traits = Traits { streams_both_ways: true, limits_responses: false, ..HANDLER };

async fn python(sandbox: &Sandbox) -> Outcome {
    conforms(sandbox, "python", "events/python", 1, HANDLER).await
}

async fn python_from_stems(sandbox: &Sandbox) -> Outcome {
    conforms_from_stems(sandbox, "python", "events/python", 1, HANDLER).await
}

async fn asgi_from_stems(sandbox: &Sandbox) -> Outcome {
    conforms_from_stems(sandbox, "python", "events/asgi", 8, APPLICATION).await
}

async fn node_from_stems(sandbox: &Sandbox) -> Outcome {
    conforms_from_stems(sandbox, "node", "events/node", 8, HANDLER).await
}

async fn fetch_from_stems(sandbox: &Sandbox) -> Outcome {
    let has = Traits { refuses_garbage: false, ..APPLICATION };
    conforms_from_stems(sandbox, "node", "events/fetch", 1, has).await
}

async fn perl_from_stems(sandbox: &Sandbox) -> Outcome {
    conforms_from_stems(sandbox, "perl", "events/perl", 1, HANDLER).await
}

async fn exec_from_stems(sandbox: &Sandbox) -> Outcome {
    let has = Traits { refuses_garbage: false, ..APPLICATION };
    conforms_from_stems(sandbox, "exec", "exec", 1, has).await
}

async fn http_from_stems(sandbox: &Sandbox) -> Outcome {
    conforms_from_stems(sandbox, "http", "http", 8, APPLICATION).await
}

async fn provided_from_stems(sandbox: &Sandbox) -> Outcome {
    conforms_from_stems(sandbox, "provided", "lambda", 1, HANDLER).await
}

async fn wsgi(sandbox: &Sandbox) -> Outcome {
    conforms(sandbox, "python", "events/wsgi", 1, Traits { limits_responses: false, ..HANDLER }).await
}

async fn asgi(sandbox: &Sandbox) -> Outcome {
    conforms(sandbox, "python", "events/asgi", 8, APPLICATION).await
}

async fn node(sandbox: &Sandbox) -> Outcome {
    conforms(sandbox, "node", "events/node", 8, HANDLER).await
}

async fn fetch(sandbox: &Sandbox) -> Outcome {
    conforms(sandbox, "node", "events/fetch", 1, Traits { refuses_garbage: false, ..APPLICATION }).await
}

async fn perl(sandbox: &Sandbox) -> Outcome {
    conforms(sandbox, "perl", "events/perl", 1, HANDLER).await
}

async fn exec(sandbox: &Sandbox) -> Outcome {
    conforms(sandbox, "exec", "exec", 1, Traits { refuses_garbage: false, ..APPLICATION }).await
}

async fn http(sandbox: &Sandbox) -> Outcome {
    conforms(sandbox, "http", "http", 8, APPLICATION).await
}

async fn provided(sandbox: &Sandbox) -> Outcome {
    conforms(sandbox, "provided", "lambda", 1, HANDLER).await
}

/// Runs the suite with the program `fixture` of the runtime crate, every instance started from nothing.
async fn conforms(sandbox: &Sandbox, runtime: &str, fixture: &str, concurrency: u32, has: Traits) -> Outcome {
    check(sandbox, Stems::default(), runtime, fixture, concurrency, has).await
}

/// The same with every instance made from a stem cell.
async fn conforms_from_stems(
    sandbox: &Sandbox,
    runtime: &str,
    fixture: &str,
    concurrency: u32,
    has: Traits,
) -> Outcome {
    check(sandbox, stems(sandbox), runtime, fixture, concurrency, has).await
}

async fn check(
    sandbox: &Sandbox,
    stems: Stems,
    runtime: &str,
    fixture: &str,
    concurrency: u32,
    has: Traits,
) -> Outcome {
    if !in_force(sandbox, "memory limit") {
        return Outcome::Skipped(
            "no control groups, without which nobody can say what memory is used".to_owned(),
        );
    }
    let unpacked = tempfile::tempdir().unwrap();
    // The users of cells must see the shims, and temporary folders are closed to others.
    std::fs::set_permissions(unpacked.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let languages = languages(unpacked.path());
    if let Some(reason) = languages.get(runtime).unwrap().unavailable() {
        return Outcome::Skipped(reason);
    }
    let log = Arc::new(CollectedLog::default());
    let backend = ProcessBackend {
        launcher: Arc::new(sandbox.clone()),
        languages,
        log: Arc::clone(&log) as _,
        clock: Arc::new(FixedClock::default()),
        buffers: Buffers::new(64 * MIB),
        socket_body_bytes_max: 64 * 1024,
        stems,
        door: Door::default(),
    };
    let plan = |change: &dyn Fn(&mut FunctionSpec)| {
        let made = conformance::plan(runtime, |spec| {
            spec.env.insert("CONFORMANCE".to_owned(), "yes".to_owned());
            spec.response_bytes_max = MIB;
            spec.concurrency = concurrency;
            change(spec);
        });
        Arc::new(VersionPlan { code: program(fixture), ..(*made).clone() })
    };
    let starting = |start: &str, init_timeout_ms: u64| {
        plan(&|spec| {
            spec.env.insert("START".to_owned(), start.to_owned());
            spec.init_timeout_ms = init_timeout_ms;
        })
    };
    // A program that is started for each call is not started before the first.
    let has_a_start = runtime != "exec";
    let fixtures = Fixtures {
        plan: plan(&|_| {}),
        broken: has_a_start.then(|| starting("broken", 20_000)),
        never_ready: has_a_start.then(|| starting("never", 300)),
        log,
        has,
    };
    let backend = WhenReady { backend };
    conformance::check(&backend, &fixtures).await;
    Outcome::Passed
}

/// Stems of `sandbox`, two of each runtime that is used.
pub(crate) fn stems(sandbox: &Sandbox) -> Stems {
    let options = StemOptions { per_runtime: 2, per_runtime_max: 4, made_at_once: 1 };
    Stems::new(options, Arc::new(sandbox.clone()), tokio::runtime::Handle::current())
}

/// A back end whose starts wait for a stem, where it has any, and must use it.
#[derive(Debug)]
pub(crate) struct WhenReady {
    pub(crate) backend: ProcessBackend,
}

impl Backend for WhenReady {
    fn validate(&self, plan: &VersionPlan) -> Result<(), SpecError> {
        self.backend.validate(plan)
    }

    fn start(&self, plan: Arc<VersionPlan>, id: InstanceId) -> BoxFuture<'_, Result<Started, Fault>> {
        Box::pin(async move {
            let language = self.backend.languages.get(&plan.spec.runtime).unwrap();
            let has_stems = self.backend.stems.expect(&language);
            while has_stems && self.backend.stems.ready(&language) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let started = self.backend.start(plan, id).await?;
            assert_eq!(started.tier, if has_stems { Tier::Stem } else { Tier::Cold });
            Ok(started)
        })
    }
}

pub(crate) fn languages(unpacked: &Path) -> Arc<Languages> {
    let print_version = |argv: &[String]| {
        let output = Command::new(&argv[0]).args(&argv[1..]).output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    let host = Host { resolve: &|path| path.canonicalize().ok(), run: &print_version };
    Arc::new(Languages::load(unpacked, &[], &host).unwrap())
}

fn program(fixture: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../runtime/tests/fixtures")
        .join(fixture)
        .canonicalize()
        .unwrap()
}
