//! How many calls a second one instance answers, without HTTP and without a sandbox: the price of the guest
//! protocol alone. Arguments: the runtime (`python`, `node`, `perl`), how many callers wait at once, the bytes of the
//! body that each call sends and the handler gives back, and the longest body that goes through the socket.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alula_model::InstanceId;
use alula_runtime::bare::BareLauncher;
use alula_runtime::conformance::{FixedClock, call, plan};
use alula_runtime::language::{Host, Languages};
use alula_runtime::{
    Backend as _, Body, Buffers, Door, Instance, NullLog, ProcessBackend, Stems, VersionPlan,
};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const MEASURED: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(1);

fn hello(runtime: &str) -> (&'static str, &'static str) {
    match runtime {
        "node" => (
            "index.js",
            "exports.handler = (event) => ({ statusCode: 200, body: event.body ?? 'Hello, world!\\n' })",
        ),
        "perl" => {
            ("main.pl", "sub handler { return { statusCode => 200, body => \"Hello, world!\\n\" } } 1;")
        }
        _ => (
            "main.py",
            "def handler(event, context):\n    return {'statusCode': 200, 'body': event.get('body', 'Hello, world!\\n')}\n",
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
    let mut number = |default: u64| arguments.next().map_or(default, |count| count.parse().unwrap());
    let (callers, body_bytes, socket_body_bytes_max) = (number(64), number(0), number(64 * 1024));
    let callers = usize::try_from(callers).unwrap();
    let body = Bytes::from(vec![b'x'; usize::try_from(body_bytes).unwrap()]);
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
        socket_body_bytes_max,
        stems: Stems::default(),
        door: Door::default(),
    };
    let plan = VersionPlan {
        code: code.path().to_owned(),
        ..(*plan(&runtime, |spec| (spec.request_bytes_max, spec.response_bytes_max) = (64 << 20, 64 << 20)))
            .clone()
    };
    let started = backend.start(Arc::new(plan), InstanceId::new("i")).await.unwrap();
    println!("start {:?}, init {:?}", started.start, started.init);
    load(&started.instance, callers, &body, WARM_UP).await;
    let calls = load(&started.instance, callers, &body, MEASURED).await;
    println!("{runtime}, {callers} callers: {:.0} calls a second", calls as f64 / MEASURED.as_secs_f64());
}

/// Calls the instance for `time`, one call at a time, with `callers` taking turns; gives the number of calls.
async fn load(instance: &Arc<dyn Instance>, callers: usize, body: &Bytes, time: Duration) -> usize {
    let (slot, answered) = (Arc::new(Semaphore::new(1)), Arc::new(AtomicUsize::new(0)));
    let end = Instant::now() + time;
    let tasks = (0..callers).map(|_| {
        let (instance, slot, answered) = (Arc::clone(instance), Arc::clone(&slot), Arc::clone(&answered));
        let body = body.clone();
        tokio::spawn(async move {
            while Instant::now() < end {
                let _turn = slot.acquire().await.unwrap();
                instance.hint_waiting(callers - 1);
                let mut call = call("/", Body::full(body.clone()));
                call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                let answer = instance.call(call).await.unwrap();
                assert_eq!(answer.status.as_u16(), 200);
                let sent = answer.body.collect(u64::MAX).await.unwrap();
                assert!(body.is_empty() || sent.len() == body.len());
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    futures_util::future::join_all(tasks).await;
    answered.load(Ordering::Relaxed)
}
