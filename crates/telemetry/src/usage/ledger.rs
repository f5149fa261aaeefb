//! The totals of this process, by day and function, until they are written.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};

use super::{Amounts, Whose};
use crate::signals::Kept;

/// Entries that are held while the store does not answer: some days of every function that is told apart.
const ENTRIES_MAX: usize = 100_000;

const HOUR_MS: i64 = 3_600_000;

/// The totals of this process. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<(Date, Whose), Entry>,
    /// The newest day: where the clock goes back, days that were closed stay so.
    newest: Option<Date>,
}

#[derive(Debug, Default)]
struct Entry {
    page: Page,
    is_written: bool,
}

/// What is written of one day of one function by one process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Page {
    #[serde(flatten)]
    pub(super) amounts: Amounts,
    /// Judged, failed and slow calls by the hour of the day, where the function has an objective.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) hours: BTreeMap<u8, (u64, u64, u64)>,
}

/// One entry that has changed.
#[derive(Debug, Clone)]
pub(super) struct Changed {
    pub(super) day: Date,
    pub(super) whose: Whose,
    pub(super) page: Page,
}

/// The UTC day of a moment.
#[must_use]
pub fn day_of(at: Timestamp) -> Date {
    let moment = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    moment.to_zoned(TimeZone::UTC).date()
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was used just now.
    pub(crate) fn add(&self, now: Timestamp, whose: &Whose, used: Amounts, kept: Option<Kept>) {
        let mut state = self.state();
        let day = state.newest.map_or(day_of(now), |newest| newest.max(day_of(now)));
        state.newest = Some(day);
        let key = (day, whose.clone());
        if state.entries.len() >= ENTRIES_MAX && !state.entries.contains_key(&key) {
            self.shared.dropped.inc();
            return;
        }
        let entry = state.entries.entry(key).or_default();
        entry.page.amounts += used;
        entry.is_written = false;
        if let Some(kept) = kept {
            let hour = now.as_millis().div_euclid(HOUR_MS).rem_euclid(24);
            let hour = entry.page.hours.entry(u8::try_from(hour).unwrap_or(0)).or_default();
            *hour = (hour.0 + kept.judged, hour.1 + kept.failed, hour.2 + kept.slow);
        }
    }

    /// What is to be written, and counts as written from now on.
    pub(super) fn take_changed(&self) -> Vec<Changed> {
        let mut state = self.state();
        let open = state.entries.iter_mut().filter(|(_, entry)| !entry.is_written);
        let changed = open.map(|((day, whose), entry)| {
            entry.is_written = true;
            Changed { day: *day, whose: whose.clone(), page: entry.page.clone() }
        });
        changed.collect()
    }

    /// It was not written after all.
    pub(super) fn give_back(&self, changed: &[Changed]) {
        let mut state = self.state();
        for Changed { day, whose, .. } in changed {
            if let Some(entry) = state.entries.get_mut(&(*day, whose.clone())) {
                entry.is_written = false;
            }
        }
    }

    /// Forgets days before `today` that are written.
    pub(super) fn close_days(&self, today: Date) {
        let mut state = self.state();
        let today = state.newest.map_or(today, |newest| newest.min(today));
        state.entries.retain(|(day, _), entry| *day >= today || !entry.is_written);
    }

    /// Counts amounts that were lost because the store did not answer for too long.
    #[must_use]
    pub fn dropped(&self) -> Counter {
        self.shared.dropped.clone()
    }
}
