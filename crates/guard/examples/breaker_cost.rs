//! What a breaker and an adaptive limit cost a call: nanoseconds for asking and for telling how the call ended.
//!
//! `cargo run --release -p alula-guard --example breaker_cost`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::hint::black_box;
use std::sync::Arc;

use alula_guard::breaker::{BreakerEvent, BreakerParts, BreakerWatch, Breakers, Called, Scope};
use alula_guard::{Ended, FunctionGuard};
use alula_model::{
    AdaptiveSpec, Clock, ErrorCode, FunctionSpec, Name, Phases, Qualifier, Switch, Timestamp, VersionKey,
};
use tokio::time::Instant;

/// Calls that one figure is taken of.
const CALLS: u32 = 2_000_000;
/// Other versions that have breakers.
const OTHERS: u64 = 5_000;

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
}

#[derive(Debug)]
struct Nobody;

impl BreakerWatch for Nobody {
    fn changed(&self, _event: &BreakerEvent) {}
    fn gone(&self, _namespace: &Name, _function: &Name, _version: u64, _scope: &Scope) {}
}

fn key(version: u64) -> VersionKey {
    VersionKey { namespace: Name::default_namespace(), function: Name::new("f").unwrap(), version }
}

fn ended(error: Option<ErrorCode>, now: Instant) -> Ended {
    Ended { error, http_status: Some(200), phases: Phases::default(), now }
}

/// Nanoseconds of asking and telling.
fn measure(guard: &FunctionGuard, call: &Called<'_>) -> f64 {
    let now = Instant::now();
    let began = Instant::now();
    for _ in 0..CALLS {
        if let Ok(passage) = guard.admit(black_box(call), now) {
            guard.ended(call, passage, &ended(None, now));
        }
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn main() {
    let parts = BreakerParts { clock: Arc::new(Still), random: || u64::MAX / 2, watch: Arc::new(Nobody) };
    let guard = FunctionGuard::new(Breakers::new(parts));
    let (spec, latest, now) = (FunctionSpec::new("exec"), Qualifier::Latest, Instant::now());
    let fail = |version| {
        let key = key(version);
        let call = Called { key: &key, qualifier: &latest, spec: &spec };
        let passage = guard.admit(&call, now).unwrap();
        guard.ended(&call, passage, &ended(Some(ErrorCode::HandlerError), now));
    };
    let (healthy, known) = (key(1), key(2));
    let call = |key| Called { key, qualifier: &latest, spec: &spec };
    println!("{:.1} ns a call: no breaker of any function", measure(&guard, &call(&healthy)));
    (2..OTHERS).for_each(fail);
    println!("{:.1} ns a call: no breaker of this one, {OTHERS} of others", measure(&guard, &call(&healthy)));
    println!("{:.1} ns a call: its breaker is closed and counts", measure(&guard, &call(&known)));
    (0..30).for_each(|_| {
        let call = call(&known);
        if let Ok(passage) = guard.admit(&call, now) {
            guard.ended(&call, passage, &ended(Some(ErrorCode::HandlerError), now));
        }
    });
    let off = FunctionSpec { breaker: Switch::Off, ..spec.clone() };
    let call_off = Called { key: &healthy, qualifier: &latest, spec: &off };
    println!("{:.1} ns a call: switched off", measure(&guard, &call_off));
    let adaptive = FunctionSpec { adaptive: Switch::On(AdaptiveSpec::default()), ..spec.clone() };
    let call_adaptive = Called { key: &healthy, qualifier: &latest, spec: &adaptive };
    println!("{:.1} ns a call: adaptive limit and no breaker", measure(&guard, &call_adaptive));
}
