//! Measures the queue: full cycles a second (enqueue, claim, settle, each durable) with 1, 64 and 512 producers, and the rate
//! of claims and the memory with a thousand and with a million messages in the queue.
//!
//! Usage: `cargo run --release -p alula-store --example queue [FOLDER | postgres://...]`; the folder decides which disk is
//! measured. Folder or database must be empty or new.

#![allow(clippy::print_stdout, reason = "a program that prints its measurements")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alula_model::Timestamp;
use alula_store::{
    Batch, DataDir, MessageId, NewMessage, PostgresOptions, Receipt, Result, Settlement, SqliteOptions,
    Store, open_postgres, open_sqlite,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

const MEASURED_FOR: Duration = Duration::from_secs(3);
const BODY_BYTES: usize = 256;
const CLAIMED_AT_ONCE: usize = 64;
/// Lanes of the full cycles, each with a worker.
const LANES: usize = 16;
const NOW: Timestamp = Timestamp(0);
const LEASE_MS: i64 = 60_000;

#[tokio::main]
async fn main() -> Result<()> {
    let place = std::env::args().nth(1).unwrap_or_else(|| "/var/tmp/alula-queue".to_owned());
    let store: Arc<dyn Store> = if place.starts_with("postgres") {
        Arc::new(open_postgres(&PostgresOptions::new(place)).await?)
    } else {
        Arc::new(open_sqlite(&DataDir::open(Path::new(&place))?, &SqliteOptions::default())?)
    };
    println!("{:>10} {:>10} {:>12} {:>12}", "producers", "cycles/s", "ack p50 ms", "ack p99 ms");
    for producers in [1, 64, 512] {
        cycles(&store, producers).await?;
    }
    println!("{:>10} {:>10} {:>12} {:>12}", "queued", "claims/s", "resident MB", "heads ms");
    let few = depth(&store, 0, 1_000).await?;
    let many = depth(&store, 1_000, 1_000_000).await?;
    println!("a million against a thousand: {:.2}", many / few);
    let totals = store.totals(NOW).await?;
    println!("accepted {}, imbalance {}", totals.accepted, totals.imbalance());
    Ok(())
}

fn message(id: String, lane: String) -> NewMessage {
    let body = vec![b'x'; BODY_BYTES].into();
    NewMessage { id: MessageId(id), lane, ordering_key: None, enqueued_at: NOW, available_at: NOW, body }
}

/// What producers and workers share.
#[derive(Default)]
struct Run {
    has_ended: AtomicBool,
    done: AtomicU64,
}

/// Producers that wait for each acknowledgement, and a worker a lane that claims and settles; prints a row.
async fn cycles(store: &Arc<dyn Store>, producers: usize) -> Result<()> {
    let run = Arc::new(Run::default());
    let mut producing = JoinSet::new();
    let mut working = JoinSet::new();
    for producer in 0..producers {
        producing.spawn(produce(Arc::clone(store), Arc::clone(&run), producers, producer));
    }
    for lane in 0..LANES.min(producers) {
        working.spawn(work(Arc::clone(store), Arc::clone(&run), format!("cycles-{producers}-{lane}")));
    }
    let began = Instant::now();
    tokio::time::sleep(MEASURED_FOR).await;
    let rate = run.done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    run.has_ended.store(true, Ordering::Relaxed);
    let mut waits = Vec::new();
    while let Some(produced) = producing.join_next().await {
        waits.extend(produced.unwrap_or_else(|_| Ok(Vec::new()))?);
    }
    while let Some(worked) = working.join_next().await {
        worked.unwrap_or(Ok(()))?;
    }
    waits.sort_unstable();
    let at = |share: usize| waits.get(waits.len() * share / 100).map_or(0.0, |wait| wait.as_secs_f64() * 1e3);
    println!("{producers:>10} {rate:>10.0} {:>12.2} {:>12.2}", at(50), at(99));
    Ok(())
}

async fn produce(
    store: Arc<dyn Store>,
    run: Arc<Run>,
    producers: usize,
    producer: usize,
) -> Result<Vec<Duration>> {
    let mut waits = Vec::new();
    let lane = format!("cycles-{producers}-{}", producer % LANES);
    while !run.has_ended.load(Ordering::Relaxed) {
        let id = format!("{producers}-{producer}-{}", waits.len());
        let began = Instant::now();
        store.commit(Batch::default().enqueue(message(id, lane.clone()))).await?;
        waits.push(began.elapsed());
    }
    Ok(waits)
}

/// Claims and settles until the run has ended and the lane is empty.
async fn work(store: Arc<dyn Store>, run: Arc<Run>, lane: String) -> Result<()> {
    loop {
        let claims = store.claim(&lane, CLAIMED_AT_ONCE, NOW, LEASE_MS).await?.claims;
        if claims.is_empty() && run.has_ended.load(Ordering::Relaxed) {
            return Ok(());
        }
        let receipts = claims.into_iter().map(|claim| (claim.receipt, Batch::default()));
        let done = settle_all(&store, receipts).await?;
        run.done.fetch_add(done, Ordering::Relaxed);
    }
}

/// Settles all at once, each by itself, as workers that ended at different times would.
async fn settle_all(store: &Arc<dyn Store>, receipts: impl Iterator<Item = (Receipt, Batch)>) -> Result<u64> {
    let mut settling = JoinSet::new();
    for (receipt, with) in receipts {
        let store = Arc::clone(store);
        settling.spawn(async move { store.settle(&receipt, NOW, Settlement::Done, with).await });
    }
    let mut done = 0;
    while let Some(settled) = settling.join_next().await {
        settled.unwrap_or(Ok(()))?;
        done += 1;
    }
    Ok(done)
}

/// Fills one lane from `from` to `to` messages, and claims and settles at that depth: each that is done brings another. Returns
/// the rate.
async fn depth(store: &Arc<dyn Store>, from: usize, to: usize) -> Result<f64> {
    for start in (from..to).step_by(1_000) {
        let batch = (start..start + 1_000).fold(Batch::default(), |batch, number| {
            batch.enqueue(message(format!("depth-{number}"), "depth".to_owned()))
        });
        store.commit(batch).await?;
    }
    let began = Instant::now();
    let mut claimed = 0;
    while began.elapsed() < MEASURED_FOR {
        let claims = store.claim("depth", CLAIMED_AT_ONCE, NOW, LEASE_MS).await?.claims;
        let with = claims.into_iter().enumerate().map(|(number, claim)| {
            let next = message(format!("depth-{to}-{claimed}-{number}"), "depth".to_owned());
            (claim.receipt, Batch::default().enqueue(next))
        });
        claimed += settle_all(store, with).await?;
    }
    let rate = claimed as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    store.heads().await?;
    let heads_ms = began.elapsed().as_secs_f64() * 1e3;
    println!("{to:>10} {rate:>10.0} {:>12} {heads_ms:>12.2}", resident_mb());
    Ok(rate)
}

/// Memory of this process, as Linux tells it.
fn resident_mb() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.map_or_else(|| "?".to_owned(), |kilobytes| (kilobytes / 1024).to_string())
}
