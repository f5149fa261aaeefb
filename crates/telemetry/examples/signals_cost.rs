//! What counting a call costs, and looking at everything that was counted, with many functions:
//! `cargo run --release --example signals_cost`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it is run by people")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures real time")]

use std::sync::Arc;
use std::time::Instant;

use alula_model::{
    Clock, FunctionSpec, InstanceId, InvocationId, Name, Phases, Run, RunStatus, Tier, Timestamp,
    TriggerKind, VersionKey,
};
use alula_telemetry::signals::{Signals, Terms};
use alula_telemetry::usage::Ledger;

const FUNCTIONS: usize = 10_000;
const CALLS: usize = 2_000_000;

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000)
    }
}

fn main() {
    let signals = Signals::new(Arc::new(Still), Ledger::default());
    let spec = FunctionSpec::new("exec");
    let namespace = Name::default_namespace();
    let names: Vec<Name> = (0..FUNCTIONS).map(|number| Name::new(&format!("f{number}")).unwrap()).collect();
    let run = Run {
        id: InvocationId::new("r").unwrap(),
        key: VersionKey { namespace: namespace.clone(), function: names[0].clone(), version: 1 },
        qualifier: "latest".to_owned(),
        caller: None,
        degraded: None,
        trigger: TriggerKind::Http,
        attempt: 1,
        status: RunStatus::Done,
        http_status: Some(200),
        error: None,
        message: None,
        started_at: Timestamp(0),
        phases: Phases { run_us: 900, total_us: 1_000, ..Phases::default() },
        tier: Tier::Warm,
        instance: Some(InstanceId::new("i")),
        request_bytes: 3,
        response_bytes: 5,
        parent: None,
    };
    for name in &names {
        signals.function(&namespace, name, &spec).record(&run, Terms::of(&spec));
    }
    let begun = Instant::now();
    signals.gather();
    println!("looking at {FUNCTIONS} functions that were called: {:?}", begun.elapsed());
    let begun = Instant::now();
    signals.gather();
    println!("looking at {FUNCTIONS} functions that were not: {:?}", begun.elapsed());
    for threads in [1, 2] {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (signals, names, spec, namespace, run) = (&signals, &names, &spec, &namespace, &run);
                scope.spawn(move || {
                    for call in 0..CALLS {
                        let name = &names[(call * 7 + thread) % FUNCTIONS];
                        signals.function(namespace, name, spec).record(run, Terms::of(spec));
                    }
                });
            }
        });
        let each = begun.elapsed().as_nanos() as f64 / CALLS as f64;
        println!("a call, {threads} threads, one of {FUNCTIONS} functions: {each:.0} ns");
    }
}
