//! What programs in a cell can rely on.

use std::io::{Read, Write};
use std::time::Duration;

use alula_model::ErrorCode;
use alula_runtime::{CellSpec, Launcher, ProcessExit};
use alula_sandbox::Sandbox;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Outcome, tests};
use crate::room::{MIB, Room, process, shown, spec};

tests![
    output_and_exit_codes_come_back,
    what_is_not_found_is_named,
    signals_arrive_and_are_reported,
    streams_flow_while_the_process_runs,
    interpreters_and_compilers_work,
    sweep_ends_every_process_and_keeps_the_cell,
    the_platform_dials_a_server_inside,
    the_platform_listens_inside,
    usage_counts,
    mounts_show_host_folders,
    a_late_mount_shows_up_in_a_running_process,
    the_largest_environment_passes_and_a_larger_one_is_refused,
    fifty_cells_leave_nothing,
    hundreds_of_cells_are_there_at_once,
    a_dropped_request_leaves_nothing,
    a_process_of_a_destroyed_cell_is_lost,
    everybody_who_destroys_a_cell_is_answered,
];

async fn output_and_exit_codes_come_back(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let output = room.run(&["/bin/echo", "hello"]).await;
    assert_eq!((output.exit, output.stdout.as_str()), (ProcessExit::Code(0), "hello\n"));
    let output = room.shell("echo oops >&2; exit 42").await;
    assert_eq!((output.exit, output.stderr.as_str()), (ProcessExit::Code(42), "oops\n"));
    let output = room.shell("id -u; id -g; hostname; pwd").await;
    assert_eq!(output.stdout, "0\n0\ncell\n/tmp\n");
    room.end().await;
    Outcome::Passed
}

async fn what_is_not_found_is_named(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let fault = room.start(&["no-such-tool"]).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::InitFailed);
    assert!(fault.message.contains("`no-such-tool` was not found in PATH"), "{fault}");
    let fault = room.start(&["/code/tool"]).await.unwrap_err();
    assert!(fault.message.contains("`/code/tool` was not found in the sandbox"), "{fault}");
    room.shell("printf '#!/no/such\\n' > /tmp/script; chmod +x /tmp/script").await;
    let fault = room.start(&["/tmp/script"]).await.unwrap_err();
    assert!(fault.message.contains("interpreter"), "{fault}");
    let fault = room.start(&["/etc/passwd"]).await.unwrap_err();
    assert!(fault.message.contains("cannot be run"), "{fault}");
    let mut nowhere = process(&["/bin/true"], Vec::new());
    nowhere.cwd = "/no/such".to_owned();
    let fault = room.cell.start(nowhere).await.unwrap_err();
    assert!(fault.message.contains("working directory `/no/such`"), "{fault}");
    assert_eq!(room.start(&[]).await.unwrap_err().code, ErrorCode::InvalidSpec);
    assert_eq!(room.start(&["a\0b"]).await.unwrap_err().code, ErrorCode::InitFailed);
    assert_eq!(room.shell("exit 3").await.exit, ProcessExit::Code(3), "the cell is still usable");
    room.end().await;
    Outcome::Passed
}

async fn signals_arrive_and_are_reported(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let (process, _streams) = room.start(&["/bin/sleep", "1000"]).await.unwrap();
    process.signal(libc_sigterm());
    assert_eq!(process.wait().await, ProcessExit::Signal(15));
    assert_eq!(process.wait().await, ProcessExit::Signal(15), "asked again");
    process.signal(9);
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let (process, [_, stdout, _]) = room.start(&["/bin/sh", "-c", script]).await.unwrap();
    wait_for_byte(stdout).await;
    process.signal(libc_sigterm());
    assert_eq!(process.wait().await, ProcessExit::Code(7));
    room.end().await;
    Outcome::Passed
}

fn libc_sigterm() -> i32 {
    rustix::process::Signal::TERM.as_raw()
}

async fn wait_for_byte(fd: std::os::fd::OwnedFd) {
    tokio::task::spawn_blocking(move || std::fs::File::from(fd).read_exact(&mut [0]).unwrap()).await.unwrap();
}

async fn streams_flow_while_the_process_runs(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let (process, [stdin, stdout, _stderr]) = room.start(&["/bin/cat"]).await.unwrap();
    tokio::task::spawn_blocking(move || {
        let (mut stdin, mut stdout) = (std::fs::File::from(stdin), std::fs::File::from(stdout));
        for word in ["one", "two"] {
            stdin.write_all(word.as_bytes()).unwrap();
            let mut back = [0; 3];
            stdout.read_exact(&mut back).unwrap();
            assert_eq!(back, word.as_bytes());
        }
    })
    .await
    .unwrap();
    assert_eq!(process.wait().await, ProcessExit::Code(0));
    let large = vec![b'x'; 3 * MIB as usize];
    let output = room.run_with_input(&["/usr/bin/wc", "-c"], &large).await;
    assert_eq!(output.stdout.trim(), large.len().to_string());
    room.end().await;
    Outcome::Passed
}

