//! Breakers, adaptive limits, and what operators hold by hand.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every breaker of this node that knows something, what is held by hand, and the limits that follow latency.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct BreakerList {
    /// Breakers. A version whose calls have not failed for long has none.
    pub breakers: Vec<Breaker>,
    /// What operators hold.
    pub hands: Vec<BreakerHand>,
    /// Limits that follow latency.
    pub adaptive: Vec<AdaptiveLimit>,
}

/// A breaker of a version: that of calls by one alias, or that of all other calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Breaker {
    /// The tenant.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// The version that it counts for.
    pub version: u64,
    /// The alias whose calls it counts; the version's number, where it counts all others.
    pub scope: String,
    /// `closed`, `throttled`, `half-open` or `open`.
    pub state: String,
    /// The share of calls that are refused now, in hundredths.
    pub refused_percent: f64,
    /// How long it stays open, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_for_ms: Option<u64>,
    /// How the calls of its window went.
    pub window: BreakerCounts,
    /// What changed, the oldest first.
    pub changes: Vec<BreakerChange>,
}

/// How calls went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct BreakerCounts {
    /// Well.
    pub good: u32,
    /// They failed through the function.
    pub failed: u32,
    /// They took too long.
    pub slow: u32,
    /// They failed through the platform, which decides nothing here.
    pub platform: u32,
    /// The breaker refused them.
    pub refused: u32,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerChange {
    /// When.
    pub at_ms: i64,
    /// The state before.
    pub from: String,
    /// The state after.
    pub to: String,
    /// Why, in words.
    pub why: String,
    /// The figures that it was decided by.
    pub counts: BreakerCounts,
}

/// What an operator holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerHand {
    /// The tenant.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// Which calls: `*` for all, a version's number, or an alias.
    pub scope: String,
    /// `open`, `closed` or `degraded`.
    pub held: String,
    /// Who has set it.
    pub by: String,
    /// When.
    pub at_ms: i64,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A limit of calls at once that follows latency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdaptiveLimit {
    /// The tenant.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// The version.
    pub version: u64,
    /// Calls that may run at once.
    pub limit: u32,
    /// Calls that do.
    pub in_flight: u32,
    /// The usual latency in microseconds.
    pub usual_us: u64,
}

/// What shall be held by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakerRequest {
    /// What is done with calls from now on.
    pub hold: BreakerHold,
    /// Only calls that run on this version or name this alias; all, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<String>,
    /// Why, for the audit record.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What is done with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BreakerHold {
    /// What the breaker says.
    Auto,
    /// All are refused, probes too.
    Open,
    /// None is refused by the breaker.
    Closed,
    /// All are given the function's degraded answer.
    Degraded,
}
