//! What an operator sees of the pool.

use std::time::Duration;

use alula_model::{ErrorCode, InstanceId, Tier, VersionKey};
use alula_runtime::Usage;

/// One instance at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceView {
    /// The version it runs.
    pub key: VersionKey,
    /// Its id.
    pub id: InstanceId,
    /// What it was made from.
    pub tier: Tier,
    /// What it is doing.
    pub state: InstanceState,
    /// Calls running in it.
    pub in_flight: u32,
    /// Calls it has been given so far.
    pub calls: u64,
    /// Time since it became ready, in milliseconds.
    pub age_ms: u64,
    /// Time since its last call ended, in milliseconds; zero while one runs.
    pub idle_ms: u64,
    /// What it uses.
    pub usage: Usage,
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// No call runs in it.
    Idle,
    /// At least one call runs in it.
    Busy,
    /// It serves no calls: instances are forked from it.
    Zygote,
}

/// How many instances are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InstanceCounts {
    /// Being made, or waiting for their turn to be.
    pub starting: usize,
    /// Ready and without a call.
    pub idle: usize,
    /// Running at least one call.
    pub busy: usize,
    /// Serving no calls, for instances to be forked from.
    pub zygotes: usize,
}

impl InstanceCounts {
    /// Those that can serve calls.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.idle + self.busy
    }
}

impl std::iter::Sum for InstanceCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, one| Self {
            starting: sum.starting + one.starting,
            idle: sum.idle + one.idle,
            busy: sum.busy + one.busy,
            zygotes: sum.zygotes + one.zygotes,
        })
    }
}

/// How one version stands with the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionStanding {
    /// Its number.
    pub version: u64,
    /// Instances that are there.
    pub instances: usize,
    /// Instances that are being made.
    pub starting: usize,
    /// Calls in line.
    pub waiting: usize,
    /// Instances that are held whatever happens.
    pub min_instances: usize,
    /// Instances that there may be.
    pub max_instances: usize,
    /// For how long no start is tried, and what the last one failed with.
    pub pause: Option<(Duration, ErrorCode)>,
}
