//! The queue in memory: who may claim what, written as the definition.

use alula_model::Timestamp;
use bytes::Bytes;

use super::messages::Message;
use super::{MemoryStore, State};
use crate::message::check_trail;
use crate::queue::CLAIM_LEN_MAX;
use crate::records::check_text;
use crate::{
    Batch, BoxFuture, Claim, Claims, DeadLetter, DeadLetters, Error, Found, Key, LaneHead, LaneStats,
    MessageId, MessageState, NewDeadLetter, NewMessage, Queue, QueueCounts, Receipt, Result, Settlement,
    Totals,
};

impl Queue for MemoryStore {
    fn claim(
        &self,
        lane: &str,
        limit: usize,
        now: Timestamp,
        lease_ms: i64,
    ) -> BoxFuture<'_, Result<Claims>> {
        let claims = self.state().claim(lane, limit, now, now.plus_millis(lease_ms));
        Box::pin(async move { Ok(claims) })
    }

    fn renew(&self, receipt: &Receipt, now: Timestamp, lease_ms: i64) -> BoxFuture<'_, Result<()>> {
        let mut state = self.state();
        let renewed = state.check_held(receipt);
        if renewed.is_ok() {
            state.messages.change(&receipt.id, |message| message.ready_at = now.plus_millis(lease_ms));
        }
        Box::pin(async move { renewed })
    }

    fn end_claims(&self, now: Timestamp) -> BoxFuture<'_, Result<u64>> {
        let mut state = self.state();
        let claimed: Vec<_> =
            state.messages.iter().filter(|message| message.claim.is_some()).cloned().collect();
        for Message { id, .. } in &claimed {
            state.messages.change(id, |message| (message.claim, message.ready_at) = (None, now));
        }
        Box::pin(async move { Ok(claimed.len() as u64) })
    }

    fn settle(
        &self,
        receipt: &Receipt,
        now: Timestamp,
        settlement: Settlement,
        with: Batch,
    ) -> BoxFuture<'_, Result<()>> {
        let settled = self.state().settle(receipt, now, settlement, with);
        Box::pin(async move { settled })
    }

    fn find(&self, id: &MessageId, now: Timestamp) -> BoxFuture<'_, Result<Option<Found>>> {
        let state = self.state();
        let alive = state.messages.get(id).map(|message| state.found(message, now));
        let found = alive.or_else(|| state.dead.get(id).cloned().map(Found::from));
        Box::pin(async move { Ok(found) })
    }

    fn cancel(&self, id: &MessageId, now: Timestamp, with: Batch) -> BoxFuture<'_, Result<bool>> {
        let cancelled = self.state().cancel(id, now, with);
        Box::pin(async move { cancelled })
    }

    fn heads(&self) -> BoxFuture<'_, Result<Vec<LaneHead>>> {
        let state = self.state();
        let heads = state.messages.heads();
        let heads = heads.map(|(lane, ready_at)| LaneHead { lane: lane.clone(), ready_at }).collect();
        Box::pin(async move { Ok(heads) })
    }

    fn arrivals(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

impl DeadLetters for MemoryStore {
    fn dead_letters(
        &self,
        lane_prefix: &str,
        after: Option<(&str, &MessageId)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>>> {
        let state = self.state();
        let place = |letter: &&DeadLetter| (letter.lane.clone(), letter.id.clone());
        let after = after.map(|(lane, id)| (lane.to_owned(), id.clone()));
        let mut letters: Vec<_> = state
            .dead
            .values()
            .filter(|letter| letter.lane.starts_with(lane_prefix))
            .filter(|letter| after.as_ref().is_none_or(|after| place(letter) > *after))
            .collect();
        letters.sort_by_key(place);
        let letters = letters.into_iter().take(limit.min(CLAIM_LEN_MAX)).cloned().collect();
        Box::pin(async move { Ok(letters) })
    }

    fn redrive(&self, id: &MessageId, lane: &str, now: Timestamp, trail: Bytes) -> BoxFuture<'_, Result<()>> {
        let redriven = self.state().redrive(id, lane, now, trail);
        Box::pin(async move { redriven })
    }

    fn purge(&self, id: &MessageId, with: Batch) -> BoxFuture<'_, Result<()>> {
        let purged = self.state().purge(id, with);
        Box::pin(async move { purged })
    }
}

