//! The engine from outside: scripts are compiled, called, limited and dropped.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod compiling;
mod handlers;
mod limits;
mod standards;
mod world;