async fn interpreters_and_compilers_work(sandbox: &Sandbox) -> Outcome {
    let room =
        Room::with(sandbox, CellSpec { memory_bytes: 1024 * MIB, tmp_bytes: 256 * MIB, ..spec() }).await;
    let threads = "import threading, subprocess, multiprocessing as m, tempfile, json, ssl, asyncio\n\
                   t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n\
                   print(subprocess.run(['echo', 'child'], capture_output=True, text=True).stdout.strip())\n\
                   print(m.get_context('fork').Pool(2).map(abs, [-1, -2]))\n\
                   asyncio.run(asyncio.sleep(0)); tempfile.mkstemp(); print('done')";
    assert_eq!(room.python(threads).await, "thread\nchild\n[1, 2]\ndone");
    for (tool, argv, expected) in [
        ("/usr/bin/node", vec!["-e", "new Worker(''); "], ""),
        ("/usr/bin/perl", vec!["-e", "print 6*7"], "42"),
        ("/usr/bin/ruby", vec!["-e", "print 6*7"], "42"),
        ("/usr/bin/php", vec!["-r", "echo 6*7;"], "42"),
    ] {
        if !std::path::Path::new(tool).exists() {
            println!("    {tool} is not on this machine");
            continue;
        }
        let argv = if tool.ends_with("node") { vec!["-e", NODE_SCRIPT] } else { argv };
        let expected = if tool.ends_with("node") { "42 worker" } else { expected };
        let output = room.run(&[&[tool], argv.as_slice()].concat()).await;
        assert_eq!((output.exit, output.stdout.trim()), (ProcessExit::Code(0), expected), "{output:?}");
    }
    let compiled = "echo 'int puts(const char*); int main(){puts(\"compiled\");}' > /tmp/a.c && cc -o /tmp/a /tmp/a.c && /tmp/a";
    if std::path::Path::new("/usr/bin/cc").exists() {
        assert_eq!(room.shell(compiled).await.stdout.trim(), "compiled");
    }
    room.end().await;
    Outcome::Passed
}

const NODE_SCRIPT: &str = "const {Worker, isMainThread} = require('worker_threads');\
    require('fs').writeFileSync('/tmp/x', '42');\
    const w = new Worker(\"require('worker_threads').parentPort.postMessage('worker')\", {eval: true});\
    w.on('message', m => console.log(require('fs').readFileSync('/tmp/x', 'utf8'), m));";

async fn sweep_ends_every_process_and_keeps_the_cell(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let script = "(setsid sleep 1000 &); (setsid sleep 1001 &); echo started; trap '' TERM; sleep 1002";
    let (process, [_, stdout, _]) = room.start(&["/bin/sh", "-c", script]).await.unwrap();
    wait_for_byte(stdout).await;
    room.cell.sweep().await;
    assert_eq!(process.wait().await, ProcessExit::Signal(9));
    let left =
        room.python("import os; print(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()))").await;
    let left: Vec<&str> = left.trim_matches(['[', ']']).split(", ").collect();
    assert_eq!(left.len(), 2, "the holder and the one who asks: {left:?}");
    room.end().await;
    Outcome::Passed
}

