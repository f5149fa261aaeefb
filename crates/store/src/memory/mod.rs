//! The memory back end: the executable specification of the ports.
//!
//! Every rule of the ports is written here in the most direct way, without regard to speed, so that it can be read
//! as the definition and other back ends can be tested against it; only what tests do
//! with many messages and records avoids to look at all of them. Nothing survives the process. Used by tests
//! and by platforms that are thrown away.

mod history;
mod messages;
mod packages;
mod queue;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::{InvocationId, Run, Timestamp};

pub use packages::MemoryPackages;

use crate::records::{EXPIRE_LEN_MAX, SCAN_LEN_MAX};
use crate::{
    Batch, BoxFuture, Committed, DeadLetter, Error, Expect, Key, MessageId, Record, Records, Result,
    Revision, Totals, Write,
};

/// Records, queue and history in memory. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<Key, Record>,
    last_revision: u64,
    /// When records go, for those that do.
    expiries: BTreeMap<Key, Timestamp>,
    /// Messages that are not dead.
    messages: messages::Messages,
    dead: BTreeMap<MessageId, DeadLetter>,
    /// What came in and what has gone; what is here is counted.
    gone: Totals,
    last_claim: u64,
    runs: BTreeMap<history::Place, Run>,
    /// Where each attempt of an invocation is among the runs.
    run_places: BTreeMap<(InvocationId, u32), history::Place>,
    last_run: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No operation panics half-way through a change, so a poisoned state is still whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records for MemoryStore {
    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Record>>> {
        let found = self.state().records.get(key).cloned();
        Box::pin(async move { Ok(found) })
    }

    fn scan(&self, prefix: &Key, after: Option<&Key>, limit: usize) -> BoxFuture<'_, Result<Vec<Record>>> {
        let state = self.state();
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let found = state
            .records
            .range((start, Bound::Unbounded))
            .map(|(_, record)| record)
            .take_while(|record| record.key.as_str().starts_with(prefix.as_str()))
            .filter(|record| record.key.begins_with(prefix))
            .take(limit.min(SCAN_LEN_MAX))
            .cloned()
            .collect();
        Box::pin(async move { Ok(found) })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed>> {
        let committed = self.state().commit(batch);
        Box::pin(async move { committed })
    }

    fn expire(&self, now: Timestamp, limit: usize) -> BoxFuture<'_, Result<u64>> {
        let expired = self.state().expire(now, limit.min(EXPIRE_LEN_MAX));
        Box::pin(async move { Ok(expired) })
    }
}

impl State {
    fn commit(&mut self, batch: Batch) -> Result<Committed> {
        batch.check_limits()?;
        for write in &batch.writes {
            self.check_expectation(write)?;
        }
        self.check_ids(&batch)?;
        self.last_revision += 1;
        let revision = Revision(self.last_revision);
        for write in batch.writes {
            self.write(write, revision);
        }
        for message in batch.messages {
            self.enqueue(message);
        }
        for letter in batch.dead_letters {
            self.bury(letter);
        }
        Ok(Committed { revision })
    }

    fn check_expectation(&self, write: &Write) -> Result<()> {
        let present = self.records.get(&write.key).map(|record| record.revision);
        let is_met = match write.expect {
            Expect::Any => true,
            Expect::Absent => present.is_none(),
            Expect::At(revision) => present == Some(revision),
        };
        if is_met { Ok(()) } else { Err(Error::Conflict { key: write.key.clone() }) }
    }

    fn write(&mut self, Write { key, value, expires_at, .. }: Write, revision: Revision) {
        self.records.remove(&key);
        self.expiries.remove(&key);
        if let Some(value) = value {
            self.expiries.extend(expires_at.map(|at| (key.clone(), at)));
            self.records.insert(key.clone(), Record { key, value, revision });
        }
    }

    fn expire(&mut self, now: Timestamp, limit: usize) -> u64 {
        let due = self.expiries.iter().filter(|(_, at)| **at <= now);
        let mut due: Vec<_> = due.map(|(key, at)| (*at, key.clone())).collect();
        due.sort_unstable();
        due.truncate(limit);
        for (_, key) in &due {
            self.records.remove(key);
            self.expiries.remove(key);
        }
        due.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn conforms() {
        conformance::records(&MemoryStore::new()).await;
        conformance::queue(&MemoryStore::new()).await;
        conformance::history(&MemoryStore::new()).await;
        conformance::packages(&MemoryPackages::new(), std::env::temp_dir().as_path()).await;
    }
}
