//! Instances that were made from stem cells: they are what a start from nothing would have made, and nothing of one
//! instance is ever seen in another.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{FunctionSpec, InstanceId, Network, Tier};
use alula_runtime::conformance::{self, CollectedLog, FixedClock};
use alula_runtime::{Backend, Body, Buffers, Door, Instance, ProcessBackend, Stems, StopGrace, VersionPlan};
use alula_sandbox::Sandbox;

use crate::harness::{Outcome, tests};
use crate::instances::{WhenReady, languages, stems};
use crate::room::MIB;

tests![
    limits_of_the_function_hold,
    more_memory_than_a_stem_has_can_be_used,
    a_stem_looks_like_a_start_from_nothing,
    nothing_planted_is_seen_by_others,
    the_proxy_is_there_only_for_those_who_may,
    own_modules_stand_before_loaded_ones,
    variables_that_work_at_the_start_ask_for_a_start_from_nothing,
    a_resting_instance_uses_no_cpu_and_serves_the_next_call,
    a_resting_instance_can_be_ended,
];

/// Runs what is in the event's `code` and answers with what that left in `out`.
const HANDLER: &str = "def handler(event, context):\n    scope = {'out': None}\n    exec(event['code'], scope)\n    return scope['out']\n";

pub(crate) const USAGE: &str = "
import os
out = {'env': dict(os.environ), 'cwd': os.getcwd(), 'fds': sorted(os.listdir('/proc/self/fd')),
       'uid': os.getuid(), 'tmp': os.listdir('/tmp'), 'code': sorted(os.listdir('/code')),
       'processes': sorted(p for p in os.listdir('/proc') if p.isdigit() and p != str(os.getpid())),
       'limits': sorted(open('/proc/self/limits').read().splitlines()),
       'status': [l for l in open('/proc/self/status').read().splitlines()
                  if l.startswith(('Cap', 'Cpus_allowed', 'NoNewPrivs', 'Seccomp', 'Uid', 'Gid', 'Groups'))],
       'mounts': [l.split(' ')[4:6] for l in open('/proc/self/mountinfo').read().splitlines()],
       'path': __import__('sys').path}
";

/// A folder with functions, and the two ways of starting them.
struct Bench {
    _unpacked: tempfile::TempDir,
    code: tempfile::TempDir,
    from_stems: WhenReady,
    from_nothing: ProcessBackend,
}

impl Bench {
    fn new(sandbox: &Sandbox) -> Self {
        let folder = || {
            let made = tempfile::tempdir().unwrap();
            // The users of cells must see what is in it.
            std::fs::set_permissions(made.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            made
        };
        let (unpacked, code) = (folder(), folder());
        std::fs::write(code.path().join("main.py"), HANDLER).unwrap();
        let from_nothing = ProcessBackend {
            launcher: Arc::new(sandbox.clone()),
            languages: languages(unpacked.path()),
            log: Arc::new(CollectedLog::default()),
            clock: Arc::new(FixedClock::default()),
            buffers: Buffers::new(64 * MIB),
            socket_body_bytes_max: 64 * 1024,
            stems: Stems::default(),
            door: Door::default(),
        };
        let backend = ProcessBackend { stems: stems(sandbox), ..from_nothing.clone() };
        Self { _unpacked: unpacked, code, from_stems: WhenReady { backend }, from_nothing }
    }

    fn plan(&self, change: impl FnOnce(&mut FunctionSpec)) -> Arc<VersionPlan> {
        let made = conformance::plan("python", |spec| {
            spec.handler = Some("main.handler".to_owned());
            change(spec);
        });
        Arc::new(VersionPlan { code: self.code.path().to_owned(), ..(*made).clone() })
    }

    async fn start(&self, plan: Arc<VersionPlan>) -> Arc<dyn Instance> {
        self.from_stems.start(plan, InstanceId::new("an-instance")).await.unwrap().instance
    }
}

/// The value of `out` after `code` has run in the instance.
pub(crate) async fn run(instance: &Arc<dyn Instance>, code: &str) -> serde_json::Value {
    let answer = try_run(instance, code).await.unwrap();
    let body = answer.body.collect(MIB).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

pub(crate) async fn try_run(
    instance: &Arc<dyn Instance>,
    code: &str,
) -> Result<alula_runtime::Answer, alula_model::Fault> {
    let event = serde_json::json!({ "code": code }).to_string();
    let call = alula_runtime::Call { is_event: true, ..conformance::call("/", Body::full(event)) };
    instance.call(call).await
}

async fn limits_of_the_function_hold(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox);
    let plan = bench.plan(|spec| {
        spec.memory_mb = 64;
        spec.tmp_mb = Some(3);
        spec.processes_max = Some(9);
    });
    let instance = bench.start(plan).await;
    let tmp = run(&instance, "import os; s = os.statvfs('/tmp'); out = s.f_blocks * s.f_frsize").await;
    assert_eq!(tmp, 3 * MIB);
    let threads = "
import threading
done, made = threading.Event(), 0
try:
    while made < 50:
        threading.Thread(target=done.wait).start()
        made += 1
except RuntimeError:
    pass
done.set()
out = made
";
    let made = run(&instance, threads).await.as_u64().unwrap();
    assert!((1..9).contains(&made), "{made} threads besides the first");
    let fault = try_run(&instance, "out = len(bytearray(100 << 20))").await.unwrap_err();
    assert_eq!(fault.code, alula_model::ErrorCode::OutOfMemory, "{fault:?}");
    instance.stop(StopGrace(Duration::ZERO)).await;
    Outcome::Passed
}

async fn more_memory_than_a_stem_has_can_be_used(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox);
    let instance = bench.start(bench.plan(|spec| spec.memory_mb = 600)).await;
    assert_eq!(run(&instance, "out = len(bytearray(450 << 20))").await, 450_u64 << 20);
    instance.stop(StopGrace(Duration::ZERO)).await;
    Outcome::Passed
}

