//! Alarms, silences and their history in the store, so that a restart neither forgets an alarm nor raises it anew.

use std::sync::Arc;

use alula_store::{BATCH_LEN_MAX, Batch, Expect, Key, Records, Result, SCAN_LEN_MAX};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::alarm::Alarm;
use crate::history::{HISTORY_MAX, Occurrence};
use crate::silence::Silence;

const ALARM: &str = "alarm";
const HISTORY: &str = "alarm-history";
const SILENCE: &str = "alarm-silence";

/// What is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    records: Arc<dyn Records>,
    /// What alarms of this node are told from those of others by.
    node: String,
}

impl Kept {
    pub(crate) fn new(records: Arc<dyn Records>, node: &str) -> Self {
        // Segments of keys hold no slash.
        Self { records, node: node.replace('/', "-") }
    }

    async fn all<T: DeserializeOwned>(&self, prefix: &Key) -> Result<Vec<T>> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.records.scan(prefix, after.as_ref(), SCAN_LEN_MAX).await?;
            for record in &page {
                match serde_json::from_slice(&record.value) {
                    Ok(value) => found.push(value),
                    Err(error) => {
                        tracing::warn!(%error, key = %record.key, "a record of alarms cannot be read")
                    }
                }
            }
            let is_last = page.len() < SCAN_LEN_MAX;
            after = page.into_iter().last().map(|record| record.key);
            if is_last {
                return Ok(found);
            }
        }
    }

    pub(crate) async fn alarms(&self) -> Result<Vec<Alarm>> {
        self.all(&Key::new(&[ALARM, &self.node])).await
    }

    pub(crate) async fn history(&self) -> Result<Vec<Occurrence>> {
        self.all(&Key::new(&[HISTORY, &self.node])).await
    }

    pub(crate) async fn silences(&self) -> Result<Vec<Silence>> {
        self.all(&Key::new(&[SILENCE])).await
    }

    /// Writes alarms, removes those that are gone, adds to the history.
    pub(crate) async fn save(
        &self,
        alarms: &[Alarm],
        gone: &[String],
        occurrences: &[Occurrence],
    ) -> Result<()> {
        let alarm_key = |id: &str| Key::new(&[ALARM, &self.node, id]);
        let puts = alarms.iter().map(|alarm| (alarm_key(&alarm.id), Some(json(alarm))));
        let deletes = gone.iter().map(|id| (alarm_key(id), None));
        let added = occurrences.iter().map(|one| {
            // The oldest is overwritten.
            let place = format!("{:06}", one.number % HISTORY_MAX as u64);
            (Key::new(&[HISTORY, &self.node, &place]), Some(json(one)))
        });
        let changes: Vec<(Key, Option<Vec<u8>>)> = puts.chain(deletes).chain(added).collect();
        for part in changes.chunks(BATCH_LEN_MAX) {
            let batch = part.iter().fold(Batch::default(), |batch, (key, value)| match value {
                Some(value) => batch.put(key.clone(), value.clone(), Expect::Any),
                None => batch.delete(key.clone(), Expect::Any),
            });
            self.records.commit(batch).await?;
        }
        Ok(())
    }

    pub(crate) async fn put_silence(&self, silence: &Silence) -> Result<()> {
        let key = Key::new(&[SILENCE, &silence.id]);
        let batch = Batch::default().put_until(key, json(silence), Expect::Any, silence.until);
        self.records.commit(batch).await.map(drop)
    }

    pub(crate) async fn delete_silence(&self, id: &str) -> Result<()> {
        self.records.commit(Batch::default().delete(Key::new(&[SILENCE, id]), Expect::Any)).await.map(drop)
    }
}

/// All keys are text, which is the one thing that could fail.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
