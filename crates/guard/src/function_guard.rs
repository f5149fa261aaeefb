//! What protects a function from its callers, and its callers from it: its breaker and its adaptive limit.

use std::time::Duration;

use tokio::time::Instant;

use crate::adaptive::{AdaptiveLimits, Slot};
use crate::breaker::{Breakers, Called, Held, Passed};
use crate::{Ended, Refusal};

/// The breakers and the adaptive limits of a node. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct FunctionGuard {
    breakers: Breakers,
    adaptive: AdaptiveLimits,
}

/// A call that both let through.
#[derive(Debug, Default)]
pub struct Passage {
    passed: Passed,
    slot: Option<Slot>,
}

impl FunctionGuard {
    /// A guard of these breakers, and of limits that have learned nothing yet.
    #[must_use]
    pub fn new(breakers: Breakers) -> Self {
        Self { breakers, adaptive: AdaptiveLimits::default() }
    }

    /// The breakers.
    #[must_use]
    pub const fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// The adaptive limits.
    #[must_use]
    pub const fn adaptive(&self) -> &AdaptiveLimits {
        &self.adaptive
    }

    /// Whether an operator has switched the degraded answer on for calls like this.
    #[must_use]
    pub fn is_switched(&self, call: &Called<'_>) -> bool {
        self.breakers.held(call) == Some(Held::Degraded)
    }

    /// Lets a call through, or refuses it.
    pub fn admit(&self, call: &Called<'_>, now: Instant) -> Result<Passage, Refusal> {
        // The limit first: what it refuses must not take the place of a probe.
        let entered = call.spec.adaptive.on().map(|spec| self.adaptive.enter(call.key, spec, now));
        let slot = entered.transpose();
        let slot = slot.map_err(|(fault, wait_ms)| Refusal { fault, retry_after_ms: Some(wait_ms) })?;
        let passed = self.breakers.admit(call, now);
        let passed = passed
            .map_err(|refused| Refusal { fault: refused.fault, retry_after_ms: refused.retry_after_ms })?;
        Ok(Passage { passed, slot })
    }

    /// A call that was let through has ended.
    pub fn ended(&self, call: &Called<'_>, passage: Passage, ended: &Ended) {
        let Passage { passed, slot } = passage;
        self.breakers.ended(call, passed, Some(ended), ended.now);
        // What was refused within the platform, or was never answered, took no time that says anything.
        if let Some(slot) = slot.filter(|_| ended.error.is_none()) {
            let micros = ended.phases.queue_us.saturating_add(ended.phases.run_us);
            slot.ended(ended.now, Duration::from_micros(micros));
        }
    }

    /// Lets go of what nothing happened to for long. To be called now and then.
    pub fn forget_idle(&self, now: Instant) {
        self.breakers.forget_idle(now);
        self.adaptive.forget_idle(now);
    }
}
