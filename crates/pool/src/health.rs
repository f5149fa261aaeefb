//! What may be wrong with the instances of a version: what alarms look at.

use alula_model::{Fault, VersionKey};
use tokio::time::Instant;

use crate::pool::Pool;

const MEGABYTE: u64 = 1024 * 1024;

/// How well the instances of one version are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionHealth {
    /// The version.
    pub key: VersionKey,
    /// Instances that are there.
    pub instances: usize,
    /// Instances that are held whatever happens.
    pub min_instances: usize,
    /// Instances that ended without having been told to, within the last ten minutes.
    pub ended_lately: usize,
    /// Starts that failed in a row, and why the last one did.
    pub failed_starts: (u32, Option<Fault>),
    /// Memory of the instance that uses the most, in bytes.
    pub memory_bytes: u64,
    /// What each may use, in bytes.
    pub memory_bytes_max: u64,
}

impl Pool {
    /// How well every version is that has instances, or had some a moment ago.
    #[must_use]
    pub fn health(&self) -> Vec<VersionHealth> {
        let now = Instant::now();
        let health = self.pools().into_iter().map(|pool| {
            let standing = pool.standing(now);
            let memory = pool.view(now).into_iter().map(|view| view.usage.memory_bytes).max();
            VersionHealth {
                key: pool.plan.key.clone(),
                instances: standing.instances,
                min_instances: standing.min_instances,
                ended_lately: pool.ended_lately(now),
                failed_starts: pool.failed_starts(),
                memory_bytes: memory.unwrap_or(0),
                memory_bytes_max: u64::from(pool.plan.spec.memory_mb) * MEGABYTE,
            }
        });
        health.collect()
    }
}
