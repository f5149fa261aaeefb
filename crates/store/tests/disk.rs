//! What a disk may do to a store: be full, and keep only a part of what was being written when the power went.
//!
//! A power loss is played by copying the files of an open store and spoiling in the copy what could have been in flight:
//! the end of the log, which is being written, and pages of the database file, which the log is being merged into.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests may panic, and the child speaks by its output"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use alula_model::Timestamp;
use alula_store::{
    Batch, DataDir, Expect, Key, MessageId, NewMessage, QueueCounts, Records, SqliteOptions, SqliteStore,
};

fn open(path: &Path) -> SqliteStore {
    alula_store::open_sqlite(&DataDir::open(path).unwrap(), &SqliteOptions::default()).unwrap()
}

/// A record and a message, some kilobytes together.
fn batch(number: usize) -> Batch {
    let message = NewMessage {
        id: MessageId(format!("m{number}")),
        lane: "lane".to_owned(),
        ordering_key: None,
        enqueued_at: Timestamp(0),
        available_at: Timestamp(0),
        body: vec![b'b'; 3_000].into(),
    };
    Batch::default().put(key(number), vec![b'v'; 3_000], Expect::Absent).enqueue(message)
}

fn key(number: usize) -> Key {
    Key::new(&["disk", &format!("{number:06}")])
}

/// What is there, which must be whole: the records `0..n` and as many messages. Returns `n`.
async fn count_whole(store: &SqliteStore) -> usize {
    let records = store.scan(&Key::new(&["disk"]), None, 1_000).await.unwrap();
    let keys: Vec<_> = records.into_iter().map(|record| record.key).collect();
    assert_eq!(keys, (0..keys.len()).map(key).collect::<Vec<_>>(), "nothing is missing in between");
    let totals = store.totals(Timestamp(0)).await.unwrap();
    assert_eq!((totals.waiting, totals.imbalance()), (keys.len() as u64, 0));
    keys.len()
}

struct Files {
    database: Vec<u8>,
    log: Vec<u8>,
}

impl Files {
    fn read(data: &Path) -> Self {
        let read = |name| std::fs::read(data.join(name)).unwrap();
        Self { database: read("alula.db"), log: read("alula.db-wal") }
    }

    /// How many commits a store that is started on these files has.
    async fn open(&self, root: &Path, name: &str) -> usize {
        let path = root.join(name);
        drop(DataDir::open(&path).unwrap());
        std::fs::write(path.join("alula.db"), &self.database).unwrap();
        std::fs::write(path.join("alula.db-wal"), &self.log).unwrap();
        let store = open(&path);
        let count = count_whole(&store).await;
        store.commit(batch(count)).await.unwrap();
        count
    }
}

const COMMITS: usize = 20;

/// A data directory in which some commits are in the database file and `COMMITS` in all are acknowledged.
async fn filled(root: &Path) -> (PathBuf, SqliteStore) {
    let path = root.join("data");
    let store = open(&path);
    for number in 0..COMMITS / 2 {
        store.commit(batch(number)).await.unwrap();
    }
    drop(store);
    let store = open(&path);
    for number in COMMITS / 2..COMMITS {
        store.commit(batch(number)).await.unwrap();
    }
    (path, store)
}

#[tokio::test]
async fn a_torn_end_of_the_log_costs_only_what_was_not_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let (path, store) = filled(root.path()).await;
    let acknowledged = Files::read(&path).log.len();
    store.commit(batch(COMMITS)).await.unwrap();
    let whole = Files::read(&path);
    assert!(whole.log.len() > acknowledged, "the last commit is at the end of the log");
    assert_eq!(whole.open(root.path(), "whole").await, COMMITS + 1);
    let last = whole.log.len() - acknowledged;
    for (number, kept) in [0, 1, 23, 24, 25, last / 2, last - 1].into_iter().enumerate() {
        let torn = |log| Files { database: whole.database.clone(), log };
        let cut = torn(whole.log[..acknowledged + kept].to_vec());
        assert_eq!(cut.open(root.path(), &format!("cut-{number}")).await, COMMITS, "cut after {kept} bytes");
        let mut log = whole.log.clone();
        log[acknowledged + kept..].fill(0);
        assert_eq!(
            torn(log).open(root.path(), &format!("zero-{number}")).await,
            COMMITS,
            "zeros from {kept}"
        );
        let mut log = whole.log.clone();
        log[acknowledged + kept] ^= 1;
        assert_eq!(torn(log).open(root.path(), &format!("bit-{number}")).await, COMMITS, "a bit at {kept}");
    }
}

#[tokio::test]
async fn torn_pages_of_the_database_file_are_made_whole_from_the_log() {
    /// Sizes in SQLite's write-ahead log: <https://sqlite.org/fileformat2.html#the_write_ahead_log>.
    const LOG_HEADER_BYTES: usize = 32;
    const FRAME_HEADER_BYTES: usize = 24;
    let root = tempfile::tempdir().unwrap();
    let (path, _store) = filled(root.path()).await;
    let mut files = Files::read(&path);
    let word = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let page_bytes = word(&files.log, 8);
    let frames = (LOG_HEADER_BYTES..files.log.len()).step_by(FRAME_HEADER_BYTES + page_bytes);
    let mut spoilt = 0;
    for page in frames.map(|frame| word(&files.log, frame)).collect::<std::collections::BTreeSet<_>>() {
        // The second half of the page; where it lies behind the end, the file is cut off in it.
        let half = (page - 1) * page_bytes + page_bytes / 2;
        if let Some(rest) = files.database.get_mut(half..page * page_bytes) {
            rest.fill(b'x');
            spoilt += 1;
        }
    }
    assert!(spoilt > 2, "{spoilt} pages are in both files");
    assert_eq!(files.open(root.path(), "torn").await, COMMITS);
}

/// The child's part: fills a small file system that the parent made, and makes room again.
#[test]
#[ignore = "started by the test of a full disk as its child"]
fn child() {
    let folder = PathBuf::from(std::env::var_os("ALULA_TEST_FOLDER").unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let ballast = folder.join("ballast");
        std::fs::write(&ballast, vec![1; 2 * 1024 * 1024]).unwrap();
        let store = open(&folder.join("data"));
        let mut stored = 0;
        let mut refusals = 0;
        while refusals < 20 {
            match store.commit(batch(stored)).await {
                Ok(_) => stored += 1,
                Err(error) => {
                    assert!(error.is_retryable(), "{error:?}");
                    refusals += 1;
                }
            }
        }
        assert_eq!(count_whole(&store).await, stored, "all that was acknowledged and no more");
        std::fs::remove_file(&ballast).unwrap();
        store.commit(batch(stored)).await.unwrap();
        assert_eq!(count_whole(&store).await, stored + 1);
        println!("recovered after {stored}");
    });
}

#[test]
fn a_full_disk_refuses_changes_and_recovers_by_itself() {
    let root = tempfile::tempdir().unwrap();
    // A file system of four megabytes in a mount namespace of the child's own; no right of root is needed for it.
    let script = "mount -t tmpfs -o size=4m none \"$ALULA_TEST_FOLDER\" && exec \"$0\" --exact child --ignored --nocapture";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("ALULA_TEST_FOLDER", root.path())
        .output()
        .unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if complained.contains("unshare failed") || complained.contains("mount:") {
        eprintln!("SKIPPED: no file system can be mounted here: {complained}");
        return;
    }
    assert!(output.status.success() && said.contains("recovered after"), "{said}\n{complained}");
}
