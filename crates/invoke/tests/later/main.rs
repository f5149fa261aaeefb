//! Calls that nobody waits for, over the store in memory and the fake back end, with paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod accepting;
mod fairness;
mod follow_ups;
mod lifecycle;
mod loops;
mod ordering;
mod world;
