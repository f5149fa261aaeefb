//! The public JSON shapes of the control API, shared by the server, the client library and the command line.
//!
//! The shapes are a promise to clients, so they stand apart from the nouns of `alula-model`, which may change:
//! the conversions between both are here and nowhere else. Conventions:
//!
//! - Points in time are integers, milliseconds since the Unix epoch (UTC), and their names end in `_ms`;
//!   durations and sizes carry their unit in their names too (`took_ms`, `total_us`, `package_bytes`).
//! - Requests refuse unknown fields; answers may grow fields, so clients ignore what they do not know.
//! - A field without a value is left out rather than `null`.
//!
//! Deliberately absent: HTTP itself, validation beyond the shape, and everything that only the server knows.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may panic"))]

mod access;
mod alarm;
mod breaker;
mod bucket;
mod call;
mod deploy;
mod error;
mod explanation;
mod function;
pub mod headers;
mod instance;
mod log;
mod mirror;
mod network;
mod observing;
mod platform;
mod protect;
pub mod query;
mod queue;
mod run;
mod secret;
mod spec;
mod topic;
mod trigger;
mod version;

pub use access::{
    AccessInfo, Grant, KeyInfo, KeyList, LoginAnswer, LoginRequest, NamespaceInfo, NamespaceList, NewAccess,
    NewKey, NewKeyRequest, NewNamespace, NewPassword, NewSignedUrl, NewUser, PasswordRequest, RotateRequest,
    SessionInfo, SessionList, SignedUrl, UserInfo, UserList, WhoAmI,
};
pub use alarm::{
    AlarmEvent, AlarmHistory, AlarmInfo, AlarmList, AlarmTestList, AlarmTestOutcome, NewSilence, SilenceInfo,
    SilenceList,
};
pub use breaker::{
    AdaptiveLimit, Breaker, BreakerChange, BreakerCounts, BreakerHand, BreakerHold, BreakerList,
    BreakerRequest,
};
pub use bucket::{BucketInfo, BucketKeyInfo, BucketKeyList, BucketList, NewBucketKey};
pub use call::{
    AcceptedCall, AttemptEnd, Call, CallState, DeadLetter, DeadLetterCount, DeadLetterDetail,
    DeadLetterFilter, DeadLetterPage, FailedAttempt, PurgeRequest, RedriveRequest,
};
pub use deploy::{BuildOverride, DeployEvent, DeployStage, DeployedFunction, Overrides};
pub use error::{Blame, ErrorAnswer, ErrorInfo, LimitInfo};
pub use explanation::{Decision, Explanation, HeldSpan, VersionState};
pub use function::{AliasRequest, FunctionDetail, FunctionPage, FunctionSummary, RollbackRequest};
pub use instance::{CeilingInfo, InstanceInfo, InstanceList, InstanceState};
pub use log::{LogLevel, LogLine, LogStream};
pub use network::{CeilingRequest, NetworkInfo};
pub use observing::{
    BurnRate, ObjectiveInfo, ObjectiveList, Stats, StatsList, StatsOf, UsageLine, WindowStats,
};
pub use platform::{
    AuditEntry, AuditList, AuditReport, DoctorReport, Info, Protection, RuntimeInfo, RuntimeList, SigningKey,
    Template, TemplateFile, TemplateList,
};
pub use protect::{
    LimitList, LimitSetting, NewProtection, ProtectionInfo, ProtectionList, RequestLimit, SetLimit,
};
pub use queue::{Flow, QueueFlow, QueueInfo, QueueLane, QueueTotals};
pub use run::{Phases, RecentRuns, Run, RunDetail, RunPage, RunStatus, Tier, TriggerKind};
pub use secret::{MasterKeyRotated, SecretInfo, SecretList, SecretRollback, SecretValue, SecretVersion};
pub use spec::{BuildSpec, Calls, Class, FunctionSpec, Network};
pub use topic::{
    PublishAnswer, PublishedEvent, ReplayAnswer, ReplayRequest, SubscriptionInfo, TopicInfo, TopicList,
};
pub use trigger::{
    BrokerError, BrokerState, ScheduleState, SlotReadiness, SlotRun, SlotSkip, TriggerInfo, TriggerPage,
    TriggerPause, UpcomingSlot, UpcomingSlots,
};
pub use version::{FieldChange, FileChange, FileChangeKind, Version, VersionDiff, VersionList};