async fn the_platform_dials_a_server_inside(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let script = "import http.server, functools, socketserver\n\
        class H(http.server.BaseHTTPRequestHandler):\n\
        \x20def do_GET(self):\n\
        \x20\x20self.send_response(200); self.end_headers(); self.wfile.write(b'inside')\n\
        \x20def log_message(self, *a): pass\n\
        s = http.server.ThreadingHTTPServer(('127.0.0.1', 8080), H)\n\
        print('up', flush=True); s.serve_forever()";
    let closed = room.cell.dial("127.0.0.1:8080".parse().unwrap()).await.unwrap_err();
    assert_eq!(closed.kind(), std::io::ErrorKind::ConnectionRefused);
    let (_server, [_, stdout, _]) = room.start(&["/usr/bin/python3", "-I", "-c", script]).await.unwrap();
    wait_for_byte(stdout).await;
    for _ in 0..3 {
        let mut stream = room.cell.dial("127.0.0.1:8080".parse().unwrap()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("inside"), "{answer}");
    }
    let refused = room.cell.dial("[::1]:8080".parse().unwrap()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    room.end().await;
    Outcome::Passed
}

async fn the_platform_listens_inside(sandbox: &Sandbox) -> Outcome {
    let room = Room::with(sandbox, CellSpec { listeners: vec![9001, 80], ..spec() }).await;
    let listener = room.cell.take_listener(9001).unwrap();
    assert!(room.cell.take_listener(9001).is_none());
    assert!(room.cell.take_listener(80).is_some());
    assert!(room.cell.take_listener(1234).is_none());
    let serve = tokio::spawn(async move {
        let (mut client, peer) = listener.accept().await.unwrap();
        assert!(peer.ip().is_loopback());
        client.write_all(b"platform").await.unwrap();
    });
    let got =
        room.python("import socket; print(socket.create_connection(('127.0.0.1', 9001)).recv(99))").await;
    assert_eq!(got, "b'platform'");
    serve.await.unwrap();
    room.end().await;
    Outcome::Passed
}

async fn usage_counts(sandbox: &Sandbox) -> Outcome {
    if !in_force(sandbox, "memory limit") {
        return Outcome::Skipped("no control groups".to_owned());
    }
    let room = Room::new(sandbox).await;
    let before = room.cell.usage();
    let script = "x = bytearray(64 << 20); print('full', flush=True); sum(range(3_000_000)); input()";
    let (process, [stdin, stdout, _]) = room.start(&["/usr/bin/python3", "-I", "-c", script]).await.unwrap();
    wait_for_byte(stdout).await;
    let during = room.cell.usage();
    assert!(during.memory_bytes > before.memory_bytes + 60 * MIB, "{before:?} {during:?}");
    drop(stdin);
    process.wait().await;
    let after = room.cell.usage();
    assert!(after.memory_bytes < during.memory_bytes - 50 * MIB, "{during:?} {after:?}");
    assert!(after.cpu_us > before.cpu_us + 10_000, "{before:?} {after:?}");
    assert_eq!(room.cell.oom_kills(), 0);
    room.end().await;
    Outcome::Passed
}

pub(crate) fn in_force(sandbox: &Sandbox, name: &str) -> bool {
    sandbox.report().protections.iter().any(|protection| protection.name == name && protection.in_force)
}

async fn mounts_show_host_folders(sandbox: &Sandbox) -> Outcome {
    let host = tempfile::tempdir().unwrap();
    let (code, build) = (host.path().join("code"), host.path().join("build"));
    for folder in [&code, &build] {
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        std::fs::write(folder.join("deep/file"), "content").unwrap();
    }
    let shim = host.path().join("shim.py");
    std::fs::write(&shim, "shim").unwrap();
    let mounts = vec![
        shown(&code, "/code", false),
        shown(&build, "/build", true),
        shown(&shim, "/alula/python/shim.py", false),
    ];
    let room = Room::with(sandbox, CellSpec { mounts, ..spec() }).await;
    let output = room.shell("cat /code/deep/file /alula/python/shim.py; echo new > /code/deep/new").await;
    assert_eq!(output.stdout, "contentshim");
    assert!(output.stderr.contains("Permission denied") || output.stderr.contains("Read-only"), "{output:?}");
    let output = room
        .shell(
            "echo changed > /build/deep/file && echo new > /build/new && mkdir /build/d && ls -ld /build/new",
        )
        .await;
    assert_eq!(output.exit, ProcessExit::Code(0), "{output:?}");
    assert!(output.stdout.contains("root"), "{output:?}");
    assert_eq!(std::fs::read_to_string(build.join("deep/file")).unwrap(), "changed\n");
    if crate::harness::is_root() {
        use std::os::unix::fs::MetadataExt;
        assert!(std::fs::metadata(build.join("new")).unwrap().uid() >= alula_sandbox::UID_BASE_DEFAULT);
    }
    room.end().await;
    let nowhere = CellSpec { mounts: vec![shown("/no/such/folder", "/code", false)], ..spec() };
    let fault = sandbox.prepare(nowhere).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::SandboxFailed);
    assert!(fault.message.contains("/no/such/folder"), "{fault}");
    let outside = CellSpec { mounts: vec![shown(&code, "/etc", false)], ..spec() };
    assert!(sandbox.prepare(outside).await.is_err());
    Outcome::Passed
}

async fn a_late_mount_shows_up_in_a_running_process(sandbox: &Sandbox) -> Outcome {
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("file"), "late").unwrap();
    let room = Room::new(sandbox).await;
    let script = "while [ ! -e /code/file ]; do sleep 0.01; done; cat /code/file; echo x > /code/file";
    let (process, [_, stdout, stderr]) = room.start(&["/bin/sh", "-c", script]).await.unwrap();
    room.cell.mount(shown(host.path(), "/code", false)).await.unwrap();
    process.wait().await;
    let (mut text, mut error) = (String::new(), String::new());
    std::fs::File::from(stdout).read_to_string(&mut text).unwrap();
    std::fs::File::from(stderr).read_to_string(&mut error).unwrap();
    assert_eq!(text, "late");
    assert!(error.contains("cannot create"), "{error}");
    assert!(room.cell.mount(shown(host.path(), "/build", true)).await.is_err(), "writable is refused");
    assert!(room.cell.mount(shown(host.path(), "/tmp", false)).await.is_err());
    room.end().await;
    Outcome::Passed
}

