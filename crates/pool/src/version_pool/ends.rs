//! Instances that ended without having been told to, remembered for a while.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How long such an end is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);
/// How many are: beyond that, more say nothing new.
const REMEMBERED_MAX: usize = 100;

/// The last of them.
#[derive(Debug, Default)]
pub(super) struct Ends(VecDeque<Instant>);

impl Ends {
    pub(super) fn add(&mut self, now: Instant) {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    /// How many there were within the last while.
    pub(super) fn lately(&self, now: Instant) -> usize {
        self.0.iter().filter(|at| now.saturating_duration_since(**at) < REMEMBERED).count()
    }
}

impl super::VersionPool {
    /// Instances that ended without having been told to, within the last ten minutes.
    pub(crate) fn ended_lately(&self, now: Instant) -> usize {
        self.state().ends.lately(now)
    }
}
