//! What every implementation of `Queue`, `DeadLetters` and `QueueCounts` must do.

mod claims;
mod counts;
mod dead_letters;
mod settling;

use alula_model::Timestamp;
use bytes::Bytes;

use crate::{
    Batch, Claim, DeadLetter, DeadLetters, Found, MessageId, MessageState, NewMessage, Queue, QueueCounts,
    Receipt, Records, Settlement,
};

/// How long the suite's claims hold.
const LEASE_MS: i64 = 1_000;

/// Runs the suite on an empty store.
pub async fn queue<S: Queue + DeadLetters + QueueCounts + Records>(store: &S) {
    let suite = Suite(store);
    suite.claims().await;
    suite.settling().await;
    suite.dead_letters().await;
    suite.counts().await;
    // Last, since it is about every claim there is.
    suite.all_claims_end().await;
}

/// A message with its lane, ordering key and time.
fn message(id: &str, lane: &str, ordering_key: Option<&str>, available_at: i64) -> NewMessage {
    NewMessage {
        id: id_of(id),
        lane: lane.to_owned(),
        ordering_key: ordering_key.map(str::to_owned),
        enqueued_at: Timestamp(available_at - 1),
        available_at: Timestamp(available_at),
        body: Bytes::from(format!("body of {id}")),
    }
}

fn id_of(text: &str) -> MessageId {
    MessageId(text.to_owned())
}

fn ids(claims: &[Claim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.receipt.id.0.as_str()).collect()
}

fn retry(available_at: i64) -> Settlement {
    Settlement::Retry { available_at: Timestamp(available_at), lane: None, trail: Bytes::new() }
}

fn dead(reason: &str, trail: &'static [u8]) -> Settlement {
    Settlement::Dead { reason: reason.to_owned(), trail: Bytes::from_static(trail) }
}

struct Suite<'a, S>(&'a S);

impl<S: Queue + DeadLetters + QueueCounts + Records> Suite<'_, S> {
    async fn enqueue(&self, messages: impl IntoIterator<Item = NewMessage>) {
        let batch = messages.into_iter().fold(Batch::default(), Batch::enqueue);
        self.0.commit(batch).await.unwrap();
    }

    async fn claim(&self, lane: &str, limit: usize, now: i64) -> Vec<Claim> {
        self.0.claim(lane, limit, Timestamp(now), LEASE_MS).await.unwrap().claims
    }

    async fn claim_one(&self, lane: &str, now: i64) -> Receipt {
        let claims = self.claim(lane, 1, now).await;
        assert_eq!(claims.len(), 1, "one message is available in {lane} at {now}");
        claims[0].receipt.clone()
    }

    async fn settle(&self, receipt: &Receipt, now: i64, settlement: Settlement) -> crate::Result<()> {
        self.0.settle(receipt, Timestamp(now), settlement, Batch::default()).await
    }

    async fn cancel(&self, id: &str, now: i64) -> crate::Result<bool> {
        self.0.cancel(&id_of(id), Timestamp(now), Batch::default()).await
    }

    async fn give_up(&self, receipt: &Receipt, now: i64) {
        self.settle(receipt, now, dead("poison", b"tried")).await.unwrap();
    }

    async fn letters(&self, lane_prefix: &str) -> Vec<DeadLetter> {
        self.0.dead_letters(lane_prefix, None, 100).await.unwrap()
    }

    async fn found(&self, id: &str, now: i64) -> Found {
        self.0.find(&id_of(id), Timestamp(now)).await.unwrap().unwrap()
    }

    async fn state(&self, id: &str, now: i64) -> MessageState {
        self.found(id, now).await.state
    }

    async fn head(&self, lane: &str) -> Option<i64> {
        let heads = self.0.heads().await.unwrap();
        assert!(heads.is_sorted_by(|a, b| a.lane < b.lane), "each lane once, in order");
        heads.into_iter().find(|head| head.lane == lane).map(|head| head.ready_at.0)
    }
}
