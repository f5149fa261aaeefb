//! Limits of requests, and what operators do at once against somebody who does harm.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many requests somebody may make. What is left out is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestLimit {
    /// Requests in a second, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub requests_per_second: Option<u32>,
    /// Requests that may come at once after a quiet time; those of one second where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub burst: Option<u32>,
    /// Requests in flight at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub in_flight: Option<u32>,
}

/// A limit that is in force for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitSetting {
    /// Whose: `node`, `namespaces`, `apps`, `callers`, `api`, `namespace/NAME`, `app/NAMESPACE/NAME`,
    /// `function/NAMESPACE/NAME` or `caller/NAME`.
    pub target: String,
    /// Their requests.
    pub limit: RequestLimit,
    /// Their instances, where a ceiling was set at run time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances_max: Option<u32>,
    /// The memory of their instances in megabytes, where a ceiling was set at run time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb_max: Option<u64>,
    /// Whether it was set at run time; otherwise the configuration says so.
    pub is_set: bool,
}

/// Limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitList {
    /// Those that are in force.
    pub limits: Vec<LimitSetting>,
}

/// Sets a limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SetLimit {
    /// Whose, as in `LimitSetting`.
    pub target: String,
    /// Their requests.
    pub limit: RequestLimit,
    /// Their instances; only of the node, namespaces and apps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances_max: Option<u32>,
    /// The memory of their instances in megabytes; only of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb_max: Option<u64>,
}

/// Blocks or throttles somebody.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewProtection {
    /// Whom: `caller/NAME`, `source/ADDRESS`, `source/NETWORK/BITS`, `namespace/NAME` or `function/NAMESPACE/NAME`.
    pub subject: String,
    /// Only in calls of this namespace's functions; for callers and sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// What they may have; without it they are blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<RequestLimit>,
    /// Why. Callers are told.
    pub reason: String,
    /// Time after which it ends by itself, in milliseconds; it lasts until it is lifted where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// Somebody who is blocked or throttled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProtectionInfo {
    /// Names it.
    pub id: String,
    /// Whom, as in `NewProtection`.
    pub subject: String,
    /// Only in calls of this namespace's functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// What they may have; without it they are blocked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<RequestLimit>,
    /// Why.
    pub reason: String,
    /// By whom.
    pub by: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// Until when, in milliseconds since the Unix epoch; until it is lifted where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// Calls that it has refused on the node that was asked, since it is in force there.
    pub refused: u64,
}

/// Everybody who is blocked or throttled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProtectionList {
    /// The oldest first.
    pub protections: Vec<ProtectionInfo>,
}
