//! A function that fails raises an alarm at a webhook, by mail and in a Prometheus Alertmanager, and resolves there; what it
//! used is exported, and outlives a kill.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::platform::{Platform, client, eventually, folder_function, free_port, text};
use crate::sink::{Sink, word};

const ALERTMANAGER: &str = "/usr/bin/prometheus-alertmanager";

const FLAKY: &str = r"
import os

def handler(event, context):
    if event.get('fail'):
        raise ValueError('as asked')
    return 'fine'
";

const MANIFEST: &str = r#"
runtime = "python3"

[slo]
availability = 99
latency = 90
latency_ms = 5000

[[alarm.rules]]
name = "fails"
signal = "function_errors"
above = 50
window = "1m"
min_calls = 5
for_ms = 0
clear_for_ms = 0
severity = "critical"
"#;

fn call(platform: &Platform, event: &str, times: usize) {
    for _ in 0..times {
        platform.alula(&["invoke", "flaky", "--data", event]);
    }
}

/// Takes mail until the test ends, and keeps all that it was told.
fn mail_server() -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = Arc::new(Mutex::new(String::new()));
    let keep = Arc::clone(&told);
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| take_mail(stream, &keep)));
    (port, told)
}

/// RFC 5321, as far as a client needs it.
fn take_mail(stream: TcpStream, told: &Mutex<String>) {
    let mut answers = stream.try_clone().unwrap();
    let _ = answers.write_all(b"220 test\r\n");
    let mut in_data = false;
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        told.lock().unwrap().push_str(&format!("{line}\n"));
        let answer = match (in_data, line.as_str()) {
            (true, ".") => {
                in_data = false;
                "250 taken"
            }
            (true, _) => continue,
            (false, "DATA") => {
                in_data = true;
                "354 go on"
            }
            (false, "QUIT") => "221 bye",
            (false, _) => "250 fine",
        };
        if answers.write_all(format!("{answer}\r\n").as_bytes()).is_err() {
            return;
        }
    }
}

