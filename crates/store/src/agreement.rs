//! Random operations on a back end and on the memory back end: everything that a caller can see must be the same.
//!
//! A step is an operation and the time that passes until the next one, so that workers also "crash": their leases run
//! out while others claim, cancel and settle. What a back end numbers as it likes (claims, revisions) is not compared.

use alula_model::Timestamp;
use bytes::Bytes;
use proptest::prelude::*;

use crate::{
    Batch, Claims, Expect, Key, MemoryStore, MessageId, NewDeadLetter, NewMessage, Receipt, Records, Result,
    Revision, Settlement, Store,
};

/// How long claims hold; time goes on by up to twice of it.
const LEASE_MS: i64 = 15;
/// Few of each, so that operations meet.
const IDS: u8 = 24;
const LANES: u8 = 3;
const KEYS: u8 = 4;

/// One operation. Receipts are named by their place among all claims so far, the last one first.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Enqueue { id: u8, lane: u8, ordering_key: Option<u8>, delay: i64 },
    Bury { id: u8, lane: u8 },
    Claim { lane: u8, limit: usize },
    Renew { claim: usize },
    Done { claim: usize, follower: u8 },
    Retry { claim: usize, delay: i64, lane: Option<u8> },
    Release { claim: usize, delay: i64 },
    GiveUp { claim: usize },
    Cancel { id: u8, follower: u8 },
    Redrive { id: u8, lane: u8 },
    Purge { id: u8 },
    Put { key: u8, expected: Expected, expires_in: Option<i64> },
    Expire { limit: usize },
    Reopen,
}

/// What a put expects of its record.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    Anything,
    Nothing,
    WhatIsThere,
    SomethingElse,
}

/// An operation, and how long it is until the next.
pub(crate) type Step = (Operation, i64);

pub(crate) fn steps(count: usize) -> impl Strategy<Value = Vec<Step>> {
    let passing = prop_oneof![6 => Just(0), 6 => 1..6i64, 1 => LEASE_MS..2 * LEASE_MS];
    proptest::collection::vec((operation(), passing), 1..count)
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let (id, lane, claim, delay) = (0..IDS, 0..LANES, 0..6usize, 0..30i64);
    let expected = prop_oneof![
        Just(Expected::Anything),
        Just(Expected::Nothing),
        Just(Expected::WhatIsThere),
        Just(Expected::SomethingElse)
    ];
    let enqueue = (id.clone(), lane.clone(), proptest::option::of(0..2u8), delay.clone());
    let retry = (claim.clone(), delay.clone(), proptest::option::of(lane.clone()));
    let put = (0..KEYS, expected, proptest::option::of(0..60i64));
    prop_oneof![
        8 => enqueue.prop_map(|(id, lane, ordering_key, delay)| O::Enqueue { id, lane, ordering_key, delay }),
        1 => (id.clone(), lane.clone()).prop_map(|(id, lane)| O::Bury { id, lane }),
        8 => (lane.clone(), 0..4usize).prop_map(|(lane, limit)| O::Claim { lane, limit }),
        1 => claim.clone().prop_map(|claim| O::Renew { claim }),
        4 => (claim.clone(), id.clone()).prop_map(|(claim, follower)| O::Done { claim, follower }),
        3 => retry.prop_map(|(claim, delay, lane)| O::Retry { claim, delay, lane }),
        1 => (claim.clone(), delay).prop_map(|(claim, delay)| O::Release { claim, delay }),
        2 => claim.prop_map(|claim| O::GiveUp { claim }),
        2 => (id.clone(), id.clone()).prop_map(|(id, follower)| O::Cancel { id, follower }),
        2 => (id.clone(), lane).prop_map(|(id, lane)| O::Redrive { id, lane }),
        1 => id.prop_map(|id| O::Purge { id }),
        2 => put.prop_map(|(key, expected, expires_in)| O::Put { key, expected, expires_in }),
        1 => (0..3usize).prop_map(|limit| O::Expire { limit }),
        1 => Just(O::Reopen),
    ]
}

/// Does all steps on `store` and on a memory back end and compares after each. `reopen` closes and opens the store as the
/// end of its process would.
pub(crate) async fn agree<S: Store>(mut store: S, steps: &[Step], mut reopen: impl AsyncFnMut(S) -> S) {
    let model = MemoryStore::new();
    let (mut receipts, mut model_receipts) = (Vec::new(), Vec::new());
    let mut now = 0;
    for (operation, passing) in steps {
        if let Operation::Reopen = operation {
            store = reopen(store).await;
        }
        let got = perform(&store, operation, now, &mut receipts).await;
        let expected = perform(&model, operation, now, &mut model_receipts).await;
        assert_eq!(got, expected, "{operation:?} at {now}");
        now += passing;
        assert_eq!(seen(&store, now).await, seen(&model, now).await, "at {now}, after {operation:?}");
        assert_eq!(store.totals(Timestamp(now)).await.unwrap().imbalance(), 0, "after {operation:?}");
    }
}

