//! The messages that are not dead, and the two orders in which they lie: by when they may be claimed, and behind one
//! another.
//!
//! Deliberately absent: what claiming and settling mean. This knows only where a message is.

use std::collections::{BTreeMap, BTreeSet};

use alula_model::Timestamp;
use bytes::Bytes;

use crate::MessageId;

/// A message that is waiting or claimed.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) id: MessageId,
    pub(super) lane: String,
    pub(super) ordering_key: Option<String>,
    pub(super) enqueued_at: Timestamp,
    /// From when on it may be claimed: its own time, or the end of the lease where it is claimed.
    pub(super) ready_at: Timestamp,
    pub(super) attempts: u32,
    /// The number of the present claim, also where its lease has run out.
    pub(super) claim: Option<u64>,
    pub(super) trail: Bytes,
    pub(super) body: Bytes,
}

/// Those who have the same ordering key in the same lane.
type Stream = (String, String);

/// Messages by the order in which they were enqueued. A message is held back while an earlier one of its stream is here.
#[derive(Debug, Default)]
pub(super) struct Messages {
    by_sequence: BTreeMap<u64, Message>,
    sequences: BTreeMap<MessageId, u64>,
    /// What is not held back, by lane and then by when it may be claimed.
    heads: BTreeMap<String, BTreeSet<(Timestamp, u64)>>,
    streams: BTreeMap<Stream, BTreeSet<u64>>,
    last_sequence: u64,
}

impl Messages {
    pub(super) fn contains(&self, id: &MessageId) -> bool {
        self.sequences.contains_key(id)
    }

    pub(super) fn get(&self, id: &MessageId) -> Option<&Message> {
        self.by_sequence.get(self.sequences.get(id)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Message> {
        self.by_sequence.values()
    }

    /// The messages of a lane that are not held back, those first that may be claimed first.
    pub(super) fn ready(&self, lane: &str) -> impl Iterator<Item = &Message> {
        let head = self.heads.get(lane).into_iter().flatten();
        head.filter_map(|(_, sequence)| self.by_sequence.get(sequence))
    }

    /// Every lane with the first message of it that is not held back.
    pub(super) fn heads(&self) -> impl Iterator<Item = (&String, Timestamp)> {
        self.heads.iter().filter_map(|(lane, ready)| Some((lane, ready.first()?.0)))
    }

    pub(super) fn is_held_back(&self, message: &Message) -> bool {
        stream_of(message).is_some_and(|stream| {
            self.streams.get(&stream).and_then(BTreeSet::first) != self.sequences.get(&message.id)
        })
    }

    /// Adds a message behind all others.
    pub(super) fn push(&mut self, message: Message) {
        self.last_sequence += 1;
        self.put(self.last_sequence, message);
    }

    pub(super) fn remove(&mut self, id: &MessageId) -> Option<Message> {
        let sequence = *self.sequences.get(id)?;
        let message = self.by_sequence.get(&sequence)?.clone();
        self.hide_head_of(&message);
        if let Some(stream) = stream_of(&message)
            && let Some(others) = self.streams.get_mut(&stream)
        {
            others.remove(&sequence);
            if others.is_empty() {
                self.streams.remove(&stream);
            }
        }
        self.sequences.remove(id);
        self.by_sequence.remove(&sequence);
        self.show_head_of(&message);
        Some(message)
    }

    /// Changes a message; it keeps its place among those that were enqueued before and after it.
    pub(super) fn change(&mut self, id: &MessageId, change: impl FnOnce(&mut Message)) {
        if let Some(sequence) = self.sequences.get(id).copied()
            && let Some(mut message) = self.remove(id)
        {
            change(&mut message);
            self.put(sequence, message);
        }
    }

    fn put(&mut self, sequence: u64, message: Message) {
        self.hide_head_of(&message);
        if let Some(stream) = stream_of(&message) {
            self.streams.entry(stream).or_default().insert(sequence);
        }
        self.sequences.insert(message.id.clone(), sequence);
        self.by_sequence.insert(sequence, message.clone());
        self.show_head_of(&message);
    }

    /// The one message of its stream that is not held back: the first, or itself where it has no ordering key.
    fn head_of(&self, message: &Message) -> Option<(Timestamp, u64)> {
        let sequence = match stream_of(message) {
            Some(stream) => self.streams.get(&stream)?.first()?,
            None => self.sequences.get(&message.id)?,
        };
        Some((self.by_sequence.get(sequence)?.ready_at, *sequence))
    }

    fn hide_head_of(&mut self, message: &Message) {
        if let Some(head) = self.head_of(message)
            && let Some(heads) = self.heads.get_mut(&message.lane)
        {
            heads.remove(&head);
            if heads.is_empty() {
                self.heads.remove(&message.lane);
            }
        }
    }

    fn show_head_of(&mut self, message: &Message) {
        if let Some(head) = self.head_of(message) {
            self.heads.entry(message.lane.clone()).or_default().insert(head);
        }
    }
}

fn stream_of(message: &Message) -> Option<Stream> {
    Some((message.lane.clone(), message.ordering_key.clone()?))
}
