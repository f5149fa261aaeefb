//! Zygotes of versions: instances that are forked from them are what any start would have made, each in a sandbox of its
//! own, and what could not be shared without harm is not.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, FunctionSpec, InstanceId, Tier};
use alula_runtime::conformance::{self, CollectedLog, FixedClock};
use alula_runtime::{
    Backend, Body, Bred, Buffers, Door, Instance, ProcessBackend, Started, Stems, StopGrace, VersionPlan,
    Zygote,
};
use alula_sandbox::Sandbox;

use crate::harness::{Outcome, tests};
use crate::instances::languages;
use crate::room::MIB;
use crate::stems::{USAGE, run, try_run};

tests![
    an_instance_is_forked_with_everything_loaded,
    a_forked_instance_looks_like_any_other,
    nothing_of_one_instance_is_seen_by_another_of_the_same_zygote,
    randomness_differs_between_instances,
    what_cannot_be_forked_is_told_and_starts_as_usual,
    files_that_are_read_have_a_position_in_each_instance,
    the_codes_own_hooks_run,
    a_zygote_that_ends_or_hangs_is_given_up,
    instances_outlive_their_zygote,
    limits_hold_for_each_instance,
    an_asgi_application_has_a_loop_of_its_own_in_each_instance,
    many_are_forked_at_once,
];

/// What the functions here begin with: something to load, and a handler that runs what is in the event's `code` and
/// answers with what that left in `out`.
const HANDLER: &str = "
import random, os
loaded = {'pid': os.getpid(), 'random': random.random()}
def handler(event, context):
    scope = {'out': None, 'main': globals(), 'context': context}
    exec(event['code'], scope)
    return scope['out']
";

struct Bench {
    _unpacked: tempfile::TempDir,
    code: tempfile::TempDir,
    backend: ProcessBackend,
    log: Arc<CollectedLog>,
}

impl Bench {
    fn new(sandbox: &Sandbox, begin: &str) -> Self {
        let folder = || {
            let made = tempfile::tempdir().unwrap();
            std::fs::set_permissions(made.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            made
        };
        let (unpacked, code) = (folder(), folder());
        std::fs::write(code.path().join("main.py"), format!("{begin}\n{HANDLER}")).unwrap();
        let log = Arc::new(CollectedLog::default());
        let backend = ProcessBackend {
            launcher: Arc::new(sandbox.clone()),
            languages: languages(unpacked.path()),
            log: Arc::clone(&log) as _,
            clock: Arc::new(FixedClock::default()),
            buffers: Buffers::new(64 * MIB),
            socket_body_bytes_max: 64 * 1024,
            stems: Stems::default(),
            door: Door::default(),
        };
        Self { _unpacked: unpacked, code, backend, log }
    }

    fn plan(&self, change: impl FnOnce(&mut FunctionSpec)) -> Arc<VersionPlan> {
        let made = conformance::plan("python", |spec| {
            spec.handler = Some("main.handler".to_owned());
            change(spec);
        });
        Arc::new(VersionPlan { code: self.code.path().to_owned(), ..(*made).clone() })
    }

    /// A zygote, or why there can be none; nothing where this machine forks none.
    async fn breed(&self) -> Option<Result<Arc<dyn Zygote>, String>> {
        self.breed_of(self.plan(|_| {})).await
    }

    async fn breed_of(&self, plan: Arc<VersionPlan>) -> Option<Result<Arc<dyn Zygote>, String>> {
        if !self.backend.launcher.can_fork() {
            return None;
        }
        Some(match self.backend.breed(plan, InstanceId::new("a-zygote")).await.unwrap() {
            Bred::Zygote(zygote) => Ok(zygote),
            Bred::Unfit { reason } => Err(reason),
        })
    }
}

async fn start(zygote: &Arc<dyn Zygote>, id: &str) -> Arc<dyn Instance> {
    let started: Started = zygote.start(InstanceId::new(id)).await.unwrap();
    assert_eq!(started.tier, Tier::Zygote);
    started.instance
}

async fn stop(instances: impl IntoIterator<Item = Arc<dyn Instance>>) {
    for instance in instances {
        instance.stop(StopGrace(Duration::ZERO)).await;
    }
}

async fn an_instance_is_forked_with_everything_loaded(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox, "print('loading')");
    let Some(zygote) = bench.breed().await else { return no_zygotes() };
    let zygote = zygote.unwrap();
    let (one, two) = (start(&zygote, "one").await, start(&zygote, "two").await);
    let look =
        "import os; out = [main['loaded']['random'], os.environ['ALULA_INSTANCE'], context.log_stream_name]";
    let (first, second) = (run(&one, look).await, run(&two, look).await);
    assert_eq!(first[0], second[0], "what was loaded is there");
    assert_eq!([&first[1], &first[2]], ["one", "one"]);
    assert_eq!([&second[1], &second[2]], ["two", "two"]);
    let loads = bench.log.lines().iter().filter(|line| line.text == "loading").count();
    assert_eq!(loads, 1, "the code was loaded once");
    run(&two, "print('from two')").await;
    let line = bench.log.wait_for(|line| line.text == "from two").await;
    assert_eq!(line.instance.as_str(), "two");
    stop([one, two]).await;
    Outcome::Passed
}

