//! Measures durable commits a second with 1, 64 and 1024 producers, each waiting for its own acknowledgement.
//!
//! Usage: `cargo run --release -p alula-store --example group_commit [FOLDER]`; the folder decides which disk is
//! measured and must be empty or not exist.

#![allow(clippy::print_stdout, reason = "a program that prints its measurements")]

use std::path::PathBuf;
use std::time::Duration;

use alula_model::Timestamp;
use alula_store::{Batch, DataDir, Expect, Key, MessageId, NewMessage, Records, SqliteOptions, SqliteStore};
use tokio::time::Instant;

const MEASURED_FOR: Duration = Duration::from_secs(3);
const BODY_BYTES: usize = 256;

#[tokio::main]
async fn main() -> alula_store::Result<()> {
    let folder = std::env::args()
        .nth(1)
        .map_or_else(|| std::env::temp_dir().join("alula-group-commit"), PathBuf::from);
    let store = alula_store::open_sqlite(&DataDir::open(&folder)?, &SqliteOptions::default())?;
    println!("{:>10} {:>12} {:>10} {:>10}", "producers", "commits/s", "p50 ms", "p99 ms");
    for producers in [1, 64, 1024] {
        let started = Instant::now();
        let loops: Vec<_> = (0..producers)
            .map(|producer| tokio::spawn(produce(store.clone(), producers, producer)))
            .collect();
        let mut waits = Vec::new();
        for producing in loops {
            waits.extend(producing.await.unwrap_or_else(|_| Ok(Vec::new()))?);
        }
        let rate = waits.len() as f64 / started.elapsed().as_secs_f64();
        waits.sort_unstable();
        let at =
            |share: usize| waits.get(waits.len() * share / 100).map_or(0.0, |wait| wait.as_secs_f64() * 1e3);
        println!("{producers:>10} {rate:>12.0} {:>10.2} {:>10.2}", at(50), at(99));
    }
    Ok(())
}

/// Commits a record and a message at a time; returns how long each took.
async fn produce(
    store: SqliteStore,
    producers: usize,
    producer: usize,
) -> alula_store::Result<Vec<Duration>> {
    let began = Instant::now();
    let mut waits = Vec::new();
    while began.elapsed() < MEASURED_FOR {
        let id = format!("{producers}-{producer}-{}", waits.len());
        let message = NewMessage {
            id: MessageId(id.clone()),
            lane: "bench".to_owned(),
            ordering_key: None,
            enqueued_at: Timestamp(0),
            available_at: Timestamp(0),
            body: vec![0; BODY_BYTES].into(),
        };
        let handed_in = Instant::now();
        store
            .commit(
                Batch::default().put(Key::new(&["bench", &id]), "queued", Expect::Absent).enqueue(message),
            )
            .await?;
        waits.push(handed_in.elapsed());
    }
    Ok(waits)
}
