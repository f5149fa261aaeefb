//! The pool's settings, each with its default and the reason for it.

use std::time::Duration;

use alula_model::Timestamp;

use crate::keep_alive::KeepAliveOptions;

/// Settings of the pool of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolOptions {
    /// Starts that run at once on this node; further ones wait their turn. A start is bound by the CPU, so more
    /// than a few per core only make all of them late.
    pub starts_at_once: usize,
    /// Instances on this node, of all versions together. When a further one is needed, the one that has been idle
    /// longest gives way.
    pub instances_max: usize,
    /// Instances of the functions of one namespace on this node.
    pub namespace_instances_max: usize,
    /// Memory that instances may take together, in bytes. When a further one does not fit, idle ones give way.
    pub memory_bytes_max: u64,
    /// How long instances are kept where the function's owner does not say.
    pub keep_alive: KeepAliveOptions,
    /// The wall-clock time of the start, from which the pool counts on.
    pub started_at: Timestamp,
    /// Calls that may wait for a slot of one version; the next is refused. A waiting call holds a few kilobytes and a
    /// connection, and short calls are through in milliseconds, so a long line is better than a refusal.
    pub waiting_max: usize,
    /// How often idle instances are looked at.
    pub sweep_interval: Duration,
    /// How long an instance is idle until it is told that no call comes; it then uses no CPU until the next one, which
    /// waits some tenths of a millisecond for that. `None`: never.
    pub rest_after: Option<Duration>,
    /// How long an instance may take to end by itself when it is let go.
    pub stop_grace: Duration,
    /// What a start is assumed to take before one has been measured.
    pub start_estimate: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            starts_at_once: 4,
            instances_max: 1_000,
            namespace_instances_max: usize::MAX,
            memory_bytes_max: u64::MAX,
            keep_alive: KeepAliveOptions::default(),
            started_at: Timestamp::default(),
            waiting_max: 5_000,
            sweep_interval: Duration::from_secs(1),
            rest_after: Some(Duration::from_secs(1)),
            stop_grace: Duration::from_secs(2),
            start_estimate: Duration::from_millis(100),
        }
    }
}
