//! The assembly: reads the configuration, picks the back ends, starts everything, and ends it in order.
//!
//! ```text
//! up          before any thread: lock the data directory, look for interpreters, fork the spawner
//!  └ assembly store, languages, sandbox, control, pool, invoker, telemetry
//!     └ serve the two listeners, signals, draining
//! ```
//!
//! This is the only crate that names concrete back ends, reads the wall clock and makes randomness. It has no rule of
//! its own about functions, instances or requests.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod adapters;
mod alarms;
mod announce;
mod assembly;
mod backends;
mod breakers;
mod brokers;
mod buckets;
mod clock;
mod config;
mod control_plane;
mod guards;
mod histories;
mod identities;
mod inside;
mod later;
mod limits;
mod machine;
mod network;
mod observing;
mod secret;
mod secrets;
mod serve;
mod sources;
mod token;
mod triggers;
mod up;

pub use clock::SystemClock;
pub use config::{
    Brokers, Build, Config, ConfigError, Control, DatabaseUrl, Hidden, Languages, Listen, Logs, Overrides,
    Pool, Runs, Sandbox, Secrets,
};
pub use config::{LogFormat, Network, ServerLog, Sources, Store, Threads};
pub use machine::{default_data_dir, detect_languages};
pub use token::{AdminToken, TOKEN_FILE};
pub use up::{Error, local_token, up};