async fn a_stem_looks_like_a_start_from_nothing(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox);
    let plan = bench.plan(|spec| {
        spec.env = BTreeMap::from([
            ("OWN".to_owned(), "ä\n=".to_owned()),
            ("TZ".to_owned(), "Asia/Tokyo".to_owned()),
        ]);
        spec.env.insert("EMPTY".to_owned(), String::new());
        spec.tmp_mb = Some(7);
    });
    let plain = bench.from_nothing.start(Arc::clone(&plan), InstanceId::new("an-instance")).await.unwrap();
    assert_eq!(plain.tier, Tier::Cold);
    let special = bench.start(plan).await;
    let (expected, seen) = (run(&plain.instance, USAGE).await, run(&special, USAGE).await);
    for (what, value) in expected.as_object().unwrap() {
        let mut seen = seen[what].clone();
        let mut value = value.clone();
        if what == "mounts" {
            // The code is mounted last in one and before the shim in the other.
            let _ = [&mut seen, &mut value]
                .map(|list| list.as_array_mut().unwrap().sort_by_key(ToString::to_string));
        }
        assert_eq!(seen, value, "{what}");
    }
    let hour = "import time; out = time.localtime(0).tm_hour";
    assert_eq!(run(&special, hour).await, 9);
    for instance in [plain.instance, special] {
        instance.stop(StopGrace(Duration::ZERO)).await;
    }
    Outcome::Passed
}

async fn nothing_planted_is_seen_by_others(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox);
    let plant = "
import os, sys, json, builtins, subprocess
open('/tmp/planted', 'w').write('x')
json.planted = builtins.planted = sys.planted = 1
os.environ['PLANTED'] = 'x'
os.dup2(os.open('/tmp/planted', os.O_RDONLY), 77)
subprocess.Popen(['sleep', '1000'], start_new_session=True)
out = sorted(p for p in os.listdir('/proc') if p.isdigit())
";
    let look = "
import os, sys, json, builtins
out = [os.path.exists('/tmp/planted'), hasattr(json, 'planted'), hasattr(builtins, 'planted'), hasattr(sys, 'planted'),
       'PLANTED' in os.environ, os.path.exists('/proc/self/fd/77'),
       any(b'sleep' in open(f'/proc/{p}/cmdline', 'rb').read() for p in os.listdir('/proc') if p.isdigit())]
";
    let first = bench.start(bench.plan(|_| {})).await;
    run(&first, plant).await;
    assert_eq!(run(&first, look).await, serde_json::json!([true, true, true, true, true, true, true]));
    let nothing = serde_json::json!([false, false, false, false, false, false, false]);
    // While the first one is there, and after it has gone, when its place could be given away.
    let second = bench.start(bench.plan(|_| {})).await;
    assert_eq!(run(&second, look).await, nothing);
    first.stop(StopGrace(Duration::ZERO)).await;
    for _ in 0..4 {
        let next = bench.start(bench.plan(|_| {})).await;
        assert_eq!(run(&next, look).await, nothing);
        next.stop(StopGrace(Duration::ZERO)).await;
    }
    second.stop(StopGrace(Duration::ZERO)).await;
    Outcome::Passed
}