async fn the_largest_environment_passes_and_a_larger_one_is_refused(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    // The kernel's own limit for one variable is 128 KiB.
    let value = |length: usize| "v".repeat(length);
    let mut large = process(&["/bin/true"], Vec::new());
    large.env.insert("A".to_owned(), value(100 * 1024));
    large.env.insert("B".to_owned(), value(60 * 1024));
    assert_eq!(room.cell.start(large).await.unwrap().wait().await, ProcessExit::Code(0));
    let mut huge = process(&["/bin/true"], Vec::new());
    huge.env.insert("A".to_owned(), value(1024 * 1024));
    assert_eq!(room.cell.start(huge).await.unwrap_err().code, ErrorCode::InvalidSpec);
    room.end().await;
    Outcome::Passed
}

async fn fifty_cells_leave_nothing(sandbox: &Sandbox) -> Outcome {
    let count_fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let fds = count_fds();
    let spawner = spawner_fds();
    let mut rooms = Vec::new();
    for _ in 0..50 {
        let room = Room::with(sandbox, CellSpec { listeners: vec![9001], ..spec() }).await;
        room.start(&["/bin/sleep", "1000"]).await.unwrap();
        rooms.push(room);
    }
    assert_eq!(holders(), 50);
    for room in rooms {
        room.end().await;
    }
    assert_eq!(holders(), 0);
    // Tasks that were aborted let go of their descriptors a moment later.
    for _ in 0..2_000 {
        if count_fds() <= fds {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(count_fds() <= fds, "{} descriptors before, {} after", fds, count_fds());
    assert_eq!(spawner_fds(), spawner);
    let group = format!("test-main-{}", std::process::id());
    assert_eq!(crate::room::groups_left(&group), Vec::<std::path::PathBuf>::new());
    Outcome::Passed
}

/// Children of this process with the given name.
fn children_named(parent: i32, name: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let (head, tail) = stat.rsplit_once(") ").unwrap();
        let above: i32 = tail.split(' ').nth(1).unwrap().parse().unwrap();
        if above == parent && head.ends_with(&format!("({name}")) {
            found.push(head.split(' ').next().unwrap().parse().unwrap());
        }
    }
    found
}

pub(crate) fn spawner() -> i32 {
    children_named(std::process::id() as i32, "alula-spawner")[0]
}

fn holders() -> usize {
    children_named(spawner(), "alula-cell").len()
}

fn spawner_fds() -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", spawner())).unwrap().count()
}

async fn hundreds_of_cells_are_there_at_once(sandbox: &Sandbox) -> Outcome {
    // The spawner holds some descriptors for each, which a new cell begins with: together more than the 1024 that a
    // program in a cell may have.
    let mut rooms = Vec::new();
    for _ in 0..400 {
        rooms.push(Room::new(sandbox).await);
    }
    let last = rooms.last().unwrap();
    assert_eq!(last.shell("ulimit -S -n").await.stdout, "1024\n");
    for room in rooms {
        room.end().await;
    }
    Outcome::Passed
}

async fn a_dropped_request_leaves_nothing(sandbox: &Sandbox) -> Outcome {
    for _ in 0..10 {
        let preparing = sandbox.prepare(spec());
        let _ = tokio::time::timeout(Duration::from_micros(200), preparing).await;
    }
    let room = Room::new(sandbox).await;
    drop(room);
    for _ in 0..1_000 {
        if holders() == 0 {
            return Outcome::Passed;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} cells are left", holders());
}

async fn a_process_of_a_destroyed_cell_is_lost(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let (process, _streams) = room.start(&["/bin/sleep", "1000"]).await.unwrap();
    room.cell.destroy().await;
    assert_eq!(process.wait().await, ProcessExit::Lost);
    let fault = room.start(&["/bin/true"]).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::SandboxFailed);
    room.cell.sweep().await;
    room.cell.destroy().await;
    Outcome::Passed
}

async fn everybody_who_destroys_a_cell_is_answered(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let (_sleeper, _streams) = room.start(&["/bin/sleep", "60"]).await.unwrap();
    let all = async { tokio::join!(room.cell.destroy(), room.cell.destroy(), room.cell.destroy()) };
    tokio::time::timeout(Duration::from_secs(10), all).await.expect("each one is answered");
    Outcome::Passed
}
