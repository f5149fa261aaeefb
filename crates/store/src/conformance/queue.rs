//! What every implementation of `Queue` must do.

use alula_model::Timestamp;
use bytes::Bytes;

use crate::queue::MESSAGE_BYTES_MAX;
use crate::{
    Batch, Claim, DeadLetter, Error, Expect, Key, LaneStats, MessageId, NewMessage, Queue, Receipt, Records,
    Settlement,
};

/// How long the suite's claims hold.
const LEASE_MS: i64 = 1_000;

/// Runs the suite on an empty store.
pub async fn queue<S: Queue + Records>(store: &S) {
    let suite = Suite(store);
    suite.claims_in_order().await;
    suite.leases_run_out().await;
    suite.leases_are_renewed().await;
    suite.stale_receipts_settle_nothing().await;
    suite.settling_is_one_transaction().await;
    suite.retries_wait().await;
    suite.ordering_keys().await;
    suite.a_retry_holds_back_its_followers().await;
    suite.dead_letters().await;
    suite.redriven_messages_start_anew().await;
    suite.ids_are_unique().await;
    suite.statistics().await;
    suite.limits().await;
}

/// A message with its lane, ordering key and time.
fn message(id: &str, lane: &str, ordering_key: Option<&str>, available_at: i64) -> NewMessage {
    NewMessage {
        id: MessageId(id.to_owned()),
        lane: lane.to_owned(),
        ordering_key: ordering_key.map(str::to_owned),
        enqueued_at: Timestamp(available_at - 1),
        available_at: Timestamp(available_at),
        body: Bytes::from(format!("body of {id}")),
    }
}

fn ids(claims: &[Claim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.receipt.id.0.as_str()).collect()
}

struct Suite<'a, S>(&'a S);

