//! What a call pays for its limits: nanoseconds of an admission and its end, on one thread and on several.
//!
//! `cargo run --release -p alula-guard --example admit`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example")]
#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alula_guard::{Ask, Guard, Origin};
use alula_model::{Caller, FunctionLimits, FunctionSpec, Name, Qualifier, Timestamp, VersionKey};
use tokio::time::Instant;

/// How long each case is measured.
const MEASURED: Duration = Duration::from_millis(500);
/// Admissions between two looks at the clock.
const CHUNK: u32 = 1_000;

/// Which calls are made.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// The configuration's limits.
    options: &'static str,
    /// The function's.
    limits: &'static str,
    namespaces: usize,
    callers: u32,
    threads: usize,
}

const PLAIN: Case =
    Case { name: "no limits", options: "{}", limits: "{}", namespaces: 1, callers: 1, threads: 1 };
const ALL: &str = r#"{"node": {"requests_per_second": 1000000, "burst": 1000000, "in_flight": 10000},
    "namespace": {"requests_per_second": 1000000, "burst": 1000000, "in_flight": 10000},
    "caller": {"requests_per_second": 1000000, "burst": 1000000, "in_flight": 10000}}"#;
const OWN: &str = r#"{"requests_per_second": 1000000, "burst": 1000000, "in_flight": 10000}"#;

const CASES: &[Case] = &[
    PLAIN,
    Case { name: "no limits, 1 000 namespaces", namespaces: 1_000, ..PLAIN },
    Case { name: "no limits, 2 threads", threads: 2, ..PLAIN },
    Case { name: "the function's limits", limits: OWN, ..PLAIN },
    Case { name: "limits of node, namespace, function, caller", options: ALL, limits: OWN, ..PLAIN },
    Case { name: "the same, 50 000 callers", options: ALL, limits: OWN, callers: 50_000, ..PLAIN },
    Case { name: "the same, 2 threads", options: ALL, limits: OWN, callers: 50_000, threads: 2, ..PLAIN },
    Case { name: "refused at the function's rate", limits: r#"{"requests_per_second": 1}"#, ..PLAIN },
];

fn main() {
    println!("{:<50} {:>10}", "case", "ns");
    for case in CASES {
        println!("{:<50} {:>10.1}", case.name, measure(case));
    }
}

/// Nanoseconds of one admission with its end, on each thread.
fn measure(case: &Case) -> f64 {
    let guard = Guard::new(&serde_json::from_str(case.options).unwrap()).unwrap();
    let limits: FunctionLimits = serde_json::from_str(case.limits).unwrap();
    let spec = FunctionSpec { limits, ..FunctionSpec::new("exec") };
    let name = |text: String| Name::new(&text).unwrap();
    let key =
        |n| VersionKey { namespace: name(format!("tenant-{n}")), function: name("f".to_owned()), version: 1 };
    let keys: Vec<_> = (0..case.namespaces).map(key).collect();
    let done = AtomicUsize::new(0);
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..case.threads {
            let (guard, spec, keys, done) = (&guard, &spec, &keys, &done);
            scope.spawn(move || {
                let mut turn = thread as u32;
                while began.elapsed() < MEASURED {
                    for _ in 0..CHUNK {
                        turn = turn.wrapping_add(1);
                        let source = IpAddr::V4(Ipv4Addr::from_bits(turn % case.callers));
                        let origin = Origin { caller: &Caller::Public, source: Some(source) };
                        let key = &keys[turn as usize % keys.len()];
                        let (now, at) = (Instant::now(), Timestamp(0));
                        let ask = Ask { origin, key, qualifier: &Qualifier::Latest, spec, now, at };
                        let _ = black_box(guard.admit(&ask));
                    }
                    done.fetch_add(CHUNK as usize, Ordering::Relaxed);
                }
            });
        }
    });
    let spent = began.elapsed().as_secs_f64() * case.threads as f64;
    spent * 1e9 / done.load(Ordering::Relaxed) as f64
}
