//! Using up what the machine has: processes, memory, space, CPU.

use std::time::Duration;

use alula_runtime::{CellSpec, ProcessExit};
use alula_sandbox::Sandbox;
use tokio::time::Instant;

use crate::harness::{Outcome, tests};
use crate::programs::in_force;
use crate::room::{MIB, Room, spec};

tests![
    a_fork_bomb_stays_small_and_can_be_ended,
    a_memory_bomb_is_killed_and_counted,
    tmp_has_an_end,
    files_in_tmp_have_an_end,
    core_dumps_are_off,
];

async fn a_fork_bomb_stays_small_and_can_be_ended(sandbox: &Sandbox) -> Outcome {
    if !in_force(sandbox, "process limit") {
        return Outcome::Skipped("no control groups".to_owned());
    }
    let room = Room::with(sandbox, CellSpec { processes_max: 20, ..spec() }).await;
    let bomb = "import os\n\
        made = 0\n\
        while True:\n\
        \x20try:\n\
        \x20\x20if os.fork() == 0: __import__('signal').pause()\n\
        \x20\x20made += 1\n\
        \x20except BlockingIOError: break\n\
        print(made, flush=True)\n\
        __import__('signal').pause()";
    let (bomb, [_, stdout, _]) = room.start(&["/usr/bin/python3", "-I", "-c", bomb]).await.unwrap();
    let made = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(std::fs::File::from(stdout)), &mut line)
            .unwrap();
        line.trim().parse::<u32>().unwrap()
    });
    assert_eq!(made.await.unwrap(), 19, "itself and 19 more");
    let fault = room.start(&["/bin/true"]).await.unwrap_err();
    assert!(fault.message.contains("at its limit"), "{fault}");
    room.cell.sweep().await;
    assert_eq!(bomb.wait().await, ProcessExit::Signal(9));
    assert_eq!(room.shell("exit 4").await.exit, ProcessExit::Code(4), "usable again after the sweep");
    let (_wild, _streams) = room.start(&["/bin/sh", "-c", "f() { f | f & }; f; f; f"]).await.unwrap();
    let start = Instant::now();
    room.cell.destroy().await;
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    Outcome::Passed
}

async fn a_memory_bomb_is_killed_and_counted(sandbox: &Sandbox) -> Outcome {
    if !in_force(sandbox, "memory limit") {
        return Outcome::Skipped("no control groups".to_owned());
    }
    let room = Room::with(sandbox, CellSpec { memory_bytes: 32 * MIB, ..spec() }).await;
    let script = "x = []\nwhile True: x.append(bytearray(1 << 20))";
    let output = room.run(&["/usr/bin/python3", "-I", "-c", script]).await;
    assert_eq!(output.exit, ProcessExit::Signal(9));
    assert_eq!(room.cell.oom_kills(), 1);
    assert_eq!(room.shell("exit 6").await.exit, ProcessExit::Code(6), "the holder was not chosen");
    room.end().await;
    // What is written into /tmp counts as memory too.
    let room = Room::with(sandbox, CellSpec { memory_bytes: 32 * MIB, tmp_bytes: 512 * MIB, ..spec() }).await;
    let output = room.shell("head -c 300000000 /dev/zero > /tmp/large").await;
    assert_ne!(output.exit, ProcessExit::Code(0));
    assert!(room.cell.usage().memory_bytes <= 32 * MIB);
    room.end().await;
    Outcome::Passed
}

async fn tmp_has_an_end(sandbox: &Sandbox) -> Outcome {
    let room = Room::with(sandbox, CellSpec { tmp_bytes: 4 * MIB, ..spec() }).await;
    let output = room.shell("head -c 8000000 /dev/zero > /tmp/large; stat -c %s /tmp/large; rm /tmp/large; echo x > /tmp/y && cat /tmp/y").await;
    assert!(output.stderr.contains("No space left"), "{output:?}");
    assert_eq!(output.stdout, format!("{}\nx\n", 4 * MIB));
    room.end().await;
    Outcome::Passed
}

async fn files_in_tmp_have_an_end(sandbox: &Sandbox) -> Outcome {
    let room = Room::with(sandbox, CellSpec { tmp_bytes: MIB, ..spec() }).await;
    let script = "import errno\n\
        n = 0\n\
        try:\n\
        \x20while n < 100000: open(f'/tmp/{n}', 'w').close(); n += 1\n\
        except OSError as e: print(errno.errorcode[e.errno], n < 1100)";
    assert_eq!(room.python(script).await, "ENOSPC True");
    room.end().await;
    Outcome::Passed
}

async fn core_dumps_are_off(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let output = room.shell("cd /tmp; sh -c 'kill -SEGV $$'; ls /tmp").await;
    assert_eq!(output.stdout, "");
    room.end().await;
    Outcome::Passed
}
