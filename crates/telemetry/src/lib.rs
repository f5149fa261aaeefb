//! What the platform tells about itself and its functions: log lines, run records, metrics.
//!
//! All three take their input on the path of a request and must never slow it down: each has a bounded buffer in
//! memory, work behind it that gathers what arrived, and a count of what had to be dropped. Three modules that
//! know nothing of each other:
//!
//! - [`logs`]: lines that functions write, kept in files, searched and followed.
//! - [`runs`]: finished runs on their way into the store's history.
//! - [`metrics`]: counters and histograms in the format of Prometheus.
//!
//! Deliberately absent: decisions. Nothing in the platform reads a metric to decide something.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

pub mod logs;
pub mod metrics;
pub mod runs;