impl<S: Queue + Records> Suite<'_, S> {
    async fn enqueue(&self, messages: impl IntoIterator<Item = NewMessage>) {
        let batch = messages.into_iter().fold(Batch::default(), Batch::enqueue);
        self.0.commit(batch).await.unwrap();
    }

    async fn claim(&self, lane: &str, limit: usize, now: i64) -> Vec<Claim> {
        self.0.claim(lane, limit, Timestamp(now), LEASE_MS).await.unwrap()
    }

    async fn claim_one(&self, lane: &str, now: i64) -> Receipt {
        let claims = self.claim(lane, 1, now).await;
        assert_eq!(claims.len(), 1, "one message is available in {lane} at {now}");
        claims[0].receipt.clone()
    }

    async fn settle(&self, receipt: &Receipt, now: i64, settlement: Settlement) -> crate::Result<()> {
        self.0.settle(receipt, Timestamp(now), settlement, Batch::default()).await
    }

    async fn bury(&self, receipt: &Receipt, now: i64) {
        self.settle(receipt, now, Settlement::Dead { reason: "poison".to_owned() }).await.unwrap();
    }

    async fn dead(&self, lane: &str) -> Vec<DeadLetter> {
        self.0.dead_letters(lane, None, 100).await.unwrap()
    }

    async fn claims_in_order(&self) {
        let lane = "order";
        let times = [("o-late", 30), ("o-first", 10), ("o-b", 20), ("o-a", 20)];
        self.enqueue(times.map(|(id, at)| message(id, lane, None, at))).await;
        self.enqueue([message("o-elsewhere", "order-2", None, 1)]).await;
        assert_eq!(ids(&self.claim(lane, 9, 9).await), [""; 0], "not before its time");
        assert_eq!(ids(&self.claim(lane, 0, 20).await), [""; 0]);
        let claims = self.claim(lane, 2, 20).await;
        assert_eq!(ids(&claims), ["o-first", "o-b"], "the longest available first, then as enqueued");
        let claim = &claims[1];
        assert_eq!(
            (claim.attempt, claim.enqueued_at, claim.lease_until),
            (1, Timestamp(19), Timestamp(20 + LEASE_MS))
        );
        assert_eq!((claim.lane.as_str(), &claim.ordering_key), (lane, &None));
        assert_eq!(claim.body, Bytes::from_static(b"body of o-b"));
        assert_eq!(ids(&self.claim(lane, 9, 20).await), ["o-a"], "a claimed message is not claimed again");
        assert_eq!(ids(&self.claim(lane, 9, 30).await), ["o-late"]);
        assert_eq!(ids(&self.claim("order-2", 9, 20).await), ["o-elsewhere"]);
    }

    async fn leases_run_out(&self) {
        let lane = "lease";
        self.enqueue([message("l", lane, None, 0)]).await;
        let first = self.claim_one(lane, 5).await;
        assert_eq!(ids(&self.claim(lane, 9, 5 + LEASE_MS - 1).await), [""; 0]);
        let again = self.claim(lane, 9, 5 + LEASE_MS).await;
        assert_eq!((ids(&again).as_slice(), again[0].attempt), (["l"].as_slice(), 2));
        assert_ne!(again[0].receipt, first);
    }

    async fn leases_are_renewed(&self) {
        let lane = "renew";
        self.enqueue([message("r", lane, None, 0)]).await;
        let receipt = self.claim_one(lane, 0).await;
        self.0.renew(&receipt, Timestamp(900), LEASE_MS).await.unwrap();
        assert_eq!(ids(&self.claim(lane, 9, 900 + LEASE_MS - 1).await), [""; 0]);
        // Late, but nobody else has claimed the message since.
        self.0.renew(&receipt, Timestamp(5_000), LEASE_MS).await.unwrap();
        let second = self.claim_one(lane, 5_000 + LEASE_MS).await;
        assert_eq!(self.0.renew(&receipt, Timestamp(7_000), LEASE_MS).await, Err(Error::ClaimLost));
        self.settle(&second, 7_000, Settlement::Done).await.unwrap();
        assert_eq!(self.0.renew(&second, Timestamp(7_000), LEASE_MS).await, Err(Error::ClaimLost));
    }

    async fn stale_receipts_settle_nothing(&self) {
        let lane = "stale";
        self.enqueue([message("s", lane, None, 0)]).await;
        let late = self.claim_one(lane, 0).await;
        let present = self.claim_one(lane, LEASE_MS).await;
        let key = Key::new(&["stale", "outcome"]);
        let outcome = Batch::default().put(key.clone(), "late", Expect::Any);
        let settled = self.0.settle(&late, Timestamp(LEASE_MS), Settlement::Done, outcome).await;
        assert_eq!(settled, Err(Error::ClaimLost));
        assert_eq!(self.0.get(&key).await, Ok(None), "nothing of a late worker is recorded");
        self.settle(&present, LEASE_MS, Settlement::Done).await.unwrap();
        assert_eq!(self.settle(&present, LEASE_MS, Settlement::Done).await, Err(Error::ClaimLost));
        // The same id again is another message: no old receipt fits it.
        self.enqueue([message("s", lane, None, 0)]).await;
        self.claim_one(lane, LEASE_MS).await;
        for old in [&late, &present] {
            assert_eq!(self.settle(old, LEASE_MS, Settlement::Done).await, Err(Error::ClaimLost));
        }
    }

    async fn settling_is_one_transaction(&self) {
        let lane = "atomic";
        self.enqueue([message("a", lane, None, 0)]).await;
        let receipt = self.claim_one(lane, 0).await;
        let key = Key::new(&["atomic", "outcome"]);
        let follow = message("a-next", lane, None, 0);
        let batch = Batch::default().put(key.clone(), "x", Expect::Absent).enqueue(follow);
        let conflicting = batch.clone().delete(Key::new(&["atomic", "none"]), Expect::At(crate::Revision(1)));
        let refused = self.0.settle(&receipt, Timestamp(1), Settlement::Done, conflicting).await;
        assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
        assert_eq!(self.0.get(&key).await, Ok(None));
        assert_eq!(ids(&self.claim(lane, 9, 1).await), [""; 0], "the claim is still held");
        self.0.settle(&receipt, Timestamp(1), Settlement::Done, batch).await.unwrap();
        assert!(self.0.get(&key).await.unwrap().is_some());
        assert_eq!(ids(&self.claim(lane, 9, 1).await), ["a-next"]);
    }

    async fn retries_wait(&self) {
        let lane = "retry";
        self.enqueue([message("t", lane, None, 0)]).await;
        let receipt = self.claim_one(lane, 0).await;
        self.settle(&receipt, 1, Settlement::Retry { available_at: Timestamp(500) }).await.unwrap();
        assert_eq!(self.settle(&receipt, 1, Settlement::Done).await, Err(Error::ClaimLost));
        assert_eq!(ids(&self.claim(lane, 9, 499).await), [""; 0]);
        assert_eq!(self.claim(lane, 9, 500).await[0].attempt, 2);
    }

    async fn ordering_keys(&self) {
        let lane = "ordered";
        let messages = [("k1", "x", 0), ("k2", "x", 0), ("k3", "y", 0), ("k4", "x", 0)];
        self.enqueue(messages.map(|(id, ordering_key, at)| message(id, lane, Some(ordering_key), at))).await;
        self.enqueue([message("k5", "ordered-2", Some("x"), 0)]).await;
        let first = self.claim(lane, 9, 0).await;
        assert_eq!(ids(&first), ["k1", "k3"], "one of each key");
        assert_eq!(first[0].ordering_key.as_deref(), Some("x"));
        assert_eq!(ids(&self.claim("ordered-2", 9, 0).await), ["k5"], "keys of other lanes are other keys");
        self.settle(&first[0].receipt, 1, Settlement::Done).await.unwrap();
        let second = self.claim_one(lane, 1).await;
        assert_eq!(second.id.0, "k2");
        // When the lease of `k2` has run out it is `k2` that comes again, not `k4`.
        let expired = self.claim(lane, 9, 1 + LEASE_MS).await;
        assert_eq!(ids(&expired), ["k3", "k2"]);
        self.bury(&expired[1].receipt, 2_000).await;
        assert_eq!(self.claim_one(lane, 2_000).await.id.0, "k4", "a dead message holds nobody back");
    }

    async fn a_retry_holds_back_its_followers(&self) {
        let lane = "held";
        self.enqueue([message("h1", lane, Some("x"), 0), message("h2", lane, Some("x"), 0)]).await;
        let receipt = self.claim_one(lane, 0).await;
        self.settle(&receipt, 0, Settlement::Retry { available_at: Timestamp(100) }).await.unwrap();
        assert_eq!(ids(&self.claim(lane, 9, 99).await), [""; 0]);
        assert_eq!(ids(&self.claim(lane, 9, 100).await), ["h1"]);
    }

    async fn dead_letters(&self) {
        let lane = "dead";
        self.enqueue(["d3", "d1", "d2"].map(|id| message(id, lane, None, 7))).await;
        for claim in self.claim(lane, 9, 7).await {
            self.bury(&claim.receipt, 8).await;
        }
        let letters = self.dead(lane).await;
        assert_eq!(letters.iter().map(|letter| letter.id.0.as_str()).collect::<Vec<_>>(), ["d1", "d2", "d3"]);
        let expected = DeadLetter {
            id: MessageId("d1".to_owned()),
            lane: lane.to_owned(),
            attempts: 1,
            enqueued_at: Timestamp(6),
            dead_at: Timestamp(8),
            reason: "poison".to_owned(),
            body: Bytes::from_static(b"body of d1"),
        };
        assert_eq!(letters[0], expected);
        let page = self.0.dead_letters(lane, Some(&letters[0].id), 1).await.unwrap();
        assert_eq!(page, letters[1..2]);
        assert_eq!(ids(&self.claim(lane, 9, 1_000_000).await), [""; 0], "dead messages are not claimed");
        self.0.purge(&letters[0].id).await.unwrap();
        assert_eq!(self.dead(lane).await, letters[1..]);
        for outcome in
            [self.0.purge(&letters[0].id).await, self.0.redrive(&letters[0].id, Timestamp(9)).await]
        {
            assert!(matches!(outcome, Err(Error::NotFound { .. })), "{outcome:?}");
        }
    }

    async fn redriven_messages_start_anew(&self) {
        let lane = "redrive";
        self.enqueue([message("v1", lane, Some("x"), 0), message("v2", lane, Some("x"), 0)]).await;
        let receipt = self.claim_one(lane, 0).await;
        self.bury(&receipt, 1).await;
        self.0.redrive(&receipt.id, Timestamp(50)).await.unwrap();
        assert_eq!(self.dead(lane).await, []);
        let second = self.claim_one(lane, 50).await;
        assert_eq!(second.id.0, "v2", "a redriven message goes behind those that wait with its key");
        self.settle(&second, 50, Settlement::Done).await.unwrap();
        let claims = self.claim(lane, 9, 50).await;
        assert_eq!((ids(&claims).as_slice(), claims[0].attempt), (["v1"].as_slice(), 1));
        assert_eq!(
            (claims[0].enqueued_at, &claims[0].body),
            (Timestamp(-1), &Bytes::from_static(b"body of v1"))
        );
        assert_eq!(self.settle(&receipt, 50, Settlement::Done).await, Err(Error::ClaimLost));
    }

    async fn ids_are_unique(&self) {
        let lane = "unique";
        self.enqueue([message("u", lane, None, 0)]).await;
        let again = |id: &str| {
            Batch::default()
                .put(Key::new(&["unique", "x"]), "", Expect::Any)
                .enqueue(message(id, lane, None, 0))
        };
        let conflict = Err(Error::Conflict { key: Key::new(&["u"]) });
        assert_eq!(self.0.commit(again("u")).await, conflict);
        let receipt = self.claim_one(lane, 0).await;
        assert_eq!(self.0.commit(again("u")).await, conflict);
        self.bury(&receipt, 0).await;
        assert_eq!(self.0.commit(again("u")).await, conflict, "a dead message still has its id");
        let twice = again("u-2").enqueue(message("u-2", lane, None, 0));
        assert_eq!(self.0.commit(twice).await, Err(Error::Conflict { key: Key::new(&["u-2"]) }));
        assert_eq!(self.0.get(&Key::new(&["unique", "x"])).await, Ok(None));
        assert_eq!(ids(&self.claim(lane, 9, 0).await), [""; 0]);
    }

    async fn statistics(&self) {
        let lane = "stats";
        let messages = [
            ("c1", Some("x"), 10),
            ("c2", Some("x"), 10),
            ("c3", None, 10),
            ("c4", None, 90),
            ("c5", None, 5),
        ];
        self.enqueue(messages.map(|(id, ordering_key, at)| message(id, lane, ordering_key, at))).await;
        let dead = self.claim_one(lane, 5).await;
        self.bury(&dead, 5).await;
        self.claim_one(lane, 10).await;
        let stats = |now| async move {
            let all = self.0.stats(Timestamp(now)).await.unwrap();
            assert!(all.is_sorted_by(|a, b| a.lane < b.lane));
            all.into_iter().find(|stats| stats.lane == lane).unwrap()
        };
        let expected = LaneStats {
            lane: lane.to_owned(),
            available: 1,
            delayed: 1,
            held_back: 1,
            claimed: 1,
            dead: 1,
            oldest_at: Some(Timestamp(9)),
        };
        assert_eq!(stats(20).await, expected);
        // The lease has run out: what was claimed may be claimed again.
        let later = LaneStats { available: 3, delayed: 0, claimed: 0, ..expected };
        assert_eq!(stats(10 + LEASE_MS).await, later);
    }

    async fn limits(&self) {
        let large =
            |bytes| NewMessage { body: Bytes::from(vec![0; bytes]), ..message("large", "large", None, 0) };
        let refused = self.0.commit(Batch::default().enqueue(large(MESSAGE_BYTES_MAX + 1))).await;
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        self.enqueue([large(MESSAGE_BYTES_MAX)]).await;
        assert_eq!(self.claim("large", 1, 0).await[0].body.len(), MESSAGE_BYTES_MAX);
    }
}
