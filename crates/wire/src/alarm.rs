//! Alarms: what goes wrong, what is not to be told, what has happened.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Alarms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlarmList {
    /// The worst first.
    pub alarms: Vec<AlarmInfo>,
}

/// What one rule found about one thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlarmInfo {
    /// The same for the same rule and thing, always.
    pub id: String,
    /// The rule.
    pub rule: String,
    /// `pending`, `firing` or `resolved`.
    pub state: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// What it is about, in words.
    pub about: String,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// A part of it: a version, a trigger, an objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// What is looked at.
    pub signal: String,
    /// The figure, when it was last seen.
    pub value: f64,
    /// What it must not be: `above 10`.
    pub bound: String,
    /// What else is known.
    pub detail: String,
    /// What to do about it.
    pub advice: String,
    /// Who is told: `owner`, `operators` or `everybody`.
    pub to: String,
    /// From when on the condition holds.
    pub since_ms: i64,
    /// When it was raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised_ms: Option<i64>,
    /// When it was resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_ms: Option<i64>,
    /// Who has said that they know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
    /// The silence that keeps it from being told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silenced_by: Option<String>,
}

/// What has happened to alarms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlarmHistory {
    /// The newest first.
    pub events: Vec<AlarmEvent>,
}

/// One thing that has happened to an alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlarmEvent {
    /// When.
    pub at_ms: i64,
    /// The alarm's id.
    pub alarm: String,
    /// `raised`, `resolved` or `acknowledged`.
    pub event: String,
    /// The rule.
    pub rule: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// What it is about, in words.
    pub about: String,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The figure then.
    pub value: f64,
    /// What else was known.
    pub detail: String,
}

/// Alarms that are not to be told for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSilence {
    /// Which: `rule=function-errors,namespace=shop,function=cart-*`. There are `rule`, `severity`, `namespace`, `app` and
    /// `function`; all that are stated must hold, and a `*` at the end stands for any rest.
    pub matcher: String,
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// Why.
    pub reason: String,
}

/// The silences in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilenceList {
    /// The first to end first.
    pub silences: Vec<SilenceInfo>,
}

/// One silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilenceInfo {
    /// Its id.
    pub id: String,
    /// Which alarms.
    pub matcher: String,
    /// Until when.
    pub until_ms: i64,
    /// Why.
    pub reason: String,
    /// Who wants it.
    pub by: String,
    /// Since when.
    pub created_ms: i64,
}

/// What became of tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlarmTestList {
    /// One for every receiver that was tested.
    pub outcomes: Vec<AlarmTestOutcome>,
}

/// Whether a receiver of alarms was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlarmTestOutcome {
    /// The receiver.
    pub receiver: String,
    /// Why it was not reached; left out where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}
