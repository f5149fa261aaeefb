//! The public data plane: HTTP in, invocation out.
//!
//! ```text
//! accept -> connection -> request -> target -> admission -> Invoke -> answer
//! service   connection    request    target    admission             answer, upgrade
//!                \------------------- anything that fails ------> respond
//! ```
//!
//! It speaks HTTP/1.1, HTTP/2 and TLS with hyper, guards every connection with named limits, maps requests to
//! invocations and answers to responses, and nothing else: which version runs, where and for how long is decided
//! behind [`Invoke`], which path leads to which function behind [`Routes`]. It reads no file after the start, no
//! clock but the one it is given, and keeps no state about functions.
//!
//! Functions reach it from inside their sandboxes by a door of their own (`inside`), over the same code.
//!
//! Read `service` for the life of the listener, `connection` for one connection, `request` for one request and
//! `respond` for the only place where faults become statuses.

#![allow(
    clippy::result_large_err,
    reason = "faults are made on the way out of a failed request, not on the warm path"
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod activity;
mod admission;
mod answer;
mod body;
pub mod certificate;
mod cloudevents;
mod connection;
mod explain;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod headers;
mod ids;
mod inside;
mod later;
mod options;
mod overload;
mod peer;
mod ports;
mod request;
mod respond;
mod service;
mod sources;
mod target;
mod tls;
mod topic;
mod upgrade;
mod webhook;

pub use alula_model::{AddressBlock, AddressBlockError};
pub use options::{Options, TlsOptions};
pub use ports::{
    Asker, Events, Invoke, Later, Objects, Observe, Parts, PlatformEvents, RandomSource, Routes, Unobserved,
};
pub use service::{Error, Service};
pub use sources::{ConnectionsBySource, OfSource};
pub use tls::TlsError;