async fn the_proxy_is_there_only_for_those_who_may(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox);
    let ask = "
import socket
try:
    s = socket.create_connection(('127.0.0.1', 3128), 5)
    s.sendall(b'CONNECT 127.0.0.1:1 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
    out = s.recv(12).decode()
except OSError as error:
    out = type(error).__name__
";
    for (network, expected) in
        [(Network::None, "ConnectionRefusedError"), (Network::Internet, "HTTP/1.1 403")]
    {
        let instance = bench.start(bench.plan(|spec| spec.network = network.clone())).await;
        assert_eq!(run(&instance, ask).await, expected, "{network:?}");
        instance.stop(StopGrace(Duration::ZERO)).await;
    }
    Outcome::Passed
}

async fn own_modules_stand_before_loaded_ones(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox);
    let write = |path: &Path, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(&bench.code.path().join("hashlib.py"), "own = 1\n");
    write(&bench.code.path().join(".packages/urllib/__init__.py"), "own = 2\n");
    let instance = bench.start(bench.plan(|_| {})).await;
    let look = "import hashlib, urllib, json; out = [hashlib.own, urllib.own, hasattr(json, 'own')]";
    assert_eq!(run(&instance, look).await, serde_json::json!([1, 2, false]));
    instance.stop(StopGrace(Duration::ZERO)).await;
    Outcome::Passed
}

async fn variables_that_work_at_the_start_ask_for_a_start_from_nothing(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox);
    let spare = bench.start(bench.plan(|_| {})).await;
    let plan = bench.plan(|spec| drop(spec.env.insert("MALLOC_ARENA_MAX".to_owned(), "1".to_owned())));
    let started = bench.from_stems.backend.start(plan, InstanceId::new("an-instance")).await.unwrap();
    assert_eq!(started.tier, Tier::Cold);
    assert_eq!(run(&started.instance, "import os; out = os.environ['MALLOC_ARENA_MAX']").await, "1");
    for instance in [started.instance, spare] {
        instance.stop(StopGrace(Duration::ZERO)).await;
    }
    Outcome::Passed
}

/// Counts in the background for ever.
const COUNT: &str = "
import threading, builtins
builtins.count = 0
def work():
    while True:
        builtins.count += 1
threading.Thread(target=work, daemon=True).start()
";

async fn a_resting_instance_uses_no_cpu_and_serves_the_next_call(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox);
    let instance = bench.start(bench.plan(|_| {})).await;
    run(&instance, COUNT).await;
    for _ in 0..3 {
        instance.rest();
        let used = frozen_usage(&instance).await;
        let Some(used) = used else {
            return Outcome::Skipped("the machine has no freezer".to_owned());
        };
        let burn = std::hint::black_box((0..20_000_000_u64).fold(0, |sum, n| sum ^ n));
        assert_eq!(instance.usage().cpu_us, used, "{burn}");
        let count = run(&instance, "import builtins; out = builtins.count").await;
        assert!(count.as_u64().unwrap() > 0);
        assert!(instance.usage().cpu_us > used, "it runs again");
    }
    instance.stop(StopGrace(Duration::ZERO)).await;
    Outcome::Passed
}

/// The CPU time of an instance once it does not grow any more; `None` where it goes on growing.
async fn frozen_usage(instance: &Arc<dyn Instance>) -> Option<u64> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    let mut before = instance.usage().cpu_us;
    while tokio::time::Instant::now() < deadline {
        // Several ticks of the accounting.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = instance.usage().cpu_us;
        if now == before {
            return Some(now);
        }
        before = now;
    }
    None
}

async fn a_resting_instance_can_be_ended(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox);
    // Politely, by force, and by being forgotten.
    for grace in [Some(Duration::from_secs(5)), Some(Duration::ZERO), None] {
        let instance = bench.start(bench.plan(|_| {})).await;
        run(&instance, "out = 1").await;
        instance.rest();
        match grace {
            Some(grace) => {
                let stopping = tokio::time::timeout(Duration::from_secs(20), instance.stop(StopGrace(grace)));
                stopping.await.expect("a frozen instance ends");
            }
            None => drop(instance),
        }
    }
    Outcome::Passed
}
