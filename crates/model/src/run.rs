//! Run records: what is kept of every call.

use serde::{Deserialize, Serialize};

use crate::{Degraded, ErrorCode, InstanceId, InvocationId, Timestamp, VersionKey};

/// One attempt of one call, finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The call.
    pub id: InvocationId,
    /// The version that ran.
    #[serde(flatten)]
    pub key: VersionKey,
    /// The qualifier that the caller used.
    pub qualifier: String,
    /// What caused the call.
    pub trigger: TriggerKind,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// How it ended.
    pub status: RunStatus,
    /// The HTTP status that was answered, where it was an HTTP call.
    pub http_status: Option<u16>,
    /// The fault's code, where it failed.
    pub error: Option<ErrorCode>,
    /// The fault's message, where it failed.
    pub message: Option<String>,
    /// When the call arrived.
    pub started_at: Timestamp,
    /// Where the time went.
    pub phases: Phases,
    /// How the instance was started, where this call started one.
    pub tier: Tier,
    /// The instance, where one was reached.
    pub instance: Option<InstanceId>,
    /// Bytes of the request body that were read.
    pub request_bytes: u64,
    /// Bytes of the response body that were passed on.
    pub response_bytes: u64,
    /// The call that led to it, where a function made it and it is known which call of that function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<InvocationId>,
    /// Who called, where it is known and was not the platform: `key:NAMESPACE/NAME`, `user:NAME`, `jwt:SUBJECT`,
    /// `function:NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<std::sync::Arc<str>>,
    /// Why the caller was given a degraded answer, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<Degraded>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// The function answered, whatever its answer says.
    Done,
    /// The function failed.
    Failed,
    /// It took longer than its timeout.
    Timeout,
    /// It was refused before it reached an instance.
    Rejected,
    /// The caller went away.
    Cancelled,
}

impl RunStatus {
    /// The status as it stands in records and filters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What caused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TriggerKind {
    /// A request on the public port.
    Http,
    /// `invoke` through the control API.
    Api,
    /// The clock.
    Schedule,
    /// An event of a topic.
    Topic,
    /// A signed request of an outside service.
    Webhook,
    /// Records of a broker.
    Broker,
    /// A change in a bucket.
    Bucket,
    /// A change in a folder.
    Folder,
    /// The record of another call.
    Destination,
}

/// Where the time of a call went, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Phases {
    /// Waiting for a slot that others held.
    pub queue_us: u64,
    /// Making the sandbox and starting the process.
    pub start_us: u64,
    /// Loading the function's code.
    pub init_us: u64,
    /// Running the handler, to the last byte of the answer.
    pub run_us: u64,
    /// From the arrival to the last byte of the answer.
    pub total_us: u64,
}

/// How the instance that served a call came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// It was there.
    #[default]
    Warm,
    /// It was forked for this call from a process of this version that had its code loaded.
    Zygote,
    /// It was made for this call from a sandbox of its runtime that was prepared ahead.
    Stem,
    /// It was started from nothing for this call.
    Cold,
}

impl Tier {
    /// Whether an instance was started for the call.
    #[must_use]
    pub const fn is_start(self) -> bool {
        !matches!(self, Self::Warm)
    }
}
