//! The service as a whole, on files in a temporary folder, with a clock that the tests set.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use alula_model::{InstanceId, InvocationId, LogLevel, LogStream, Name, Timestamp, VersionKey};
use futures_util::StreamExt;
use tokio::task::JoinHandle;

use super::pending::TEXT_BYTES_MAX;
use super::*;

#[derive(Debug, Default)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

struct Logs {
    handle: LogHandle,
    clock: Arc<SetClock>,
    dir: PathBuf,
    cancel: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
}

impl Logs {
    fn start(root: &tempfile::TempDir, options: LogOptions, now: i64) -> Self {
        let dir = root.path().join("logs");
        let clock = Arc::new(SetClock(AtomicI64::new(now)));
        let (service, handle) = start(LogOptions { dir: dir.clone(), ..options }, Arc::clone(&clock) as _);
        let cancel = CancellationToken::new();
        let running = tokio::spawn(service.run(cancel.clone()));
        Self { handle, clock, dir, cancel, running }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.running.await.unwrap().unwrap();
    }

    fn write(&self, function: &str, text: &str) {
        self.handle.write(line(function, self.clock.now().0, text));
    }

    async fn texts(&self, query: LogQuery) -> Vec<String> {
        self.handle.query(query).await.unwrap().into_iter().map(|line| line.text).collect()
    }

    /// The files of a function, the oldest first.
    fn files(&self, function: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.dir.join("default").join(function)) else { return Vec::new() };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn line(function: &str, at: i64, text: &str) -> LogLine {
    LogLine {
        at: Timestamp(at),
        key: VersionKey { namespace: name("default"), function: name(function), version: 1 },
        instance: InstanceId::new("i-1"),
        invocation: None,
        stream: LogStream::Stdout,
        level: LogLevel::Info,
        text: text.to_owned(),
    }
}

fn all() -> LogQuery {
    LogQuery::new(name("default"))
}

fn of(function: &str) -> LogQuery {
    LogQuery { function: Some(name(function)), ..all() }
}

#[tokio::test]
async fn a_query_finds_what_was_written_before_it() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::start(&root, LogOptions::default(), 1_000);
    assert_eq!(logs.texts(all()).await, [""; 0]);
    for number in 0..50 {
        logs.write("f", &number.to_string());
        assert_eq!(logs.texts(LogQuery { limit: 1, ..of("f") }).await, [number.to_string()]);
    }
    assert_eq!(logs.texts(LogQuery { limit: 3, ..of("f") }).await, ["47", "48", "49"]);
    assert_eq!(logs.texts(LogQuery { limit: 0, ..of("f") }).await, [""; 0]);
    assert_eq!(logs.texts(of("nobody")).await, [""; 0]);
    logs.stop().await;
}

#[tokio::test]
async fn every_filter_selects() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::start(&root, LogOptions::default(), 1_000);
    let plain = line("f", 10, "plain");
    let mut versioned = line("f", 20, "versioned");
    versioned.key.version = 2;
    let elsewhere = LogLine { instance: InstanceId::new("i-2"), ..line("f", 30, "elsewhere \"i-1\"") };
    let called = LogLine { invocation: InvocationId::new("call-1"), ..line("f", 40, "a \"quoted\" tab\t") };
    let mut foreign = line("f", 50, "foreign");
    foreign.key.namespace = name("other");
    for line in [plain, versioned, elsewhere, called, foreign, line("g", 25, "g's")] {
        logs.handle.write(line);
    }
    assert_eq!(
        logs.texts(all()).await,
        ["plain", "versioned", "g's", "elsewhere \"i-1\"", "a \"quoted\" tab\t"]
    );
    assert_eq!(logs.texts(LogQuery { version: Some(2), ..of("f") }).await, ["versioned"]);
    let instance = Some(InstanceId::new("i-2"));
    assert_eq!(logs.texts(LogQuery { instance, ..of("f") }).await, ["elsewhere \"i-1\""]);
    let invocation = InvocationId::new("call-1");
    assert_eq!(logs.texts(LogQuery { invocation, ..all() }).await, ["a \"quoted\" tab\t"]);
    let text = |text: &str| LogQuery { text: Some(text.to_owned()), ..all() };
    assert_eq!(logs.texts(text("\"quoted\" tab\t")).await, ["a \"quoted\" tab\t"]);
    assert_eq!(logs.texts(text("namespace")).await, [""; 0], "only the text is searched");
    assert_eq!(logs.texts(text("Plain")).await, [""; 0]);
    let (since, until) = (Some(Timestamp(20)), Some(Timestamp(30)));
    assert_eq!(logs.texts(LogQuery { since, until, ..all() }).await, ["versioned", "g's"]);
    assert_eq!(logs.texts(LogQuery::new(name("other"))).await, ["foreign"]);
    logs.stop().await;
}

