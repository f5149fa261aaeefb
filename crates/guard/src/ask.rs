//! What a guard is told: who calls what, and how it went.

use std::net::IpAddr;

use alula_model::{Caller, ErrorCode, FunctionSpec, Phases, Qualifier, Timestamp, VersionKey};
use tokio::time::Instant;

/// Where a call comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Who calls.
    pub caller: &'a Caller,
    /// The peer's address, where there is one.
    pub source: Option<IpAddr>,
}

/// A call that asks to be run.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Where it comes from.
    pub origin: Origin<'a>,
    /// The version that it would run on.
    pub key: &'a VersionKey,
    /// What it was asked for by: `latest`, a number, an alias.
    pub qualifier: &'a Qualifier,
    /// What the function's owner states.
    pub spec: &'a FunctionSpec,
    /// The moment.
    pub now: Instant,
    /// The same by the wall clock.
    pub at: Timestamp,
}

/// How an admitted call ended, its answer's body included.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// What went wrong, where something did. `CallerGone` says that the caller went away, which tells nothing of the function.
    pub error: Option<ErrorCode>,
    /// The status that the function answered with, where it answered.
    pub http_status: Option<u16>,
    /// Where the time went.
    pub phases: Phases,
    /// The moment.
    pub now: Instant,
}
