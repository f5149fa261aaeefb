//! An operator's pause of one trigger: a record, so that it holds for every replica and survives restarts.
//!
//! Whoever delivers asks for the absence of [`Pauses::key`] in the very commit that delivers, so that nothing is delivered
//! after a pause has been acknowledged, by whichever replica.

use std::sync::Arc;

use alula_model::Timestamp;
use alula_store::{Batch, Expect, Key, Records, SCAN_LEN_MAX};
use serde::{Deserialize, Serialize};

use crate::TriggerKey;

const KIND: &str = "trigger-pause";

/// Who has paused a trigger and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When.
    pub at: Timestamp,
    /// Who, as the audit record names them.
    pub by: String,
}

/// The pauses in the records. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pauses {
    records: Arc<dyn Records>,
}

impl Pauses {
    /// The pauses in these records.
    #[must_use]
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self { records }
    }

    /// The record that is there while a trigger is paused.
    #[must_use]
    pub fn key(trigger: &TriggerKey) -> Key {
        trigger.record(KIND)
    }

    /// Whether a record is a pause: a commit that lost against one is made anew without what is paused.
    #[must_use]
    pub fn is_one(record: &Key) -> bool {
        record.segments().next() == Some(KIND)
    }

    /// Adds to `batch` that it is only to be committed while nobody has paused the trigger.
    #[must_use]
    pub fn unless_paused(trigger: &TriggerKey, batch: Batch) -> Batch {
        batch.delete(Self::key(trigger), Expect::Absent)
    }

    /// Pauses a trigger. One that is paused already keeps its first pause.
    pub async fn set(&self, trigger: &TriggerKey, pause: &Pause) -> alula_store::Result<()> {
        let value = serde_json::to_vec(pause).unwrap_or_default();
        let batch = Batch::default().put(Self::key(trigger), value, Expect::Absent);
        match self.records.commit(batch).await {
            Ok(_) | Err(alula_store::Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends a pause, if there is one. What came meanwhile is the source's to decide.
    pub async fn clear(&self, trigger: &TriggerKey) -> alula_store::Result<()> {
        self.records.commit(Batch::default().delete(Self::key(trigger), Expect::Any)).await.map(drop)
    }

    /// The pause of a trigger, if it is paused.
    pub async fn get(&self, trigger: &TriggerKey) -> alula_store::Result<Option<Pause>> {
        let found = self.records.get(&Self::key(trigger)).await?;
        Ok(found.map(|record| read(&record.value)))
    }

    /// Every pause.
    pub async fn all(&self) -> alula_store::Result<Vec<(TriggerKey, Pause)>> {
        let mut all = Vec::new();
        let mut after: Option<Key> = None;
        loop {
            let page = self.records.scan(&Key::new(&[KIND]), after.as_ref(), SCAN_LEN_MAX).await?;
            all.extend(
                page.iter()
                    .filter_map(|record| Some((TriggerKey::of_record(&record.key)?, read(&record.value)))),
            );
            match page.into_iter().last() {
                Some(last) => after = Some(last.key),
                None => return Ok(all),
            }
        }
    }
}

/// A record that cannot be read pauses nevertheless: it is there.
fn read(value: &[u8]) -> Pause {
    serde_json::from_slice(value).unwrap_or_else(|_| Pause { at: Timestamp(0), by: "unknown".to_owned() })
}
