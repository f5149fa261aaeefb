//! Secrets: they reach their function and nothing else, a new version reaches it without a failed call, tenants do not
//! reach each other's, and a kill in the middle of replacing the master key loses none.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::platform::{Platform, client, eventually, folder_function, text};

/// Nothing else on the machine has this in it: the two halves never stand together in this file.
fn planted() -> String {
    ["hunter2", "planted", "value"].join("-")
}

/// Tells its secret backwards, writes it to its log in three ways, and fails with it when asked.
const TELLER: &str = r#"
import os, sys

def handler(event, context):
    value = os.environ["DB_PASSWORD"]
    print("the password is", value)
    os.write(2, value[:5].encode()); os.write(2, value[5:].encode() + b"\n")
    if event.get("rawQueryString") == "fail":
        raise RuntimeError("cannot connect with " + value)
    return value[::-1]
"#;

fn set(platform: &Platform, name: &str, value: &str, arguments: &[&str]) {
    let arguments: Vec<&str> = ["secret", "set", name].into_iter().chain(arguments.iter().copied()).collect();
    let mut command = platform.command(&arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{value}").unwrap();
    assert!(child.wait().unwrap().success());
}

fn teller(platform: &Platform) {
    let manifest = "runtime = \"python3\"\nsecrets = [\"db_password\"]\n";
    folder_function(platform, "teller", &[("alula.toml", manifest), ("main.py", TELLER)]);
}

async fn call(platform: &Platform, path: &str) -> (u16, String) {
    let answer = client().get(platform.url(path)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap().trim_matches('"').to_owned())
}

fn backwards(value: &str) -> String {
    value.chars().rev().collect()
}

/// Every file below `folder` that holds `needle`.
fn files_with(folder: &Path, needle: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_with(&path, needle)),
            Ok(kind) if kind.is_file() => {
                let bytes = std::fs::read(&path).unwrap_or_default();
                if bytes.windows(needle.len()).any(|window| window == needle) {
                    found.push(path);
                }
            }
            _ => {}
        }
    }
    found
}

/// Every process outside of sandboxes whose arguments or environment hold `needle`.
fn processes_with(needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/pid")).ok();
    let own = namespace(Path::new("/proc/self"));
    let is_outside = |entry: &std::fs::DirEntry| namespace(&entry.path()) == own;
    for entry in std::fs::read_dir("/proc").unwrap().flatten().filter(is_outside) {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(format!("{} {}", entry.path().join(file).display(), text(&bytes)));
            }
        }
    }
    found
}

#[tokio::test]
async fn a_value_reaches_its_function_and_nothing_else() {
    let platform = Platform::start();
    let value = planted();
    set(&platform, "db_password", &value, &[]);
    teller(&platform);
    assert_eq!(call(&platform, "/function/teller").await, (200, backwards(&value)));
    let (status, answer) = call(&platform, "/function/teller?fail").await;
    assert_eq!(status, 502);
    assert!(answer.contains("cannot connect with ***") && !answer.contains(&value), "{answer}");

    let logs = eventually("the lines are there", || {
        let logs = platform.alula_ok(&["logs", "teller"]);
        (logs.matches("the password is ***").count() >= 2).then_some(logs)
    });
    let shown = [
        vec!["secret", "list"],
        vec!["secret", "list", "--json"],
        vec!["secret", "versions", "db_password"],
        vec!["describe", "teller"],
        vec!["describe", "teller", "--json"],
        vec!["versions", "teller", "--json"],
        vec!["runs", "--json"],
        vec!["explain", "teller"],
        vec!["audit", "--json"],
        vec!["config", "show"],
    ];
    for arguments in &shown {
        let output = platform.alula(arguments);
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(!all.contains(&value), "alula {arguments:?}: {all}");
    }
    assert!(!logs.contains(&value), "{logs}");
    assert!(platform.alula_ok(&["secret", "list"]).contains("teller"));
    assert!(platform.alula_ok(&["audit"]).contains("secret.set"));

    assert_eq!(processes_with(value.as_bytes()), Vec::<String>::new());
    assert_eq!(files_with(&platform.data_dir, value.as_bytes()), Vec::<std::path::PathBuf>::new());
    assert!(!platform.log().contains(&value));
}

