//! The adaptive limits of a node: one for each version that states it and is called.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use alula_model::{AdaptiveSpec, ErrorCode, Fault, VersionKey};
use tokio::time::Instant;

use super::Gradient;

/// Versions with a limit: what it learned about one that was not called for long is let go first.
const VERSIONS_MAX: usize = 10_000;
/// Without a call for so long, a limit knows nothing worth keeping.
const IDLE: Duration = Duration::from_secs(600);
/// When a caller that was refused may try again: a window of the rule.
const RETRY_AFTER_MS: u64 = 1_000;

/// All adaptive limits. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct AdaptiveLimits {
    versions: Arc<RwLock<HashMap<VersionKey, Arc<Adapted>>>>,
}

#[derive(Debug)]
struct Adapted {
    limit: AtomicU32,
    in_flight: AtomicU32,
    rule: Mutex<Rule>,
}

#[derive(Debug)]
struct Rule {
    gradient: Gradient,
    last: Instant,
}

/// The place of one call under its limit; given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    of: Arc<Adapted>,
    in_flight: u32,
}

/// A limit as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdaptiveView {
    /// Whose.
    pub key: VersionKey,
    /// Calls that may run at once now.
    pub limit: u32,
    /// Calls that do.
    pub in_flight: u32,
    /// The usual latency in microseconds.
    pub usual_us: u64,
}

impl AdaptiveLimits {
    /// A place for a call, or what its caller is told, and after how many milliseconds another try makes sense.
    pub fn enter(&self, key: &VersionKey, spec: &AdaptiveSpec, now: Instant) -> Result<Slot, (Fault, u64)> {
        let of = self.find(key, spec, now);
        let in_flight = of.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        let slot = Slot { of, in_flight };
        let limit = slot.of.limit.load(Ordering::Relaxed);
        if in_flight <= limit {
            return Ok(slot);
        }
        let message = format!(
            "{} answers more slowly than usual, so only {limit} calls may run at once until it is faster",
            key.function
        );
        let setting = "adaptive in alula.toml";
        let code = ErrorCode::ConcurrencyExceeded;
        let fault = Fault::limit(code, message, "adaptive_concurrency", limit.into(), setting);
        Err((fault, RETRY_AFTER_MS))
    }

    /// All limits.
    #[must_use]
    pub fn views(&self) -> Vec<AdaptiveView> {
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        let view = |(key, of): (&VersionKey, &Arc<Adapted>)| AdaptiveView {
            key: key.clone(),
            limit: of.limit.load(Ordering::Relaxed),
            in_flight: of.in_flight.load(Ordering::Relaxed),
            usual_us: of.rule.lock().unwrap_or_else(PoisonError::into_inner).gradient.usual_us(),
        };
        let mut views: Vec<_> = versions.iter().map(view).collect();
        views.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        views
    }

    /// Lets go of what was not called for long. To be called now and then.
    pub fn forget_idle(&self, now: Instant) {
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        versions.retain(|_, of| !of.is_idle(now));
    }

    fn find(&self, key: &VersionKey, spec: &AdaptiveSpec, now: Instant) -> Arc<Adapted> {
        let known = self.versions.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        known.unwrap_or_else(|| {
            let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
            if versions.len() >= VERSIONS_MAX && !versions.contains_key(key) {
                versions.retain(|_, of| !of.is_idle(now));
            }
            let new = || Arc::new(Adapted::new(spec, now));
            if versions.len() >= VERSIONS_MAX && !versions.contains_key(key) {
                // One call by itself: nothing is learned of a version that is one too many.
                return new();
            }
            Arc::clone(versions.entry(key.clone()).or_insert_with(new))
        })
    }
}

impl Adapted {
    fn new(spec: &AdaptiveSpec, now: Instant) -> Self {
        let gradient = Gradient::new(spec, now);
        Self {
            limit: AtomicU32::new(gradient.limit()),
            in_flight: AtomicU32::new(0),
            rule: Mutex::new(Rule { gradient, last: now }),
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        let last = self.rule.lock().unwrap_or_else(PoisonError::into_inner).last;
        self.in_flight.load(Ordering::Relaxed) == 0 && now.saturating_duration_since(last) >= IDLE
    }
}

impl Slot {
    /// The call has ended and took so long, its wait for an instance included.
    pub fn ended(self, now: Instant, latency: Duration) {
        let mut rule = self.of.rule.lock().unwrap_or_else(PoisonError::into_inner);
        rule.last = now;
        rule.gradient.sample(now, latency, self.in_flight);
        self.of.limit.store(rule.gradient.limit(), Ordering::Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.of.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use alula_model::Name;

    use super::*;

    fn key() -> VersionKey {
        VersionKey { namespace: Name::default_namespace(), function: Name::new("f").unwrap(), version: 1 }
    }

    #[test]
    fn places_are_given_up_to_the_limit_and_come_back() {
        let (limits, now) = (AdaptiveLimits::default(), Instant::now());
        let spec = AdaptiveSpec { initial: 2, ..AdaptiveSpec::default() };
        let first = limits.enter(&key(), &spec, now).unwrap();
        let second = limits.enter(&key(), &spec, now).unwrap();
        let (fault, _) = limits.enter(&key(), &spec, now).unwrap_err();
        let hit = fault.limit.unwrap();
        assert_eq!((hit.name.as_str(), hit.value), ("adaptive_concurrency", 2));
        first.ended(now, Duration::from_millis(1));
        drop(limits.enter(&key(), &spec, now).unwrap());
        drop(second);
        assert_eq!(limits.views()[0].in_flight, 0);
        limits.forget_idle(now + IDLE);
        assert!(limits.views().is_empty());
    }
}
