//! What is told of a breaker: its state, and what moved it.

use std::fmt;

use alula_model::{Name, Timestamp};

use super::hand::Scope;
use super::window::Counts;

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// All pass.
    Closed,
    /// A share is refused, which grows while it does not get better.
    Throttled,
    /// A few pass, to see whether it is well again.
    HalfOpen,
    /// All are refused for a while.
    Open,
}

impl State {
    /// The state as it stands in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Throttled => "throttled",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }

    /// The value of the metric: the higher, the fewer calls pass.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Throttled => 1,
            Self::HalfOpen => 2,
            Self::Open => 3,
        }
    }
}

/// What moved a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Too large a share of the calls of a window went badly.
    Failing,
    /// Nearly all went badly although fewer were let through.
    StillFailing,
    /// Its time was over.
    Waited,
    /// Probes went badly.
    ProbesFailed,
    /// Probes went well.
    ProbesPassed,
    /// Few enough went badly.
    Recovered,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failing => "too many calls failed",
            Self::StillFailing => "nearly all calls failed, although fewer were let through",
            Self::Waited => "its time was over",
            Self::ProbesFailed => "probes failed",
            Self::ProbesPassed => "probes went well",
            Self::Recovered => "few enough calls failed",
        })
    }
}

/// A breaker has changed its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerEvent {
    /// When.
    pub at: Timestamp,
    /// Whose.
    pub namespace: Name,
    /// The function.
    pub function: Name,
    /// The version that it counts for.
    pub version: u64,
    /// Whether it is that of the whole version or of one alias.
    pub scope: Scope,
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// What moved it.
    pub why: Why,
    /// The window in that moment; of the probes, where these moved it.
    pub counts: Counts,
}

impl fmt::Display for BreakerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { good, failed, slow, platform, refused } = self.counts;
        let (from, to, why) = (self.from.as_str(), self.to.as_str(), self.why);
        write!(f, "{from} to {to}: {why} ({good} good, {failed} failed, {slow} slow, ")?;
        write!(f, "{platform} failed through the platform, {refused} refused)")
    }
}

/// Is told of every change. Must not block.
pub trait BreakerWatch: Send + Sync + fmt::Debug {
    /// A breaker has changed its state.
    fn changed(&self, event: &BreakerEvent);
    /// A breaker is no longer kept, because nothing happened for long.
    fn gone(&self, namespace: &Name, function: &Name, version: u64, scope: &Scope);
}