impl QueueCounts for MemoryStore {
    fn stats(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<LaneStats>>> {
        let stats = self.state().stats(now);
        Box::pin(async move { Ok(stats) })
    }

    fn totals(&self, now: Timestamp) -> BoxFuture<'_, Result<Totals>> {
        let state = self.state();
        let all = state.messages.iter().count() as u64;
        let claimed = state.messages.iter().filter(|message| message.is_claimed(now)).count() as u64;
        let dead = state.dead.len() as u64;
        let totals = Totals { waiting: all - claimed, claimed, dead, ..state.gone };
        Box::pin(async move { Ok(totals) })
    }
}

impl State {
    /// Refuses ids that the queue holds already, and those that are there twice.
    pub(super) fn check_ids(&self, batch: &Batch) -> Result<()> {
        let mut seen = std::collections::BTreeSet::new();
        let buried = batch.dead_letters.iter().map(|letter| &letter.message.id);
        let mut ids = batch.messages.iter().map(|message| &message.id).chain(buried);
        let is_taken = |id| self.messages.contains(id) || self.dead.contains_key(id);
        match ids.find(|id| is_taken(id) || !seen.insert(*id)) {
            Some(id) => Err(Error::Conflict { key: Key::from_stored(id.0.clone()) }),
            None => Ok(()),
        }
    }

    pub(super) fn enqueue(&mut self, new: NewMessage) {
        self.gone.accepted += 1;
        self.messages.push(Message {
            id: new.id,
            lane: new.lane,
            ordering_key: new.ordering_key,
            enqueued_at: new.enqueued_at,
            ready_at: new.available_at,
            attempts: 0,
            claim: None,
            trail: Bytes::new(),
            body: new.body,
        });
    }

    pub(super) fn bury(&mut self, letter: NewDeadLetter) {
        self.gone.accepted += 1;
        let NewDeadLetter { message, attempts, reason, trail } = letter;
        let letter = DeadLetter {
            id: message.id.clone(),
            lane: message.lane,
            ordering_key: message.ordering_key,
            attempts,
            enqueued_at: message.enqueued_at,
            dead_at: message.available_at,
            reason,
            trail,
            body: message.body,
        };
        self.dead.insert(message.id, letter);
    }

    fn claim(&mut self, lane: &str, limit: usize, now: Timestamp, lease_until: Timestamp) -> Claims {
        let ready = self.messages.ready(lane).take_while(|message| message.ready_at <= now);
        let ready: Vec<_> = ready.take(limit.min(CLAIM_LEN_MAX)).map(|message| message.id.clone()).collect();
        self.last_claim += u64::from(!ready.is_empty());
        let number = self.last_claim;
        let mut claims = Vec::new();
        for id in ready {
            self.messages.change(&id, |message| {
                message.claim = Some(number);
                message.attempts += 1;
                message.ready_at = lease_until;
                claims.push(message.claimed(number));
            });
        }
        let next_ready_at = self.messages.ready(lane).next().map(|message| message.ready_at);
        Claims { claims, next_ready_at }
    }

    fn check_held(&self, receipt: &Receipt) -> Result<()> {
        let present = self.messages.get(&receipt.id).and_then(|message| message.claim);
        if present == Some(receipt.claim) { Ok(()) } else { Err(Error::ClaimLost) }
    }

    fn settle(
        &mut self,
        receipt: &Receipt,
        now: Timestamp,
        settlement: Settlement,
        with: Batch,
    ) -> Result<()> {
        settlement.check_limits()?;
        with.check_limits()?;
        self.check_held(receipt)?;
        let id = &receipt.id;
        let message = self.messages.get(id).ok_or(Error::ClaimLost)?;
        settlement.check_move(id, &message.lane, message.ordering_key.as_deref())?;
        self.commit(with)?;
        match settlement {
            Settlement::Done => {
                self.messages.remove(id);
                self.gone.done += 1;
            }
            Settlement::Retry { available_at, lane, trail } => self.messages.change(id, |message| {
                message.give_back(available_at, trail);
                message.lane = lane.unwrap_or_else(|| message.lane.clone());
            }),
            Settlement::Release { available_at, trail } => self.messages.change(id, |message| {
                message.give_back(available_at, trail);
                message.attempts -= 1;
            }),
            Settlement::Dead { reason, trail } => {
                if let Some(message) = self.messages.remove(id) {
                    self.dead.insert(id.clone(), message.dead(now, reason, trail));
                }
            }
        }
        Ok(())
    }

