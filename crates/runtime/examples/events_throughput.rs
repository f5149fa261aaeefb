//! How many calls a second one instance answers, without HTTP and without a sandbox: the price of the guest
//! protocol alone. Arguments: the runtime (`python`, `node`, `perl`) and how many callers wait at once.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alula_model::InstanceId;
use alula_runtime::bare::BareLauncher;
use alula_runtime::conformance::{FixedClock, call, plan};
use alula_runtime::language::{Host, Languages};
use alula_runtime::{Backend as _, Body, Buffers, Instance, NullLog, ProcessBackend, Stems, VersionPlan};
use tokio::sync::Semaphore;
use tokio::time::Instant;

const MEASURED: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(1);

fn hello(runtime: &str) -> (&'static str, &'static str) {
    match runtime {
        "node" => ("index.js", "exports.handler = () => ({ statusCode: 200, body: 'Hello, world!\\n' })"),
        "perl" => {
            ("main.pl", "sub handler { return { statusCode => 200, body => \"Hello, world!\\n\" } } 1;")
        }
        _ => (
            "main.py",
            "def handler(event, context):\n    return {'statusCode': 200, 'body': 'Hello, world!\\n'}\n",
        ),
    }
}

fn run(argv: &[String]) -> Option<String> {
    String::from_utf8(Command::new(&argv[0]).args(&argv[1..]).output().ok()?.stdout).ok()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let runtime = arguments.next().unwrap_or_else(|| "python".to_owned());
    let callers = arguments.next().map_or(64, |count| count.parse().unwrap());
    let (unpacked, code) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (file, text) = hello(&runtime);
    std::fs::write(code.path().join(file), text).unwrap();
    let host = Host { resolve: &|path| path.canonicalize().ok(), run: &run };
    let backend = ProcessBackend {
        launcher: Arc::new(BareLauncher),
        languages: Arc::new(Languages::load(unpacked.path(), &[], &host).unwrap()),
        log: Arc::new(NullLog),
        clock: Arc::new(FixedClock::default()),
        buffers: Buffers::new(1 << 30),
        stems: Stems::default(),
    };
    let plan = VersionPlan { code: code.path().to_owned(), ..(*plan(&runtime, |_| {})).clone() };
    let started = backend.start(Arc::new(plan), InstanceId::new("i")).await.unwrap();
    println!("start {:?}, init {:?}", started.start, started.init);
    load(&started.instance, callers, WARM_UP).await;
    let calls = load(&started.instance, callers, MEASURED).await;
    println!("{runtime}, {callers} callers: {:.0} calls a second", calls as f64 / MEASURED.as_secs_f64());
}

/// Calls the instance for `time`, one call at a time, with `callers` taking turns; gives the number of calls.
async fn load(instance: &Arc<dyn Instance>, callers: usize, time: Duration) -> usize {
    let (slot, answered) = (Arc::new(Semaphore::new(1)), Arc::new(AtomicUsize::new(0)));
    let end = Instant::now() + time;
    let tasks = (0..callers).map(|_| {
        let (instance, slot, answered) = (Arc::clone(instance), Arc::clone(&slot), Arc::clone(&answered));
        tokio::spawn(async move {
            while Instant::now() < end {
                let _turn = slot.acquire().await.unwrap();
                instance.hint_waiting(callers - 1);
                let answer = instance.call(call("/", Body::empty())).await.unwrap();
                assert_eq!(answer.status.as_u16(), 200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    futures_util::future::join_all(tasks).await;
    answered.load(Ordering::Relaxed)
}
