//! What is remembered of a schedule, in one record: which slot is next, and what became of the last ones.

use std::collections::HashMap;
use std::sync::Arc;

use alula_model::trigger::ScheduleSource;
use alula_model::{ErrorCode, InvocationId, Timestamp};
use alula_store::{BATCH_LEN_MAX, Batch, Expect, Key, Record, Records, Revision, SCAN_LEN_MAX};
use serde::{Deserialize, Serialize};

use super::Declared;
use super::plan::Plan;
use crate::TriggerKey;

const KIND: &str = "schedule";

/// The record of one schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// What was stated when this began; another statement begins anew.
    pub(super) rule: String,
    /// Since when; an older statement does not begin anew over a newer one.
    pub(super) since: Timestamp,
    /// The first slot that is not decided yet; `None` where there is none to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<Timestamp>,
    /// The last slot that was admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) admitted: Option<Admitted>,
    /// The last slots that were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) skipped: Option<Skipped>,
}

/// A slot that became a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Admitted {
    pub(super) slot: Timestamp,
    /// When it was admitted.
    pub(super) at: Timestamp,
    pub(super) id: InvocationId,
}

/// Slots that did not become calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Skipped {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    /// When that was decided.
    pub(super) at: Timestamp,
    pub(super) reason: SkipReason,
}

/// Why slots did not become calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Nobody was there for them.
    Missed,
    /// The call of the slot before had not ended.
    Overlap {
        /// That call.
        running: InvocationId,
    },
    /// The call cannot be made as things are.
    Refused {
        /// Why.
        code: ErrorCode,
        /// The same in words.
        message: String,
    },
}

impl SkipReason {
    /// The reason as metrics name it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Overlap { .. } => "overlap",
            Self::Refused { .. } => "refused",
        }
    }
}

/// A record as it was read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) state: State,
    pub(super) revision: Revision,
}

impl State {
    /// The state of a schedule that has just come into force.
    pub(super) fn anew(declared: &Declared) -> Self {
        let next = match declared.is_enabled() {
            true => Plan::parse(declared.source()).ok().and_then(|plan| plan.next(declared.since)),
            false => None,
        };
        Self { rule: rule(declared), since: declared.since, next, admitted: None, skipped: None }
    }

    /// Whether it is about what is stated now.
    pub(super) fn is_of(&self, declared: &Declared) -> bool {
        self.rule == rule(declared)
    }
}

/// What decides when a schedule fires, as one text. How missed and overlapping slots are treated is no part of it.
fn rule(declared: &Declared) -> String {
    let ScheduleSource { cron, every, at, zone, .. } = declared.source();
    if !declared.is_enabled() {
        return "off".to_owned();
    }
    let parts = [("cron", cron), ("every", every), ("at", at), ("zone", zone)];
    let stated =
        parts.into_iter().filter_map(|(name, part)| part.as_ref().map(|part| format!("{name} {part}")));
    stated.collect::<Vec<_>>().join(", ")
}

/// The records of schedules.
#[derive(Debug, Clone)]
pub(super) struct States {
    records: Arc<dyn Records>,
}

impl States {
    pub(super) fn new(records: Arc<dyn Records>) -> Self {
        Self { records }
    }

    /// The write that replaces what was read by `state`: it fails where somebody else was faster.
    pub(super) fn put(batch: Batch, key: &TriggerKey, state: &State, read: Option<Revision>) -> Batch {
        let value = serde_json::to_vec(state).unwrap_or_default();
        batch.put(key.record(KIND), value, read.map_or(Expect::Absent, Expect::At))
    }

    pub(super) async fn commit(&self, batch: Batch) -> alula_store::Result<Revision> {
        self.records.commit(batch).await.map(|committed| committed.revision)
    }

    pub(super) async fn read(&self, key: &TriggerKey) -> alula_store::Result<Option<Stored>> {
        Ok(self.records.get(&key.record(KIND)).await?.map(|record| stored(&record)))
    }

    /// Every record.
    pub(super) async fn all(&self) -> alula_store::Result<HashMap<TriggerKey, Stored>> {
        let mut all = HashMap::new();
        let mut after: Option<Key> = None;
        loop {
            let page = self.records.scan(&Key::new(&[KIND]), after.as_ref(), SCAN_LEN_MAX).await?;
            all.extend(
                page.iter().filter_map(|record| Some((TriggerKey::of_record(&record.key)?, stored(record)))),
            );
            match page.into_iter().last() {
                Some(last) => after = Some(last.key),
                None => return Ok(all),
            }
        }
    }

    /// Writes the states of schedules that have come into force; each replaces what was read of it. What somebody else
    /// has written meanwhile is read instead.
    pub(super) async fn begin(
        &self,
        begun: Vec<(TriggerKey, State, Option<Revision>)>,
    ) -> alula_store::Result<Vec<(TriggerKey, Stored)>> {
        let mut written = Vec::with_capacity(begun.len());
        for chunk in begun.chunks(BATCH_LEN_MAX) {
            let batch = chunk
                .iter()
                .fold(Batch::default(), |batch, (key, state, read)| Self::put(batch, key, state, *read));
            match self.commit(batch).await {
                Ok(revision) => written.extend(
                    chunk
                        .iter()
                        .map(|(key, state, _)| (key.clone(), Stored { state: state.clone(), revision })),
                ),
                Err(alula_store::Error::Conflict { .. }) => {
                    for (key, state, read) in chunk {
                        written.extend(
                            self.begin_one(key, state, *read).await?.map(|stored| (key.clone(), stored)),
                        );
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    async fn begin_one(
        &self,
        key: &TriggerKey,
        state: &State,
        read: Option<Revision>,
    ) -> alula_store::Result<Option<Stored>> {
        match self.commit(Self::put(Batch::default(), key, state, read)).await {
            Ok(revision) => Ok(Some(Stored { state: state.clone(), revision })),
            Err(alula_store::Error::Conflict { .. }) => self.read(key).await,
            Err(error) => Err(error),
        }
    }

    /// Removes the records of schedules that are no more.
    pub(super) async fn forget(&self, keys: &[TriggerKey]) -> alula_store::Result<()> {
        for chunk in keys.chunks(BATCH_LEN_MAX / 2) {
            let batch = chunk.iter().fold(Batch::default(), |batch, key| {
                batch.delete(key.record(KIND), Expect::Any).delete(crate::Pauses::key(key), Expect::Any)
            });
            self.commit(batch).await?;
        }
        Ok(())
    }
}

/// A record that cannot be read is of no statement, so it is begun anew.
fn stored(record: &Record) -> Stored {
    let state = serde_json::from_slice(&record.value).unwrap_or_else(|error| {
        tracing::error!(key = %record.key, %error, "the record of a schedule cannot be read, it begins anew");
        State { rule: String::new(), since: Timestamp(0), next: None, admitted: None, skipped: None }
    });
    Stored { state, revision: record.revision }
}