    fn found(&self, message: &Message, now: Timestamp) -> Found {
        let state = match message.ready_at {
            _ if self.messages.is_held_back(message) => MessageState::HeldBack,
            lease_until if message.is_claimed(now) => MessageState::Claimed { lease_until },
            available_at => MessageState::Waiting { available_at },
        };
        let Message { lane, ordering_key, attempts, enqueued_at, trail, body, .. } = message.clone();
        Found { lane, ordering_key, state, attempts, enqueued_at, trail, body }
    }

    fn purge(&mut self, id: &MessageId, with: Batch) -> Result<()> {
        with.check_limits()?;
        if !self.dead.contains_key(id) {
            return Err(not_dead(id));
        }
        self.commit(with)?;
        self.dead.remove(id);
        self.gone.purged += 1;
        Ok(())
    }

    fn cancel(&mut self, id: &MessageId, now: Timestamp, with: Batch) -> Result<bool> {
        with.check_limits()?;
        let not_here = || Error::NotFound { what: format!("message {}", id.0) };
        if self.messages.get(id).ok_or_else(not_here)?.is_claimed(now) {
            return Ok(false);
        }
        self.commit(with)?;
        self.messages.remove(id);
        self.gone.cancelled += 1;
        Ok(true)
    }

    fn redrive(&mut self, id: &MessageId, lane: &str, now: Timestamp, trail: Bytes) -> Result<()> {
        check_text("the length of a lane", lane)?;
        check_trail(&trail)?;
        let letter = self.dead.remove(id).ok_or_else(|| not_dead(id))?;
        self.messages.push(Message {
            id: letter.id,
            lane: lane.to_owned(),
            ordering_key: letter.ordering_key,
            enqueued_at: letter.enqueued_at,
            ready_at: now,
            attempts: 0,
            claim: None,
            trail,
            body: letter.body,
        });
        Ok(())
    }

    fn stats(&self, now: Timestamp) -> Vec<LaneStats> {
        let mut lanes = std::collections::BTreeMap::<&str, LaneStats>::new();
        for message in self.messages.iter() {
            let stats = lanes.entry(&message.lane).or_default();
            let count = match message.ready_at <= now {
                false if message.claim.is_some() => &mut stats.claimed,
                false => &mut stats.delayed,
                true if self.messages.is_held_back(message) => &mut stats.held_back,
                true => &mut stats.available,
            };
            *count += 1;
            let oldest =
                stats.oldest_at.map_or(message.enqueued_at, |oldest| oldest.min(message.enqueued_at));
            stats.oldest_at = Some(oldest);
        }
        for letter in self.dead.values() {
            lanes.entry(&letter.lane).or_default().dead += 1;
        }
        lanes.into_iter().map(|(lane, stats)| LaneStats { lane: lane.to_owned(), ..stats }).collect()
    }
}

impl Message {
    /// Whether somebody holds it: the lease has not run out.
    fn is_claimed(&self, now: Timestamp) -> bool {
        self.claim.is_some() && self.ready_at > now
    }

    fn give_back(&mut self, available_at: Timestamp, trail: Bytes) {
        self.claim = None;
        self.ready_at = available_at;
        self.trail = trail;
    }

    fn claimed(&self, number: u64) -> Claim {
        Claim {
            receipt: Receipt { id: self.id.clone(), claim: number },
            lane: self.lane.clone(),
            ordering_key: self.ordering_key.clone(),
            attempt: self.attempts,
            enqueued_at: self.enqueued_at,
            lease_until: self.ready_at,
            trail: self.trail.clone(),
            body: self.body.clone(),
        }
    }

    fn dead(self, dead_at: Timestamp, reason: String, trail: Bytes) -> DeadLetter {
        DeadLetter {
            id: self.id,
            lane: self.lane,
            ordering_key: self.ordering_key,
            attempts: self.attempts,
            enqueued_at: self.enqueued_at,
            dead_at,
            reason,
            trail,
            body: self.body,
        }
    }
}

impl From<DeadLetter> for Found {
    fn from(letter: DeadLetter) -> Self {
        Self {
            lane: letter.lane,
            ordering_key: letter.ordering_key,
            state: MessageState::Dead { at: letter.dead_at, reason: letter.reason },
            attempts: letter.attempts,
            enqueued_at: letter.enqueued_at,
            trail: letter.trail,
            body: letter.body,
        }
    }
}

fn not_dead(id: &MessageId) -> Error {
    Error::NotFound { what: format!("dead letter {}", id.0) }
}
