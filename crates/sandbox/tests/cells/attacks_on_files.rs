//! Reaching for files: the host's, and those that may only be read.

use alula_runtime::{CellSpec, ProcessExit};
use alula_sandbox::Sandbox;

use crate::harness::{Outcome, is_root, tests};
use crate::room::{Room, shown, spec};

tests![
    the_hosts_files_are_not_there,
    only_tmp_can_be_written,
    the_mounts_alone_refuse_writing_too,
    links_and_dots_do_not_lead_out_of_code,
    proc_gives_no_way_out,
    only_given_descriptors_are_open,
    devices_cannot_be_made,
    extra_folders_are_shown_read_only,
    files_move_between_folders_that_may_be_written,
];

async fn files_move_between_folders_that_may_be_written(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let moving = "mkdir /tmp/a /tmp/b; echo moved > /tmp/a/x; python3 -c \"import os; os.rename('/tmp/a/x', '/tmp/b/x')\"";
    let output = room.shell(&format!("{moving}; cat /tmp/b/x")).await;
    assert_eq!(output.stdout, "moved\n", "{output:?}");
    room.end().await;
    Outcome::Passed
}

async fn extra_folders_are_shown_read_only(sandbox: &Sandbox) -> Outcome {
    let extra = crate::harness::EXTRA;
    let room = Room::new(sandbox).await;
    let output = room.shell(&format!("ls {extra}; ls /var >&2; echo x > {extra}/new")).await;
    let mut names: Vec<_> = output.stdout.lines().map(str::to_owned).collect();
    let on_host =
        std::fs::read_dir(extra).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut on_host: Vec<_> = on_host.filter(|name| !name.starts_with('.')).collect();
    names.sort_unstable();
    on_host.sort_unstable();
    assert_eq!(names, on_host);
    assert!(output.stderr.starts_with("lib\ntmp\n") && output.stderr.lines().count() == 3, "{output:?}");
    room.end().await;
    Outcome::Passed
}

async fn the_hosts_files_are_not_there(sandbox: &Sandbox) -> Outcome {
    let secret = tempfile::Builder::new().prefix("alula-secret").tempdir().unwrap();
    std::fs::write(secret.path().join("key"), "top secret").unwrap();
    let room = Room::new(sandbox).await;
    let expected = "alula bin build code dev etc lib lib64 proc sbin tmp usr var";
    let seen = room.python("import os; print(*sorted(n for n in os.listdir('/') if not n.startswith('lib') or n in ('lib', 'lib64')))").await;
    for name in seen.split(' ') {
        assert!(expected.split(' ').any(|known| known == name), "`{name}` is shown");
    }
    let key = secret.path().join("key").display().to_string();
    for path in [
        "/etc/shadow",
        "/etc/gshadow",
        "/root/.bashrc",
        "/home",
        "/mnt",
        "/sys/kernel",
        "/boot",
        "/run",
        &key,
    ] {
        let output = room.run(&["/bin/ls", path]).await;
        assert_ne!(output.exit, ProcessExit::Code(0), "{path} is there: {output:?}");
    }
    let output = room.shell("cat /etc/passwd | wc -l; find / -xdev -name 'alula-secret*' 2>/dev/null").await;
    assert_eq!(output.stdout.trim(), "2", "the cell's own users and nothing of the host's");
    room.end().await;
    Outcome::Passed
}

async fn only_tmp_can_be_written(sandbox: &Sandbox) -> Outcome {
    let code = tempfile::tempdir().unwrap();
    std::fs::write(code.path().join("handler"), "code").unwrap();
    let room =
        Room::with(sandbox, CellSpec { mounts: vec![shown(code.path(), "/code", false)], ..spec() }).await;
    let script = "import os\n\
        done = []\n\
        for p in ('/', '/usr', '/usr/bin', '/etc', '/code', '/alula', '/build', '/dev', '/proc', '/var', '/proc/sys/kernel'):\n\
        \x20try:\n\
        \x20\x20open(p + '/evil', 'w'); done.append(p)\n\
        \x20except OSError: pass\n\
        for act in (lambda: os.unlink('/code/handler'), lambda: os.rename('/code/handler', '/tmp/h'),\n\
        \x20lambda: os.truncate('/code/handler', 0), lambda: os.chmod('/usr/bin/env', 0o777),\n\
        \x20lambda: open('/usr/bin/env', 'r+'), lambda: os.link('/usr/bin/env', '/tmp/env'),\n\
        \x20lambda: os.utime('/code/handler'), lambda: os.mkdir('/x')):\n\
        \x20try:\n\
        \x20\x20act(); done.append(act)\n\
        \x20except OSError: pass\n\
        open('/tmp/fine', 'w').write('fine'); open('/dev/shm/fine', 'w'); open('/dev/null', 'w').write('x')\n\
        print(done)";
    assert_eq!(room.python(script).await, "[]");
    assert_eq!(std::fs::read_to_string(code.path().join("handler")).unwrap(), "code");
    room.end().await;
    Outcome::Passed
}

