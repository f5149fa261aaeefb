//! What becomes of claims: settling, giving back, cancelling.

use alula_model::Timestamp;
use bytes::Bytes;

use super::{LEASE_MS, Suite, id_of, ids, message, retry};
use crate::message::{REASON_BYTES_MAX, TRAIL_BYTES_MAX};
use crate::records::KEY_BYTES_MAX;
use crate::{Batch, DeadLetters, Error, Expect, Key, MessageState, Queue, QueueCounts, Records, Settlement};

impl<S: Queue + DeadLetters + QueueCounts + Records> Suite<'_, S> {
    pub(super) async fn settling(&self) {
        self.stale_receipts_settle_nothing().await;
        self.settling_is_one_transaction().await;
        self.retries_wait().await;
        self.retries_move().await;
        self.releases_do_not_count().await;
        self.trails_follow_their_message().await;
        self.cancelling().await;
        self.cancelling_lets_followers_forward().await;
        self.settlements_over_a_limit().await;
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
        self.settle(&receipt, 1, retry(500)).await.unwrap();
        assert_eq!(self.settle(&receipt, 1, Settlement::Done).await, Err(Error::ClaimLost));
        assert_eq!(ids(&self.claim(lane, 9, 499).await), [""; 0]);
        assert_eq!(self.claim(lane, 9, 500).await[0].attempt, 2);
    }

    async fn retries_move(&self) {
        let (from, to) = ("move", "move-to");
        self.enqueue([message("mv", from, None, 0), message("mv-key", from, Some("x"), 0)]).await;
        let claims = self.claim(from, 9, 0).await;
        let moved = |lane: &str| Settlement::Retry {
            available_at: Timestamp(5),
            lane: Some(lane.to_owned()),
            trail: Bytes::new(),
        };
        self.settle(&claims[0].receipt, 1, moved(to)).await.unwrap();
        assert_eq!((self.head(to).await, self.found("mv", 1).await.lane.as_str()), (Some(5), to));
        let refused = self.settle(&claims[1].receipt, 1, moved(to)).await;
        assert_eq!(refused, Err(Error::KeepsLane { id: "mv-key".to_owned() }));
        self.settle(&claims[1].receipt, 1, moved(from)).await.unwrap();
        assert_eq!(ids(&self.claim(from, 9, 5).await), ["mv-key"]);
        assert_eq!(
            (ids(&self.claim(to, 9, 4).await).len(), ids(&self.claim(to, 9, 5).await)),
            (0, vec!["mv"])
        );
    }

    async fn releases_do_not_count(&self) {
        let lane = "release";
        self.enqueue([message("rl1", lane, Some("x"), 0), message("rl2", lane, Some("x"), 0)]).await;
        let receipt = self.claim_one(lane, 0).await;
        let release = Settlement::Release { available_at: Timestamp(50), trail: Bytes::from_static(b"full") };
        self.settle(&receipt, 1, release.clone()).await.unwrap();
        assert_eq!(self.settle(&receipt, 1, release).await, Err(Error::ClaimLost));
        let found = self.found("rl1", 1).await;
        assert_eq!((found.attempts, &found.trail), (0, &Bytes::from_static(b"full")));
        assert_eq!(found.state, MessageState::Waiting { available_at: Timestamp(50) });
        assert_eq!(ids(&self.claim(lane, 9, 49).await), [""; 0], "it still holds back its followers");
        let claims = self.claim(lane, 9, 50).await;
        assert_eq!((ids(&claims).as_slice(), claims[0].attempt), (["rl1"].as_slice(), 1));
    }

    async fn trails_follow_their_message(&self) {
        let lane = "trail";
        self.enqueue([message("tr", lane, None, 0)]).await;
        let binary: Bytes = (0..=255).collect();
        let claims = self.claim(lane, 1, 0).await;
        assert_eq!(claims[0].trail, Bytes::new());
        let retry = |trail| Settlement::Retry { available_at: Timestamp(0), lane: None, trail };
        self.settle(&claims[0].receipt, 0, retry(binary.clone())).await.unwrap();
        let claims = self.claim(lane, 1, 0).await;
        assert_eq!((&claims[0].trail, &self.found("tr", 0).await.trail), (&binary, &binary));
        self.settle(&claims[0].receipt, 0, retry(Bytes::new())).await.unwrap();
        assert_eq!(
            self.claim(lane, 1, 0).await[0].trail,
            Bytes::new(),
            "the new trail, and nothing of the old"
        );
    }

    async fn cancelling(&self) {
        let lane = "cancel";
        let key = Key::new(&["cancel", "outcome"]);
        let outcome = || Batch::default().put(key.clone(), "cancelled", Expect::Absent);
        let cancel = async |id, now, with| self.0.cancel(&id_of(id), Timestamp(now), with).await;
        let no_such = cancel("ca1", 0, outcome()).await;
        assert!(matches!(no_such, Err(Error::NotFound { .. })), "{no_such:?}");
        let waiting = [message("ca1", lane, None, 0), message("ca2", lane, None, 900)];
        self.enqueue(waiting.into_iter().chain([message("ca3", lane, None, 0)])).await;
        let receipts = self.claim(lane, 9, 0).await;
        assert_eq!(cancel("ca1", 0, outcome()).await, Ok(false), "it is claimed");
        assert_eq!(self.0.get(&key).await, Ok(None), "nothing was changed");
        let conflicting = outcome().delete(Key::new(&["cancel", "none"]), Expect::At(crate::Revision(1)));
        let refused = cancel("ca2", 0, conflicting).await;
        assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
        assert!(self.0.find(&id_of("ca2"), Timestamp(0)).await.unwrap().is_some());
        assert_eq!(cancel("ca2", 0, outcome()).await, Ok(true), "a delayed one");
        assert!(self.0.get(&key).await.unwrap().is_some());
        assert_eq!(self.0.find(&id_of("ca2"), Timestamp(0)).await, Ok(None));
        assert_eq!(self.cancel("ca1", LEASE_MS).await, Ok(true), "its lease has run out");
        let late = self.settle(&receipts[0].receipt, LEASE_MS, Settlement::Done).await;
        assert_eq!(late, Err(Error::ClaimLost));
        self.give_up(&receipts[1].receipt, 5).await;
        let is_dead = self.cancel("ca3", LEASE_MS).await;
        assert!(matches!(is_dead, Err(Error::NotFound { .. })), "{is_dead:?}");
        self.enqueue([message("ca1", lane, None, 0)]).await;
        assert_eq!(ids(&self.claim(lane, 9, 9_000).await), ["ca1"], "its id is free again");
    }

    async fn cancelling_lets_followers_forward(&self) {
        let lane = "cancel-key";
        self.enqueue(["ck1", "ck2", "ck3"].map(|id| message(id, lane, Some("x"), 0))).await;
        assert_eq!(self.cancel("ck2", 0).await, Ok(true), "from the middle");
        assert_eq!(ids(&self.claim(lane, 9, 0).await), ["ck1"]);
        assert_eq!(self.cancel("ck1", LEASE_MS).await, Ok(true), "from the front");
        assert_eq!(ids(&self.claim(lane, 9, LEASE_MS).await), ["ck3"]);
    }

    async fn settlements_over_a_limit(&self) {
        let lane = "settle-limit";
        self.enqueue([message("sl", lane, None, 0)]).await;
        let receipt = self.claim_one(lane, 0).await;
        let trail = |over: usize| Bytes::from(vec![1; TRAIL_BYTES_MAX + over]);
        let available_at = Timestamp(0);
        let too_large = [
            Settlement::Retry { available_at, lane: None, trail: trail(1) },
            Settlement::Retry { available_at, lane: Some("l".repeat(KEY_BYTES_MAX + 1)), trail: trail(0) },
            Settlement::Release { available_at, trail: trail(1) },
            Settlement::Dead { reason: String::new(), trail: trail(1) },
            Settlement::Dead { reason: "x".repeat(REASON_BYTES_MAX + 1), trail: trail(0) },
        ];
        for settlement in too_large {
            let refused = self.settle(&receipt, 0, settlement).await;
            assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        }
        let largest = Settlement::Dead { reason: "\0".repeat(REASON_BYTES_MAX), trail: trail(0) };
        self.settle(&receipt, 0, largest).await.unwrap();
        let letter = self.letters(lane).await.remove(0);
        assert_eq!((letter.reason.len(), letter.trail), (REASON_BYTES_MAX, trail(0)));
    }
}
