//! The queue of asynchronous calls as operators see it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is in the queue and what became of what was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueInfo {
    /// All of the queue, whatever part of it is shown; for administrators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<QueueTotals>,
    /// Lanes that hold something, by namespace, function and class.
    pub lanes: Vec<QueueLane>,
    /// What is paused or drained.
    pub flows: Vec<QueueFlow>,
}

/// What ever went into the queue and what became of it. What is sent out on behalf of calls counts like them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueTotals {
    /// Accepted, since the data directory was made.
    pub accepted: u64,
    /// Ended.
    pub done: u64,
    /// Cancelled while they waited.
    pub cancelled: u64,
    /// Given up and then purged.
    pub purged: u64,
    /// Waiting now.
    pub waiting: u64,
    /// Running now.
    pub running: u64,
    /// Given up, and here.
    pub dead: u64,
    /// Accepted less everything else. Zero, or there is a defect in the platform.
    pub imbalance: i64,
}

/// One kind of work of one function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueLane {
    /// The namespace.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// The kind of work: `dedicated`, `scheduled`, `general`, `retry` or `delivery`.
    pub class: String,
    /// Messages that may be taken now.
    pub available: u64,
    /// Messages whose time has not come.
    pub delayed: u64,
    /// Messages that an earlier one with the same ordering key holds back.
    pub held_back: u64,
    /// Messages that are being worked on.
    pub running: u64,
    /// Messages that were given up.
    pub dead: u64,
    /// Age of the oldest message that is not dead, in milliseconds.
    pub oldest_ms: u64,
    /// Attempts that ended in a second on this node, over the last minute.
    pub ended_per_second: f64,
}

/// Whether asynchronous calls are accepted and run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Flow {
    /// They are accepted and run.
    Open,
    /// They are accepted and wait.
    Paused,
    /// No more are accepted; those that are there run.
    Draining,
}

/// What is done with the calls of one function, of a namespace, or with all. The narrowest that is set counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueFlow {
    /// What is done; `open` takes back what was set before.
    pub flow: Flow,
    /// The namespace; everything where neither it nor a function is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}