#[tokio::test]
async fn hostile_texts_come_back_as_they_were() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::start(&root, LogOptions::default(), 1_000);
    let texts = [
        "",
        "\u{1b}[2J\u{1b}]0;owned\u{7}",
        "one\ntwo\r\n{\"at\":1,\"forged\":true}\n",
        "\0\u{7f}\u{2028}\u{feff}ä€𝄞",
        "\\\"\\u0000",
    ];
    texts.iter().for_each(|text| logs.write("f", text));
    assert_eq!(logs.texts(of("f")).await, texts);
    let file = fs::read(&logs.files("f")[0]).unwrap();
    assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), texts.len(), "one line a line");
    assert!(file.iter().all(|byte| *byte >= 0x20 || *byte == b'\n'), "no control character reaches the file");

    let huge = "€".repeat(TEXT_BYTES_MAX);
    logs.write("huge", &huge);
    logs.write("huge", "next");
    let stored = logs.texts(of("huge")).await;
    assert!(
        stored[0].len() < TEXT_BYTES_MAX + 64 && stored[0].ends_with("bytes cut off]"),
        "{}",
        stored[0].len()
    );
    assert_eq!(stored[1], "next");
    logs.stop().await;
}

#[tokio::test]
async fn lines_survive_a_restart_and_a_torn_tail_costs_one_line() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::start(&root, LogOptions::default(), 1_000);
    logs.write("f", "before");
    let (files, handle) = (logs.dir.clone(), logs.handle.clone());
    logs.stop().await;
    handle.write(line("f", 1, "too late"));
    assert_eq!(handle.dropped().get(), 1);
    let file = files.join("default/f/0000000001000.log");
    let mut torn = fs::OpenOptions::new().append(true).open(file).unwrap();
    torn.write_all(b"{\"at\":1001,\"namespace\":\"default\",\"fun").unwrap();

    let logs = Logs::start(&root, LogOptions::default(), 2_000);
    assert_eq!(logs.texts(of("f")).await, ["before"]);
    logs.write("f", "after");
    assert_eq!(logs.texts(of("f")).await, ["before", "after"]);
    assert_eq!(logs.files("f").len(), 1, "a restart does not begin a new file");
    fs::write(&logs.files("f")[0], [0xff; 1000]).unwrap();
    logs.write("f", "on a damaged file");
    assert_eq!(logs.texts(of("f")).await, [""; 0], "the line is behind bytes without an end");
    logs.write("f", "readable again");
    assert_eq!(logs.texts(of("f")).await, ["readable again"]);
    logs.stop().await;
}

#[tokio::test]
async fn a_function_over_its_room_loses_its_oldest_lines_only() {
    let root = tempfile::tempdir().unwrap();
    let options =
        LogOptions { segment_bytes_max: 2_000, function_bytes_max: 10_000, ..LogOptions::default() };
    let logs = Logs::start(&root, options, 1_000);
    logs.write("quiet", "still here");
    for number in 0..200 {
        logs.write("loud", &format!("{number:04} {}", "x".repeat(300)));
        logs.texts(LogQuery { limit: 1, ..of("loud") }).await;
    }
    let bytes: u64 = logs.files("loud").iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!((5_000..=10_000).contains(&bytes), "{bytes} bytes");
    let texts = logs.texts(of("loud")).await;
    assert!(texts[0].as_str() > "0150" && texts.last().unwrap().starts_with("0199"));
    assert_eq!(logs.texts(of("quiet")).await, ["still here"]);
    logs.stop().await;
}

#[tokio::test]
async fn over_the_whole_room_the_largest_function_gives_way() {
    let root = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes_max: 1_000, total_bytes_max: 10_000, ..LogOptions::default() };
    let logs = Logs::start(&root, options, 1_000);
    (0..5).for_each(|number| logs.write("small", &number.to_string()));
    for _ in 0..100 {
        logs.write("large", &"x".repeat(300));
        logs.texts(LogQuery { limit: 1, ..all() }).await;
    }
    let bytes =
        |function| logs.files(function).iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
    assert!(bytes("large") + bytes("small") <= 10_000 && bytes("large") > 7_000);
    assert_eq!(logs.texts(of("small")).await, ["0", "1", "2", "3", "4"]);
    logs.stop().await;
}

#[tokio::test]
async fn old_lines_are_forgotten_also_those_of_an_earlier_process() {
    let root = tempfile::tempdir().unwrap();
    let options = || LogOptions { retention_ms: 1_000_000, segment_bytes_max: 400, ..LogOptions::default() };
    let logs = Logs::start(&root, options(), 0);
    for at in [0, 500_000, 900_000] {
        logs.clock.0.store(at, Ordering::SeqCst);
        logs.write("f", &format!("{at} {}", "x".repeat(200)));
        logs.write("once", "x");
        logs.texts(all()).await;
    }
    assert_eq!(logs.files("f").len(), 3);
    logs.clock.0.store(1_600_000, Ordering::SeqCst);
    logs.texts(all()).await;
    // The second segment began before the horizon, but its end is not known to be before it.
    assert_eq!(logs.files("f").len(), 2);
    logs.stop().await;

    let logs = Logs::start(&root, options(), 1_900_001);
    logs.write("new", "x");
    assert_eq!(logs.texts(all()).await, ["x"]);
    assert!(!logs.dir.join("default/f").exists() && !logs.dir.join("default/once").exists());
    logs.write("f", "again");
    assert_eq!(logs.texts(of("f")).await, ["again"]);
    logs.stop().await;
}