async fn a_forked_instance_looks_like_any_other(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox, "");
    let change = |spec: &mut FunctionSpec| {
        spec.env = BTreeMap::from([("OWN".to_owned(), "ä\n=".to_owned())]);
        spec.tmp_mb = Some(7);
    };
    let plan = bench.plan(change);
    let Some(zygote) = bench.breed_of(Arc::clone(&plan)).await else { return no_zygotes() };
    let plain = bench.backend.start(plan, InstanceId::new("an-instance")).await.unwrap().instance;
    let forked = start(&zygote.unwrap(), "an-instance").await;
    let (expected, seen) = (run(&plain, USAGE).await, run(&forked, USAGE).await);
    for (what, value) in expected.as_object().unwrap() {
        let mut lists = [seen[what].clone(), value.clone()];
        if what == "mounts" {
            lists.iter_mut().for_each(|list| list.as_array_mut().unwrap().sort_by_key(ToString::to_string));
        }
        if what == "fds" {
            // What is forked from a version shares no memory with the platform.
            lists[1].as_array_mut().unwrap().retain(|fd| fd != "251");
        }
        assert_eq!(lists[0], lists[1], "{what}");
    }
    stop([plain, forked]).await;
    Outcome::Passed
}

async fn nothing_of_one_instance_is_seen_by_another_of_the_same_zygote(sandbox: &Sandbox) -> Outcome {
    let plant = "
import os, sys, json, builtins, subprocess, socket
open('/tmp/planted', 'w').write('x')
json.planted = builtins.planted = main['planted'] = 1
os.environ['PLANTED'] = 'x'
os.dup2(os.open('/tmp/planted', os.O_RDONLY), 77)
subprocess.Popen(['sleep', '1000'], start_new_session=True)
server = builtins.server = socket.create_server(('127.0.0.1', 8099))
";
    let look = "
import os, sys, json, builtins, socket
def answers():
    try:
        socket.create_connection(('127.0.0.1', 8099), 1).close()
    except OSError:
        return False
    return True
out = [os.path.exists('/tmp/planted'), hasattr(json, 'planted'), hasattr(builtins, 'planted'), 'planted' in main,
       'PLANTED' in os.environ, os.path.exists('/proc/self/fd/77'), answers(),
       any(b'sleep' in open(f'/proc/{p}/cmdline', 'rb').read() for p in os.listdir('/proc') if p.isdigit())]
";
    let bench = Bench::new(sandbox, "");
    let Some(zygote) = bench.breed().await else { return no_zygotes() };
    let zygote = zygote.unwrap();
    let (first, before) = (start(&zygote, "first").await, start(&zygote, "before").await);
    run(&first, plant).await;
    assert_eq!(run(&first, look).await, serde_json::json!([true].repeat(8)));
    let after = start(&zygote, "after").await;
    for other in [&before, &after] {
        assert_eq!(run(other, look).await, serde_json::json!([false].repeat(8)));
    }
    // Every process that the first can name.
    let fault = try_run(
        &first,
        "import os, signal; os.kill(-1, signal.SIGKILL); os.kill(os.getpid(), signal.SIGKILL)",
    )
    .await;
    assert!(fault.is_err());
    assert_eq!(run(&after, "out = 1").await, 1);
    stop([first, before, after]).await;
    Outcome::Passed
}

