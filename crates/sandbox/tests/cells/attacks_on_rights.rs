//! Reaching for rights: namespaces, mounts, other processes, the kernel.

use alula_runtime::ProcessExit;
use alula_sandbox::Sandbox;

use crate::harness::{Outcome, is_root, tests};
use crate::room::Room;

tests![
    every_right_is_gone,
    dangerous_system_calls_are_refused,
    namespaces_and_mounts_cannot_be_made,
    setuid_programs_give_nothing,
    the_first_process_cannot_be_touched,
    cells_are_different_users_outside,
    processes_outside_cannot_be_seen_or_signalled,
    limits_of_the_first_process_cannot_be_changed,
];

/// Calls a system call by number and prints the name of its error.
fn syscalls(calls: &[(&str, i64)]) -> String {
    let list: Vec<_> = calls.iter().map(|(name, number)| format!("('{name}', {number})")).collect();
    format!(
        "import ctypes, errno\n\
         c = ctypes.CDLL(None, use_errno=True)\n\
         for name, number in [{}]:\n\
         \x20ctypes.set_errno(0)\n\
         \x20r = c.syscall(number, 0, 0, 0, 0, 0, 0)\n\
         \x20e = errno.errorcode.get(ctypes.get_errno(), 'none')\n\
         \x20if (r, e) != (-1, 'EPERM'): print(name, r, e)",
        list.join(", ")
    )
}

async fn every_right_is_gone(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    // The first process has no more rights than the others.
    for pid in ["self", "1"] {
        let status = room.shell(&format!("cat /proc/{pid}/status")).await.stdout;
        for line in [
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.contains(line), "{line} is missing in {status}");
        }
    }
    let script = "import ctypes, os\n\
        c = ctypes.CDLL(None, use_errno=True)\n\
        class H(ctypes.Structure): _fields_ = [('v', ctypes.c_uint32), ('p', ctypes.c_int)]\n\
        h = H(0x20080522, 0); d = (ctypes.c_uint32 * 6)(*([0xffffffff] * 6))\n\
        print(c.capset(ctypes.byref(h), d))\n\
        try: os.setuid(70000); print('set')\n\
        except OSError: print('no')\n\
        os.setuid(0) if os.getuid() == 0 else None\n\
        print(c.prctl(28, 0, 0, 0, 0), c.prctl(47, 2, 0, 0, 0))";
    assert_eq!(room.python(script).await, "-1\nno\n-1 -1");
    room.end().await;
    Outcome::Passed
}

async fn dangerous_system_calls_are_refused(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let calls = [
        ("ptrace", libc::SYS_ptrace),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("keyctl", libc::SYS_keyctl),
        ("add_key", libc::SYS_add_key),
        ("request_key", libc::SYS_request_key),
        ("init_module", libc::SYS_init_module),
        ("finit_module", libc::SYS_finit_module),
        ("bpf", libc::SYS_bpf),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("kexec_load", libc::SYS_kexec_load),
        ("reboot", libc::SYS_reboot),
        ("swapon", libc::SYS_swapon),
        ("syslog", libc::SYS_syslog),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("quotactl", libc::SYS_quotactl),
        ("chroot", libc::SYS_chroot),
        ("sethostname", libc::SYS_sethostname),
        ("clock_settime", libc::SYS_clock_settime),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ];
    assert_eq!(room.python(&syscalls(&calls)).await, "");
    room.end().await;
    Outcome::Passed
}

