//! Calls that nobody waits for, over the real binary: accepted, run, tried again, sent on, kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use crate::platform::{Platform, client, eventually, folder_function, text};

/// Fails unless the file `fixed` lies beside it.
const FRAGILE: &str = "import os\n\ndef handler(event, context):\n    print('tried')\n    \
    if not os.path.exists(os.path.join(os.path.dirname(__file__), 'fixed')):\n        \
    raise ValueError('not fixed yet')\n    return {'doubled': event['n'] * 2}\n";
const QUICK_RETRY: &str = "handler = \"main.handler\"\n[async.retry]\nattempts = 2\nfirst_ms = 10\n";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Hands a call in and gives its id.
fn accept(platform: &Platform, arguments: &[&str]) -> String {
    let arguments = [&["invoke"], arguments, &["--async", "--quiet"]].concat();
    platform.alula_ok(&arguments).trim().to_owned()
}

fn state(platform: &Platform, id: &str) -> Value {
    json(&platform.alula_ok(&["calls", "show", id, "--json"]))
}

fn balance(platform: &Platform) -> Value {
    json(&platform.alula_ok(&["queue", "--json"]))["totals"].clone()
}

#[tokio::test]
async fn an_accepted_call_runs_and_a_repeat_of_it_does_not() {
    let platform = Platform::start();
    let source = "def handler(event, context):\n    return {'n': event['body']}\n";
    folder_function(&platform, "echo", &[("main.py", source)]);
    let post = async |body: &'static str| {
        let request = client().post(platform.url("/async-function/echo")).body(body);
        request.header("content-type", "text/plain").header("idempotency-key", "k").send().await.unwrap()
    };
    let first = post("seven").await;
    assert_eq!(first.status(), 202);
    let id = first.headers()["x-call-id"].to_str().unwrap().to_owned();
    let repeat: Value = post("seven").await.json().await.unwrap();
    assert_eq!((&repeat["id"], &repeat["repeated"]), (&Value::from(id.as_str()), &Value::from(true)));
    assert_eq!(post("eight").await.status(), 400, "the key was used for another request");

    platform.alula_ok(&["calls", "wait", &id, "--timeout", "30s"]);
    assert_eq!(json(&platform.alula_ok(&["calls", "result", &id]))["n"], "seven");
    let totals = balance(&platform);
    assert_eq!(
        (&totals["accepted"], &totals["done"], &totals["imbalance"]),
        (&1.into(), &1.into(), &0.into())
    );
    let refused = client().post(platform.url("/async-function/nobody")).send().await.unwrap();
    assert_eq!(refused.status(), 404);
}

#[test]
fn what_fails_is_kept_with_its_attempts_and_runs_again_once_it_is_mended() {
    let platform = Platform::start();
    let files = [("main.py", FRAGILE), ("alula.toml", QUICK_RETRY)];
    folder_function(&platform, "fragile", &files);
    let id = accept(&platform, &["fragile", "--data", "{\"n\": 4}"]);
    let waited = platform.alula(&["calls", "wait", &id, "--timeout", "30s"]);
    assert_eq!(waited.status.code(), Some(1), "{}", text(&waited.stderr));
    assert!(text(&waited.stderr).contains("2 attempts failed"), "{}", text(&waited.stderr));

    assert!(platform.alula_ok(&["dead", "list", "fragile"]).contains("ValueError: not fixed yet"));
    let shown = platform.alula_ok(&["dead", "show", &id]);
    assert_eq!(shown.matches("ValueError: not fixed yet [handler_error]").count(), 2, "{shown}");
    assert!(shown.contains("| tried"), "{shown}");

    folder_function(&platform, "fragile", &[files[0], files[1], ("fixed", "")]);
    platform.alula_ok(&["dead", "redrive", "fragile", "--all", "--yes"]);
    platform.alula_ok(&["calls", "wait", &id, "--timeout", "30s"]);
    assert_eq!(json(&platform.alula_ok(&["calls", "result", &id]))["doubled"], 8);
    let totals = balance(&platform);
    assert_eq!((&totals["dead"], &totals["imbalance"]), (&0.into(), &0.into()));
    assert!(platform.alula_ok(&["audit", "fragile"]).contains("dead_letter.redrive"));
}

