//! Prints what a cell costs on this machine: median and 99th percentile of making it, starting `/bin/true` in
//! it until the program has ended, and ending it.
//!
//! `cargo run --release -p alula-sandbox --example cell_latency`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example prints and may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use alula_runtime::{CellSpec, Launcher, ProcessSpec};
use alula_sandbox::{EgressGate, Sandbox, SpawnerOptions, fork_spawner};
use tokio::time::Instant;

const ROUNDS: usize = 200;

fn main() {
    let link = fork_spawner(SpawnerOptions::new("latency")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let sandbox = Sandbox::connect(link, EgressGate::default()).await.unwrap();
        tokio::spawn(measure(sandbox)).await.unwrap();
    });
}

async fn measure(sandbox: Sandbox) {
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let cell = sandbox.prepare(spec()).await.unwrap();
        let prepared = Instant::now();
        let process = cell.start(program()).await.unwrap();
        let started = Instant::now();
        process.wait().await;
        let ended = Instant::now();
        cell.destroy().await;
        let parts = [prepared - start, started - prepared, ended - started, ended.elapsed()];
        for (all, part) in times.iter_mut().zip(parts) {
            all.push(part);
        }
    }
    for (name, mut all) in ["prepare", "start", "exit", "destroy"].into_iter().zip(times) {
        all.sort_unstable();
        println!("{name:8} median {:>9.3?}  p99 {:>9.3?}", all[ROUNDS / 2], all[ROUNDS * 99 / 100]);
    }
}

fn spec() -> CellSpec {
    CellSpec {
        memory_bytes: 256 * 1024 * 1024,
        processes_max: 64,
        tmp_bytes: 64 * 1024 * 1024,
        cpu_weight: 100,
        behalf: alula_runtime::Behalf::default(),
        listeners: vec![9001],
        mounts: Vec::new(),
    }
}

fn program() -> ProcessSpec {
    let argv = vec!["/bin/true".to_owned()];
    ProcessSpec { argv, env: BTreeMap::new(), cwd: "/".to_owned(), fds: Vec::new() }
}
