//! What has happened to alarms, the last so many things of it.

use std::collections::VecDeque;

use alula_model::alarm::Severity;
use alula_model::{Name, Timestamp};
use serde::{Deserialize, Serialize};

use crate::alarm::Alarm;
use crate::sample::Subject;

/// Things that are remembered: some weeks of a quiet platform, in a record each.
pub const HISTORY_MAX: usize = 2_000;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The alarm was raised.
    Raised,
    /// It was resolved.
    Resolved,
    /// Somebody said that they know.
    Acknowledged,
}

impl Event {
    /// The word that stands for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Resolved => "resolved",
            Self::Acknowledged => "acknowledged",
        }
    }
}

/// One thing that has happened to an alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Occurrence {
    /// Counts up without a gap.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// The alarm.
    pub alarm: String,
    /// Its rule.
    pub rule: Name,
    /// What it is about.
    pub subject: Subject,
    /// How bad it is.
    pub severity: Severity,
    /// What happened to it.
    pub event: Event,
    /// The figure then.
    pub value: f64,
    /// What else was known, or who acknowledged it.
    pub detail: String,
}

/// The last of them.
#[derive(Debug, Default)]
pub(crate) struct History {
    occurrences: VecDeque<Occurrence>,
    next: u64,
}

impl History {
    /// As it was kept, in any order.
    pub(crate) fn restore(mut kept: Vec<Occurrence>) -> Self {
        kept.sort_by_key(|occurrence| occurrence.number);
        let next = kept.last().map_or(0, |last| last.number + 1);
        Self { occurrences: kept.into(), next }
    }

    pub(crate) fn add(&mut self, at: Timestamp, alarm: &Alarm, event: Event, detail: &str) -> Occurrence {
        let occurrence = Occurrence {
            number: self.next,
            at,
            alarm: alarm.id.clone(),
            rule: alarm.rule.clone(),
            subject: alarm.subject.clone(),
            severity: alarm.severity,
            event,
            value: alarm.value,
            detail: detail.to_owned(),
        };
        self.next += 1;
        if self.occurrences.len() >= HISTORY_MAX {
            self.occurrences.pop_front();
        }
        self.occurrences.push_back(occurrence.clone());
        occurrence
    }

    /// The newest first.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &Occurrence> {
        self.occurrences.iter().rev()
    }
}
