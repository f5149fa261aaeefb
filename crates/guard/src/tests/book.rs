//! Protections and limits set at run time: in force at once, elsewhere within a second, and after a restart.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use alula_model::{By, Caller, Clock, ErrorCode, Limit, Timestamp};
use alula_store::{MemoryStore, Unaudited};
use tokio::time::{Instant, advance};
use tokio_util::sync::CancellationToken;

use super::Call;
use crate::Guard;
use crate::limit::Options;
use crate::protect::{Action, Book, Ceiling, NewProtection, Parts};

#[derive(Debug, Default)]
struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// A node over a store that others may share.
struct Node {
    guard: Guard,
    book: Book,
}

async fn node(store: &Arc<MemoryStore>, clock: &Arc<HandClock>) -> Node {
    static LAST: AtomicU64 = AtomicU64::new(1);
    let guard = Guard::default();
    let parts = Parts {
        records: store.clone(),
        clock: clock.clone(),
        audit: Arc::new(Unaudited(store.clone())),
        random: || u128::from(LAST.fetch_add(1, Ordering::Relaxed)),
        options: Options::default(),
        guard: guard.clone(),
    };
    Node { guard, book: Book::load(parts).await.unwrap() }
}

fn by() -> By {
    By::from("admin")
}

fn block(subject: &str) -> NewProtection {
    NewProtection {
        subject: subject.parse().unwrap(),
        within: None,
        action: Action::Block,
        reason: "it floods".to_owned(),
        until: None,
    }
}

fn code(call: &Call, guard: &Guard) -> Option<ErrorCode> {
    call.admit(guard).err().map(|refusal| refusal.fault.code)
}

#[tokio::test(start_paused = true)]
async fn a_block_is_in_force_at_once_counted_and_lifted() {
    let (store, clock) = (Arc::default(), Arc::default());
    let node = node(&store, &clock).await;
    let blocked = |call: Call| code(&call, &node.guard) == Some(ErrorCode::Blocked);
    for (subject, hit, free) in [
        ("source/192.0.2.0/24", Call::of("acme/f"), Call::of("acme/f").from("198.51.100.1")),
        ("namespace/acme", Call::of("acme/f"), Call::of("other/f")),
        ("function/acme/f", Call::of("acme/f"), Call::of("acme/g")),
        (
            "caller/key:a",
            Call::of("acme/f").by(Caller::Known("key:a".into())),
            Call::of("acme/f").by(Caller::Known("key:b".into())),
        ),
    ] {
        let made = node.book.protect(&by(), block(subject)).await.unwrap();
        assert!(blocked(hit) && !blocked(free), "{subject}");
        assert_eq!(node.book.refused()[&made.id], 1, "{subject}");
        node.book.lift(&by(), &made.id).await.unwrap();
        assert!(!blocked(Call::of("acme/f").by(Caller::Known("key:a".into()))), "{subject}");
        assert_eq!(node.book.lift(&by(), &made.id).await.unwrap_err().code, ErrorCode::NotFound);
    }
    let within = NewProtection { within: "acme".parse().ok(), ..block("caller/key:a") };
    node.book.protect(&by(), within).await.unwrap();
    let known = |function| Call::of(function).by(Caller::Known("key:a".into()));
    assert!(blocked(known("acme/f")) && !blocked(known("other/f")));
}

#[tokio::test(start_paused = true)]
async fn a_throttle_holds_beside_other_limits() {
    let (store, clock) = (Arc::default(), Arc::default());
    let node = node(&store, &clock).await;
    let limit = Limit { requests_per_second: NonZeroU32::new(3), ..Limit::NONE };
    let throttle = NewProtection { action: Action::Throttle(limit), ..block("namespace/acme") };
    let made = node.book.protect(&by(), throttle).await.unwrap();
    assert_eq!(Call::of("acme/f").through(&node.guard, 5) + Call::of("acme/g").through(&node.guard, 5), 3);
    assert_eq!(Call::of("acme/f").hits(&node.guard).as_deref(), Some("throttle.requests_per_second"));
    assert_eq!(node.book.refused()[&made.id], 8);
    // Another change leaves alone what this one has counted and let through.
    node.book.protect(&by(), block("namespace/other")).await.unwrap();
    assert_eq!(Call::of("acme/f").through(&node.guard, 5), 0);
    assert_eq!(node.book.refused()[&made.id], 13);
}

