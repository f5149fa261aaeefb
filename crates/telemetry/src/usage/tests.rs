//! What is written, over a store in memory: nothing twice, nothing lost but what is said to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alula_model::{Clock as _, ErrorCode, Run, Timestamp};
use alula_store::{Batch, BoxFuture, Committed, Error, Key, MemoryStore, Record, Records, Result};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::signals::tests::{Hands, name, run, spec};
use crate::signals::{Kept, Signals, Span, Terms};

const DAY_MS: i64 = 24 * 3_600_000;
const SPEC: &str = r#"{"runtime": "exec", "memory_mb": 512, "app": "till",
    "slo": {"availability": 99, "latency": 90, "latency_ms": 100}}"#;

/// A store whose commits fail, before or after they went through, as long as it is told so.
#[derive(Debug, Default)]
struct Shaky {
    inner: MemoryStore,
    fails_after: AtomicBool,
    fails_before: AtomicBool,
}

impl Records for Shaky {
    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Record>>> {
        self.inner.get(key)
    }

    fn scan(&self, prefix: &Key, after: Option<&Key>, limit: usize) -> BoxFuture<'_, Result<Vec<Record>>> {
        self.inner.scan(prefix, after, limit)
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed>> {
        let gone = || Error::Full;
        if self.fails_before.load(Ordering::Relaxed) {
            return Box::pin(async move { Err(gone()) });
        }
        let committing = self.inner.commit(batch);
        let fails = self.fails_after.load(Ordering::Relaxed);
        Box::pin(async move {
            let committed = committing.await;
            if fails { Err(gone()) } else { committed }
        })
    }

