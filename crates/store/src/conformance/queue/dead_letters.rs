//! Messages that were given up: listed, run again, forgotten, and buried from the start.

use alula_model::Timestamp;
use bytes::Bytes;

use super::{Suite, id_of, ids, message};
use crate::message::{REASON_BYTES_MAX, TRAIL_BYTES_MAX};
use crate::queue::CLAIM_LEN_MAX;
use crate::{
    Batch, DeadLetter, DeadLetters, Error, Expect, Key, MessageState, NewDeadLetter, NewMessage, Queue,
    QueueCounts, Records, Revision, Settlement,
};

fn letter(id: &str, lane: &str) -> NewDeadLetter {
    NewDeadLetter {
        message: message(id, lane, Some("x"), 10),
        attempts: 3,
        reason: "nobody can read it".to_owned(),
        trail: Bytes::from_static(b"three times"),
    }
}

impl<S: Queue + DeadLetters + QueueCounts + Records> Suite<'_, S> {
    pub(super) async fn dead_letters(&self) {
        self.dead_letters_are_kept().await;
        self.dead_letters_are_listed_by_prefix().await;
        self.redriven_messages_start_anew().await;
        self.redriven_messages_go_where_they_are_sent().await;
        self.dead_from_the_start().await;
        self.buried_ids_are_unique().await;
    }

    async fn dead_letters_are_kept(&self) {
        let lane = "dead";
        self.enqueue(["d3", "d1", "d2"].map(|id| message(id, lane, None, 7))).await;
        for claim in self.claim(lane, 9, 7).await {
            self.give_up(&claim.receipt, 8).await;
        }
        let letters = self.letters(lane).await;
        assert_eq!(letters.iter().map(|letter| letter.id.0.as_str()).collect::<Vec<_>>(), ["d1", "d2", "d3"]);
        let expected = DeadLetter {
            id: id_of("d1"),
            lane: lane.to_owned(),
            attempts: 1,
            ordering_key: None,
            enqueued_at: Timestamp(6),
            dead_at: Timestamp(8),
            reason: "poison".to_owned(),
            trail: Bytes::from_static(b"tried"),
            body: Bytes::from_static(b"body of d1"),
        };
        assert_eq!(letters[0], expected);
        let page = self.0.dead_letters(lane, Some((lane, &letters[0].id)), 1).await.unwrap();
        assert_eq!(page, letters[1..2]);
        assert_eq!(ids(&self.claim(lane, 9, 1_000_000).await), [""; 0], "dead messages are not claimed");
        let fails = Batch::default().put(Key::new(&["purged"]), "no", Expect::At(Revision(1)));
        assert!(matches!(self.0.purge(&letters[0].id, fails).await, Err(Error::Conflict { .. })));
        assert_eq!(self.letters(lane).await, letters, "nothing is purged whose batch does not fit");
        let with = Batch::default().put(Key::new(&["purged"]), "yes", Expect::Absent);
        self.0.purge(&letters[0].id, with.clone()).await.unwrap();
        assert_eq!(self.0.get(&Key::new(&["purged"])).await.unwrap().unwrap().value, "yes");
        assert_eq!(self.letters(lane).await, letters[1..]);
        let again = self.0.redrive(&letters[0].id, lane, Timestamp(9), Bytes::new()).await;
        for outcome in [self.0.purge(&letters[0].id, Batch::default()).await, again] {
            assert!(matches!(outcome, Err(Error::NotFound { .. })), "{outcome:?}");
        }
    }

    async fn dead_letters_are_listed_by_prefix(&self) {
        let lanes = ["p/a/x", "p/a/y", "p/ab/x", "p/b", "p\u{10ffff}"];
        for (number, lane) in lanes.iter().rev().enumerate() {
            self.0.commit(Batch::default().bury(letter(&format!("dp{number}"), lane))).await.unwrap();
        }
        let list = async |prefix: &str, after: Option<(&str, &str)>, limit| -> Vec<String> {
            let id = after.map(|(_, id)| id_of(id));
            let after = after.map(|(lane, _)| lane).zip(id.as_ref());
            let letters = self.0.dead_letters(prefix, after, limit).await.unwrap();
            letters.into_iter().map(|letter| letter.lane).collect()
        };
        assert_eq!(list("p", None, 9).await, lanes);
        assert_eq!(list("p/a", None, 9).await, lanes[..3], "a prefix of bytes, not of segments");
        assert_eq!(list("p/a/", None, 9).await, lanes[..2]);
        assert_eq!(list("p/a", Some(("p/a/x", "dp9")), 9).await, lanes[1..3], "from behind a lane and an id");
        assert_eq!(list("p/a", Some(("p/a/y", "dp1")), 9).await, lanes[1..3], "the lane first, then the id");
        assert_eq!(list("p/a", Some(("p/a/y", "dp3")), 9).await, lanes[2..3]);
        assert_eq!(list("p", Some(("a", "a")), 2).await, lanes[..2], "a start before the prefix");
        assert_eq!(list("p/a", Some(("p/b", "")), 9).await, [""; 0], "a start behind the prefix");
        assert_eq!((list("p", None, 0).await, list("nobody", None, 9).await), (vec![], vec![]));
        let many = (0..=CLAIM_LEN_MAX).map(|number| letter(&format!("many{number}"), "many"));
        let many: Vec<_> = many.collect();
        for part in many.chunks(CLAIM_LEN_MAX / 2) {
            self.0.commit(part.iter().cloned().fold(Batch::default(), Batch::bury)).await.unwrap();
        }
        assert_eq!(list("many", None, usize::MAX).await.len(), CLAIM_LEN_MAX);
        assert!(list("", None, usize::MAX).await.len() == CLAIM_LEN_MAX, "the empty prefix is every lane's");
    }

    async fn redriven_messages_start_anew(&self) {
        let lane = "redrive";
        self.enqueue([message("v1", lane, Some("x"), 0), message("v2", lane, Some("x"), 0)]).await;
        let receipt = self.claim_one(lane, 0).await;
        self.give_up(&receipt, 1).await;
        self.0.redrive(&receipt.id, lane, Timestamp(50), Bytes::from_static(b"again")).await.unwrap();
        assert_eq!(self.letters(lane).await, []);
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

    async fn redriven_messages_go_where_they_are_sent(&self) {
        let (from, to) = ("redrive-from", "redrive-to");
        self.enqueue([message("rd1", from, Some("x"), 0), message("rd2", to, Some("x"), 0)]).await;
        let receipt = self.claim_one(from, 0).await;
        self.give_up(&receipt, 1).await;
        self.0.redrive(&receipt.id, to, Timestamp(50), Bytes::from_static(b"again")).await.unwrap();
        let found = self.found("rd1", 50).await;
        assert_eq!((found.lane.as_str(), found.state), (to, MessageState::HeldBack));
        assert_eq!((found.attempts, found.trail), (0, Bytes::from_static(b"again")));
        let first = self.claim_one(to, 50).await;
        self.settle(&first, 50, Settlement::Done).await.unwrap();
        let claims = self.claim(to, 9, 50).await;
        assert_eq!(
            (ids(&claims).as_slice(), claims[0].ordering_key.as_deref()),
            (["rd1"].as_slice(), Some("x"))
        );
        self.give_up(&claims[0].receipt, 51).await;
        let id = &claims[0].receipt.id;
        let too_large = self.0.redrive(id, to, Timestamp(52), vec![0; TRAIL_BYTES_MAX + 1].into()).await;
        assert!(matches!(too_large, Err(Error::TooLarge { .. })), "{too_large:?}");
        let malformed = self.0.redrive(id, "", Timestamp(52), Bytes::new()).await;
        assert!(matches!(malformed, Err(Error::Malformed { .. })), "{malformed:?}");
        assert_eq!(self.letters(to).await.len(), 1, "what is refused changes nothing");
    }

    async fn dead_from_the_start(&self) {
        let lane = "buried";
        let key = Key::new(&["buried", "cursor"]);
        let batch = Batch::default().put(key.clone(), "1", Expect::Absent).bury(letter("b1", lane));
        self.0.commit(batch).await.unwrap();
        assert!(self.0.get(&key).await.unwrap().is_some());
        let expected = DeadLetter {
            id: id_of("b1"),
            lane: lane.to_owned(),
            ordering_key: Some("x".to_owned()),
            attempts: 3,
            enqueued_at: Timestamp(9),
            dead_at: Timestamp(10),
            reason: "nobody can read it".to_owned(),
            trail: Bytes::from_static(b"three times"),
            body: Bytes::from_static(b"body of b1"),
        };
        assert_eq!(self.letters(lane).await, [expected]);
        assert_eq!(ids(&self.claim(lane, 9, 1_000).await), [""; 0]);
        self.0.redrive(&id_of("b1"), lane, Timestamp(20), Bytes::new()).await.unwrap();
        assert_eq!(self.claim(lane, 9, 20).await[0].attempt, 1);
        let too_long = NewDeadLetter { reason: "x".repeat(REASON_BYTES_MAX + 1), ..letter("b2", lane) };
        let trail = vec![0; TRAIL_BYTES_MAX + 1].into();
        for over in [too_long, NewDeadLetter { trail, ..letter("b2", lane) }] {
            let refused = self.0.commit(Batch::default().bury(over)).await;
            assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
        }
    }

    async fn buried_ids_are_unique(&self) {
        let lane = "buried-ids";
        let alive = |id: &str| NewMessage { ordering_key: None, ..message(id, lane, None, 0) };
        self.enqueue([alive("bu1")]).await;
        self.0.commit(Batch::default().bury(letter("bu2", lane))).await.unwrap();
        let refused = [
            (Batch::default().bury(letter("bu1", lane)), "bu1"),
            (Batch::default().bury(letter("bu2", lane)), "bu2"),
            (Batch::default().enqueue(alive("bu2")), "bu2"),
            (Batch::default().enqueue(alive("bu3")).bury(letter("bu3", lane)), "bu3"),
            (Batch::default().bury(letter("bu4", lane)).bury(letter("bu4", lane)), "bu4"),
        ];
        for (batch, id) in refused {
            assert_eq!(self.0.commit(batch).await, Err(Error::Conflict { key: Key::new(&[id]) }));
        }
        assert_eq!((self.letters(lane).await.len(), self.claim(lane, 9, 0).await.len()), (1, 1));
    }
}
