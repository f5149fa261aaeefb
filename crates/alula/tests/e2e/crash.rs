//! Accepted means done: the platform is killed again and again under a load of calls that nobody waits for.
//!
//! An outside sink counts what functions really did. At the end every accepted call has ended in a way that can be looked
//! up, has been seen at least once, and no more often than it had attempts; a key was accepted once; slots of a schedule came
//! once each and without a gap; the books balance. `ALULA_CRASH_ROUNDS` makes it as long as one likes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::platform::{Platform, eventually, folder_function};
use crate::sink::Sink;

/// Kills where nothing else is said.
const ROUNDS: u64 = 4;
/// Longest time between two kills, in milliseconds; the shortest falls into the start.
const UP_MS_MAX: u64 = 1_500;
/// Clients that send calls.
const CLIENTS: u64 = 3;
/// Time for everything accepted to come to its end after the last kill.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// Tells the sink what it does, and then fails now and then.
const WORKER: &str = r#"
import json, os, random, urllib.request

# Here the loopback address is the machine's, behind the proxy.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = ""

def handler(event, context):
    call = json.loads(event["body"])
    seen = json.dumps({"id": context.aws_request_id, "n": call["n"]}).encode()
    urllib.request.urlopen(os.environ["SINK"], data=seen, timeout=5).read()
    if call["n"] % 20 == 0 and random.random() < 0.5:
        raise RuntimeError("now and then")
    return call["n"]
"#;

const SLOTS: &str = r#"
import json, os, urllib.request

os.environ["no_proxy"] = os.environ["NO_PROXY"] = ""

def handler(event, context):
    seen = json.dumps({"id": context.aws_request_id, "slot": event["time_ms"]}).encode()
    urllib.request.urlopen(os.environ["SINK"], data=seen, timeout=5).read()
"#;

#[derive(Debug, Default)]
struct Seen {
    /// How often each call was begun, by its id.
    calls: BTreeMap<String, u64>,
    /// The ids that each slot came under.
    slots: BTreeMap<i64, BTreeSet<String>>,
}

fn seen(sink: &Sink) -> Seen {
    let mut seen = Seen::default();
    for told in sink.told() {
        let id = told["id"].as_str().unwrap().to_owned();
        match told["slot"].as_i64() {
            Some(slot) => drop(seen.slots.entry(slot).or_default().insert(id)),
            None => *seen.calls.entry(id).or_default() += 1,
        }
    }
    seen
}

/// Sends one request; `None` where no whole answer came, so that what became of it is not known.
fn ask(port: u16, head: &str, body: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let length = body.len();
    let request = format!("{head}Host: t\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, serde_json::from_str(body).ok()?))
}

/// What the clients know.
#[derive(Debug, Default)]
struct Clients {
    next: AtomicU64,
    port: AtomicU16,
    is_over: AtomicBool,
    /// Ids that were answered with 202, by the number of the call.
    accepted: Mutex<BTreeMap<u64, BTreeSet<String>>>,
}

/// Sends calls until it is over. Every second one has a key and is sent until it is accepted, and then once more.
fn send(clients: &Clients) {
    while !clients.is_over.load(Ordering::Relaxed) {
        let n = clients.next.fetch_add(1, Ordering::Relaxed);
        let has_key = n.is_multiple_of(2);
        let key = if has_key { format!("Idempotency-Key: call-{n}\r\n") } else { String::new() };
        let head = format!("POST /async-function/worker HTTP/1.1\r\nContent-Type: application/json\r\n{key}");
        let mut repeats_left = if has_key { 2 } else { 1 };
        while repeats_left > 0 {
            let port = clients.port.load(Ordering::Relaxed);
            match ask(port, &head, &json!({ "n": n }).to_string()) {
                Some((202, answer)) => {
                    let id = answer["id"].as_str().unwrap().to_owned();
                    clients.accepted.lock().unwrap().entry(n).or_default().insert(id);
                    repeats_left -= 1;
                }
                // Without a key nobody knows whether it was accepted, so it is not sent again.
                _ if !has_key => repeats_left = 0,
                _ => std::thread::park_timeout(Duration::from_millis(5)),
            }
        }
    }
}

fn deploy(platform: &Platform, sink_port: u16) {
    let settings = format!("[env]\nSINK = \"http://127.0.0.1:{sink_port}/\"\n");
    let retry = "[async.retry]\nattempts = 20\nfirst_ms = 20\nlongest_ms = 200\n";
    let worker = format!("runtime = \"python3\"\nnetwork = \"internet\"\n{settings}{retry}");
    folder_function(platform, "worker", &[("alula.toml", &worker), ("main.py", WORKER)]);
    let schedule = "[[triggers]]\nname = \"tick\"\nkind = \"schedule\"\nevery = \"1s\"\nmissed = \"all\"\nmissed_max = 1000\n";
    let slots = format!("runtime = \"python3\"\nnetwork = \"internet\"\n{schedule}{settings}");
    folder_function(platform, "slots", &[("alula.toml", &slots), ("main.py", SLOTS)]);
}

fn control(platform: &Platform, path: &str) -> Value {
    let token = platform.token();
    let head = format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
    let (status, answer) = ask(platform.control_port, &head, "").unwrap();
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

fn start(data_dir: &std::path::Path) -> Platform {
    Platform::start_configured(data_dir, &[("ALULA_SANDBOX_EGRESS_ALLOW", "[\"127.0.0.1/32\"]")])
}

/// Numbers that only look random: a failure can be repeated.
fn pauses_ms() -> impl Iterator<Item = u64> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % UP_MS_MAX
    })
}

