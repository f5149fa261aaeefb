//! Why a function has the instances that it has.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the pool of this node knows of a function and decided about it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Idle times between calls that its history holds.
    pub remembered: u16,
    /// The period that it is called in, in milliseconds, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_ms: Option<u64>,
    /// When its last call ended, in milliseconds since the Unix epoch, as far as the pool has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end_ms: Option<i64>,
    /// While it is idle, an instance is held during these spans.
    pub held: Vec<HeldSpan>,
    /// The last decisions, the oldest first.
    pub decisions: Vec<Decision>,
}

/// A span of idle time, in seconds since the last call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldSpan {
    /// When an instance is to be there.
    pub from_s: u32,
    /// When it goes.
    pub until_s: u32,
}

/// One decision, or several equal ones in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// When, the last time, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// About which version.
    pub version: u64,
    /// How often in a row.
    pub times: u64,
    /// What was decided and why, in words.
    pub text: String,
}
