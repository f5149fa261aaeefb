//! The pool's settings, each with its default and the reason for it.

use std::time::Duration;

use alula_model::Timestamp;

use crate::keep_alive::KeepAliveOptions;
use crate::ledger::Ceilings;

/// Settings of the pool of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolOptions {
    /// Starts that run at once on this node; further ones wait their turn. A start is bound by the CPU, so more
    /// than a few per core only make all of them late.
    pub starts_at_once: usize,
    /// Starts in a second on this node, on average, so that a storm of calls of different functions leaves CPU to the
    /// calls that run. Further ones wait their turn.
    pub starts_per_second: u32,
    /// Starts that may follow each other without regard to the rate after a quiet time.
    pub starts_burst: u32,
    /// What instances may take together: all of them, those of a namespace, those of an app. When a further one does not
    /// fit, idle ones give way.
    pub ceilings: Ceilings,
    /// Cores that instances share, for who is given more of them.
    pub cores: usize,
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
            starts_per_second: 200,
            starts_burst: 200,
            ceilings: Ceilings::default(),
            cores: 1,
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
