//! What it means to run a function.
//!
//! Ports first: [`Backend`] starts instances, an [`Instance`] runs calls, a [`Launcher`] makes the sandboxed
//! [`Cell`]s that process instances live in. Then what is the same whoever implements them: the language
//! manifests, the guest protocol, the process instances built from a cell and a language, and a fake for tests.
//!
//! No crate here opens a listening socket towards callers, keeps a pool or decides how many instances there are.
//! Read `call` for what goes in and out, `backend` for the contract, `process` for how processes are run.

mod backend;
#[cfg(any(test, feature = "bare"))]
pub mod bare;
mod body;
mod buffers;
mod call;
mod cell;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod door;
mod egress;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod faults;
pub mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod language;
mod log_sink;
mod plan;
mod process;
mod secrets;
mod tool;
mod turn;

pub use backend::{Ahead, Backend, Bred, Instance, Started, StopGrace, Usage, Zygote};
pub use body::{Body, BodyError};
pub use buffers::{Buffers, Gathered, Reserved};
pub use call::{
    Answer, CALLER_HEADER, CLAIMS_HEADER, Call, CallEvents, Duplex, LINEAGE_HEADER, Upgraded, Waiters,
};
pub use cell::{
    BreedingCell, Cell, CellSpec, EGRESS_PROXY_PORT, Launcher, LauncherReport, Mount, Parent, Process,
    ProcessExit, ProcessSpec, Protection, ZygoteSpec,
};
pub use door::{
    CONNECTIONS_MAX as DOOR_CONNECTIONS_MAX, Caller, DOOR_PORT, DOOR_URL, Door, GATEWAY_HOST, GATEWAY_PORT,
    INSTANCE_HEADER, OpenDoor, Origin, RunningCall, Visit, Visitors, Visits, door,
};
pub use egress::{Behalf, Connection, Egress, EgressError, NoEgress};
pub use log_sink::{InstanceLog, LogSink, NullLog};
pub use plan::VersionPlan;
pub use process::{
    FLOOD_PAUSE, Lines, Output, ProcessBackend, StemOptions, Stems, build_without_processes, check_command,
    validate_environment,
};
pub use secrets::{MASKED_BYTES_MIN, Mask, SecretValues};
pub use tool::{Tool, ToolEnd, ToolRun, no_input};
pub use turn::next_turn;

/// A boxed future that may cross threads: what the object-safe ports return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