/// Everything that can be looked at.
async fn seen<S: Store>(store: &S, now: i64) -> String {
    let now = Timestamp(now);
    let mut messages = Vec::new();
    for id in 0..IDS {
        messages.push(store.find(&message_id(id), now).await);
    }
    let records = store.scan(&Key::new(&["k"]), None, 100).await.unwrap();
    let records: Vec<_> = records.into_iter().map(|record| (record.key, record.value)).collect();
    let (stats, totals, heads) = (store.stats(now).await, store.totals(now).await, store.heads().await);
    let letters = store.dead_letters("lane", None, 100).await;
    format!("{stats:#?}\n{totals:#?}\n{heads:#?}\n{letters:#?}\n{messages:#?}\n{records:#?}")
}

fn message_id(id: u8) -> MessageId {
    MessageId(format!("m{id}"))
}

fn lane_name(lane: u8) -> String {
    format!("lane-{lane}")
}

fn message(id: u8, lane: u8, ordering_key: Option<u8>, available_at: i64) -> NewMessage {
    NewMessage {
        id: message_id(id),
        lane: lane_name(lane),
        ordering_key: ordering_key.map(|key| key.to_string()),
        enqueued_at: Timestamp(available_at),
        available_at: Timestamp(available_at),
        body: Bytes::from(vec![id]),
    }
}

fn trail(now: i64) -> Bytes {
    Bytes::from(format!("at {now}"))
}

/// Does one operation and says everything about its outcome that a caller can see.
async fn perform<S: Store>(
    store: &S,
    operation: &Operation,
    now: i64,
    receipts: &mut Vec<Receipt>,
) -> String {
    let at = Timestamp(now);
    let receipt = |back: usize| {
        let unknown = Receipt { id: message_id(0), claim: 0 };
        receipts.iter().rev().nth(back).cloned().unwrap_or(unknown)
    };
    let settle = |claim: usize, settlement| store.settle(&receipt(claim), at, settlement, Batch::default());
    match operation.clone() {
        Operation::Enqueue { id, lane, ordering_key, delay } => {
            let batch = Batch::default().enqueue(message(id, lane, ordering_key, now + delay));
            outcome(store.commit(batch).await.map(drop))
        }
        Operation::Bury { id, lane } => {
            let (message, reason) = (message(id, lane, Some(0), now), "unread".to_owned());
            let letter = NewDeadLetter { message, attempts: 2, reason, trail: trail(now) };
            outcome(store.commit(Batch::default().bury(letter)).await.map(drop))
        }
        Operation::Claim { lane, limit } => {
            let Claims { mut claims, next_ready_at } =
                store.claim(&lane_name(lane), limit, at, LEASE_MS).await.unwrap();
            receipts.extend(claims.iter().map(|claim| claim.receipt.clone()));
            claims.iter_mut().for_each(|claim| claim.receipt.claim = 0);
            format!("{claims:?} {next_ready_at:?}")
        }
        Operation::Renew { claim } => outcome(store.renew(&receipt(claim), at, LEASE_MS).await),
        Operation::Done { claim, follower } => {
            let with = Batch::default().enqueue(message(follower, 0, None, now));
            outcome(store.settle(&receipt(claim), at, Settlement::Done, with).await)
        }
        Operation::Retry { claim, delay, lane } => {
            let (available_at, lane) = (at.plus_millis(delay), lane.map(lane_name));
            outcome(settle(claim, Settlement::Retry { available_at, lane, trail: trail(now) }).await)
        }
        Operation::Release { claim, delay } => {
            let available_at = at.plus_millis(delay);
            outcome(settle(claim, Settlement::Release { available_at, trail: trail(now) }).await)
        }
        Operation::GiveUp { claim } => {
            outcome(settle(claim, Settlement::Dead { reason: "no".to_owned(), trail: trail(now) }).await)
        }
        Operation::Cancel { id, follower } => {
            let with = Batch::default().enqueue(message(follower, 1, Some(1), now));
            outcome(store.cancel(&message_id(id), at, with).await)
        }
        Operation::Redrive { id, lane } => {
            outcome(store.redrive(&message_id(id), &lane_name(lane), at, trail(now)).await)
        }
        Operation::Purge { id } => outcome(store.purge(&message_id(id), Batch::default()).await),
        Operation::Put { key, expected, expires_in } => {
            outcome(put(store, key, expected, expires_in.map(|expires_in| at.plus_millis(expires_in))).await)
        }
        Operation::Expire { limit } => outcome(store.expire(at, limit).await),
        Operation::Reopen => String::new(),
    }
}

async fn put<S: Store>(store: &S, key: u8, expected: Expected, expires_at: Option<Timestamp>) -> Result<()> {
    let key = Key::new(&["k", &key.to_string()]);
    let present = Records::get(store, &key).await.unwrap().map(|record| record.revision);
    let expect = match expected {
        Expected::Anything => Expect::Any,
        Expected::Nothing => Expect::Absent,
        Expected::WhatIsThere => present.map_or(Expect::Absent, Expect::At),
        Expected::SomethingElse => Expect::At(present.map_or(Revision(1), |Revision(at)| Revision(at + 1))),
    };
    let value = format!("{expected:?}");
    let batch = match expires_at {
        Some(expires_at) => Batch::default().put_until(key, value, expect, expires_at),
        None => Batch::default().put(key, value, expect),
    };
    store.commit(batch).await.map(drop)
}

fn outcome<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    format!("{outcome:?}")
}
