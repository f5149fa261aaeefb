//! The nouns of Alula and their rules.
//!
//! Everything here is plain data with validation: names, identifiers, function specs, versions, faults, run
//! records. Nothing reads a file, a socket, a clock or the environment, and nothing is async, so every other
//! crate can depend on this one without being rebuilt for somebody else's reasons. The types are not a wire
//! format: what the control API promises to clients lives in `alula-wire`.

mod access;
mod address;
pub mod alarm;
mod asynchronous;
mod audit_change;
mod caller;
mod catalog;
mod clock;
mod decimal;
mod fault;
mod id;
pub mod limits;
mod lineage;
mod log;
mod name;
mod network;
mod rate;
mod resilience;
mod retry;
mod route;
mod run;
mod secret;
mod slo;
mod spec;
mod subnet;
pub mod trigger;

pub use access::{AccessSpec, JwtAlgorithm, JwtSpec, Way, WayError};
pub use address::{AddressBlock, AddressBlockError};
pub use asynchronous::{AddressError, AsyncSpec, Contact, Destination, LoopPolicy, Poison};
pub use audit_change::AuditChange;
pub use caller::Caller;
pub use catalog::{AuditEntry, By, Function, FunctionRef, Qualifier, Version, VersionKey};
pub use clock::{Clock, Timestamp};
pub use decimal::{Decimal, DecimalError};
pub use fault::{Blame, ErrorCode, Fault, LimitHit, Quota, QuotaUnit};
pub use id::{Digest, InstanceId, InvocationId};
pub use lineage::{Lineage, LineageError, LoopFound};
pub use log::{LogLevel, LogLine, LogStream};
pub use name::{Name, NameError};
pub use network::{
    AddressKind, HostName, Network, NetworkCeilings, NetworkPlace, NetworkRule, RuleError, Target,
};
pub use rate::{FunctionLimits, Limit};
pub use resilience::{AdaptiveSpec, BreakerSpec, Degraded, DegradedSpec, LastGoodSpec, StatusClass, Switch};
pub use retry::{Retry, RetryPolicy, RetryPreset};
pub use route::{Host, Route, RouteError, Segment};
pub use run::{Phases, Run, RunStatus, Tier, TriggerKind};
pub use secret::{SecretName, SecretNameError, SecretUse, SecretUses};
pub use slo::SloSpec;
pub use spec::{BuildSpec, Calls, Class, FunctionSpec, SpecError};
pub use subnet::{Subnet, SubnetError};
