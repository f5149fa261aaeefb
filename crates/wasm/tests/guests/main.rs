//! The back end with components written by hand: the conformance suite, and guests that mean harm.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod conformance;
mod deploys;
mod hostile;
mod world;