#[test]
fn what_was_accepted_is_done_however_often_the_platform_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let sink = Sink::start();
    let mut platform = start(&data_dir);
    deploy(&platform, sink.port);
    let clients = Arc::new(Clients::default());
    clients.port.store(platform.port, Ordering::Relaxed);
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let clients = Arc::clone(&clients);
            std::thread::spawn(move || send(&clients))
        })
        .collect();
    let rounds =
        std::env::var("ALULA_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    for pause_ms in pauses_ms().take(rounds as usize) {
        std::thread::park_timeout(Duration::from_millis(pause_ms));
        platform.kill();
        platform = start(&data_dir);
        clients.port.store(platform.port, Ordering::Relaxed);
    }
    clients.is_over.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    platform.alula_ok(&["triggers", "pause", "slots/tick"]);
    let began = Instant::now();
    loop {
        let queue = control(&platform, "/v1/queue");
        let totals = &queue["totals"];
        assert_eq!(totals["imbalance"], 0, "{totals}");
        if totals["waiting"] == 0 && totals["running"] == 0 {
            break;
        }
        assert!(
            began.elapsed() < ENDS_WITHIN,
            "calls have not come to their end: {queue}\n{}",
            platform.log()
        );
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let accepted = std::mem::take(&mut *clients.accepted.lock().unwrap());
    let seen = seen(&sink);
    check_calls(&platform, &accepted, &seen);
    check_slots(&seen);
}

fn check_calls(platform: &Platform, accepted: &BTreeMap<u64, BTreeSet<String>>, seen: &Seen) {
    assert!(accepted.len() > 20, "the load was no load: {} calls", accepted.len());
    for (n, ids) in accepted {
        assert_eq!(ids.len(), 1, "call {n} was accepted under several ids: {ids:?}");
        let id = ids.first().unwrap();
        let call = control(platform, &format!("/v1/invocations/{id}"));
        let state = call["state"].as_str().unwrap();
        assert!(matches!(state, "done" | "dead"), "call {n}: {call}");
        let times = seen.calls.get(id).copied().unwrap_or(0);
        let attempts = call["attempts"].as_u64().unwrap();
        assert!((1..=attempts).contains(&times), "call {n} ran {times} times in {attempts} attempts: {call}");
    }
}

fn check_slots(seen: &Seen) {
    for (slot, ids) in &seen.slots {
        assert_eq!(ids.len(), 1, "slot {slot} came under several ids: {ids:?}");
    }
    let (first, last) = (seen.slots.keys().next().unwrap(), seen.slots.keys().next_back().unwrap());
    let missing: Vec<_> =
        (*first..=*last).step_by(1_000).filter(|slot| !seen.slots.contains_key(slot)).collect();
    assert!(missing.is_empty(), "slots are missing: {missing:?} of {first} to {last}");
}

#[test]
fn an_accepted_call_waits_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let sink = Sink::start();
    let mut platform = start(&data_dir);
    deploy(&platform, sink.port);
    platform.alula_ok(&["queue", "pause", "worker"]);
    let head = "POST /async-function/worker HTTP/1.1\r\nContent-Type: application/json\r\n";
    let (status, answer) = ask(platform.port, head, "{\"n\": 1}").unwrap();
    assert_eq!(status, 202, "{answer}");
    platform.kill();
    platform = start(&data_dir);
    platform.alula_ok(&["queue", "resume", "worker"]);
    let id = answer["id"].as_str().unwrap().to_owned();
    eventually("the call is done", || {
        (control(&platform, &format!("/v1/invocations/{id}"))["state"] == "done").then_some(())
    });
    assert_eq!(seen(&sink).calls.get(&id), Some(&1));
}