async fn the_mounts_alone_refuse_writing_too(sandbox: &Sandbox) -> Outcome {
    let (code, build) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mounts = vec![shown(code.path(), "/code", false), shown(build.path(), "/build", true)];
    let room = Room::with(sandbox, CellSpec { mounts, ..spec() }).await;
    let table = room.shell("cat /proc/self/mounts").await.stdout;
    let places: Vec<(&str, Vec<&str>)> = table
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .map(|words| (words[1], words[3].split(',').collect()))
        .collect();
    for place in ["/", "/usr", "/code", "/build", "/tmp", "/proc"] {
        assert!(places.iter().any(|(at, _)| *at == place), "{place} is missing in {table}");
    }
    for (at, options) in places {
        let writable = ["/tmp", "/proc", "/build"].contains(&at) || (at.starts_with("/dev/") && !is_root());
        assert_eq!(options.contains(&"rw"), writable, "{at}: {options:?}");
        assert!(options.contains(&"nosuid"), "{at}: {options:?}");
        assert!(options.contains(&"nodev") || at == "/" || at.starts_with("/dev/"), "{at}: {options:?}");
    }
    room.end().await;
    Outcome::Passed
}

async fn links_and_dots_do_not_lead_out_of_code(sandbox: &Sandbox) -> Outcome {
    let host = tempfile::tempdir().unwrap();
    let code = host.path().join("code");
    std::fs::create_dir(&code).unwrap();
    std::fs::write(host.path().join("secret"), "top secret").unwrap();
    let secret = host.path().join("secret");
    std::os::unix::fs::symlink(&secret, code.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../secret", code.join("relative")).unwrap();
    std::os::unix::fs::symlink("/proc/1/root/etc/shadow", code.join("magic")).unwrap();
    let room = Room::with(sandbox, CellSpec { mounts: vec![shown(&code, "/code", false)], ..spec() }).await;
    for path in
        ["/code/absolute", "/code/relative", "/code/magic", "/code/../secret", "/code/../../../../secret"]
    {
        let output = room.run(&["/bin/cat", path]).await;
        assert_eq!(output.exit, ProcessExit::Code(1), "{path}: {output:?}");
        assert_eq!(output.stdout, "");
    }
    room.end().await;
    Outcome::Passed
}

async fn proc_gives_no_way_out(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let script = "import os\n\
        reached = []\n\
        for p in ('/proc/1/root/', '/proc/1/cwd/', '/proc/1/fd/3', '/proc/1/mem', '/proc/1/environ', '/proc/1/maps',\n\
        \x20'/proc/kcore', '/proc/kmsg', '/proc/kpagecount', '/proc/1/ns/mnt'):\n\
        \x20try:\n\
        \x20\x20os.listdir(p) if p.endswith('/') else open(p, 'rb').read(1); reached.append(p)\n\
        \x20except OSError: pass\n\
        for p in ('/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname',\n\
        \x20'/proc/sys/vm/drop_caches', '/proc/sys/net/ipv4/ip_forward', '/proc/self/oom_score_adj',\n\
        \x20'/proc/self/uid_map', '/proc/self/attr/current', '/proc/1/oom_score_adj', '/proc/irq/default_smp_affinity'):\n\
        \x20try:\n\
        \x20\x20open(p, 'w').write('0'); reached.append(p)\n\
        \x20except OSError: pass\n\
        print(reached)";
    assert_eq!(room.python(script).await, "[]");
    let seen = room.python("import os; print(sorted(int(p) for p in os.listdir('/proc') if p.isdigit())[0], len([p for p in os.listdir('/proc') if p.isdigit()]))").await;
    assert_eq!(seen, "1 2", "the holder and the one who asks");
    let group = room.shell("cat /proc/self/cgroup").await.stdout;
    assert!(!group.contains("alula"), "{group}");
    room.end().await;
    Outcome::Passed
}

async fn only_given_descriptors_are_open(sandbox: &Sandbox) -> Outcome {
    // A descriptor that survives `execve` in the platform must not arrive in a cell.
    let leak = std::fs::File::open("/etc/passwd").unwrap();
    let _kept = rustix::io::dup(&leak).unwrap();
    let room = Room::new(sandbox).await;
    let open =
        room.python("import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1])").await;
    assert_eq!(open, "[0, 1, 2]");
    let (out, stdout) = rustix::pipe::pipe().unwrap();
    let (other, _other) = rustix::pipe::pipe().unwrap();
    // Only one descriptor and it is the output: the others are closed, and not the platform's.
    let mut process =
        crate::room::process(&["/bin/sh", "-c", "ls -l /proc/self/fd >&4; echo ok >&4"], Vec::new());
    process.fds = vec![
        other.try_clone().unwrap(),
        stdout.try_clone().unwrap(),
        stdout.try_clone().unwrap(),
        other,
        stdout,
    ];
    let process = room.cell.start(process).await.unwrap();
    assert_eq!(process.wait().await, ProcessExit::Code(0));
    let mut text = String::new();
    tokio::task::spawn_blocking(move || {
        std::io::Read::read_to_string(&mut std::fs::File::from(out), &mut text).unwrap();
        assert!(text.ends_with("ok\n") && !text.contains("socket"), "{text}");
    })
    .await
    .unwrap();
    room.end().await;
    Outcome::Passed
}

async fn devices_cannot_be_made(sandbox: &Sandbox) -> Outcome {
    let room = Room::new(sandbox).await;
    let output =
        room.shell("mknod /tmp/disk b 254 0 && echo made; mknod /tmp/mem c 1 1 && echo made; ls /dev").await;
    assert!(!output.stdout.contains("made"), "{output:?}");
    let names: Vec<&str> = output.stdout.split_whitespace().collect();
    assert_eq!(
        names,
        ["fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"]
    );
    room.end().await;
    Outcome::Passed
}
