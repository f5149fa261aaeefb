//! The table `breaker` of a function: what counts as a failure, and how much of it is too much.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::within;
use crate::spec::SpecError;
use crate::{Blame, ErrorCode};

/// Statuses or codes that one list may hold.
const LIST_LEN_MAX: usize = 100;
/// Shortest and longest window, in milliseconds: ten slices of a tenth of a second, and ten minutes.
const WINDOW_MS: (u64, u64) = (1_000, 600_000);
/// Shortest and longest time that a breaker stays open before it asks again, in milliseconds.
const OPEN_MS: (u64, u64) = (100, 600_000);

/// When calls of a function are refused because the last ones failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSpec {
    /// The time that is looked back on, in milliseconds.
    pub window_ms: u64,
    /// Calls of a window below which nothing is decided.
    pub min_calls: u32,
    /// Share of failed calls from which calls are throttled.
    pub failure_percent: u32,
    /// Share of failed calls, while they are throttled, from which they are all refused.
    pub open_percent: u32,
    /// How long all calls are refused the first time, in milliseconds; each time again doubles it.
    pub open_ms: u64,
    /// How long they are refused at the most before one is let through, in milliseconds.
    pub open_ms_max: u64,
    /// A call that takes longer counts as a failure, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_ms: Option<u64>,
    /// The same as a share of the function's timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_timeout_percent: Option<u32>,
    /// Statuses of answers that count as failures: `5xx`, `429`.
    pub statuses: Vec<StatusClass>,
    /// Faults of the function that do not count: `handler_error`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<ErrorCode>,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self {
            window_ms: 10_000,
            // Fewer say little: of a function that fails now and then, two of three calls may fail by chance.
            min_calls: 20,
            failure_percent: 50,
            open_percent: 90,
            open_ms: 5_000,
            open_ms_max: 30_000,
            slow_ms: None,
            slow_timeout_percent: None,
            statuses: vec![StatusClass::Hundred(5)],
            ignore: Vec::new(),
        }
    }
}

impl BreakerSpec {
    /// From when on a call of a function with this timeout is slow, in milliseconds; never, where nothing is stated.
    #[must_use]
    pub fn slow_from_ms(&self, timeout_ms: u64) -> Option<u64> {
        let share = |percent: u32| timeout_ms.saturating_mul(percent.into()) / 100;
        self.slow_ms.or(self.slow_timeout_percent.map(share))
    }

    /// Whether an answer with this status is a failure.
    #[must_use]
    pub fn counts_status(&self, status: u16) -> bool {
        self.statuses.iter().any(|class| class.holds(status))
    }

    /// Whether a fault is a failure of the function.
    #[must_use]
    pub fn counts_fault(&self, code: ErrorCode) -> bool {
        // These are about the chain that a call came by, not about the function; and the breaker's own refusal is none.
        let is_of_the_call =
            matches!(code, ErrorCode::LoopDetected | ErrorCode::CallDeadlock | ErrorCode::CircuitOpen);
        code.blame() == Blame::Function && !is_of_the_call && !self.ignore.contains(&code)
    }

    /// Checks every field against its bounds and names the first that is outside.
    pub fn validate(&self) -> Result<(), SpecError> {
        within("breaker.window_ms", self.window_ms, WINDOW_MS.0, WINDOW_MS.1)?;
        within("breaker.min_calls", self.min_calls.into(), 1, 10_000)?;
        within("breaker.failure_percent", self.failure_percent.into(), 1, 99)?;
        within("breaker.open_percent", self.open_percent.into(), self.failure_percent.into(), 100)?;
        within("breaker.open_ms", self.open_ms, OPEN_MS.0, OPEN_MS.1)?;
        within("breaker.open_ms_max", self.open_ms_max, self.open_ms, OPEN_MS.1)?;
        within("breaker.slow_ms", self.slow_ms.unwrap_or(1), 1, crate::limits::TIMEOUT_MS_MAX)?;
        within("breaker.slow_timeout_percent", self.slow_timeout_percent.unwrap_or(1).into(), 1, 100)?;
        within("breaker.statuses", self.statuses.len() as u64, 0, LIST_LEN_MAX as u64)?;
        within("breaker.ignore", self.ignore.len() as u64, 0, LIST_LEN_MAX as u64)
    }
}

/// A status, or all statuses of a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StatusClass {
    /// This one: `429`.
    One(u16),
    /// Those that begin with this digit: `5xx`.
    Hundred(u16),
}

impl StatusClass {
    const fn holds(self, status: u16) -> bool {
        match self {
            Self::One(one) => status == one,
            Self::Hundred(digit) => status / 100 == digit,
        }
    }
}

impl fmt::Display for StatusClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(status) => write!(f, "{status}"),
            Self::Hundred(digit) => write!(f, "{digit}xx"),
        }
    }
}

impl From<StatusClass> for String {
    fn from(class: StatusClass) -> Self {
        class.to_string()
    }
}

impl TryFrom<String> for StatusClass {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = text.strip_suffix("xx").and_then(|digit| digit.parse().ok());
        match (digit, text.parse()) {
            (Some(digit @ 2..=5), _) => Ok(Self::Hundred(digit)),
            (None, Ok(status @ 200..=599)) => Ok(Self::One(status)),
            _ => Err(format!("{text:?} is neither a status from 200 to 599 nor one of 2xx, 3xx, 4xx, 5xx")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_call_nothing_slow() {
        let spec = BreakerSpec::default();
        assert_eq!(spec.validate(), Ok(()));
        assert_eq!(spec.slow_from_ms(30_000), None);
    }

    #[test]
    fn what_counts_as_a_failure() {
        let spec: BreakerSpec =
            serde_json::from_str(r#"{"statuses": ["5xx", "429"], "ignore": ["handler_error"]}"#).unwrap();
        assert_eq!(
            [200, 404, 429, 500, 599].map(|s| spec.counts_status(s)),
            [false, false, true, true, true]
        );
        assert!(spec.counts_fault(ErrorCode::FunctionTimeout));
        let others = [ErrorCode::HandlerError, ErrorCode::SandboxFailed, ErrorCode::ConcurrencyExceeded];
        assert!(!others.into_iter().chain([ErrorCode::CircuitOpen]).any(|code| spec.counts_fault(code)));
        for wrong in ["6xx", "1xx", "99", "600", "x", ""] {
            assert!(StatusClass::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn slow_is_a_time_or_a_share_of_the_timeout() {
        let share = BreakerSpec { slow_timeout_percent: Some(80), ..BreakerSpec::default() };
        assert_eq!(share.slow_from_ms(30_000), Some(24_000));
        assert_eq!(BreakerSpec { slow_ms: Some(7), ..share }.slow_from_ms(30_000), Some(7));
    }

    #[test]
    fn bounds_are_told() {
        let refused = |spec: BreakerSpec| spec.validate().unwrap_err().field;
        let usual = BreakerSpec::default;
        assert_eq!(refused(BreakerSpec { failure_percent: 100, ..usual() }), "breaker.failure_percent");
        assert_eq!(refused(BreakerSpec { open_percent: 49, ..usual() }), "breaker.open_percent");
        assert_eq!(refused(BreakerSpec { open_ms_max: 1, ..usual() }), "breaker.open_ms_max");
        assert_eq!(refused(BreakerSpec { min_calls: 0, ..usual() }), "breaker.min_calls");
    }
}
