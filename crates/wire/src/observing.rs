//! Golden signals, objectives and usage of functions.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What figures are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StatsOf {
    /// The node.
    Node,
    /// A namespace.
    Namespace,
    /// An app.
    App,
    /// A function.
    Function,
}

/// Success and latency of what was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatsList {
    /// The widest first, then ordered by name.
    pub stats: Vec<Stats>,
}

/// Success and latency of one thing over some windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// What it is.
    pub of: StatsOf,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its app, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The function, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The windows, the shortest first.
    pub windows: Vec<WindowStats>,
}

/// What happened within a window that reaches up to now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WindowStats {
    /// `1m`, `5m`, `1h` or `24h`.
    pub window: String,
    /// Calls that ended.
    pub calls: u64,
    /// Those that were answered well.
    pub good: u64,
    /// Those that went wrong by their callers' fault: answers 4xx but 429, callers that went away.
    pub caller_faults: u64,
    /// Those that were refused because of a limit: answers 429.
    pub throttled: u64,
    /// Those that failed by the function's fault, answers 5xx of its own included.
    pub function_faults: u64,
    /// Those that failed by the platform's fault.
    pub platform_faults: u64,
    /// Good calls in percent of good and failed ones; left out where there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_percent: Option<f64>,
    /// Calls a second.
    pub calls_per_second: f64,
    /// Time in which half of the answered calls were answered, from arrival to last byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// The same for 90 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90_us: Option<u64>,
    /// The same for 99 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// The mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_us: Option<u64>,
}

/// What was used on one day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageLine {
    /// The UTC day, `2026-11-22`.
    pub day: String,
    /// The namespace.
    pub namespace: String,
    /// The app, unless namespaces were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The function, where functions were asked for; `_other` stands for those that are not told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Calls that reached an instance; every attempt of an asynchronous call is one.
    pub invocations: u64,
    /// Calls that ended without having reached one.
    pub refused: u64,
    /// Time that calls held their slots, each rounded up to a whole millisecond.
    pub billed_ms: u64,
    /// The same times the megabytes of memory that the function states.
    pub memory_mb_ms: u64,
    /// The same in gigabytes (1024 MB) times seconds.
    pub gb_seconds: f64,
    /// Bytes of request bodies that were read.
    pub request_bytes: u64,
    /// Bytes of response bodies that were passed on.
    pub response_bytes: u64,
}

/// The objectives of functions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ObjectiveList {
    /// Ordered by function.
    pub objectives: Vec<ObjectiveInfo>,
}

/// How one objective of a function is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ObjectiveInfo {
    /// The namespace.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// `availability` or `latency`.
    pub objective: String,
    /// The promised percentage.
    pub target_percent: f64,
    /// From when on an answer is too slow, for `latency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// The days over which it holds.
    pub window_days: u32,
    /// Calls within them that count.
    pub calls: u64,
    /// Those that broke it.
    pub bad: u64,
    /// What was reached; left out where there were no calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_percent: Option<f64>,
    /// How much of the error budget is left, in percent; negative where more was used.
    pub budget_left_percent: f64,
    /// How fast the budget is used up: at 1 it ends with the window.
    pub burn_rates: Vec<BurnRate>,
}

/// How fast an error budget is used up over a long span, and still is over a short one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BurnRate {
    /// The long span, in minutes.
    pub long_minutes: u32,
    /// The short span, in minutes.
    pub short_minutes: u32,
    /// The rate over the long span.
    pub long: f64,
    /// The rate over the short span.
    pub short: f64,
    /// The rate from which on somebody is told, if both are above it.
    pub limit: f64,
    /// Whether both are.
    pub too_fast: bool,
}
