//! Enqueuing, claiming, renewing, ordering, and looking things up.

use alula_model::Timestamp;
use bytes::Bytes;

use super::{LEASE_MS, Suite, id_of, ids, message, retry};
use crate::message::MESSAGE_BYTES_MAX;
use crate::{
    Batch, DeadLetters, Error, Expect, Found, Key, MessageState, NewMessage, Queue, QueueCounts, Records,
    Settlement,
};

impl<S: Queue + DeadLetters + QueueCounts + Records> Suite<'_, S> {
    pub(super) async fn claims(&self) {
        self.claims_in_order().await;
        self.leases_run_out().await;
        self.leases_are_renewed().await;
        self.ordering_keys().await;
        self.a_retry_holds_back_its_followers().await;
        self.a_claim_says_when_to_ask_again().await;
        self.heads().await;
        self.messages_are_found().await;
        self.ids_are_unique().await;
        self.limits().await;
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

    pub(super) async fn all_claims_end(&self) {
        let lane = "end";
        self.enqueue([message("e-claimed", lane, None, 0), message("e-waits", lane, None, 90)]).await;
        let receipt = self.claim_one(lane, 5).await;
        assert!(self.0.end_claims(Timestamp(7)).await.unwrap() >= 1);
        assert_eq!(self.settle(&receipt, 8, Settlement::Done).await, Err(Error::ClaimLost));
        let again = self.claim(lane, 9, 7).await;
        assert_eq!((ids(&again).as_slice(), again[0].attempt), (["e-claimed"].as_slice(), 2));
        self.settle(&again[0].receipt, 8, Settlement::Done).await.unwrap();
        assert_eq!(self.0.end_claims(Timestamp(9)).await, Ok(0));
        assert_eq!(self.0.totals(Timestamp(9)).await.unwrap().imbalance(), 0);
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
        self.give_up(&expired[1].receipt, 2_000).await;
        assert_eq!(self.claim_one(lane, 2_000).await.id.0, "k4", "a dead message holds nobody back");
    }

    async fn a_retry_holds_back_its_followers(&self) {
        let lane = "held";
        self.enqueue([message("h1", lane, Some("x"), 0), message("h2", lane, Some("x"), 0)]).await;
        let receipt = self.claim_one(lane, 0).await;
        self.settle(&receipt, 0, retry(100)).await.unwrap();
        assert_eq!(ids(&self.claim(lane, 9, 99).await), [""; 0]);
        assert_eq!(ids(&self.claim(lane, 9, 100).await), ["h1"]);
    }

    async fn a_claim_says_when_to_ask_again(&self) {
        let lane = "again";
        let next = async |limit, now| {
            let claims = self.0.claim(lane, limit, Timestamp(now), LEASE_MS).await.unwrap();
            (claims.claims.len(), claims.next_ready_at.map(|at| at.0))
        };
        assert_eq!(next(9, 0).await, (0, None), "an empty lane");
        let times = [("a1", None, 10), ("a2", None, 20), ("a3", None, 2_000), ("a4", Some("x"), 3_000)];
        self.enqueue(times.map(|(id, key, at)| message(id, lane, key, at))).await;
        self.enqueue([message("a5", lane, Some("x"), 5), message("a6", "again-2", None, 1)]).await;
        assert_eq!(next(9, 5).await, (0, Some(10)), "what is held back and other lanes do not count");
        assert_eq!(next(0, 15).await, (0, Some(10)));
        assert_eq!(next(1, 25).await, (1, Some(20)), "there is more than the limit");
        assert_eq!(next(9, 25).await, (1, Some(25 + LEASE_MS)), "the end of the first lease");
        assert_eq!(next(9, 1_000).await, (0, Some(25 + LEASE_MS)));
        assert_eq!(next(9, 2_500).await, (3, Some(3_000)));
    }

    async fn heads(&self) {
        let lanes = ["heads-1", "heads-2", "heads-3"];
        assert_eq!(self.head(lanes[0]).await, None);
        self.enqueue([message("he1", lanes[0], Some("x"), 30), message("he2", lanes[0], Some("x"), 5)]).await;
        self.enqueue([message("he3", lanes[1], None, 20), message("he4", lanes[1], None, 10)]).await;
        self.enqueue([message("he5", lanes[2], None, 0)]).await;
        assert_eq!(self.head(lanes[0]).await, Some(30), "what is held back cannot become claimable by time");
        assert_eq!(self.head(lanes[1]).await, Some(10));
        let receipt = self.claim_one(lanes[2], 0).await;
        assert_eq!(self.head(lanes[2]).await, Some(LEASE_MS), "a claim may run out");
        self.give_up(&receipt, 0).await;
        assert_eq!(self.head(lanes[2]).await, None, "a dead letter is not claimable");
        assert_eq!(self.cancel("he1", 0).await, Ok(true));
        assert_eq!(self.head(lanes[0]).await, Some(5));
    }

    async fn messages_are_found(&self) {
        let lane = "find";
        let find = async |id, now| self.0.find(&id_of(id), Timestamp(now)).await.unwrap();
        assert_eq!(find("f1", 0).await, None);
        self.enqueue([message("f1", lane, Some("x"), 10), message("f2", lane, Some("x"), 5)]).await;
        let waiting = Found {
            lane: lane.to_owned(),
            ordering_key: Some("x".to_owned()),
            state: MessageState::Waiting { available_at: Timestamp(10) },
            attempts: 0,
            enqueued_at: Timestamp(9),
            trail: Bytes::new(),
            body: Bytes::from_static(b"body of f1"),
        };
        assert_eq!(find("f1", 0).await, Some(waiting.clone()));
        assert_eq!(find("f1", 99).await, Some(waiting.clone()), "its time has come");
        for now in [0, 10] {
            assert_eq!(self.state("f2", now).await, MessageState::HeldBack, "whatever its own time");
        }
        let receipt = self.claim_one(lane, 10).await;
        let lease_until = Timestamp(10 + LEASE_MS);
        let claimed = Found { state: MessageState::Claimed { lease_until }, attempts: 1, ..waiting.clone() };
        assert_eq!(find("f1", 9 + LEASE_MS).await, Some(claimed.clone()));
        let run_out = Found { state: MessageState::Waiting { available_at: lease_until }, ..claimed.clone() };
        assert_eq!(find("f1", 10 + LEASE_MS).await, Some(run_out));
        self.give_up(&receipt, 77).await;
        let state = MessageState::Dead { at: Timestamp(77), reason: "poison".to_owned() };
        let given_up = Found { state, trail: Bytes::from_static(b"tried"), ..claimed };
        assert_eq!(find("f1", 78).await, Some(given_up));
        assert_eq!(self.state("f2", 78).await, MessageState::Waiting { available_at: Timestamp(5) });
        let receipt = self.claim_one(lane, 78).await;
        self.settle(&receipt, 79, Settlement::Done).await.unwrap();
        assert_eq!(find("f2", 79).await, None, "what is done has gone");
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
        self.give_up(&receipt, 0).await;
        assert_eq!(self.0.commit(again("u")).await, conflict, "a dead message still has its id");
        let twice = again("u-2").enqueue(message("u-2", lane, None, 0));
        assert_eq!(self.0.commit(twice).await, Err(Error::Conflict { key: Key::new(&["u-2"]) }));
        assert_eq!(self.0.get(&Key::new(&["unique", "x"])).await, Ok(None));
        assert_eq!(ids(&self.claim(lane, 9, 0).await), [""; 0]);
    }

    async fn limits(&self) {
        let large =
            |bytes| NewMessage { body: Bytes::from(vec![0; bytes]), ..message("large", "large", None, 0) };
        let refused = self.0.commit(Batch::default().enqueue(large(MESSAGE_BYTES_MAX + 1))).await;
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        self.enqueue([large(MESSAGE_BYTES_MAX)]).await;
        assert_eq!(self.claim("large", 1, 0).await[0].body.len(), MESSAGE_BYTES_MAX);
        for (id, lane) in [("", "lane"), ("\0", "lane"), ("id", ""), ("id", "a\0b")] {
            let refused = self.0.commit(Batch::default().enqueue(message(id, lane, None, 0))).await;
            assert!(matches!(refused, Err(Error::Malformed { .. })), "{id:?} in {lane:?}: {refused:?}");
        }
        let odd = Some("\0 any text \u{1f426}");
        self.enqueue([message("odd \u{1}", "odd lane/\u{1f426}", odd, 0)]).await;
        let claims = self.claim("odd lane/\u{1f426}", 1, 0).await;
        assert_eq!(
            (ids(&claims).as_slice(), claims[0].ordering_key.as_deref()),
            (["odd \u{1}"].as_slice(), odd)
        );
    }
}