async fn randomness_differs_between_instances(sandbox: &Sandbox) -> Outcome {
    let begin = "
import ssl, uuid, secrets, tempfile
ssl.RAND_bytes(8); random.random(); tempfile.mktemp()
";
    let bench = Bench::new(sandbox, &format!("import random\n{begin}"));
    let Some(zygote) = bench.breed().await else { return no_zygotes() };
    let zygote = zygote.unwrap();
    let draw = "
import random, ssl, uuid, secrets, tempfile, os
out = [random.random(), ssl.RAND_bytes(8).hex(), str(uuid.uuid4()), secrets.token_hex(8), tempfile.mktemp(),
       main['loaded']['pid'] != os.getpid()]
";
    let (one, two) = (start(&zygote, "one").await, start(&zygote, "two").await);
    let (first, second) = (run(&one, draw).await, run(&two, draw).await);
    for index in 0..5 {
        assert_ne!(first[index], second[index], "draw {index}");
    }
    assert_eq!((&first[5], &second[5]), (&true.into(), &true.into()), "libraries see that they were forked");
    stop([one, two]).await;
    Outcome::Passed
}

async fn what_cannot_be_forked_is_told_and_starts_as_usual(sandbox: &Sandbox) -> Outcome {
    let cases = [
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
            "thread",
        ),
        ("import socket; s = socket.socket()", "socket"),
        ("import os; p = os.pipe()", "pipe"),
        ("import asyncio; loop = asyncio.new_event_loop()", "open"),
        ("import subprocess; p = subprocess.Popen(['sleep', '99'])", "processes running"),
        ("open('/tmp/left', 'w').close()", "files in /tmp"),
        ("f = open('/tmp/gone', 'w'); import os; os.remove('/tmp/gone')", "file for writing"),
        ("import mmap; m = mmap.mmap(-1, 4096)", "memory that processes share"),
        ("import signal; signal.setitimer(signal.ITIMER_VIRTUAL, 99)", "timer"),
    ];
    for (begin, expected) in cases {
        let bench = Bench::new(sandbox, begin);
        let Some(bred) = bench.breed().await else { return no_zygotes() };
        let reason = bred.unwrap_err();
        assert!(reason.contains(expected), "{begin}: {reason}");
        let started = bench.backend.start(bench.plan(|_| {}), InstanceId::new("i")).await.unwrap();
        assert_eq!(run(&started.instance, "out = 1").await, 1, "{begin}");
        stop([started.instance]).await;
    }
    Outcome::Passed
}

async fn files_that_are_read_have_a_position_in_each_instance(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox, "data = open('/code/data.txt', 'rb', buffering=0); data.read(2)");
    std::fs::write(bench.code.path().join("data.txt"), "0123456789").unwrap();
    let Some(zygote) = bench.breed().await else { return no_zygotes() };
    let zygote = zygote.unwrap();
    let (one, two) = (start(&zygote, "one").await, start(&zygote, "two").await);
    let read = "out = main['data'].read(3).decode()";
    assert_eq!(run(&one, read).await, "234");
    assert_eq!(run(&two, read).await, "234");
    assert_eq!(run(&one, read).await, "567");
    stop([one, two]).await;
    Outcome::Passed
}

async fn the_codes_own_hooks_run(sandbox: &Sandbox) -> Outcome {
    let begin = "
import os, socket
hooks = []
connection = socket.socket()
def before_snapshot():
    connection.close()
    hooks.append('before')
def after_fork():
    hooks.append('after in ' + os.environ['ALULA_INSTANCE'])
os.register_at_fork(after_in_child=lambda: hooks.append('in child'))
";
    let bench = Bench::new(sandbox, begin);
    let Some(zygote) = bench.breed().await else { return no_zygotes() };
    let instance = start(&zygote.unwrap(), "one").await;
    let hooks = run(&instance, "out = main['hooks']").await;
    assert_eq!(hooks, serde_json::json!(["before", "in child", "after in one"]));
    stop([instance]).await;
    // A hook that fails is a start that fails.
    let bench = Bench::new(sandbox, "def after_fork():\n    raise ValueError('no')");
    let Some(zygote) = bench.breed().await else { return no_zygotes() };
    let fault = zygote.unwrap().start(InstanceId::new("one")).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::InitFailed);
    assert!(fault.message.contains("no"), "{fault:?}");
    Outcome::Passed
}

async fn a_zygote_that_ends_or_hangs_is_given_up(sandbox: &Sandbox) -> Outcome {
    for before in ["os._exit(3)", "__import__('time').sleep(99)", "os.kill(os.getpid(), 9)"] {
        // The first fork is made with the zygote, and serves the first start.
        let begin = format!(
            "import os, itertools\nforks = itertools.count()\n\
             os.register_at_fork(before=lambda: next(forks) and {before})"
        );
        let bench = Bench::new(sandbox, &begin);
        let Some(zygote) = bench.breed().await else { return no_zygotes() };
        let zygote = zygote.unwrap();
        let one = start(&zygote, "one").await;
        assert!(zygote.start(InstanceId::new("two")).await.is_err(), "{before}");
        assert_eq!(run(&one, "out = 1").await, 1, "what was forked before goes on");
        stop([one]).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while !zygote.is_gone() {
            assert!(tokio::time::Instant::now() < deadline, "{before}");
            tokio::task::yield_now().await;
        }
    }
    Outcome::Passed
}

