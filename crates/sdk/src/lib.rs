//! The client of the control API: one method an operation, typed by the shapes of `alula-wire`.
//!
//! Everything that may be large or long streams: uploads, deploy events, log lines, answers of functions. The
//! client never retries by itself and keeps no state but its connections, so it is cheap to clone.
//!
//! The program that uses it installs a rustls crypto provider once before it makes a client. Deliberately absent:
//! profiles, environment variables, terminals - those belong to the command line.
//!
//! With the feature `script`, light scripts run inside of the program itself, without a server.
//!
//! Read `client` for how a request is made, `error` for what can go wrong, then the operations by subject.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod access;
mod alarms;
mod buckets;
mod calls;
mod client;
mod deploy;
mod error;
mod functions;
mod invoke;
mod ndjson;
mod network;
mod observe;
mod platform;
mod protect;
#[cfg(feature = "script")]
pub mod script;
mod secrets;
mod signals;
mod topics;
mod triggers;

pub use alula_wire as wire;
pub use calls::{Later, NotBefore};
pub use client::Client;
pub use deploy::Source;
pub use error::{ClientError, Refusal, Result};
pub use invoke::{Answer, Invocation, PublicCall};
pub use reqwest::Body;
pub use topics::NewEvent;
