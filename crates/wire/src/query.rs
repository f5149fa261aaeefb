//! The query parameters of every operation that has some, with their limits. Unknown parameters are refused.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::RunStatus;

/// Entries of a page where the request names no number.
pub const LIMIT_DEFAULT: u32 = 100;
/// Most entries of a page: what one answer may hold in memory.
pub const LIMIT_MAX: u32 = 1_000;
/// Time to wait for a call where the request names none, in milliseconds.
pub const WAIT_MS_DEFAULT: u64 = 30_000;
/// The longest that a request may wait for a call, in milliseconds: what proxies in between bear.
pub const WAIT_MS_MAX: u64 = 300_000;
/// Dead letters a second that a redrive makes run again where the request names no rate.
pub const REDRIVE_PER_SECOND_DEFAULT: u32 = 50;
/// Most log lines of one answer: lines are small, and a screenful of history is often some thousands.
pub const LOG_LINES_MAX: u32 = 10_000;

/// Names a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct InNamespace {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Names a namespace, or means all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct MaybeInNamespace {
    /// The namespace; all of them where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Names whose limit is meant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfTarget {
    /// Whose, as in `LimitSetting`.
    pub target: String,
}

/// Names a person.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct OfUser {
    /// The person; whoever asks, without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Names a namespace, or an app of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct InApp {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only in this app of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
}

/// Whose keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Keys {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The person; then no namespace matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A page of functions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListFunctions {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How many; 100 where it is not named, at most 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Continues behind the page that gave this cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A deploy; the body is the source.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Deploy {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The function's name, where the source holds one function and does not name it or is to be renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The file's name, where the body is a single source file rather than an archive: `hello.py`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What the publisher says about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Checks everything, but builds and publishes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Fields of the spec as a JSON object, see the schema `Overrides`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrides: Option<String>,
}

/// Two versions to compare.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Diff {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The earlier side: a number, an alias or `latest`; the version before `to` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The later side: a number, an alias or `latest`, which it is where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A call through the control API; the body is the event or the request's content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Invoke {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A version's number, an alias or `latest`, which it is where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qualifier: Option<String>,
    /// `tail` adds the call's last log lines to the answer's headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogMode>,
    /// Answers 202 as soon as the call is durable, and runs it later; the same as the header `Prefer: respond-async`.
    #[serde(rename = "async", skip_serializing_if = "Option::is_none")]
    pub asynchronous: Option<bool>,
}

/// Whether a call's log lines come with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogMode {
    /// They do not.
    #[default]
    None,
    /// The last 4 KB of them do; the answer waits until it is complete.
    Tail,
}

/// How long to wait for a call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// The longest to wait, in milliseconds; 30000 where it is not named, at most 300000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Which dead letters to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListDeadLetters {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
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
    /// How many; 100 where it is not named, at most 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Continues behind the page that gave this cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which part of the queue to show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Queue {
    /// Only lanes of this namespace; of all where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only lanes of this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// Which log lines to show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Logs {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only of this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Only of this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Only of this instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Only of this invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// Only from this moment on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Only before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// Only lines that hold this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// The newest so many lines; 100 where it is not named, at most 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Goes on with new lines until the client goes away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
}

/// Which runs to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListRuns {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only of this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Only of this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Only with this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<RunStatus>,
    /// Only those that started at this moment or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Only those that started before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// How many; 100 where it is not named, at most 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Continues behind the page that gave this cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which instances to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListInstances {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only of this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// Which entries of the audit record to show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Audit {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only about this function, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Only those before the one of this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// How many; 100 where it is not named, at most 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Which triggers to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ListTriggers {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only of this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// How many; 100 where it is not named, at most 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Continues behind the page that gave this cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Which coming slots to show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct NextSlots {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only of this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Only of this trigger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// How many; 100 where it is not named, at most 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Whose success and latency to show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct StatsQuery {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only this app and its functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Only this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Only this window: `1m`, `5m`, `1h` or `24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
}

/// What usage is added up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UsageBy {
    /// Each function.
    #[default]
    Function,
    /// Each app.
    App,
    /// Each namespace.
    Namespace,
}

/// Whose usage of which days to export.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Usage {
    /// Only this namespace; all of them where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only this app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Only this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The first UTC day, `2026-11-01`; the first of this month where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The last UTC day; today where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What is added up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<UsageBy>,
}

/// Whose objectives to show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Objectives {
    /// The namespace; `default` where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// Whose alarms or silences to show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Alarms {
    /// Only of this namespace; of all, and of the node, where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only about this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// How many; 100 where it is not named, at most 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Which receivers of alarms to test.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct AlarmTest {
    /// Only this receiver; all of the configuration where it is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
}