#[tokio::test]
async fn a_flood_is_dropped_and_said_and_its_neighbour_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("logs");
    let clock = Arc::new(SetClock::default());
    let (service, handle) = start(LogOptions { dir, ..LogOptions::default() }, clock);
    // Nothing is stored yet, as if the disk stood still.
    let flood = "x".repeat(TEXT_BYTES_MAX);
    let written: u64 = 2_000;
    for number in 0..written {
        handle.write(line("loud", number as i64, &flood));
        if number % 20 == 0 {
            handle.write(line("quiet", number as i64, "hello"));
        }
    }
    let dropped = handle.dropped().get();
    assert!(dropped > written / 2, "{dropped} of {written} were dropped");
    let cancel = CancellationToken::new();
    let running = tokio::spawn(service.run(cancel.clone()));
    assert_eq!(handle.query(of("quiet")).await.unwrap().len(), 100);
    let last = handle.query(LogQuery { limit: 1, ..of("loud") }).await.unwrap().remove(0);
    assert_eq!((last.stream, last.level), (LogStream::Platform, LogLevel::Warn));
    assert_eq!(
        last.text,
        format!("{dropped} log lines were dropped: they came faster than they could be stored")
    );
    cancel.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_disk_that_refuses_is_survived_and_counted() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("logs"), "a file where the folder should be").unwrap();
    let logs = Logs::start(&root, LogOptions::default(), 1_000);
    logs.write("f", "lost");
    assert!(logs.handle.query(of("f")).await.is_err());
    assert_eq!(logs.handle.dropped().get(), 1);
    fs::remove_file(root.path().join("logs")).unwrap();
    logs.write("f", "kept");
    assert_eq!(logs.texts(of("f")).await, ["kept"]);
    logs.stop().await;
}

#[tokio::test]
async fn followers_see_what_they_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::start(&root, LogOptions::default(), 1_000);
    logs.write("f", "before");
    logs.texts(all()).await;
    let mut follow = logs.handle.follow(LogQuery { text: Some("yes".to_owned()), ..of("f") });
    drop(logs.handle.follow(all()));
    logs.write("f", "no");
    logs.write("g", "yes, but of g");
    logs.write("f", "yes 1");
    assert_eq!(follow.next().await.unwrap().text, "yes 1");
    logs.write("f", "yes 2");
    assert_eq!(follow.next().await.unwrap().text, "yes 2");
    let handle = logs.handle.clone();
    logs.stop().await;
    assert_eq!(follow.next().await, None, "the stream ends with the service");
    assert_eq!(handle.follow(all()).next().await, None);
}

#[tokio::test]
async fn a_slow_follower_is_told_what_it_missed_and_a_neighbours_flood_costs_it_nothing() {
    let root = tempfile::tempdir().unwrap();
    let logs = Logs::start(&root, LogOptions::default(), 1_000);
    let mut slow = logs.handle.follow(of("loud"));
    let mut other = logs.handle.follow(of("quiet"));
    let fits = follow::FOLLOWER_LINES_MAX;
    logs.write("quiet", "hello");
    (0..fits + 10).for_each(|number| logs.write("loud", &number.to_string()));
    logs.texts(LogQuery { limit: 1, ..all() }).await;
    for number in 0..fits {
        assert_eq!(slow.next().await.unwrap().text, number.to_string());
    }
    logs.write("loud", "at last");
    let notice = slow.next().await.unwrap();
    assert_eq!(notice.stream, LogStream::Platform);
    assert_eq!(notice.text, "10 log lines were left out: they came faster than they were read");
    assert_eq!(slow.next().await.unwrap().text, "at last");
    assert_eq!(other.next().await.unwrap().text, "hello");
    logs.stop().await;
}

#[tokio::test]
async fn the_newest_lines_of_many_functions_are_found_in_order() {
    let root = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes_max: 500, ..LogOptions::default() };
    let logs = Logs::start(&root, options, 0);
    for at in 0..60 {
        logs.clock.0.store(at * 10_000, Ordering::SeqCst);
        logs.write(["a", "b", "c"][at as usize % 3], &at.to_string());
        logs.texts(LogQuery { limit: 1, ..all() }).await;
    }
    let expected: Vec<_> = (50..60).map(|at| at.to_string()).collect();
    assert_eq!(logs.texts(LogQuery { limit: 10, ..all() }).await, expected);
    let window = LogQuery { since: Some(Timestamp(100_000)), until: Some(Timestamp(130_000)), ..all() };
    assert_eq!(logs.texts(window).await, ["10", "11", "12"]);
    logs.stop().await;
}
