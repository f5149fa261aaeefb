//! The queue in memory: who may claim what, written as the definition.

use std::collections::BTreeSet;

use alula_model::Timestamp;
use bytes::Bytes;

use super::{MemoryStore, State};
use crate::queue::CLAIM_LEN_MAX;
use crate::{
    Batch, BoxFuture, Claim, DeadLetter, Error, Key, LaneStats, MessageId, NewMessage, Queue, Receipt,
    Result, Settlement,
};

/// A message that is waiting or claimed.
#[derive(Debug, Clone)]
pub(super) struct Message {
    id: MessageId,
    lane: String,
    ordering_key: Option<String>,
    enqueued_at: Timestamp,
    /// From when on it may be claimed: its own time, or the end of the lease where it is claimed.
    ready_at: Timestamp,
    attempts: u32,
    /// The number of the present claim, also where its lease has run out.
    claim: Option<u64>,
    body: Bytes,
}

/// A message that was given up.
#[derive(Debug, Clone)]
pub(super) struct DeadMessage {
    message: Message,
    dead_at: Timestamp,
    reason: String,
}

impl Queue for MemoryStore {
    fn claim(
        &self,
        lane: &str,
        limit: usize,
        now: Timestamp,
        lease_ms: i64,
    ) -> BoxFuture<'_, Result<Vec<Claim>>> {
        let claims = self.state().claim(lane, limit, now, now.plus_millis(lease_ms));
        Box::pin(async move { Ok(claims) })
    }

    fn renew(&self, receipt: &Receipt, now: Timestamp, lease_ms: i64) -> BoxFuture<'_, Result<()>> {
        let renewed = self.state().held(receipt).map(|(_, message)| {
            message.ready_at = now.plus_millis(lease_ms);
        });
        Box::pin(async move { renewed })
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

    fn stats(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<LaneStats>>> {
        let stats = self.state().stats(now);
        Box::pin(async move { Ok(stats) })
    }

    fn dead_letters(
        &self,
        lane: &str,
        after: Option<&MessageId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>>> {
        let state = self.state();
        let letters = state
            .dead
            .values()
            .filter(|dead| dead.message.lane == lane && after.is_none_or(|after| dead.message.id > *after))
            .take(limit.min(CLAIM_LEN_MAX))
            .map(DeadMessage::letter)
            .collect();
        Box::pin(async move { Ok(letters) })
    }

    fn redrive(&self, id: &MessageId, now: Timestamp) -> BoxFuture<'_, Result<()>> {
        let mut state = self.state();
        let redriven = state.dead.remove(id).ok_or_else(|| not_dead(id)).map(|dead| {
            state.add(Message { attempts: 0, ready_at: now, claim: None, ..dead.message });
        });
        Box::pin(async move { redriven })
    }

    fn purge(&self, id: &MessageId) -> BoxFuture<'_, Result<()>> {
        let purged = self.state().dead.remove(id).map(drop).ok_or_else(|| not_dead(id));
        Box::pin(async move { purged })
    }
}

impl State {
    pub(super) fn check_ids(&self, messages: &[NewMessage]) -> Result<()> {
        let mut taken: BTreeSet<&MessageId> = self.messages.values().map(|message| &message.id).collect();
        taken.extend(self.dead.keys());
        match messages.iter().find(|message| !taken.insert(&message.id)) {
            Some(message) => Err(Error::Conflict { key: Key::from_stored(message.id.0.clone()) }),
            None => Ok(()),
        }
    }

    pub(super) fn enqueue(&mut self, new: NewMessage) {
        self.add(Message {
            id: new.id,
            lane: new.lane,
            ordering_key: new.ordering_key,
            enqueued_at: new.enqueued_at,
            ready_at: new.available_at,
            attempts: 0,
            claim: None,
            body: new.body,
        });
    }

    fn add(&mut self, message: Message) {
        self.last_sequence += 1;
        self.messages.insert(self.last_sequence, message);
    }

