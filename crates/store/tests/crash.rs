//! A process that is killed between any two instructions loses nothing that it has acknowledged.
//!
//! The test starts its own binary again as a child that works on the queue in several loops and prints each change once
//! it is acknowledged; kills it in the middle; and looks for every printed change in what is left. All rounds use one
//! data directory, so each child also starts from what its killed predecessor left.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests may panic, and the child speaks by its output"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use alula_model::Timestamp;
use alula_store::{
    Batch, DataDir, DeadLetters, Expect, Key, MessageId, MessageState, NewMessage, Queue, QueueCounts,
    Record, Records, Settlement, SqliteOptions, SqliteStore,
};

/// All happens at one moment: no lease runs out.
const NOW: Timestamp = Timestamp(0);
const PRODUCERS: usize = 8;
/// After how many acknowledgements each child is killed.
const KILLED_AFTER: [usize; 6] = [1, 17, 60, 250, 999, 2_000];

fn open(path: &Path) -> SqliteStore {
    alula_store::open_sqlite(&DataDir::open(path).unwrap(), &SqliteOptions::default()).unwrap()
}

fn key(id: &str) -> Key {
    Key::new(&["crash", id])
}

/// One loop of the child. Every id passes through some of the queue's operations, and its record, written in the same
/// transaction, says how far it is: the number of the step and what it came to.
struct Producer {
    store: SqliteStore,
    lane: String,
}

impl Producer {
    async fn run(self) {
        for number in 0.. {
            let id = format!("{}-{number}", self.lane);
            match number % 6 {
                0 => {
                    self.enqueue(&id).await;
                    self.settle(&id, Settlement::Done, "1 done").await;
                }
                1 => {
                    self.enqueue(&id).await;
                    self.settle(&id, dead(), "1 dead").await;
                }
                2 => {
                    self.enqueue(&id).await;
                    let again = Settlement::Retry { available_at: NOW, lane: None, trail: "tried".into() };
                    self.settle(&id, again, "1 queued").await;
                    let release = Settlement::Release { available_at: NOW, trail: "tried".into() };
                    self.settle(&id, release, "2 queued").await;
                    self.settle(&id, Settlement::Done, "3 done").await;
                }
                3 => {
                    self.enqueue(&id).await;
                    let with = note(&id, "1 cancelled");
                    assert!(self.store.cancel(&MessageId(id.clone()), NOW, with).await.unwrap());
                    acknowledge(&id, "1 cancelled");
                }
                4 => {
                    self.enqueue(&id).await;
                    self.settle(&id, dead(), "1 dead").await;
                    let message = MessageId(id.clone());
                    self.store.redrive(&message, &self.lane, NOW, "again".into()).await.unwrap();
                    self.settle(&id, dead(), "2 dead").await;
                    self.store.purge(&message, Batch::default()).await.unwrap();
                }
                _ => {
                    let message = NewMessage { lane: "left".to_owned(), ..self.message(&id) };
                    self.store.commit(note(&id, "0 queued").enqueue(message)).await.unwrap();
                    acknowledge(&id, "0 queued");
                }
            }
        }
    }

    fn message(&self, id: &str) -> NewMessage {
        NewMessage {
            id: MessageId(id.to_owned()),
            lane: self.lane.clone(),
            ordering_key: Some(self.lane.clone()),
            enqueued_at: NOW,
            available_at: NOW,
            body: id.to_owned().into(),
        }
    }

    async fn enqueue(&self, id: &str) {
        self.store.commit(note(id, "0 queued").enqueue(self.message(id))).await.unwrap();
        acknowledge(id, "0 queued");
    }

    async fn settle(&self, id: &str, settlement: Settlement, state: &str) {
        let claims = self.store.claim(&self.lane, 1, NOW, 1_000).await.unwrap().claims;
        assert_eq!(claims[0].receipt.id.0, id, "this lane is ours alone");
        self.store.settle(&claims[0].receipt, NOW, settlement, note(id, state)).await.unwrap();
        acknowledge(id, state);
    }
}

fn dead() -> Settlement {
    Settlement::Dead { reason: "no".to_owned(), trail: "tried".into() }
}

fn note(id: &str, state: &str) -> Batch {
    Batch::default().put(key(id), state.to_owned(), Expect::Any)
}

fn acknowledge(id: &str, state: &str) {
    println!("ack {id} {state}.");
}

/// The child's part: a data directory's path and a round on standard input, acknowledgements on standard output.
#[test]
#[ignore = "started by the crash test as its child"]
fn child() {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).unwrap();
    let Some((path, round)) = input.split_once('\n') else { return };
    let store = open(Path::new(path));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let producers = (0..PRODUCERS)
            .map(|producer| Producer { store: store.clone(), lane: format!("{round}-{producer}") });
        let loops: Vec<_> = producers.map(|producer| tokio::spawn(producer.run())).collect();
        for producing in loops {
            producing.await.unwrap();
        }
    });
}

/// Runs a child until it has acknowledged `killed_after` changes, kills it, and returns the last state of each id that it
/// acknowledged.
fn run_and_kill(path: &Path, round: usize, killed_after: usize) -> BTreeMap<String, String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    write!(child.stdin.take().unwrap(), "{}\n{round}", path.display()).unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut count = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).split(b'\n') {
        let line = String::from_utf8(line.unwrap()).unwrap();
        // The child may be killed in the middle of a line; a whole one ends with a full stop.
        let acknowledgement = line.split_once("ack ").and_then(|(_, text)| text.strip_suffix('.'));
        let Some((id, state)) = acknowledgement.and_then(|text| text.split_once(' ')) else { continue };
        acknowledged.insert(id.to_owned(), state.to_owned());
        count += 1;
        if count == killed_after {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(count >= killed_after, "the child ended by itself after {count}");
    acknowledged
}

#[tokio::test]
async fn every_acknowledged_change_survives_a_kill() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    for (round, killed_after) in KILLED_AFTER.into_iter().enumerate() {
        let acknowledged = run_and_kill(&path, round, killed_after);
        let store = open(&path);
        for (id, state) in &acknowledged {
            let record = store.get(&key(id)).await.unwrap();
            let stored = record.map(|record| String::from_utf8(record.value.to_vec()).unwrap());
            // The states begin with a rising number: the last one may have happened without being acknowledged.
            assert!(stored >= Some(state.clone()), "{id} was {state} in round {round} and is {stored:?}");
        }
        for record in everything(&store).await {
            let (id, state) = (record.key.segments().last().unwrap(), record.value);
            let found = store.find(&MessageId(id.to_owned()), NOW).await.unwrap().map(|found| found.state);
            let is_alive = found.as_ref().is_some_and(|found| !matches!(found, MessageState::Dead { .. }));
            let agrees = match std::str::from_utf8(&state).unwrap().split_once(' ').unwrap().1 {
                "queued" => is_alive,
                "done" | "cancelled" => found.is_none(),
                // Redriving and purging write no record.
                _ => true,
            };
            assert!(agrees, "{id} is {state:?} by its record, which was one transaction, and {found:?}");
        }
        let totals = store.totals(NOW).await.unwrap();
        assert_eq!(totals.imbalance(), 0, "{totals:?}");
    }
}

async fn everything(store: &SqliteStore) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let after = records.last().map(|record| record.key.clone());
        let page = store.scan(&Key::new(&["crash"]), after.as_ref(), 1_000).await.unwrap();
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}