async fn namespaces_and_mounts_cannot_be_made(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let calls = [
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("pivot_root", libc::SYS_pivot_root),
        ("open_tree", libc::SYS_open_tree),
        ("move_mount", libc::SYS_move_mount),
        ("fsopen", libc::SYS_fsopen),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("setns", libc::SYS_setns),
        ("unshare", libc::SYS_unshare),
    ];
    assert_eq!(room.python(&syscalls(&calls)).await, "");
    for command in [
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /",
        "umount /proc",
        "umount -l /tmp",
        "unshare -Ur true",
        "unshare -n true",
        "unshare -m true",
        "nsenter -t 1 -m true",
    ] {
        let output = room.shell(command).await;
        assert_ne!(output.exit, ProcessExit::Code(0), "{command}: {output:?}");
    }
    let clone = "import ctypes, errno\n\
        c = ctypes.CDLL(None, use_errno=True)\n\
        for flag in (0x10000000, 0x00020000, 0x20000000, 0x40000000, 0x02000000, 0x04000000, 0x08000000):\n\
        \x20r = c.syscall(CLONE, flag | 17, 0, 0, 0, 0)\n\
        \x20if r == 0: import os; os._exit(0)\n\
        \x20print(r, errno.errorcode[ctypes.get_errno()])";
    let output = room.python(&clone.replace("CLONE", &libc::SYS_clone.to_string())).await;
    assert_eq!(output, ["-1 EPERM"; 7].join("\n"));
    room.end().await;
    Outcome::Passed
}

async fn setuid_programs_give_nothing(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let script = "for p in /usr/bin/su /usr/bin/mount /usr/bin/passwd /usr/bin/newgrp /usr/bin/chsh; do [ -u $p ] && echo $p; done";
    let found = room.shell(script).await.stdout;
    if found.is_empty() {
        return Outcome::Skipped("the machine has no setuid programs".to_owned());
    }
    let script = "cp /bin/grep /tmp/grep; chmod 4755 /tmp/grep; /tmp/grep -E '^(Uid|CapEff)' /proc/self/status; \
        su nobody -s /bin/sh -c 'id -u' </dev/null; mount -t proc x /tmp; echo end";
    let output = room.shell(script).await;
    assert!(output.stdout.contains("CapEff:\t0000000000000000"), "{output:?}");
    assert!(output.stdout.ends_with("end\n") && !output.stdout.contains("65534"), "{output:?}");
    room.end().await;
    Outcome::Passed
}

async fn the_first_process_cannot_be_touched(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let script = "import os, signal\n\
        for s in list(range(1, 65)) * 50:\n\
        \x20try: os.kill(1, s)\n\
        \x20except OSError: pass\n\
        for p in ('mem', 'environ', 'maps', 'fd/3', 'root'):\n\
        \x20try: open('/proc/1/' + p, 'rb').read(1); print('read', p)\n\
        \x20except OSError: pass\n\
        try: os.kill(-1, signal.SIGCONT)\n\
        except OSError: pass\n\
        print('end')";
    assert_eq!(room.python(script).await, "end");
    assert_eq!(room.shell("exit 5").await.exit, ProcessExit::Code(5), "the holder still serves");
    room.end().await;
    Outcome::Passed
}

async fn cells_are_different_users_outside(sandbox: &Sandbox) -> Outcome {
    if !is_root() {
        return Outcome::Skipped("only root can give cells users of their own".to_owned());
    }
    let (one, other) = (Room::new(sandbox).await, Room::new(sandbox).await);
    let user = async |room: &Room| room.shell("cat /proc/self/uid_map").await.stdout;
    let (first, second) = (user(&one).await, user(&other).await);
    let base = |map: &str| map.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap();
    assert!(base(&first) >= alula_sandbox::UID_BASE_DEFAULT, "{first}");
    assert!(base(&first).abs_diff(base(&second)) >= 65_536, "{first} {second}");
    one.end().await;
    other.end().await;
    Outcome::Passed
}

async fn processes_outside_cannot_be_seen_or_signalled(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let own = std::process::id();
    let script = format!(
        "import os\n\
         for pid in (2, {own}, {}):\n\
         \x20try: os.kill(pid, 0); print('reached', pid) if pid != os.getpid() else None\n\
         \x20except ProcessLookupError: pass\n\
         print(len([p for p in os.listdir('/proc') if p.isdigit()]))",
        crate::programs::spawner()
    );
    assert_eq!(room.python(&script).await, "2");
    room.end().await;
    Outcome::Passed
}

async fn limits_of_the_first_process_cannot_be_changed(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let script = "import resource\n\
        try: resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0)); print('changed')\n\
        except OSError: print('refused')\n\
        print(resource.getrlimit(resource.RLIMIT_CORE))";
    assert_eq!(room.python(script).await, "refused\n(0, 0)");
    room.end().await;
    Outcome::Passed
}
