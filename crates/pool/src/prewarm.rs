//! Instances for calls that somebody announces: a scheduler that knows when the next ones come.
//!
//! Whoever announces calls wants them to find instances, and wants to know before the calls come where they will not. So
//! the answer is given as soon as all are ready, and otherwise while there is time left to tell somebody.

use std::sync::Arc;
use std::time::Duration;

use alula_model::VersionKey;
use alula_runtime::VersionPlan;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::decision::What;
use crate::pool::Pool;

/// Announced instances are held for so long after the announced moment.
pub(crate) const ANNOUNCED_GRACE: Duration = Duration::from_secs(30);
/// Starts are expected to take so many times as long as lately when they must be over at a given moment.
const LEAD_FACTOR: u32 = 3;
/// Least time before an announced moment at which instances are started: one failed start can be tried again.
const LEAD_MIN: Duration = Duration::from_secs(1);
/// The time where nothing is known of the starts of a version: its initialisation may be a long one.
const LEAD_UNKNOWN: Duration = Duration::from_secs(15);
/// The last part of the lead is for telling somebody: one of so many.
const TELLING_PART: u32 = 3;

/// Fewer instances are ready than were announced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{actual} of {desired} instances of {key} are ready")]
pub struct Short {
    /// Of which version.
    pub key: VersionKey,
    /// How many were announced.
    pub desired: usize,
    /// How many there are.
    pub actual: usize,
}

/// Calls that were announced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announced {
    /// Tells it from others.
    pub(crate) id: u64,
    /// Instances that are to be ready.
    pub(crate) instances: usize,
    /// When.
    pub(crate) at: Instant,
}

impl Pool {
    /// Makes `count` instances of `plan` ready for calls that are announced for `at`, and holds them until thirty seconds
    /// after. Ready is what can take a call: what is idle, or has a slot left. Announcements of one version for moments near
    /// each other add up.
    ///
    /// Returns as soon as all are ready, which may be some time before `at`. Where they are not, it answers before `at`
    /// for as long as there is time for that, and else at `at`, so that somebody can be told; starts that have begun go
    /// on. Dropping the future takes nothing back.
    pub async fn prewarm(&self, plan: &Arc<VersionPlan>, at: Instant, count: usize) -> Result<(), Short> {
        let known = self.version_pool(plan).start_known();
        let lead = known.map_or(LEAD_UNKNOWN, |known| (known * LEAD_FACTOR).max(LEAD_MIN));
        sleep_until(at.checked_sub(lead).unwrap_or(at)).await;
        let left = at.saturating_duration_since(Instant::now());
        let tell_at = at - (lead / TELLING_PART).min(left / TELLING_PART);
        let announced = Announced { id: self.next_announcement(), instances: count, at };
        while !self.is_shut_down() {
            // The version may have been forgotten meanwhile, for lack of calls.
            let pool = self.version_pool(plan);
            let mut changed = std::pin::pin!(pool.changed());
            changed.as_mut().enable();
            let Some(missing) = pool.announce(announced, Instant::now()) else {
                self.forget(&pool);
                continue;
            };
            if missing == 0 {
                return Ok(());
            }
            self.start_ahead(&pool, pool.present() + missing, What::StartedOnNotice);
            let retry_at = pool.retry_at().filter(|retry_at| *retry_at > Instant::now());
            let waited = timeout_at(retry_at.unwrap_or(tell_at).min(tell_at), changed).await;
            if waited.is_err() && Instant::now() >= tell_at {
                break;
            }
        }
        let actual = self.version_pool(plan).ready().min(count);
        if actual == count {
            return Ok(());
        }
        let short = Short { key: plan.key.clone(), desired: count, actual };
        tracing::warn!(version = %short.key, desired = count, actual, "instances for announced calls are not ready");
        Err(short)
    }
}