    /// Whether an earlier message with the same ordering key is still there.
    fn is_held_back(&self, sequence: u64, message: &Message) -> bool {
        message.ordering_key.is_some()
            && self.messages.range(..sequence).any(|(_, earlier)| {
                earlier.lane == message.lane && earlier.ordering_key == message.ordering_key
            })
    }

    fn claim(&mut self, lane: &str, limit: usize, now: Timestamp, lease_until: Timestamp) -> Vec<Claim> {
        let mut ready: Vec<(Timestamp, u64)> = self
            .messages
            .iter()
            .filter(|(_, message)| message.lane == lane && message.ready_at <= now)
            .filter(|(sequence, message)| !self.is_held_back(**sequence, message))
            .map(|(sequence, message)| (message.ready_at, *sequence))
            .collect();
        ready.sort_unstable();
        ready.truncate(limit.min(CLAIM_LEN_MAX));
        self.last_claim += u64::from(!ready.is_empty());
        let number = self.last_claim;
        let claimed = ready.iter().filter_map(|(_, sequence)| {
            let message = self.messages.get_mut(sequence)?;
            message.claim = Some(number);
            message.attempts += 1;
            message.ready_at = lease_until;
            Some(message.claimed(number))
        });
        claimed.collect()
    }

    fn held(&mut self, receipt: &Receipt) -> Result<(u64, &mut Message)> {
        self.messages
            .iter_mut()
            .find(|(_, message)| message.id == receipt.id && message.claim == Some(receipt.claim))
            .map(|(sequence, message)| (*sequence, message))
            .ok_or(Error::ClaimLost)
    }

    fn settle(
        &mut self,
        receipt: &Receipt,
        now: Timestamp,
        settlement: Settlement,
        with: Batch,
    ) -> Result<()> {
        let (sequence, _) = self.held(receipt)?;
        self.commit(with)?;
        if let Settlement::Retry { available_at } = settlement {
            let (_, message) = self.held(receipt)?;
            message.claim = None;
            message.ready_at = available_at;
            return Ok(());
        }
        let removed = self.messages.remove(&sequence);
        if let (Some(message), Settlement::Dead { reason }) = (removed, settlement) {
            self.dead.insert(message.id.clone(), DeadMessage { message, dead_at: now, reason });
        }
        Ok(())
    }

    fn stats(&self, now: Timestamp) -> Vec<LaneStats> {
        let mut lanes = std::collections::BTreeMap::<&str, LaneStats>::new();
        for (sequence, message) in &self.messages {
            let stats = lanes.entry(&message.lane).or_default();
            let is_ready = message.ready_at <= now;
            let count = match (message.claim.is_some(), is_ready) {
                (true, false) => &mut stats.claimed,
                (false, false) => &mut stats.delayed,
                (_, true) if self.is_held_back(*sequence, message) => &mut stats.held_back,
                (_, true) => &mut stats.available,
            };
            *count += 1;
            let oldest =
                stats.oldest_at.map_or(message.enqueued_at, |oldest| oldest.min(message.enqueued_at));
            stats.oldest_at = Some(oldest);
        }
        for dead in self.dead.values() {
            lanes.entry(&dead.message.lane).or_default().dead += 1;
        }
        lanes.into_iter().map(|(lane, stats)| LaneStats { lane: lane.to_owned(), ..stats }).collect()
    }
}

impl Message {
    fn claimed(&self, number: u64) -> Claim {
        Claim {
            receipt: Receipt { id: self.id.clone(), claim: number },
            lane: self.lane.clone(),
            ordering_key: self.ordering_key.clone(),
            attempt: self.attempts,
            enqueued_at: self.enqueued_at,
            lease_until: self.ready_at,
            body: self.body.clone(),
        }
    }
}

impl DeadMessage {
    fn letter(&self) -> DeadLetter {
        let Self { message, dead_at, reason } = self.clone();
        DeadLetter {
            id: message.id,
            lane: message.lane,
            attempts: message.attempts,
            enqueued_at: message.enqueued_at,
            dead_at,
            reason,
            body: message.body,
        }
    }
}

fn not_dead(id: &MessageId) -> Error {
    Error::NotFound { what: format!("dead letter {}", id.0) }
}