#[tokio::test(start_paused = true)]
async fn a_protection_ends_by_itself_and_is_removed() {
    let (store, clock): (Arc<MemoryStore>, Arc<HandClock>) = (Arc::default(), Arc::default());
    let node = node(&store, &clock).await;
    let until = Some(Timestamp(60_000));
    node.book.protect(&by(), NewProtection { until, ..block("namespace/acme") }).await.unwrap();
    assert_eq!(code(&Call::of("acme/f"), &node.guard), Some(ErrorCode::Blocked));
    let at = |at| {
        let call = Call::of("acme/f");
        let ask = crate::Ask { at: Timestamp(at), ..call.ask() };
        node.guard.admit(&ask).is_ok()
    };
    assert!(!at(59_999) && at(60_000));
    clock.0.store(60_000, Ordering::Relaxed);
    let stop = CancellationToken::new();
    let run = tokio::spawn({
        let (book, stop) = (node.book.clone(), stop.clone());
        async move { book.run(stop).await }
    });
    let mut changes = node.book.changes();
    changes.changed().await.unwrap();
    assert!(node.book.page().protections.is_empty());
    stop.cancel();
    run.await.unwrap();
    let past = NewProtection { until: Some(Timestamp(1)), ..block("namespace/acme") };
    assert_eq!(node.book.protect(&by(), past).await.unwrap_err().code, ErrorCode::InvalidRequest);
}

#[tokio::test(start_paused = true)]
async fn another_node_follows_within_a_second_and_a_restart_keeps_it() {
    let (store, clock) = (Arc::default(), Arc::default());
    let (one, other) = (node(&store, &clock).await, node(&store, &clock).await);
    let stop = CancellationToken::new();
    tokio::spawn({
        let (book, stop) = (other.book.clone(), stop.clone());
        async move { book.run(stop).await }
    });
    advance(Duration::from_millis(1)).await;
    let mut changes = other.book.changes();
    let began = Instant::now();
    one.book.protect(&by(), block("namespace/acme")).await.unwrap();
    let limit = Limit { in_flight: NonZeroU32::new(1), ..Limit::NONE };
    let target: crate::protect::Target = "namespace/third".parse().unwrap();
    one.book.set_limit(&by(), target.clone(), Ceiling { limit, ..Ceiling::default() }).await.unwrap();
    changes.changed().await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(1));
    assert_eq!(code(&Call::of("acme/f"), &other.guard), Some(ErrorCode::Blocked));
    let held = Call::of("third/f").admit(&other.guard).unwrap();
    assert_eq!(Call::of("third/f").hits(&other.guard).as_deref(), Some("namespace.in_flight"));
    drop(held);
    // What was changed over there in the meantime does not get lost by a change here.
    other.book.unset_limit(&by(), &target).await.unwrap();
    let stale = one.book.protect(&by(), block("namespace/x")).await;
    assert_eq!(stale.unwrap_err().code, ErrorCode::Conflict);
    let restarted = node(&store, &clock).await;
    assert_eq!(code(&Call::of("acme/f"), &restarted.guard), Some(ErrorCode::Blocked));
    assert_eq!(restarted.book.page(), other.book.page());
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused() {
    let (store, clock) = (Arc::default(), Arc::default());
    let node = node(&store, &clock).await;
    let refused = |reason: &str| NewProtection { reason: reason.to_owned(), ..block("namespace/acme") };
    for reason in ["", "two\nlines", &"x".repeat(501)] {
        let fault = node.book.protect(&by(), refused(reason)).await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::InvalidRequest, "{reason:?}");
    }
    let instances = Ceiling { instances_max: Some(5), ..Ceiling::default() };
    let fault = node.book.set_limit(&by(), "callers".parse().unwrap(), instances).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::InvalidRequest);
    assert_eq!(
        node.book.unset_limit(&by(), &"node".parse().unwrap()).await.unwrap_err().code,
        ErrorCode::NotFound
    );
    assert_eq!(*node.book.page(), crate::protect::Page::default());
}
