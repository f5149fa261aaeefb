//! Why a function has the instances that it has.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Breaker, CeilingInfo};

/// What the pool of this node knows of a function and decided about it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
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
    /// Its versions that have instances, or were to have some.
    #[serde(default)]
    pub versions: Vec<VersionState>,
    /// What this node, the namespace and the app of the function take of what they may take.
    #[serde(default)]
    pub ceilings: Vec<CeilingInfo>,
    /// Its breakers that know something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breakers: Vec<Breaker>,
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

/// How one version stands with the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionState {
    /// Its number.
    pub version: u64,
    /// Instances that are there.
    pub instances: u64,
    /// Instances that are being made, or wait for their turn to be.
    pub starting: u64,
    /// Calls that wait for an instance.
    pub waiting: u64,
    /// Instances that are held whatever happens.
    pub min_instances: u64,
    /// Instances that there may be.
    pub max_instances: u64,
    /// For how long no start is tried, in milliseconds, after starts that failed or were refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u64>,
    /// What the last of those starts failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_code: Option<String>,
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