    fn expire(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64>> {
        self.inner.expire(now, limit)
    }
}

struct Process {
    signals: Signals,
    service: Service,
}

fn process(store: &Arc<Shaky>, hands: &Hands, writer: &str) -> Process {
    let ledger = Ledger::default();
    let signals = Signals::new(Arc::new(hands.clone()), ledger.clone());
    let service = Service::new(ServiceParts {
        signals: signals.clone(),
        ledger,
        records: store.clone(),
        clock: Arc::new(hands.clone()),
        writer: writer.to_owned(),
        keep_days: 2,
    });
    Process { signals, service }
}

impl Process {
    fn call(&self, run: &Run) {
        let spec = spec(SPEC);
        self.signals.function(&run.key.namespace, &run.key.function, &spec).record(run, Terms::of(&spec));
    }
}

fn world() -> (Arc<Shaky>, Hands, Date) {
    let hands = Hands::default();
    hands.set(20_000 * DAY_MS + 3_600_000);
    let day = day_of(hands.now());
    (Arc::default(), hands, day)
}

async fn read(store: &Shaky, day: Date) -> Vec<(String, Amounts)> {
    let lines = read_day(store, day, Some(&name("shop"))).await.unwrap();
    lines.into_iter().map(|line| (line.whose.function_name().to_owned(), line.amounts)).collect()
}

#[tokio::test]
async fn memory_over_time_counts_from_the_slot_to_the_last_byte_in_whole_milliseconds() {
    let (store, hands, day) = world();
    let one = process(&store, &hands, "w1");
    one.call(&run("cart", None, 1_500));
    one.call(&run("cart", Some(ErrorCode::HandlerError), 999_001));
    one.call(&run("cart", None, 0));
    one.call(&Run { instance: None, ..run("cart", Some(ErrorCode::ConcurrencyExceeded), 0) });
    one.service.flush().await.unwrap();
    let expect = Amounts {
        invocations: 3,
        refused: 1,
        billed_ms: 2 + 1_000 + 1,
        memory_mb_ms: 512 * 1_003,
        request_bytes: 12,
        response_bytes: 20,
    };
    assert_eq!(read(&store, day).await, [("cart".to_owned(), expect)]);
    assert!((expect.gb_seconds() - 0.5015).abs() < 1e-9);
}

#[tokio::test]
async fn a_commit_of_which_nobody_knows_is_repeated_and_counts_once() {
    let (store, hands, day) = world();
    let one = process(&store, &hands, "w1");
    one.call(&run("cart", None, 1_000));
    store.fails_after.store(true, Ordering::Relaxed);
    one.service.flush().await.unwrap_err();
    one.service.flush().await.unwrap_err();
    store.fails_after.store(false, Ordering::Relaxed);
    store.fails_before.store(true, Ordering::Relaxed);
    one.call(&run("cart", None, 1_000));
    one.service.flush().await.unwrap_err();
    store.fails_before.store(false, Ordering::Relaxed);
    one.service.flush().await.unwrap();
    one.service.flush().await.unwrap();
    assert_eq!(read(&store, day).await[0].1.invocations, 2);
}

#[tokio::test]
async fn processes_add_up_and_one_that_is_killed_loses_what_it_had_not_written() {
    let (store, hands, day) = world();
    let (one, other) = (process(&store, &hands, "w1"), process(&store, &hands, "w2"));
    one.call(&run("cart", None, 1_000));
    one.service.flush().await.unwrap();
    one.call(&run("cart", None, 1_000));
    drop(one);
    other.call(&run("cart", None, 1_000));
    other.service.flush().await.unwrap();
    assert_eq!(read(&store, day).await[0].1.invocations, 2);
}

#[tokio::test]
async fn each_day_has_its_own_and_old_days_go() {
    let (store, hands, day) = world();
    let one = process(&store, &hands, "w1");
    one.call(&run("cart", None, 1_000));
    one.service.flush().await.unwrap();
    hands.pass(DAY_MS);
    one.call(&run("cart", None, 1_000));
    one.call(&run("search", None, 1_000));
    one.service.flush().await.unwrap();
    // Where the clock goes back, the day that was closed stays as it is.
    hands.pass(-DAY_MS);
    one.call(&run("cart", None, 1_000));
    one.service.flush().await.unwrap();
    assert_eq!(read(&store, day).await[0].1.invocations, 1);
    let next = read(&store, day.tomorrow().unwrap()).await;
    let calls: Vec<_> = next.iter().map(|(name, amounts)| (name.as_str(), amounts.invocations)).collect();
    assert_eq!(calls, [("cart", 2), ("search", 1)]);
    store.expire(Timestamp(hands.now().as_millis() + 3 * DAY_MS), 100).await.unwrap();
    assert_eq!(read(&store, day).await, []);
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_is_written_when_the_process_is_told_to_stop() {
    let (store, hands, day) = world();
    let one = process(&store, &hands, "w1");
    let cancel = CancellationToken::new();
    let running = tokio::spawn(one.service.clone().run(cancel.clone()));
    tokio::time::sleep(FLUSH_EVERY / 2).await;
    one.call(&run("cart", None, 1_000));
    cancel.cancel();
    running.await.unwrap();
    assert_eq!(read(&store, day).await[0].1.invocations, 1);
}

#[tokio::test]
async fn an_objective_outlives_the_process() {
    let (store, hands, _) = world();
    let one = process(&store, &hands, "w1");
    one.call(&run("cart", Some(ErrorCode::HandlerError), 1_000));
    one.call(&run("cart", None, 200_000));
    one.service.flush().await.unwrap();
    hands.pass(DAY_MS + 1_000);
    let other = process(&store, &hands, "w2");
    let (shop, cart) = (name("shop"), name("cart"));
    other.call(&run("cart", None, 1_000));
    other.service.flush().await.unwrap();
    other.service.recall((&shop, &cart), 28).await.unwrap();
    let kept = other.signals.kept(&shop, &cart, &[Span::Hours(72), Span::Hours(6)]);
    assert_eq!(kept, [Kept { judged: 3, failed: 1, slow: 1 }, Kept { judged: 1, ..Kept::default() }]);
}
