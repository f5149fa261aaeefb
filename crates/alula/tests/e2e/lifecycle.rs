//! Starting, stopping, crashing.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::platform::{Platform, eventually, root, text};

const HELLO: &str = "def handler(event, context):\n    print('said hello')\n    return 'hello'\n";

fn deploy(platform: &Platform, file_name: &str, source: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(file_name);
    std::fs::write(&file, source).unwrap();
    platform.alula_ok(&["deploy", file.to_str().unwrap()]);
}

fn get(platform: &Platform, path: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", platform.port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

/// Processes whose parents lead to `pid`.
fn descendants(pid: u32) -> Vec<u32> {
    let children = |of: u32| {
        let listed = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
        listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    };
    let mut found = children(pid);
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next]));
        next += 1;
    }
    found
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Control groups of the platform that are left, over all hierarchies.
fn groups() -> Vec<String> {
    let found =
        Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", "alula-*"]).output().unwrap();
    text(&found.stdout).lines().map(ToOwned::to_owned).collect()
}

#[test]
fn a_kill_loses_nothing_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let mut first = Platform::start_in(&data_dir);
    deploy(&first, "hello.py", HELLO);
    assert_eq!(get(&first, "/function/hello").0, 200);
    // What is not yet in the history when the kill comes may be lost; this call is waited for.
    eventually("the run is recorded", || {
        first.alula_ok(&["runs", "hello", "--json"]).contains("done").then_some(())
    });
    let processes = descendants(first.pid());
    assert!(processes.len() >= 2, "a spawner and an instance run: {processes:?}");

    first.kill();
    eventually("every process is gone", || processes.iter().all(|pid| !is_alive(*pid)).then_some(()));

    let second = Platform::start_in(&data_dir);
    let (status, answer) = get(&second, "/function/hello");
    assert_eq!(status, 200, "{answer}");
    assert!(second.alula_ok(&["logs", "hello"]).contains("said hello"));
    assert!(second.alula_ok(&["runs", "hello", "--json"]).contains("done"));
    let temporary = std::fs::read_dir(data_dir.join("tmp")).map_or(0, Iterator::count);
    assert_eq!(temporary, 0, "temporary files are left");
    let mine = groups().len();
    drop(second);
    eventually("the groups are gone", || (groups().len() < mine || mine == 0).then_some(()));
}

/// Loads for long enough to get a zygote; a call with a query stays.
const FORKED: &str = "import time\n\ntime.sleep(0.2)\n\ndef handler(event, context):\n    \
                      time.sleep(60 if event.get('rawQueryString') else 0)\n    return 'hello'\n";

