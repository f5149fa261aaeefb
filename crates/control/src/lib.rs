//! What is deployed: functions, their versions and aliases, how source becomes a version, and the way back.
//!
//! [`Control`] is the handle that everything else holds. A deploy runs through the stages of [`deploy`] and ends in
//! one batch of records; after the batch is durable, the [`Catalog`] is swapped whole, and from then on every call
//! sees the change. The catalog is all that the data plane reads: it holds functions, plans and routes in memory,
//! so that no call waits for the store.
//!
//! Deliberately absent: instances and calls (they get a [`VersionPlan`](alula_runtime::VersionPlan) and need
//! nothing else), HTTP, who may do what (the caller is named to be recorded, not to be judged).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod archive;
mod audit;
mod build;
mod catalog;
mod change;
mod code;
mod control;
mod deploy;
mod diff;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod garbage;
mod keyed_lock;
mod ledger;
mod manifest;
mod options;
mod upload;

pub use audit::{AuditLink, AuditReport};
pub use catalog::{Catalog, FunctionEntry, PublishedVersion, RouteMatch, Snapshot};
pub use control::{AnyTriggers, CheckTriggers, Control, Parts};
pub use diff::{FieldChange, FileChange, FileChangeKind, VersionDiff};
pub use garbage::Collected;
pub use options::{Mail, Options};
pub use upload::{Deployed, DryRun, Overrides, Progress, Reach, Stage, Upload};

#[cfg(test)]
mod tests;
