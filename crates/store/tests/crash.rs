//! A process that is killed between any two instructions loses nothing that it has acknowledged.
//!
//! The test starts its own binary again as a child that commits in several loops and prints each commit once it is
//! acknowledged; kills it in the middle; and looks for every printed commit in what is left. All rounds use one data
//! directory, so each child also starts from what its killed predecessor left.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests may panic, and the child speaks by its output"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use alula_model::Timestamp;
use alula_store::{
    Batch, DataDir, Expect, Key, MessageId, NewMessage, QueueCounts, Records, SqliteOptions, SqliteStore,
};

const PRODUCERS: usize = 8;
/// After how many acknowledgements each child is killed.
const KILLED_AFTER: [usize; 6] = [1, 17, 60, 250, 999, 2_000];

fn open(path: &Path) -> SqliteStore {
    alula_store::open_sqlite(&DataDir::open(path).unwrap(), &SqliteOptions::default()).unwrap()
}

fn key(id: &str) -> Key {
    Key::new(&["crash", id])
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
    let produce = |producer: usize, store: SqliteStore, round: String| async move {
        for number in 0.. {
            let id = format!("{round}-{producer}-{number}");
            let message = NewMessage {
                id: MessageId(id.clone()),
                lane: "crash".to_owned(),
                ordering_key: None,
                enqueued_at: Timestamp(0),
                available_at: Timestamp(0),
                body: id.clone().into(),
            };
            let batch = Batch::default().put(key(&id), id.clone(), Expect::Absent).enqueue(message);
            store.commit(batch).await.unwrap();
            println!("ack {id}");
        }
    };
    runtime.block_on(async {
        let loops: Vec<_> = (0..PRODUCERS)
            .map(|producer| tokio::spawn(produce(producer, store.clone(), round.to_owned())))
            .collect();
        for producing in loops {
            producing.await.unwrap();
        }
    });
}

/// Runs a child until it has acknowledged `killed_after` commits, kills it, and returns all it acknowledged.
fn run_and_kill(path: &Path, round: usize, killed_after: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    write!(child.stdin.take().unwrap(), "{}\n{round}", path.display()).unwrap();
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).split(b'\n') {
        let line = String::from_utf8(line.unwrap()).unwrap();
        if let Some((_, id)) = line.split_once("ack ") {
            acknowledged.push(id.to_owned());
        }
        if acknowledged.len() == killed_after {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= killed_after, "the child ended by itself after {}", acknowledged.len());
    acknowledged
}

#[tokio::test]
async fn every_acknowledged_commit_survives_a_kill() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    for (round, killed_after) in KILLED_AFTER.into_iter().enumerate() {
        let mut acknowledged = run_and_kill(&path, round, killed_after);
        // The child may have been killed in the middle of its last line.
        acknowledged.pop();
        let store = open(&path);
        for id in &acknowledged {
            assert!(
                store.get(&key(id)).await.unwrap().is_some(),
                "{id} of round {round} was acknowledged and is lost"
            );
        }
        let (mut records, mut after) = (0, None);
        loop {
            let page = store.scan(&Key::new(&["crash"]), after.as_ref(), 1_000).await.unwrap();
            let Some(last) = page.last() else { break };
            records += page.len() as u64;
            after = Some(last.key.clone());
        }
        let stats = store.stats(Timestamp(0)).await.unwrap();
        assert_eq!(stats[0].available, records, "every record has its message: they were one transaction");
    }
}
