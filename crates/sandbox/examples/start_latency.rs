//! Prints what the start of an instance takes on this machine, until its first call is answered: from stem cells, from
//! an empty stock of them, from nothing, and from a zygote of the version.
//!
//! `cargo run --release -p alula-sandbox --features alula-runtime/conformance --example start_latency -- python 100`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example prints and may panic")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{InstanceId, Tier};
use alula_runtime::conformance::{self, FixedClock};
use alula_runtime::language::{Host, Languages};
use alula_runtime::{
    Backend, Body, Bred, Buffers, Door, NullLog, ProcessBackend, StemOptions, Stems, StopGrace, VersionPlan,
};
use alula_sandbox::{EgressGate, Sandbox, SpawnerOptions, fork_spawner};
use tokio::time::Instant;

const PYTHON: &str = "import json\ndef handler(event, context):\n    return {'statusCode': 200, 'body': json.dumps({'hello': 'world'})}\n";
const NODE: &str =
    "exports.handler = async () => ({ statusCode: 200, body: JSON.stringify({ hello: 'world' }) });\n";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let runtime = arguments.next().unwrap_or_else(|| "python".to_owned());
    let rounds = arguments.next().map_or(100, |text| text.parse().unwrap());
    let link = fork_spawner(SpawnerOptions::new("start-latency")).unwrap();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    tokio.block_on(async {
        let sandbox = Sandbox::connect(link, EgressGate::default()).await.unwrap();
        tokio::spawn(measure(sandbox, runtime, rounds)).await.unwrap();
    });
}

struct Bench {
    backend: ProcessBackend,
    plan: Arc<VersionPlan>,
}

async fn measure(sandbox: Sandbox, runtime: String, rounds: usize) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let code = folder.path().join("code");
    std::fs::create_dir(&code).unwrap();
    std::fs::write(code.join("main.py"), PYTHON).unwrap();
    std::fs::write(code.join("main.js"), NODE).unwrap();
    let made = conformance::plan(&runtime, |spec| spec.handler = Some("main.handler".to_owned()));
    let plan = Arc::new(VersionPlan { code, ..(*made).clone() });
    let backend = |per_runtime| ProcessBackend {
        launcher: Arc::new(sandbox.clone()),
        languages: languages(folder.path()),
        log: Arc::new(NullLog),
        clock: Arc::new(FixedClock::default()),
        buffers: Buffers::new(64 * 1024 * 1024),
        socket_body_bytes_max: 64 * 1024,
        door: Door::default(),
        stems: Stems::new(
            StemOptions { per_runtime, per_runtime_max: per_runtime, made_at_once: 1 },
            Arc::new(sandbox.clone()),
            tokio::runtime::Handle::current(),
        ),
    };
    let stocked = Bench { backend: backend(8), plan: Arc::clone(&plan) };
    stocked.run("stem", rounds, true).await;
    stocked.run("back to back", rounds, false).await;
    let stocked = Bench { backend: backend(1), plan: Arc::clone(&plan) };
    stocked.run("mostly empty", rounds, false).await;
    drop(stocked);
    let bench = Bench { backend: backend(0), plan };
    bench.run("from nothing", rounds, false).await;
    bench.run_zygote(rounds).await;
}

impl Bench {
    async fn run(&self, name: &str, rounds: usize, waits: bool) {
        let language = self.backend.languages.get(&self.plan.spec.runtime).unwrap();
        let mut took = Vec::new();
        let mut stems = 0;
        self.backend.stems.expect(&language);
        let began = Instant::now();
        let mut ends = Vec::new();
        for _ in 0..rounds {
            while waits && self.backend.stems.ready(&language) < 8 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let start = Instant::now();
            let started =
                self.backend.start(Arc::clone(&self.plan), InstanceId::new("an-instance")).await.unwrap();
            let answered = started.instance.call(conformance::call("/", Body::empty())).await.unwrap();
            answered.body.collect(1024).await.unwrap();
            took.push((start.elapsed(), started.start, started.init));
            stems += usize::from(started.tier == Tier::Stem);
            let instance = started.instance;
            ends.push(tokio::spawn(async move { instance.stop(StopGrace(Duration::ZERO)).await }));
        }
        let rate = rounds as f64 / began.elapsed().as_secs_f64();
        for end in ends {
            end.await.unwrap();
        }
        print(name, took, &format!("{stems} of {rounds} from stems, {rate:.0} a second"));
    }

    /// Starts from a zygote of the version, one after the other.
    async fn run_zygote(&self, rounds: usize) {
        let bred = self.backend.breed(Arc::clone(&self.plan), InstanceId::new("a-zygote")).await.unwrap();
        let zygote = match bred {
            Bred::Zygote(zygote) => zygote,
            Bred::Unfit { reason } => return println!("no zygote: {reason}"),
        };
        let mut took = Vec::new();
        for _ in 0..rounds {
            let start = Instant::now();
            let started = zygote.start(InstanceId::new("an-instance")).await.unwrap();
            let answered = started.instance.call(conformance::call("/", Body::empty())).await.unwrap();
            answered.body.collect(1024).await.unwrap();
            took.push((start.elapsed(), started.start, started.init));
            started.instance.stop(StopGrace(Duration::ZERO)).await;
            // Long enough for the next cell to be prepared.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        print("version zygote", took, &format!("{} KB", zygote.usage().memory_bytes / 1024));
    }
}

fn print(name: &str, mut took: Vec<(Duration, Duration, Duration)>, remark: &str) {
    took.sort_unstable();
    let rounds = took.len();
    let (middle, high) = (took[rounds / 2], took[rounds * 99 / 100]);
    println!(
        "{name:14} median {:>9.3?} (start {:>9.3?}, init {:>9.3?})  p99 {:>9.3?}  {remark}",
        middle.0, middle.1, middle.2, high.0
    );
}

fn languages(unpacked: &Path) -> Arc<Languages> {
    let run = |argv: &[String]| {
        let output = std::process::Command::new(&argv[0]).args(&argv[1..]).output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    Arc::new(
        Languages::load(unpacked, &[], &Host { resolve: &|path| path.canonicalize().ok(), run: &run })
            .unwrap(),
    )
}