/// Sends a call that stays until its connection is closed.
fn call_that_stays(platform: &Platform) -> std::net::TcpStream {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", platform.port)).unwrap();
    write!(stream, "GET /function/forked?stay HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream
}

/// The platform's own groups, by what its processes say of theirs.
fn group_name(processes: &[u32]) -> Option<String> {
    let said = processes.iter().filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
    let parts = |text: String| text.split(['/', '\n']).map(ToOwned::to_owned).collect::<Vec<_>>();
    said.flat_map(parts).find(|part| part.starts_with("alula-"))
}

#[test]
fn a_kill_leaves_nothing_of_a_zygote_and_what_was_forked_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let mut first = Platform::start_in(&data_dir);
    deploy(&first, "forked.py", FORKED);
    let instances = || first.alula_ok(&["instances", "--json"]);
    let _two: Vec<_> = (0..2).map(|_| call_that_stays(&first)).collect();
    eventually("there is a zygote", || instances().contains(r#""state":"zygote""#).then_some(()));
    let _third = call_that_stays(&first);
    eventually("it was forked", || instances().contains(r#""tier":"zygote""#).then_some(()));
    let processes = descendants(first.pid());
    let group = group_name(&processes);

    first.kill();
    eventually("every process is gone", || processes.iter().all(|pid| !is_alive(*pid)).then_some(()));
    if let Some(group) = group {
        let is_gone = || !groups().iter().any(|path| path.ends_with(&group));
        eventually("every group is gone", || is_gone().then_some(()));
    }
    let second = Platform::start_in(&data_dir);
    let (status, answer) = get(&second, "/function/forked");
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn without_its_spawner_the_platform_ends_with_an_error_and_the_next_start_serves() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let mut first = Platform::start_in(&data_dir);
    deploy(&first, "hello.py", HELLO);
    assert_eq!(get(&first, "/function/hello").0, 200);
    let processes = descendants(first.pid());
    let named = |pid: &&u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "alula-spawner")
    };
    let spawner = processes.iter().find(named).unwrap();
    assert!(Command::new("kill").args(["-9", &spawner.to_string()]).status().unwrap().success());

    assert!(!first.wait(), "a service manager must see a failure");
    assert!(first.log().contains("spawner") && first.log().contains("start it again"), "{}", first.log());
    eventually("every process is gone", || processes.iter().all(|pid| !is_alive(*pid)).then_some(()));

    let second = Platform::start_in(&data_dir);
    let (status, answer) = get(&second, "/function/hello");
    assert_eq!(status, 200, "{answer}");
    assert!(second.alula_ok(&["logs", "hello"]).contains("said hello"));
    let mine = groups().len();
    drop(second);
    eventually("the groups are gone", || (groups().len() < mine || mine == 0).then_some(()));
}

#[test]
fn a_mistake_in_the_code_is_refused_with_its_line_and_the_old_version_serves_on() {
    let platform = Platform::start();
    let folder = tempfile::tempdir().unwrap();
    let deploy = |file: &str, source: &str| {
        let file = folder.path().join(file);
        std::fs::write(&file, source).unwrap();
        platform.alula(&["deploy", file.to_str().unwrap()])
    };
    assert!(deploy("wrong.py", HELLO).status.success());
    let refused = deploy("wrong.py", "def handler(event, context):\n    return (\n");
    assert!(!refused.status.success());
    let said = text(&refused.stderr);
    assert!(said.contains("wrong.py:2") && said.contains("invalid_package"), "{said}");
    let (status, answer) = get(&platform, "/function/wrong");
    assert!(status == 200 && answer.contains("hello"), "{answer}");
    if Path::new("/usr/bin/node").exists() {
        assert!(deploy("right.mjs", "export const handler = async () => 'hello';\n").status.success());
        let refused = deploy("script.js", "exports.handler = async () => 1;\nconst a = ;\n");
        let said = text(&refused.stderr);
        assert!(!refused.status.success() && said.contains("script.js:2"), "{said}");
    }
}

#[test]
fn terminating_lets_running_calls_finish() {
    let mut platform = Platform::start();
    let slow = "import time\n\ndef handler(event, context):\n    time.sleep(1.5)\n    return 'finished'\n";
    deploy(&platform, "slow.py", slow);
    let port = platform.port;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET /function/slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    eventually("the call runs", || {
        platform.alula_ok(&["instances", "--json"]).contains("busy").then_some(())
    });
    platform.signal("-TERM");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK") && answer.contains("finished"), "{answer}");
    assert!(platform.wait(), "{}", platform.log());
}

#[test]
fn one_data_directory_serves_one_platform() {
    let platform = Platform::start();
    let second = Command::new(env!("CARGO_BIN_EXE_alula"))
        .args(["up", "--listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0", "--data-dir"])
        .arg(&platform.data_dir)
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = text(&second.stderr);
    assert!(said.contains(platform.data_dir.to_str().unwrap()), "{said}");
    assert!(platform.alula(&["list"]).status.success(), "the first one must not be disturbed");
}

#[test]
fn the_control_api_is_never_open() {
    let platform = Platform::start();
    let mode = std::fs::metadata(platform.data_dir.join("admin.token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let without = platform.command(&["list"]).env("ALULA_TOKEN", "wrong").output().unwrap();
    assert!(!without.status.success());
    assert!(text(&without.stderr).contains("token"), "{}", text(&without.stderr));
    // The data plane has no way to the control API.
    assert_eq!(get(&platform, "/v1/functions").0, 404);
}

#[test]
fn a_newer_data_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    drop(Platform::start_in(&data_dir));
    std::fs::write(data_dir.join("format"), "4000000\n").unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_alula"))
        .arg("up")
        .arg("--data-dir")
        .arg(&data_dir)
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("newer"), "{}", text(&refused.stderr));
}

#[test]
fn a_language_is_a_folder() {
    if !Path::new("/usr/bin/perl").exists() {
        println!("SKIPPED: perl is not on this machine");
        return;
    }
    let platform = Platform::start();
    let source =
        "sub handler { my ($event, $context) = @_; return { greeting => 'hello from perl' }; }\n1;\n";
    deploy(&platform, "greet.pl", source);
    let (status, answer) = get(&platform, "/function/greet");
    assert!(status == 200 && answer.contains("hello from perl"), "{answer}");
    assert!(root().join("guest/perl/manifest.toml").exists());
}