async fn instances_outlive_their_zygote(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox, "");
    let Some(zygote) = bench.breed().await else { return no_zygotes() };
    let zygote = zygote.unwrap();
    let (one, two) = (start(&zygote, "one").await, start(&zygote, "two").await);
    drop(zygote);
    // Whatever takes the place of what has gone.
    for _ in 0..3 {
        let other = bench.backend.start(bench.plan(|_| {}), InstanceId::new("other")).await.unwrap();
        assert_eq!(run(&other.instance, "out = 1").await, 1);
        stop([other.instance]).await;
        for instance in [&one, &two] {
            assert_eq!(
                run(instance, "import os; open('/tmp/x', 'w').write('x'); out = os.getuid()").await,
                0
            );
        }
    }
    let ended = tokio::time::timeout(Duration::from_secs(20), stop([one, two])).await;
    assert!(ended.is_ok(), "they end");
    Outcome::Passed
}

async fn limits_hold_for_each_instance(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox, "");
    let plan = bench.plan(|spec| (spec.memory_mb, spec.tmp_mb, spec.processes_max) = (64, Some(3), Some(9)));
    let Some(zygote) = bench.breed_of(plan).await else { return no_zygotes() };
    let zygote = zygote.unwrap();
    let (one, two) = (start(&zygote, "one").await, start(&zygote, "two").await);
    let tmp = run(&one, "import os; s = os.statvfs('/tmp'); out = s.f_blocks * s.f_frsize").await;
    assert_eq!(tmp, 3 * MIB);
    let fork = "
import os
made = 0
try:
    while made < 50:
        if os.fork() == 0:
            import time
            time.sleep(99)
            os._exit(0)
        made += 1
except OSError:
    pass
out = made
";
    let made = run(&one, fork).await.as_u64().unwrap();
    assert!((1..9).contains(&made), "{made} processes besides the first");
    let fault = try_run(&one, "out = len(bytearray(100 << 20))").await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::OutOfMemory, "{fault:?}");
    assert_eq!(run(&two, "out = len(bytearray(20 << 20))").await, 20 << 20, "the other one has its own");
    stop([one, two]).await;
    Outcome::Passed
}

async fn an_asgi_application_has_a_loop_of_its_own_in_each_instance(sandbox: &Sandbox) -> Outcome {
    let application = "
import asyncio, os
async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        await receive()
        scope['state']['started'] = os.environ['ALULA_INSTANCE']
        await send({'type': 'lifespan.startup.complete'})
        await receive()
        return
    await asyncio.sleep(0)
    await send({'type': 'http.response.start', 'status': 200})
    await send({'type': 'http.response.body', 'body': scope['state']['started'].encode()})
";
    let bench = Bench::new(sandbox, application);
    let plan = bench.plan(|spec| spec.handler = Some("main.app".to_owned()));
    let Some(zygote) = bench.breed_of(plan).await else { return no_zygotes() };
    let zygote = zygote.unwrap();
    for id in ["one", "two"] {
        let instance = start(&zygote, id).await;
        let answer = instance.call(conformance::call("/", Body::empty())).await.unwrap();
        assert_eq!(&answer.body.collect(MIB).await.unwrap()[..], id.as_bytes());
        stop([instance]).await;
    }
    Outcome::Passed
}

async fn many_are_forked_at_once(sandbox: &Sandbox) -> Outcome {
    let bench = Bench::new(sandbox, "");
    let Some(zygote) = bench.breed().await else { return no_zygotes() };
    let zygote = zygote.unwrap();
    let starts = (0..12).map(|number| {
        let zygote = Arc::clone(&zygote);
        tokio::spawn(async move { start(&zygote, &format!("i-{number}")).await })
    });
    let starts: Vec<_> = starts.collect();
    let mut instances = Vec::new();
    for started in starts {
        instances.push(started.await.unwrap());
    }
    for instance in &instances {
        let id = run(instance, "import os; out = os.environ['ALULA_INSTANCE']").await;
        assert_eq!(id, instance.id().as_str());
    }
    stop(instances).await;
    Outcome::Passed
}

fn no_zygotes() -> Outcome {
    Outcome::Skipped("the platform is not privileged here, so nothing is forked".to_owned())
}
