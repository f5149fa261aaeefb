//! The command line as a person or a script sees it: the built binary against a small fake of the control API.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod access;
mod calls;
mod fake;
mod later;
mod local;
mod mistakes;
mod releases;
mod terminal;
