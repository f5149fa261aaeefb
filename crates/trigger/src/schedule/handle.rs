//! What others hold of the schedules: what comes next, what was, pausing and resuming.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::{Clock, InvocationId, Name, Timestamp};
use alula_store::{Batch, Error as StoreError, Expect};
use tokio::sync::Notify;

use super::admit::resumed;
use super::plan::{self, Plan};
use super::states::{SkipReason, States, Stored};
use super::table::{Entry, Next, Table};
use super::{Options, Readiness, event};
use crate::{Pause, Pauses, TriggerKey};

/// Decisions that are made anew after somebody else has changed the same record.
const RESUME_ATTEMPTS: usize = 8;

/// What the service and its handles have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) states: States,
    pub(super) pauses: Pauses,
    pub(super) clock: Arc<dyn Clock>,
    /// Something is due at another time than the service believes.
    pub(super) rearmed: Notify,
    table: Mutex<Table>,
}

impl Shared {
    pub(super) fn new(options: Options, states: States, pauses: Pauses, clock: Arc<dyn Clock>) -> Self {
        Self { options, states, pauses, clock, rearmed: Notify::new(), table: Mutex::default() }
    }

    /// Held for single changes only, and never across a wait.
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which schedules are meant: those that agree in all that is stated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Of this namespace.
    pub namespace: Option<Name>,
    /// Of this function.
    pub function: Option<Name>,
    /// Of this name.
    pub trigger: Option<Name>,
}

impl Filter {
    /// Whether `key` is meant.
    #[must_use]
    pub fn matches(&self, key: &TriggerKey) -> bool {
        let agrees = |wanted: &Option<Name>, name: &Name| wanted.as_ref().is_none_or(|wanted| wanted == name);
        agrees(&self.namespace, &key.namespace)
            && agrees(&self.function, &key.function)
            && agrees(&self.trigger, &key.trigger)
    }
}

/// A schedule and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleView {
    /// Its name.
    pub key: TriggerKey,
    /// When it fires, in words.
    pub description: String,
    /// Its next slot; `None` where none is to come.
    pub next: Option<Timestamp>,
    /// The last slot that became a call.
    pub last_run: Option<RunInfo>,
    /// The last slots that did not.
    pub last_skip: Option<SkipInfo>,
    /// Who has paused it.
    pub pause: Option<Pause>,
    /// Whether the instance for the next slot is there.
    pub readiness: Readiness,
    /// What keeps its slots from being admitted.
    pub problem: Option<String>,
}

/// A slot that became a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInfo {
    /// The slot.
    pub slot: Timestamp,
    /// When it was admitted.
    pub at: Timestamp,
    /// The call.
    pub id: InvocationId,
}

/// Slots that did not become calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkipInfo {
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// When that was decided.
    pub at: Timestamp,
    /// Why.
    pub reason: SkipReason,
}

/// A slot to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcoming {
    /// The slot.
    pub slot: Timestamp,
    /// When the call may run: the slot and its jitter.
    pub available_at: Timestamp,
    /// The schedule. Its readiness is about its next slot only.
    pub schedule: Arc<ScheduleView>,
}

