//! What is counted, and that it balances.

use alula_model::Timestamp;
use bytes::Bytes;

use super::{LEASE_MS, Suite, id_of, message};
use crate::{
    Batch, DeadLetters, Expect, Key, LaneStats, NewDeadLetter, Queue, QueueCounts, Records, Settlement,
    Totals,
};

impl<S: Queue + DeadLetters + QueueCounts + Records> Suite<'_, S> {
    pub(super) async fn counts(&self) {
        self.statistics().await;
        self.totals().await;
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
        self.give_up(&dead, 5).await;
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

    async fn totals(&self) {
        let lane = "totals";
        let now = 1_000_000;
        let before = self.totals_at(now).await;
        let since = async |at| {
            let Totals { accepted, done, cancelled, purged, waiting, claimed, dead } =
                self.totals_at(at).await;
            let new = [accepted - before.accepted, done - before.done, cancelled - before.cancelled];
            (new, purged - before.purged, [waiting, claimed, dead])
        };
        let here = [before.waiting, before.claimed, before.dead];
        let plus = |more: [u64; 3]| [here[0] + more[0], here[1] + more[1], here[2] + more[2]];

        let letter = NewDeadLetter {
            message: message("to-dead", lane, None, 0),
            attempts: 1,
            reason: String::new(),
            trail: Bytes::new(),
        };
        let batch = ["to1", "to2", "to3", "to4"]
            .into_iter()
            .fold(Batch::default().bury(letter), |batch, id| batch.enqueue(message(id, lane, Some(id), now)));
        self.0.commit(batch.clone()).await.unwrap();
        assert_eq!(since(now).await, ([5, 0, 0], 0, plus([4, 0, 1])));
        assert!(self.0.commit(batch).await.is_err());
        assert_eq!(since(now).await.0, [5, 0, 0], "what is refused is not counted");

        let claims = self.claim(lane, 3, now).await;
        assert_eq!(since(now).await, ([5, 0, 0], 0, plus([1, 3, 1])));
        assert_eq!(since(now + LEASE_MS).await.2, plus([4, 0, 1]), "leases that ran out hold nothing");
        self.settle(&claims[0].receipt, now, Settlement::Done).await.unwrap();
        self.give_up(&claims[1].receipt, now).await;
        assert_eq!(since(now).await, ([5, 1, 0], 0, plus([1, 1, 2])));
        let conflicting = Batch::default().delete(Key::new(&["totals"]), Expect::At(crate::Revision(1)));
        let refused = self.0.settle(&claims[2].receipt, Timestamp(now), Settlement::Done, conflicting).await;
        assert!(refused.is_err() && self.settle(&claims[0].receipt, now, Settlement::Done).await.is_err());
        assert_eq!(self.cancel("to4", now).await, Ok(true));
        assert_eq!(self.cancel("to3", now).await, Ok(false));
        assert_eq!(since(now).await, ([5, 1, 1], 0, plus([0, 1, 2])));
        self.0.redrive(&id_of("to2"), lane, Timestamp(now), Bytes::new()).await.unwrap();
        self.0.purge(&id_of("to-dead"), Batch::default()).await.unwrap();
        assert!(self.0.purge(&id_of("to-dead"), Batch::default()).await.is_err());
        assert_eq!(since(now).await, ([5, 1, 1], 1, plus([1, 1, 0])));
    }

    async fn totals_at(&self, now: i64) -> Totals {
        let totals = self.0.totals(Timestamp(now)).await.unwrap();
        assert_eq!(totals.imbalance(), 0, "{totals:?}");
        totals
    }
}
