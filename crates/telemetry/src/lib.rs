//! What the platform tells about itself and its functions: log lines, run records, metrics, golden signals, usage.
//!
//! All take their input on the path of a request and must never slow it down: each has a bounded buffer in
//! memory, work behind it that gathers what arrived, and a count of what had to be dropped. These modules:
//!
//! - [`logs`]: lines that functions write, kept in files, searched and followed.
//! - [`runs`]: finished runs on their way into the store's history.
//! - [`metrics`]: counters and histograms in the format of Prometheus.
//! - [`signals`]: success and latency over windows of time, in memory.
//! - [`usage`]: what functions used on which day, kept; made of what the signals count.
//!
//! Deliberately absent: decisions. Nothing that serves calls reads a figure to decide something; people and alarms do.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

pub mod logs;
pub mod metrics;
pub mod runs;
pub mod signals;
pub mod usage;