#[tokio::test]
async fn a_new_version_reaches_the_function_within_seconds_and_no_call_fails() {
    let platform = Arc::new(Platform::start());
    set(&platform, "db_password", "first-value", &[]);
    teller(&platform);
    let stop = Arc::new(AtomicBool::new(false));
    let (asked, stopped) = (Arc::clone(&platform), Arc::clone(&stop));
    let calls = tokio::spawn(async move {
        let mut answers = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            answers.push(call(&asked, "/function/teller").await);
        }
        answers
    });
    for value in ["second-value", "third-value"] {
        set(&platform, "db_password", value, &[]);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while call(&platform, "/function/teller").await.1 != backwards(value) {
            assert!(tokio::time::Instant::now() < deadline, "{value} does not arrive");
        }
    }
    platform.alula_ok(&["secret", "rollback", "db_password", "--to", "1"]);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while call(&platform, "/function/teller").await.1 != backwards("first-value") {
        assert!(tokio::time::Instant::now() < deadline, "the rollback does not arrive");
    }
    stop.store(true, Ordering::Relaxed);
    let failed: Vec<_> = calls.await.unwrap().into_iter().filter(|(status, _)| *status != 200).collect();
    assert_eq!(failed, []);
}

#[tokio::test]
async fn tenants_do_not_reach_each_others_secrets() {
    let platform = Platform::start();
    for namespace in ["one", "other"] {
        platform.alula_ok(&["namespace", "create", namespace]);
    }
    set(&platform, "db_password", "value-of-one", &["--namespace", "one"]);
    let key = platform.alula_ok(&["key", "create", "ci", "--role", "developer", "--namespace", "other"]);
    let as_other = |arguments: &[&str]| {
        let output = platform.command(arguments).env("ALULA_TOKEN", key.trim()).output().unwrap();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    for arguments in [
        &["secret", "list", "--namespace", "one"][..],
        &["secret", "remove", "db_password", "--yes", "--namespace", "one"],
        &["secret", "rollback", "db_password", "--namespace", "one"],
        &["secret", "rotate-master"],
    ] {
        let (succeeded, told) = as_other(arguments);
        assert!(!succeeded && told.contains("may not"), "{arguments:?}: {told}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("alula.toml"), "runtime = \"python3\"\nsecrets = [\"db_password\"]\n")
        .unwrap();
    std::fs::write(folder.path().join("main.py"), TELLER).unwrap();
    let path = folder.path().to_str().unwrap();
    let (succeeded, told) = as_other(&["deploy", path, "--name", "thief", "--namespace", "other"]);
    assert!(!succeeded && told.contains("namespace other has no secret db_password"), "{told}");
    // It may have one of the same name, which is its own.
    let mut command = platform.command(&["secret", "set", "db_password", "--namespace", "other"]);
    let mut child = command.env("ALULA_TOKEN", key.trim()).stdin(Stdio::piped()).spawn().unwrap();
    write!(child.stdin.take().unwrap(), "value-of-other").unwrap();
    assert!(child.wait().unwrap().success());
    let (succeeded, told) = as_other(&["deploy", path, "--name", "honest", "--namespace", "other"]);
    assert!(succeeded, "{told}");
    assert_eq!(call(&platform, "/function/honest.other").await, (200, backwards("value-of-other")));
    let (_, told) = as_other(&["secret", "remove", "db_password", "--yes", "--namespace", "other"]);
    assert!(told.contains("is used by honest"), "{told}");
}

/// Secrets of the rotation that is killed: several commits.
const SECRETS: usize = 120;

#[tokio::test]
async fn a_kill_while_the_master_key_is_replaced_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let mut platform = Platform::start_in(&data_dir);
    let value = |number: usize| format!("value-{number}-of-many");
    for number in 0..SECRETS {
        let url = format!("http://127.0.0.1:{}/v1/secrets/s{number}", platform.control_port);
        let request = client().put(url).bearer_auth(platform.token()).json(&json!({"value": value(number)}));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let all: Vec<String> = (0..SECRETS).step_by(2).map(|number| format!("\"s{number}\"")).collect();
    let manifest = format!("runtime = \"python3\"\nsecrets = [{}]\n", all.join(", "));
    let code = "import os\n\ndef handler(event, context):\n    return \" \".join(os.environ[f\"S{n}\"] for n in range(0, 120, 2))\n";
    folder_function(&platform, "all", &[("alula.toml", &manifest), ("main.py", code)]);
    let expected: Vec<String> = (0..SECRETS).step_by(2).map(value).collect();
    for pause_ms in [1, 5, 15, 40, 80] {
        let mut rotating =
            platform.command(&["secret", "rotate-master"]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::park_timeout(Duration::from_millis(pause_ms));
        platform.kill();
        rotating.wait().unwrap();
        platform = Platform::start_in(&data_dir);
        assert_eq!(call(&platform, "/function/all").await, (200, expected.join(" ")), "after {pause_ms} ms");
    }
    platform.alula_ok(&["secret", "rotate-master"]);
    let keys = std::fs::read_to_string(data_dir.join("master.key")).unwrap();
    assert_eq!(keys.lines().count(), 1, "the older keys are gone");
    platform.kill();
    let platform = Platform::start_in(&data_dir);
    assert_eq!(call(&platform, "/function/all").await, (200, expected.join(" ")));
}
