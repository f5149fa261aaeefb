//! Calls that nobody waits for: accepted ones, where they stand, and the ones that were given up.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{LogLine, Run, TriggerKind};

/// A call that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcceptedCall {
    /// Its id: that of the first call, where this one repeats it.
    pub id: String,
    /// Whether the same call was accepted before under its idempotency key.
    pub repeated: bool,
    /// Where its state is told, a path of the control API.
    pub status: String,
}

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// It waits for its time, or for a place.
    Waiting,
    /// An earlier one with the same ordering key must end first.
    HeldBack,
    /// It runs.
    Running,
    /// The function answered.
    Done,
    /// Somebody waited for it, and it did not end well.
    Failed,
    /// It was cancelled, or the caller who waited for it went away.
    Cancelled,
    /// It was given up and lies among the dead letters.
    Dead,
}

impl CallState {
    /// Whether nothing will change any more unless somebody acts.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled | Self::Dead)
    }

    /// The state in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::HeldBack => "held back",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }
}

/// One call, where it stands and what became of its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Call {
    /// The call.
    pub id: String,
    /// The namespace.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// The version that it runs on, or ran on.
    pub version: u64,
    /// What caused it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<TriggerKind>,
    /// Where it stands.
    pub state: CallState,
    /// Attempts that have begun and count.
    pub attempts: u32,
    /// When it was accepted; absent for a call that somebody waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at_ms: Option<i64>,
    /// While it waits: from when on it may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_at_ms: Option<i64>,
    /// When it ended, or was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at_ms: Option<i64>,
    /// Until when its end and its result can be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until_ms: Option<i64>,
    /// The status of the function's answer, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The error's code, where it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why it was given up, or what is amiss, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Type of the result, where the function said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Bytes of the result, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_bytes: Option<u64>,
    /// Attempts that did not end well, the first first, while the call waits, runs or is dead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedAttempt>,
    /// Attempts as the run history has them, the first first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
}

/// How an attempt ended that did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttemptEnd {
    /// The function failed.
    Failed,
    /// It took longer than its timeout.
    Timeout,
    /// There was no place for it; it never began and does not count.
    Throttled,
    /// The platform failed before it began; it does not count.
    Platform,
    /// The process that ran it ended; how far it came is not known.
    Lost,
}

/// One attempt that did not end well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedAttempt {
    /// Which one, from 1; attempts that do not count share the number of the next that does.
    pub number: u32,
    /// When it began.
    pub at_ms: i64,
    /// How it ended.
    pub end: AttemptEnd,
    /// The error's code, where the function did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The status of the function's answer, where it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// What went wrong, in words.
    pub message: String,
}

/// A call that was given up, or something that could not be sent on behalf of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// Its id: for a call the invocation's.
    pub id: String,
    /// The namespace.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// The kind of work it is: `general`, `scheduled`, `dedicated`, `retry` or `delivery`.
    pub class: String,
    /// When it was accepted.
    pub accepted_at_ms: i64,
    /// When it was given up.
    pub dead_at_ms: i64,
    /// Attempts that it had.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// Bytes of its content.
    pub content_bytes: u64,
    /// Calls with this key run one after another, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering_key: Option<String>,
    /// The address that it was to be sent to, where it is no call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The call that it is about, where it is none itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Attempts, the first first; of very many the ones in between are left out.
    pub failures: Vec<FailedAttempt>,
}

/// A dead letter with what its attempts wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterDetail {
    /// The dead letter.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The last log lines of all its attempts, the oldest first.
    pub logs: Vec<LogLine>,
}

/// Some dead letters, by function and id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterPage {
    /// The dead letters.
    pub letters: Vec<DeadLetter>,
    /// The cursor of the next page, if there may be more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which dead letters are to run again, and how fast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveRequest {
    /// Which ones; must be said, also where all are meant.
    pub which: DeadLetterFilter,
    /// How many of them a second; 50 where it is not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
}

/// Which dead letters are to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    /// Which ones; must be said, also where all are meant.
    pub which: DeadLetterFilter,
}

/// Which dead letters are meant: all of the namespace where nothing is named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterFilter {
    /// Only of this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Only those that were given up at this moment or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Only those that were given up before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// Only those whose reason holds this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
}

/// How many dead letters something was done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterCount {
    /// How many.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_filter_is_refused_rather_than_meant_as_everything() {
        for slip in ["{}", r#"{"function": "hello"}"#, r#"{"which": {"functions": "hello"}}"#] {
            assert!(serde_json::from_str::<RedriveRequest>(slip).is_err(), "{slip}");
        }
    }

    #[test]
    fn states_are_spelled_as_programs_expect() {
        assert_eq!(serde_json::to_value(CallState::HeldBack).unwrap(), "held_back");
        assert!(CallState::Dead.is_final() && !CallState::HeldBack.is_final());
    }
}
