//! End-to-end tests: the built binary, as a user runs it.
//!
//! `cases` runs every folder of `tests/cases`; adding a case needs no Rust. The other modules hold what a folder
//! cannot say: crashes, draining, large streams, changes under load.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests may panic and print"
)]
#![allow(clippy::disallowed_methods, reason = "other processes are watched from outside, in real time")]

mod case;
mod platform;
mod sink;

mod access;
mod alarms;
mod brokers;
mod buckets;
mod cases;
mod crash;
mod dependencies;
mod document;
mod folders;
mod inside;
mod later;
mod lifecycle;
mod network;
mod nodes;
mod release;
mod script;
mod secrets;
mod streams;