/// A real Alertmanager, ended with the test, that tells `sink` of everything at once.
struct Alertmanager {
    port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Alertmanager {
    fn start(sink: u16) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = folder.path().join("alertmanager.yml");
        let content = format!(
            "route: {{receiver: sink, group_by: [alertname], group_wait: 0s, group_interval: 1s}}\n\
             receivers: [{{name: sink, webhook_configs: [{{url: 'http://127.0.0.1:{sink}/', send_resolved: true}}]}}]\n"
        );
        std::fs::write(&config, content).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(ALERTMANAGER)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        eventually("the Alertmanager listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { port, child, _folder: folder }
    }

    /// What it knows of, by name.
    async fn alerts(&self, name: &str) -> Vec<Value> {
        let url = format!("http://127.0.0.1:{}/api/v2/alerts", self.port);
        let body = client().get(url).send().await.unwrap().bytes().await.unwrap();
        let alerts: Vec<Value> = serde_json::from_slice(&body).unwrap();
        alerts.into_iter().filter(|alert| alert["labels"]["alertname"] == name).collect()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for what `check` finds, which asks over the network.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, check: impl Fn() -> F) -> T {
    for _ in 0..600 {
        if let Some(found) = check().await {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("not in time: {what}");
}

fn watched(receivers: &str, mail_port: u16) -> Platform {
    let mail = format!("smtp://127.0.0.1:{mail_port}");
    Platform::start_with(&[
        ("ALULA_ALARM_INTERVAL_MS", "200"),
        ("ALULA_ALARM_GROUP_WAIT_MS", "0"),
        ("ALULA_ALARM_GROUP_INTERVAL_MS", "0"),
        ("ALULA_ALARM_RECEIVERS", receivers),
        ("ALULA_MAIL_URL", &mail),
        ("ALULA_MAIL_FROM", "Alula <alula@example.org>"),
    ])
}

fn states(sink: &Sink, rule: &str) -> Vec<String> {
    let told = sink.told().into_iter().filter(|body| body["rule"] == rule);
    told.map(|body| word(&body["status"]).to_owned()).collect()
}

#[tokio::test]
async fn a_function_that_fails_raises_an_alarm_everywhere_and_resolves() {
    let (hook, mail) = (Sink::start(), mail_server());
    let receivers = format!(
        "[{{name = 'hook', contact = 'http://127.0.0.1:{}/alarms'}}, {{name = 'mail', contact = 'mailto:ops@example.org'}}]",
        hook.port
    );
    let platform = watched(&receivers, mail.0);
    folder_function(&platform, "flaky", &[("alula.toml", MANIFEST), ("main.py", FLAKY)]);
    call(&platform, r#"{"fail": true}"#, 6);
    eventually("the webhook is told", || states(&hook, "fails").contains(&"firing".to_owned()).then_some(()));
    let told = hook.told().into_iter().find(|body| body["rule"] == "fails").unwrap();
    let alarm = &told["firing"][0];
    assert_eq!((&alarm["function"], &alarm["severity"]), (&"flaky".into(), &"critical".into()));
    let shown = platform.alula_ok(&["alarm", "show", word(&alarm["id"])]);
    assert!(shown.contains("function_errors is 100.00, above 50"), "{shown}");
    eventually("a mail comes", || {
        mail.1.lock().unwrap().contains("Subject: [firing] fails: flaky").then_some(())
    });
    let slo = platform.alula_ok(&["slo", "flaky", "--json"]);
    let slo: Value = serde_json::from_str(&slo).unwrap();
    assert_eq!(slo["objectives"][0]["bad"], 6);
    assert!(slo["objectives"][0]["budget_left_percent"].as_f64().unwrap() < 0.0, "{slo}");
    call(&platform, "{}", 10);
    eventually("the webhook is told of the end", || {
        states(&hook, "fails").contains(&"resolved".to_owned()).then_some(())
    });
    eventually("a mail tells of the end", || {
        mail.1.lock().unwrap().contains("Subject: [resolved] fails: flaky").then_some(())
    });
    let history = platform.alula_ok(&["alarm", "history", "flaky"]);
    assert!(history.contains("raised") && history.contains("resolved"), "{history}");
    let tested = platform.alula(&["alarm", "test"]);
    assert!(tested.status.success(), "{}", text(&tested.stdout));
}

#[tokio::test]
async fn a_real_alertmanager_takes_alarms_and_their_end() {
    if !Path::new(ALERTMANAGER).exists() {
        eprintln!(
            "SKIPPED: {ALERTMANAGER} is not installed, so nothing is shown about it (./check installs it)"
        );
        return;
    }
    let behind = Sink::start();
    let alertmanager = Alertmanager::start(behind.port);
    let url = format!("http://127.0.0.1:{}", alertmanager.port);
    let platform = watched(&format!("[{{name = 'am', alertmanager = '{url}'}}]"), 1);
    folder_function(&platform, "flaky", &[("alula.toml", MANIFEST), ("main.py", FLAKY)]);
    call(&platform, r#"{"fail": true}"#, 6);
    let alert =
        until("the alert is there", || async { alertmanager.alerts("fails").await.into_iter().next() }).await;
    assert_eq!(alert["status"]["state"], "active", "{alert}");
    assert_eq!(
        (&alert["labels"]["function"], &alert["labels"]["severity"]),
        (&"flaky".into(), &"critical".into())
    );
    let (starts, ends) = (word(&alert["startsAt"]), word(&alert["endsAt"]));
    assert!(starts < ends, "{alert}");
    let statuses = || {
        let told = behind.told().into_iter().filter(|body| body["commonLabels"]["alertname"] == "fails");
        told.map(|body| word(&body["status"]).to_owned()).collect::<Vec<_>>()
    };
    eventually("it tells its own receiver", || statuses().contains(&"firing".to_owned()).then_some(()));
    call(&platform, "{}", 10);
    until("the alert is over", || async { alertmanager.alerts("fails").await.is_empty().then_some(()) })
        .await;
    eventually("it tells of the end", || statuses().contains(&"resolved".to_owned()).then_some(()));
}

#[test]
fn usage_outlives_a_kill_and_counts_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let mut platform = Platform::start_in(&data_dir);
    folder_function(&platform, "flaky", &[("alula.toml", MANIFEST), ("main.py", FLAKY)]);
    call(&platform, "{}", 4);
    let usage = |platform: &Platform| -> u64 {
        let lines = platform.alula_ok(&["usage", "flaky", "--json"]);
        let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["invocations"].as_u64().unwrap();
        lines.lines().map(line).sum()
    };
    // Asking writes what was counted so far.
    assert_eq!(usage(&platform), 4);
    platform.kill();
    let mut platform = Platform::start_in(&data_dir);
    call(&platform, "{}", 3);
    assert_eq!(usage(&platform), 7);
    call(&platform, "{}", 1);
    platform.signal("-TERM");
    assert!(platform.wait());
    let platform = Platform::start_in(&data_dir);
    assert_eq!(usage(&platform), 8, "who is told to stop loses nothing");
    let csv = platform.alula_ok(&["usage", "--csv", "--by", "namespace"]);
    let last = csv.lines().last().unwrap();
    assert!(csv.starts_with("day,namespace,app,") && last.contains(",default,,,8,0,"), "{csv}");
    let slo: Value = serde_json::from_str(&platform.alula_ok(&["slo", "flaky", "--json"])).unwrap();
    assert_eq!(slo["objectives"][0]["calls"], 8, "an objective remembers: {slo}");
}
