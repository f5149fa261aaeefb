//! Every schedule in force, in memory, with what is to be done next about each of them.
//!
//! Nothing here waits. Several parts hold a schedule's state at times (an admission on its way, an operator who resumes
//! it), and each brings back what it has written; the newer revision wins.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use alula_model::Timestamp;

use super::states::Stored;
use super::{Declared, Readiness};
use crate::{Pause, TriggerKey};

/// Every schedule in force.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<Arc<TriggerKey>, Entry>,
    wakes: BinaryHeap<Reverse<Wake>>,
    last_turn: u64,
}

/// One schedule.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) declared: Declared,
    pub(super) stored: Stored,
    pub(super) pause: Option<Pause>,
    pub(super) readiness: Readiness,
    /// What keeps its slots from being admitted, and how often in a row.
    pub(super) problem: Option<Problem>,
    /// Wakes of other turns are no longer meant.
    turn: u64,
}

/// What keeps the slots of a schedule from being admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) failures: u32,
}

/// What a wake is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    LookAhead,
    Fire,
}

/// When something is to be done about a schedule. Ordered by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wake {
    at: Timestamp,
    turn: u64,
    purpose: Purpose,
    key: Arc<TriggerKey>,
}

/// When a schedule is to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// At the slot that its record names, and some time before it.
    Slot,
    /// At this moment.
    At(Timestamp),
}

/// What has come due.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Schedules whose slot has come.
    pub(super) fire: Vec<Entry>,
    /// Schedules whose slot is near.
    pub(super) look_ahead: Vec<Entry>,
}

impl Table {
    pub(super) fn get(&self, key: &TriggerKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a schedule, or replaces what is known of it.
    pub(super) fn put(
        &mut self,
        declared: Declared,
        stored: Stored,
        pause: Option<Pause>,
        look_ahead_ms: i64,
    ) {
        let key = Arc::new(declared.key.clone());
        let entry = Entry { declared, stored, pause, readiness: Readiness::Unknown, problem: None, turn: 0 };
        self.entries.insert(Arc::clone(&key), entry);
        self.arm(&key, Next::Slot, look_ahead_ms);
    }

    /// Another version states the same.
    pub(super) fn restate(&mut self, declared: Declared) {
        if let Some(entry) = self.entries.get_mut(&declared.key) {
            entry.declared = declared;
        }
    }

    pub(super) fn remove(&mut self, key: &TriggerKey) {
        self.entries.remove(key);
    }

    /// Takes in what somebody has read or written of a schedule, unless something newer is known.
    pub(super) fn learn(
        &mut self,
        key: &TriggerKey,
        stored: Option<Stored>,
        pause: Option<Pause>,
        problem: Option<String>,
    ) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Some(stored) = stored.filter(|stored| stored.revision >= entry.stored.revision) {
            entry.readiness = Readiness::Unknown;
            entry.stored = stored;
        }
        entry.pause = pause;
        let failures = entry.problem.as_ref().map_or(0, |problem| problem.failures);
        entry.problem = problem.map(|message| Problem { message, failures: failures.saturating_add(1) });
    }

    /// Notes what is known about the instance for the next slot.
    pub(super) fn note_readiness(&mut self, key: &TriggerKey, slot: Timestamp, readiness: Readiness) {
        if let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.stored.state.next == Some(slot)) {
            entry.readiness = readiness;
        }
    }

    /// Arranges when the schedule is looked at again; earlier arrangements are void.
    pub(super) fn arm(&mut self, key: &TriggerKey, next: Next, look_ahead_ms: i64) {
        self.last_turn += 1;
        let turn = self.last_turn;
        let Some((key, entry)) = self.entries.get_key_value(key).map(|(key, entry)| (Arc::clone(key), entry))
        else {
            return;
        };
        let mut wake =
            |at, purpose| self.wakes.push(Reverse(Wake { at, turn, purpose, key: Arc::clone(&key) }));
        match (next, entry.stored.state.next) {
            (Next::At(at), _) => wake(at, Purpose::Fire),
            (Next::Slot, Some(slot)) => {
                wake(slot, Purpose::Fire);
                if entry.pause.is_none() {
                    wake(slot.plus_millis(-look_ahead_ms), Purpose::LookAhead);
                }
            }
            (Next::Slot, None) => {}
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.turn = turn;
        }
    }

    /// Takes what has come due by `now`, `limit` slots at the most.
    pub(super) fn take_due(&mut self, now: Timestamp, limit: usize) -> Due {
        let mut due = Due::default();
        while due.fire.len() < limit {
            let Some(Reverse(wake)) = self.wakes.peek().filter(|wake| wake.0.at <= now) else { break };
            let entry = self.entries.get(&wake.key).filter(|entry| entry.turn == wake.turn).cloned();
            let purpose = wake.purpose;
            self.wakes.pop();
            match (entry, purpose) {
                (Some(entry), Purpose::Fire) => due.fire.push(entry),
                (Some(entry), Purpose::LookAhead) => due.look_ahead.push(entry),
                (None, _) => {}
            }
        }
        due
    }

    /// When the next thing comes due. It may turn out not to be meant any more.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.wakes.peek().map(|Reverse(wake)| wake.at)
    }
}
