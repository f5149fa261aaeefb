//! One alarm and the way it goes: pending, firing, resolved.

use std::collections::BTreeMap;

use alula_model::alarm::{AlarmRule, Audience, Severity, Signal};
use alula_model::{Contact, Name, Timestamp};
use serde::{Deserialize, Serialize};

use crate::sample::{Sample, Subject};

/// Characters of an id: 64 bits of a digest.
const ID_CHARS: usize = 16;

/// Where an alarm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its condition holds, but not for long enough.
    Pending,
    /// It was raised.
    Firing,
    /// It is over, and kept for a while so that everybody learns it.
    Resolved,
}

impl State {
    /// The word that stands for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// What one rule found about one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// The same for the same rule and subject, always.
    pub id: String,
    /// The rule.
    pub rule: Name,
    /// What it looks at.
    pub signal: Signal,
    /// What the alarm is about.
    pub subject: Subject,
    /// How bad it is.
    pub severity: Severity,
    /// Who is told.
    pub to: Audience,
    /// The function's owner.
    pub contacts: Vec<Contact>,
    /// Where it stands.
    pub state: State,
    /// From when on the condition holds.
    pub since: Timestamp,
    /// When it was raised.
    pub raised_at: Option<Timestamp>,
    /// From when on the condition does not hold any more.
    pub(crate) clear_since: Option<Timestamp>,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// The figure, when it was last seen.
    pub value: f64,
    /// What it must not be, in words: `above 10`.
    pub bound: String,
    /// What else is known.
    pub detail: String,
    /// What to do about it.
    pub advice: String,
    /// Who has said that they know.
    pub acknowledged: Option<Acknowledgement>,
    /// Who has been told that it fires, and when last.
    pub(crate) told: BTreeMap<String, Timestamp>,
}

/// Somebody knows; it is not repeated to anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What a look at an alarm changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing but figures.
    None,
    /// It was raised.
    Raised,
    /// It was resolved.
    Resolved,
    /// It did not last long enough to be raised.
    Vanished,
}

impl Alarm {
    /// An alarm whose condition begins to hold.
    pub(crate) fn begin(rule: &AlarmRule, sample: &Sample, contacts: Vec<Contact>, now: Timestamp) -> Self {
        let mut alarm = Self {
            id: id_of(&rule.name, &sample.subject),
            rule: rule.name.clone(),
            signal: rule.signal,
            subject: sample.subject.clone(),
            severity: rule.severity,
            to: rule.to,
            contacts,
            state: State::Pending,
            since: now,
            raised_at: None,
            clear_since: None,
            resolved_at: None,
            value: sample.value,
            bound: bound_of(rule),
            detail: String::new(),
            advice: rule.advice.clone(),
            acknowledged: None,
            told: BTreeMap::new(),
        };
        alarm.see(sample);
        alarm
    }

    /// Notes the figure.
    pub(crate) fn see(&mut self, sample: &Sample) {
        self.value = sample.value;
        self.detail.clone_from(&sample.detail);
    }

    /// The condition holds.
    pub(crate) fn holds(&mut self, rule: &AlarmRule, now: Timestamp) -> Change {
        self.clear_since = None;
        match self.state {
            State::Pending if now.millis_since(self.since) >= rule.for_ms => {
                self.state = State::Firing;
                self.raised_at = Some(now);
                Change::Raised
            }
            State::Pending | State::Firing => Change::None,
            // It began anew before everybody had forgotten; who was told of its end is told of its beginning.
            State::Resolved => {
                self.state = State::Pending;
                (self.since, self.raised_at, self.resolved_at) = (now, None, None);
                self.acknowledged = None;
                self.told.clear();
                self.holds(rule, now)
            }
        }
    }

    /// The condition holds no more, or neither holds nor is cleared where `is_cleared` says so.
    pub(crate) fn eases(&mut self, rule: &AlarmRule, now: Timestamp, is_cleared: IsCleared) -> Change {
        match (self.state, is_cleared) {
            (State::Pending, _) => Change::Vanished,
            (State::Firing, IsCleared::No) => {
                self.clear_since = None;
                Change::None
            }
            (State::Firing, IsCleared::Yes) => {
                let since = *self.clear_since.get_or_insert(now);
                if now.millis_since(since) < rule.clear_for_ms {
                    return Change::None;
                }
                self.state = State::Resolved;
                self.resolved_at = Some(now);
                Change::Resolved
            }
            (State::Resolved, _) => Change::None,
        }
    }
}

/// Whether a figure is back on the good side of the bound at which an alarm is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IsCleared {
    Yes,
    /// It is between both bounds.
    No,
}

fn bound_of(rule: &AlarmRule) -> String {
    match (rule.above, rule.below) {
        (Some(above), _) => format!("above {above}"),
        (None, Some(below)) => format!("below {below}"),
        (None, None) => String::new(),
    }
}

pub(crate) fn id_of(rule: &Name, subject: &Subject) -> String {
    let text = |name: &Option<Name>| name.as_ref().map(ToString::to_string).unwrap_or_default();
    let parts = [
        rule.to_string(),
        text(&subject.namespace),
        text(&subject.app),
        text(&subject.function),
        subject.part.clone().unwrap_or_default(),
    ];
    alula_store::digest_of(parts.join("\n").as_bytes()).to_string()[..ID_CHARS].to_owned()
}
