//! What is left when processes of the platform are killed: nothing.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alula_runtime::Launcher;
use alula_sandbox::{EgressGate, Sandbox, SpawnerError, SpawnerOptions, fork_spawner, inspect};
use tokio::time::Instant;

use crate::harness::{Outcome, tests};
use crate::programs::in_force;
use crate::room::{Room, groups_left};

/// The argument that makes this program a platform; the group name follows.
pub(crate) const PLATFORM: &str = "--be-platform";

/// The argument that makes this program print what the machine gives; the group name follows.
pub(crate) const DOCTOR: &str = "--be-doctor";

tests![
    a_killed_platform_leaves_nothing,
    the_next_start_removes_what_a_crash_of_everything_left,
    the_machine_is_inspected_without_a_server,
    a_spawner_needs_a_process_without_threads,
];

/// Prints the names of the protections in force.
pub(crate) fn be_doctor(group: &str) {
    let report = inspect(fork_spawner(SpawnerOptions::new(group)).unwrap()).unwrap();
    for protection in report.protections.iter().filter(|protection| protection.in_force) {
        println!("{}", protection.name);
    }
}

async fn the_machine_is_inspected_without_a_server(sandbox: &Sandbox) -> Outcome {
    let group = format!("test-doctor-{}", std::process::id());
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).args([DOCTOR, &group]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let told: Vec<_> = told.lines().collect();
    let report = sandbox.report();
    let expected: Vec<_> = report.protections.iter().filter(|p| p.in_force).map(|p| p.name).collect();
    assert_eq!(told, expected);
    if crate::harness::is_root() {
        assert_eq!(told.len(), report.protections.len(), "root on such a machine has them all: {report:?}");
    }
    crate::room::remove_groups(&group);
    Outcome::Passed
}

async fn a_spawner_needs_a_process_without_threads(_: &Sandbox) -> Outcome {
    assert!(matches!(fork_spawner(SpawnerOptions::new("x")), Err(SpawnerError::Start(_))));
    for name in ["", "a/b", "..", &"x".repeat(65)] {
        assert!(matches!(fork_spawner(SpawnerOptions::new(name)), Err(SpawnerError::GroupName(_))), "{name}");
    }
    Outcome::Passed
}

/// A platform with a cell in which something runs that does not want to end, and one that is frozen.
pub(crate) fn be_platform(group: &str) {
    let link = fork_spawner(SpawnerOptions::new(group)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let sandbox = Sandbox::connect(link, EgressGate::default()).await.unwrap();
        let room = Room::new(&sandbox).await;
        let script = "trap '' TERM; (setsid sleep 1000 &); echo up; while :; do sleep 1; done";
        let (_running, [_stdin, stdout, _stderr]) = room.start(&["/bin/sh", "-c", script]).await.unwrap();
        std::io::Read::read_exact(&mut std::fs::File::from(stdout), &mut [0; 3]).unwrap();
        let frozen = Room::new(&sandbox).await;
        let _frozen = frozen.start(&["/bin/sleep", "1000"]).await.unwrap();
        frozen.cell.freeze();
        println!("ready");
        std::future::pending::<()>().await;
    });
}

fn start_platform(group: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program)
        .args([PLATFORM, group])
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// Host pids of everything in the cells of a group.
fn members(group: &str) -> Vec<String> {
    let read = |folder: PathBuf| std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    groups_left(group)
        .into_iter()
        .flat_map(|f| read(f).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Those of [`members`] that are in a frozen group.
fn frozen_members(group: &str) -> Vec<String> {
    let read = |folder: &PathBuf, file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    let is_frozen = |folder: &PathBuf| {
        read(folder, "freezer.state").starts_with("FR") || read(folder, "cgroup.freeze") == "1\n"
    };
    let frozen = groups_left(group).into_iter().filter(is_frozen);
    frozen.flat_map(|f| read(&f, "cgroup.procs").lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what} took too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_alive(pid: &str) -> bool {
    PathBuf::from("/proc").join(pid).exists()
}

async fn a_killed_platform_leaves_nothing(sandbox: &Sandbox) -> Outcome {
    if !in_force(sandbox, "memory limit") {
        return Outcome::Skipped("no control groups to find the processes by".to_owned());
    }
    let group = format!("test-killed-{}", std::process::id());
    let mut platform = start_platform(&group);
    let pids = members(&group);
    assert!(pids.len() >= 3, "a holder, a shell and a sleep: {pids:?}");
    platform.kill().unwrap();
    platform.wait().unwrap();
    wait_until("the end of the processes", || pids.iter().all(|pid| !is_alive(pid)));
    wait_until("the removal of the groups", || groups_left(&group).is_empty());
    crate::room::remove_groups(&group);
    Outcome::Passed
}

async fn the_next_start_removes_what_a_crash_of_everything_left(sandbox: &Sandbox) -> Outcome {
    if !in_force(sandbox, "memory limit") {
        return Outcome::Skipped("no control groups to find the processes by".to_owned());
    }
    let group = format!("test-crashed-{}", std::process::id());
    let mut platform = start_platform(&group);
    let pids = members(&group);
    let frozen = frozen_members(&group);
    let spawner = child_of(platform.id());
    // The spawner first, so that it cannot clean up.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(spawner).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    platform.kill().unwrap();
    platform.wait().unwrap();
    let running = || pids.iter().filter(|pid| !frozen.contains(pid));
    wait_until("the end of the cells with their spawner", || running().all(|pid| !is_alive(pid)));
    assert!(!groups_left(&group).is_empty(), "nobody was there to remove the groups");
    // A process in a group that no spawner knows, as after an upgrade that went wrong.
    let mut stray = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    for folder in groups_left(&group) {
        std::fs::write(folder.join("cgroup.procs"), stray.id().to_string()).unwrap();
    }
    let mut next = start_platform(&group);
    wait_until("the end of the stray process", || matches!(stray.try_wait(), Ok(Some(_))));
    // What is frozen does not die before it is thawed.
    wait_until("the end of the frozen cell", || frozen.iter().all(|pid| !is_alive(pid)));
    assert!(members(&group).iter().all(|pid| !pids.contains(pid)));
    next.kill().unwrap();
    next.wait().unwrap();
    wait_until("the removal of the groups", || groups_left(&group).is_empty());
    crate::room::remove_groups(&group);
    Outcome::Passed
}

fn child_of(parent: u32) -> i32 {
    let path = format!("/proc/{parent}/task/{parent}/children");
    std::fs::read_to_string(path).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}