/// Takes one request on `listener`, answers 204 and gives head and body.
fn receive(listener: &TcpListener) -> (String, Vec<u8>) {
    let (stream, _) = listener.accept().unwrap();
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while stream.read_line(&mut head).unwrap() > 2 {}
    let length = head.to_lowercase().split("content-length: ").nth(1).unwrap_or("0").to_owned();
    let mut body = vec![0; length.lines().next().unwrap_or("0").trim().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    (head.to_lowercase(), body)
}

#[test]
fn a_result_is_sent_to_its_callback_signed_and_only_where_functions_may_go() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/done", listener.local_addr().unwrap().port());
    let source = "def handler(event, context):\n    return 'ready'\n";

    let platform = Platform::start_with(&[("ALULA_SANDBOX_EGRESS_ALLOW", "[\"127.0.0.1/32\"]")]);
    folder_function(&platform, "report", &[("main.py", source)]);
    let id = accept(&platform, &["report", "--callback", &url, "--data", "{}"]);
    let (head, body) = receive(&listener);
    assert!(head.starts_with("post /done http/1.1"), "{head}");
    assert!(head.contains(&format!("x-call-id: {id}")) && head.contains("x-function-status: 200"), "{head}");
    assert!(text(&body).contains("ready"), "{}", text(&body));
    let signature = head.lines().find_map(|line| line.strip_prefix("x-alula-signature: ")).unwrap();
    let key = platform.alula_ok(&["calls", "signing-key"]);
    assert_eq!(signature, signed(key.trim(), signature, &body));
    drop(platform);

    // Without leave the host's own addresses are no more reached than functions reach them.
    let platform = Platform::start();
    folder_function(&platform, "report", &[("main.py", source)]);
    let id = accept(&platform, &["report", "--callback", &url, "--data", "{}"]);
    let dead = eventually("the callback is given up", || {
        let list = platform.alula_ok(&["dead", "list", "--json"]);
        list.contains("loopback").then_some(list)
    });
    assert_eq!(json(&dead)["about"], id.as_str());
    assert_eq!(state(&platform, &id)["state"], "done", "the call itself went well");
}

/// The signature that a receiver computes, with the moment of the one it got.
fn signed(key: &str, got: &str, body: &[u8]) -> String {
    let program = "import hmac,sys; t=sys.argv[2]; b=sys.stdin.buffer.read(); \
        print('t='+t+',v1='+hmac.new(sys.argv[1].encode(), t.encode()+b'.'+b, 'sha256').hexdigest())";
    let moment = got.trim_start_matches("t=").split(',').next().unwrap();
    let mut python = std::process::Command::new("/usr/bin/python3")
        .args(["-c", program, key, moment])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(body).unwrap();
    text(&python.wait_with_output().unwrap().stdout).trim().to_owned()
}

#[test]
fn calls_wait_while_their_function_is_paused_and_can_be_cancelled() {
    let platform = Platform::start();
    let source = "def handler(event, context):\n    return 1\n";
    folder_function(&platform, "steady", &[("main.py", source)]);
    platform.alula_ok(&["queue", "pause", "steady"]);
    let ids = [accept(&platform, &["steady", "--data", "1"]), accept(&platform, &["steady", "--data", "2"])];
    assert!(platform.alula_ok(&["queue"]).contains("steady in the namespace default: paused"));
    assert_eq!(state(&platform, &ids[0])["state"], "waiting");
    platform.alula_ok(&["calls", "cancel", &ids[0]]);
    platform.alula_ok(&["queue", "resume", "steady"]);
    platform.alula_ok(&["calls", "wait", &ids[1], "--timeout", "30s"]);
    assert_eq!(state(&platform, &ids[0])["state"], "cancelled");
    platform.alula_ok(&["queue", "drain", "steady"]);
    let refused = platform.alula(&["invoke", "steady", "--async", "--data", "3"]);
    assert!(text(&refused.stderr).contains("[draining]"), "{}", text(&refused.stderr));
}

#[test]
fn a_kill_loses_no_accepted_call() {
    const CALLS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let mut first = Platform::start_in(&data_dir);
    let source = "import time\n\ndef handler(event, context):\n    time.sleep(0.05)\n    return event\n";
    folder_function(
        &first,
        "slow",
        &[("main.py", source), ("alula.toml", "handler = \"main.handler\"\nmax_instances = 2\n")],
    );
    let ids: Vec<String> =
        (0..CALLS).map(|n| accept(&first, &["slow", "--data", &format!("{{\"n\": {n}}}")])).collect();
    first.kill();

    // What ran as the kill came is claimed until its lease ends, which a start does not wait for.
    let second = Platform::start_in(&data_dir);
    for (n, id) in ids.iter().enumerate() {
        second.alula_ok(&["calls", "wait", id, "--timeout", "3m"]);
        assert_eq!(json(&second.alula_ok(&["calls", "result", id]))["n"], n);
    }
    let totals = balance(&second);
    assert_eq!((&totals["done"], &totals["imbalance"]), (&CALLS.into(), &0.into()), "{totals}");
}

#[test]
fn a_deploy_warns_where_nobody_will_be_told() {
    let platform = Platform::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mailer");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("main.py"), "def handler(event, context):\n    return 1\n").unwrap();
    let manifest = "handler = \"main.handler\"\n[async]\nnotify = [\"mailto:ada@example.org\"]\n";
    std::fs::write(path.join("alula.toml"), manifest).unwrap();
    let deployed = platform.alula(&["deploy", Path::to_str(&path).unwrap()]);
    assert!(deployed.status.success());
    assert!(text(&deployed.stderr).contains("mail.url"), "{}", text(&deployed.stderr));
}
