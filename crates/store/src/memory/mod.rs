//! The memory back end: the executable specification of the ports.
//!
//! Every rule of the ports is written here in the most direct way, without regard to speed, so that it can be read
//! as the definition and other back ends can be tested against it. Nothing survives the process. Used by tests
//! and by platforms that are thrown away.

mod history;
mod packages;
mod queue;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::{InvocationId, Run};
use bytes::Bytes;

pub use packages::MemoryPackages;

use crate::queue::MessageId;
use crate::records::SCAN_LEN_MAX;
use crate::{Batch, BoxFuture, Committed, Error, Expect, Key, Record, Records, Result, Revision, Write};

/// Records, queue and history in memory. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<Key, Record>,
    last_revision: u64,
    /// Messages that are not dead, by the order in which they were enqueued.
    messages: BTreeMap<u64, queue::Message>,
    dead: BTreeMap<MessageId, queue::DeadMessage>,
    last_sequence: u64,
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
        let found = state
            .records
            .values()
            .filter(|record| record.key.begins_with(prefix) && after.is_none_or(|after| record.key > *after))
            .take(limit.min(SCAN_LEN_MAX))
            .cloned()
            .collect();
        Box::pin(async move { Ok(found) })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<Committed>> {
        let committed = self.state().commit(batch);
        Box::pin(async move { committed })
    }
}

impl State {
    fn commit(&mut self, batch: Batch) -> Result<Committed> {
        batch.check_limits()?;
        for write in &batch.writes {
            self.check_expectation(write)?;
        }
        self.check_ids(&batch.messages)?;
        self.last_revision += 1;
        let revision = Revision(self.last_revision);
        for Write { key, value, .. } in batch.writes {
            match value {
                Some(value) => self.put(key, value, revision),
                None => drop(self.records.remove(&key)),
            }
        }
        for message in batch.messages {
            self.enqueue(message);
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

    fn put(&mut self, key: Key, value: Bytes, revision: Revision) {
        self.records.insert(key.clone(), Record { key, value, revision });
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
