//! Adaptive concurrency: how many calls of a function may run at once follows its latency.
//!
//! A function that is loaded beyond what it can do answers later and later, and every further call makes it worse. What it can
//! do is not known and changes, so it is found by trying: the limit grows while the latency stays as it usually is, and
//! shrinks by the ratio of the two when it rises. Calls above the limit are refused, not queued: a queue would
//! only hide the rise. It is off unless the function's owner switches it on.
//!
//! The rule is Gradient2 of Netflix's concurrency-limits
//! (<https://github.com/Netflix/concurrency-limits>); `gradient` is the rule alone, `limits` what the platform asks.

mod gradient;
mod limits;

pub use gradient::Gradient;
pub use limits::{AdaptiveLimits, AdaptiveView, Slot};