/// Schedules as others see them. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// How many schedules are in force.
    #[must_use]
    pub fn in_force(&self) -> usize {
        self.shared.table().len()
    }

    /// The pauses of triggers of all kinds.
    #[must_use]
    pub fn pauses(&self) -> &Pauses {
        &self.shared.pauses
    }

    /// One schedule.
    #[must_use]
    pub fn get(&self, key: &TriggerKey) -> Option<ScheduleView> {
        self.shared.table().get(key).map(view)
    }

    /// Schedules for which no instance will be ready at their next slot, ordered by name.
    #[must_use]
    pub fn not_ready(&self, filter: &Filter) -> Vec<ScheduleView> {
        let table = self.shared.table();
        let is_short = |entry: &&Entry| matches!(entry.readiness, Readiness::NotReady { .. });
        let meant = table.entries().filter(|entry| filter.matches(&entry.declared.key)).filter(is_short);
        let mut views: Vec<_> = meant.map(view).collect();
        views.sort_by(|a, b| a.key.cmp(&b.key));
        views
    }

    /// The next `limit` slots of all schedules that are meant, in their order. Paused and disabled schedules have none.
    #[must_use]
    pub fn next(&self, filter: &Filter, limit: usize) -> Vec<Upcoming> {
        let now = self.shared.clock.now();
        let entries: Vec<Entry> = {
            let table = self.shared.table();
            let fires = |entry: &&Entry| entry.pause.is_none() && filter.matches(&entry.declared.key);
            earliest(table.entries().filter(fires), limit)
        };
        // Slots that have come and are on their way are not to come.
        let first = |entry: &Entry, plan: &Plan| {
            entry.stored.state.next.filter(|next| *next > now).or(plan.next(now))
        };
        let mut plans = Vec::new();
        let mut heads = BinaryHeap::new();
        for entry in &entries {
            let Ok(plan) = Plan::parse(entry.declared.source()) else { continue };
            heads.extend(first(entry, &plan).map(|slot| Reverse((slot, plans.len()))));
            plans.push((plan, entry, Arc::new(view(entry))));
        }
        let mut upcoming = Vec::with_capacity(limit.min(1_000));
        while let Some(Reverse((slot, place))) = heads.pop().filter(|_| upcoming.len() < limit) {
            let (plan, entry, schedule) = &plans[place];
            let available_at = event::available_at(&entry.declared, slot);
            upcoming.push(Upcoming { slot, available_at, schedule: Arc::clone(schedule) });
            heads.extend(plan.next(slot).map(|next| Reverse((next, place))));
        }
        upcoming
    }

    /// Pauses a schedule: when this returns, no replica admits a slot of it any more.
    pub async fn pause(&self, key: &TriggerKey, by: &str) -> alula_store::Result<()> {
        let pause = Pause { at: self.shared.clock.now(), by: by.to_owned() };
        self.shared.pauses.set(key, &pause).await?;
        let pause = self.shared.pauses.get(key).await?;
        self.shared.table().learn(key, None, pause, None);
        Ok(())
    }

    /// Lets a paused schedule go on with the first slot from now on; what came meanwhile is skipped.
    pub async fn resume(&self, key: &TriggerKey) -> alula_store::Result<()> {
        let declared = self.shared.table().get(key).map(|entry| entry.declared.clone());
        let Some(declared) = declared else { return self.shared.pauses.clear(key).await };
        for _ in 0..RESUME_ATTEMPTS {
            let Some(Stored { state, revision }) = self.shared.states.read(key).await? else {
                return self.shared.pauses.clear(key).await;
            };
            if self.shared.pauses.get(key).await?.is_none() {
                return Ok(());
            }
            let state = resumed(&declared, &state, self.shared.clock.now());
            let batch = Batch::default().delete(Pauses::key(key), Expect::Any);
            match self.shared.states.commit(States::put(batch, key, &state, Some(revision))).await {
                Ok(revision) => {
                    self.went_on(key, Stored { state, revision });
                    return Ok(());
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { key: Pauses::key(key) })
    }

    fn went_on(&self, key: &TriggerKey, stored: Stored) {
        let mut table = self.shared.table();
        table.learn(key, Some(stored), None, None);
        table.arm(key, Next::Slot, self.shared.options.look_ahead_ms);
        drop(table);
        self.shared.rearmed.notify_one();
    }
}

/// Of many schedules only those with the earliest next slots can be among the next `limit` slots.
fn earliest<'a>(entries: impl Iterator<Item = &'a Entry>, limit: usize) -> Vec<Entry> {
    let mut entries: Vec<&Entry> = entries.filter(|entry| entry.stored.state.next.is_some()).collect();
    let by_slot = |entry: &&Entry| (entry.stored.state.next, entry.declared.key.clone());
    if entries.len() > limit && limit > 0 {
        entries.select_nth_unstable_by_key(limit - 1, |entry| entry.stored.state.next);
        entries.truncate(limit);
    }
    entries.sort_by_key(by_slot);
    entries.into_iter().take(limit).cloned().collect()
}

fn view(entry: &Entry) -> ScheduleView {
    let described = plan::describe(entry.declared.source());
    let (description, wrong) = match described {
        Ok(description) => (description, None),
        Err(error) => ("never".to_owned(), Some(error.to_string())),
    };
    let state = &entry.stored.state;
    ScheduleView {
        key: entry.declared.key.clone(),
        description,
        next: state.next,
        last_run: state.admitted.as_ref().map(|run| RunInfo {
            slot: run.slot,
            at: run.at,
            id: run.id.clone(),
        }),
        last_skip: state.skipped.as_ref().map(|skip| SkipInfo {
            first: skip.first,
            last: skip.last,
            at: skip.at,
            reason: skip.reason.clone(),
        }),
        pause: entry.pause.clone(),
        readiness: entry.readiness.clone(),
        problem: entry.problem.as_ref().map(|problem| problem.message.clone()).or(wrong),
    }
}
