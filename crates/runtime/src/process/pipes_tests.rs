#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use alula_model::{InstanceId, LogLine};

use super::*;
use crate::conformance::{CollectedLog, FixedClock, plan};

fn output() -> (Arc<Output>, Arc<CollectedLog>) {
    output_with(Mask::default())
}

fn output_with(mask: Mask) -> (Arc<Output>, Arc<CollectedLog>) {
    let sink = Arc::new(CollectedLog::default());
    let log = InstanceLog {
        key: plan("exec", |_| {}).key.clone(),
        instance: InstanceId::new("i"),
        clock: Arc::new(FixedClock::default()),
        sink: Arc::clone(&sink) as _,
    };
    (Arc::new(Output::new(log, mask)), sink)
}

/// The lines that `written` becomes.
async fn lines(written: &[u8]) -> Vec<LogLine> {
    let (output, log) = output();
    let (ours, inside) = log_pipe().unwrap();
    let reading = output.capture(ours, LogStream::Stdout, None);
    let written = written.to_vec();
    std::thread::spawn(move || {
        std::io::Write::write_all(&mut std::fs::File::from(inside), &written).unwrap()
    });
    reading.await.unwrap();
    log.lines()
}

async fn texts(written: &[u8]) -> Vec<String> {
    lines(written).await.into_iter().map(|line| line.text).collect()
}

#[tokio::test]
async fn lines_are_cut_where_they_end() {
    assert_eq!(texts(b"one\ntwo\r\n\nlast").await, ["one", "two", "", "last"]);
    assert_eq!(texts(b"").await, Vec::<String>::new());
    assert_eq!(texts(b"\xff\xfe\n").await, ["\u{fffd}\u{fffd}"]);
}

#[tokio::test]
async fn a_long_line_is_split_between_characters() {
    let long = format!("x{}", "ü".repeat(LINE_BYTES_MAX));
    let pieces = texts(long.as_bytes()).await;
    let (last, marked) = pieces.split_last().unwrap();
    assert_eq!(marked.len(), 2);
    let joined: String = marked.iter().map(|piece| piece.strip_suffix(SPLIT_MARK).unwrap()).collect();
    assert_eq!(joined + last, long);
    let exact = "x".repeat(LINE_BYTES_MAX) + "\n";
    assert_eq!(texts(exact.as_bytes()).await, [exact.trim_end()], "the limit itself is allowed");
    let binary = vec![0x80; 3 * LINE_BYTES_MAX];
    assert!(texts(&binary).await.len() >= 3, "bytes that are no text at all are split as well");
}

#[tokio::test]
async fn a_flood_is_dropped_counted_and_told_once() {
    let line = [b"x".repeat(999), b"\n".to_vec()].concat();
    let count = 20_000;
    let lines = lines(&line.repeat(count)).await;
    let told: Vec<_> = lines.iter().filter(|line| line.stream == LogStream::Platform).collect();
    let dropped: usize =
        told.iter().map(|line| line.text.split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
    assert_eq!(dropped + lines.len() - told.len(), count, "every line is either there or counted");
    assert!(dropped > count / 2 && told.len() < 20, "{dropped} dropped, told {} times", told.len());
}

#[tokio::test(start_paused = true)]
async fn the_budget_comes_back_with_time() {
    let mut budget = Budget::new(Instant::now());
    while !matches!(budget.spend(100_000, Instant::now()), Verdict::Drop) {}
    assert!(matches!(budget.spend(1, Instant::now()), Verdict::Drop));
    tokio::time::advance(Duration::from_secs(60)).await;
    let Verdict::TakeAfter(dropped) = budget.spend(1, Instant::now()) else {
        panic!("there is budget again")
    };
    assert_eq!(dropped, Dropped { lines: 2, bytes: 100_001 });
    assert!(matches!(budget.spend(1, Instant::now()), Verdict::Take));
}

#[tokio::test]
async fn a_line_belongs_to_the_only_call_that_runs() {
    let (output, log) = output();
    let id = |text| InvocationId::new(text).unwrap();
    let say = |text: &str| output.line(None, LogStream::Stdout, LogLevel::Info, text.to_owned());
    say("before");
    output.attribution().begin(&id("a"));
    say("alone");
    output.attribution().begin(&id("b"));
    say("two");
    output.line(Some(&id("b")), LogStream::Stdout, LogLevel::Info, "told".to_owned());
    output.attribution().end(&id("a"));
    say("other");
    let owners: Vec<_> =
        log.lines().into_iter().map(|line| line.invocation.map(|id| id.to_string())).collect();
    let b = Some("b".to_owned());
    assert_eq!(owners, [None, Some("a".to_owned()), None, b.clone(), b]);
}

#[tokio::test]
async fn the_tail_keeps_the_last_lines_shortened() {
    let (output, _log) = output();
    for number in 0..100 {
        output.line(None, LogStream::Stderr, LogLevel::Info, format!("{number} {}", "ü".repeat(2000)));
    }
    let tail = output.tail();
    assert_eq!(tail.len(), TAIL_LINES);
    assert!(tail[0].starts_with("80 ") && tail.iter().all(|line| line.len() <= TAIL_LINE_BYTES_MAX));
}

fn mask_of(value: &str) -> Mask {
    let value = zeroize::Zeroizing::new(value.to_owned());
    crate::SecretValues::new(vec![("SECRET".to_owned(), value)]).mask()
}

#[test]
fn a_secret_is_masked_however_it_is_cut_into_writes_and_lines() {
    let secret = "hunter2-hunter2-hunter2";
    let (output, log) = output_with(mask_of(secret));
    let mut lines = output.lines();
    // Across writes, and across the places where a long line is cut, wherever they fall.
    let long: String = (0..40).map(|at| "x".repeat(LINE_BYTES_MAX / 13 + at) + secret).collect();
    let text = format!("before {secret} after\n{long}\n{long}");
    let mut seen = Vec::new();
    for piece in text.as_bytes().chunks(7) {
        lines.push(piece);
        seen.extend(std::iter::from_fn(|| lines.next_line()));
    }
    seen.extend(std::iter::from_fn(|| lines.rest()));
    seen.into_iter().for_each(|line| output.line(None, LogStream::Stdout, LogLevel::Info, line));
    let written: Vec<String> =
        log.lines().into_iter().map(|line| line.text.replace(SPLIT_MARK, "")).collect();
    let whole = written.concat();
    assert!(!whole.contains(secret) && !output.tail().concat().contains(secret));
    assert_eq!(whole.matches("***").count(), 81);
    assert_eq!(written[0], "before *** after");
    assert!(written.iter().all(|line| line.len() <= LINE_BYTES_MAX));
}

#[test]
fn what_a_function_says_of_its_failure_is_masked() {
    let (output, _) = output_with(mask_of("hunter2"));
    let payload = Some(r#"{"errorMessage": "no hunter2"}"#.to_owned());
    let fault = output.masked(Fault { payload, ..Fault::new(ErrorCode::HandlerError, "wrong: hunter2") });
    assert_eq!(fault.message, "wrong: ***");
    assert_eq!(fault.payload.as_deref(), Some(r#"{"errorMessage": "no ***"}"#));
}
