//! The control API: the one HTTP door through which people and tools deploy, call, watch and change functions.
//!
//! [`Api::router`] gives an axum router; the assembly serves it on the control port. One file holds the handlers
//! of one resource. A request passes, from the outside in:
//!
//! ```text
//! auth      a known token, except on the few open routes; unknown routes ask for one too
//! extract   path, query and body into types; what is unknown or malformed is refused by name
//! handler   asks the control, the invoker, the pool, the logs or the history
//! respond   a fault becomes a status and the JSON error that the whole platform speaks
//! ```
//!
//! The OpenAPI document is generated from the same handlers, so it cannot forget one.
//!
//! Deliberately absent: listeners and TLS (the assembly's), the JSON shapes (`alula-wire`), every rule about
//! functions (`alula-control`), and the public port (`alula-gateway`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod access;
mod alarms;
mod audit;
mod auth;
mod breakers;
mod browser;
mod buckets;
mod calling;
mod calls;
mod dead_letters;
mod deploy;
mod docs;
mod explain;
mod extract;
mod functions;
mod health;
mod invocations;
mod keys;
mod log_tail;
mod login;
mod logs;
mod members;
mod namespaces;
mod ndjson;
mod network;
mod objectives;
mod openapi;
mod passes;
mod pointers;
mod protect;
mod queue;
mod respond;
mod runs;
mod secrets;
mod state;
mod stats;
mod system;
mod topics;
mod triggers;
mod upload;
mod usage;
mod versions;

#[cfg(test)]
mod tests;

pub use alula_wire::{BrokerError, BrokerState};
pub use network::{Ceilings, NoCeilings};
pub use openapi::document;
pub use state::{Api, Brokers, IdSource, NoBrokers, Options, Parts};
