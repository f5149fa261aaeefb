//! When a call that failed is tried again, and when it is given up.
//!
//! A policy is data; it knows neither the clock nor randomness: both are passed in. What counts as which kind of failure
//! is decided by whoever runs calls, not here.

use serde::{Deserialize, Serialize};

use crate::limits;

/// Longest wait that a curve may reach, in milliseconds: a day.
const RETRY_WAIT_MS_MAX: u64 = 86_400_000;
/// Longest time that a message may be tried, in milliseconds: two weeks.
const MAX_AGE_MS_MAX: u64 = 14 * 86_400_000;
/// Most attempts of one call.
const ATTEMPTS_MAX: u32 = 1_000;
/// First wait after an attempt that was refused for want of capacity or failed through the platform (the queue of Lambda
/// begins with this as well).
const THROTTLED_FIRST_MS: u64 = 1_000;
/// Longest such wait: five minutes.
const THROTTLED_LONGEST_MS: u64 = 300_000;

/// How a function's failed asynchronous calls are tried again: a named policy or one of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Retry {
    /// A policy by its name.
    Named(RetryPreset),
    /// A policy of one's own.
    Own(RetryPolicy),
}

/// The named policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetryPreset {
    /// Five attempts, 2, 4, 8 and 16 seconds apart.
    Standard,
    /// 2, 4, 8 ... seconds, 20 minutes at the most, for six hours.
    Patient,
    /// Three attempts, one and two minutes apart, as Lambda does.
    Lambda,
    /// One attempt.
    None,
}

/// A policy: how many attempts, how far apart, for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    #[serde(default = "defaults::attempts")]
    pub attempts: u32,
    /// Wait before the second attempt, in milliseconds.
    #[serde(default = "defaults::first_ms")]
    pub first_ms: u64,
    /// Each wait is this many hundredths of the one before: 200 doubles it.
    #[serde(default = "defaults::growth_percent")]
    pub growth_percent: u32,
    /// Longest wait, in milliseconds.
    #[serde(default = "defaults::longest_ms")]
    pub longest_ms: u64,
    /// Up to this many hundredths of a wait are taken off at random, so that what failed together does not return together.
    #[serde(default = "defaults::jitter_percent")]
    pub jitter_percent: u32,
    /// Age at which a call is given up whatever attempts are left, in milliseconds.
    #[serde(default = "defaults::max_age_ms")]
    pub max_age_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self::Named(RetryPreset::Standard)
    }
}

impl Retry {
    /// The policy that is meant.
    #[must_use]
    pub fn policy(&self) -> RetryPolicy {
        match self {
            Self::Named(preset) => preset.policy(),
            Self::Own(policy) => policy.clone(),
        }
    }
}

impl RetryPreset {
    fn policy(self) -> RetryPolicy {
        let standard = RetryPolicy {
            attempts: defaults::attempts(),
            first_ms: defaults::first_ms(),
            growth_percent: defaults::growth_percent(),
            longest_ms: defaults::longest_ms(),
            jitter_percent: defaults::jitter_percent(),
            max_age_ms: defaults::max_age_ms(),
        };
        match self {
            Self::Standard => standard,
            // What ends it is its age.
            Self::Patient => RetryPolicy { attempts: ATTEMPTS_MAX, ..standard },
            Self::Lambda => RetryPolicy { attempts: 3, first_ms: 60_000, ..standard },
            Self::None => RetryPolicy { attempts: 1, ..standard },
        }
    }
}

impl RetryPolicy {
    /// The wait before the attempt that follows `attempts` made ones, in milliseconds. `chance` is a random number
    /// that takes the jitter off.
    #[must_use]
    pub fn wait_ms(&self, attempts: u32, chance: u64) -> u64 {
        let wait = grown(self.first_ms, self.growth_percent, attempts.saturating_sub(1), self.longest_ms);
        without_jitter(wait, self.jitter_percent, chance)
    }

    /// The wait after `refusals` attempts in a row that never began: refused for want of capacity, or failed through
    /// the platform. They do not count as attempts, so only the age ends them.
    #[must_use]
    pub fn wait_unstarted_ms(&self, refusals: u32, chance: u64) -> u64 {
        let wait = grown(THROTTLED_FIRST_MS, 200, refusals.saturating_sub(1), THROTTLED_LONGEST_MS);
        without_jitter(wait, self.jitter_percent, chance)
    }

    /// The first field that is out of its bounds, and what is allowed.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let checks: [(&'static str, u64, u64, u64); 6] = [
            ("async.retry.attempts", self.attempts.into(), 1, ATTEMPTS_MAX.into()),
            ("async.retry.first_ms", self.first_ms, 0, RETRY_WAIT_MS_MAX),
            ("async.retry.growth_percent", self.growth_percent.into(), 100, 1_000),
            ("async.retry.longest_ms", self.longest_ms, self.first_ms, RETRY_WAIT_MS_MAX),
            ("async.retry.jitter_percent", self.jitter_percent.into(), 0, 100),
            ("async.retry.max_age_ms", self.max_age_ms, 1, MAX_AGE_MS_MAX),
        ];
        match checks.into_iter().find(|(_, value, min, max)| !(min..=max).contains(&value)) {
            Some((field, value, min, max)) => {
                Err((field, format!("{value} is out of bounds, allowed is {min} to {max}")))
            }
            None => Ok(()),
        }
    }
}

fn grown(first_ms: u64, growth_percent: u32, times: u32, longest_ms: u64) -> u64 {
    let mut wait = first_ms;
    for _ in 0..times {
        let next = wait.saturating_mul(growth_percent.into()) / 100;
        // What does not grow any more never will.
        if wait >= longest_ms || next == wait {
            break;
        }
        wait = next;
    }
    wait.min(longest_ms)
}

fn without_jitter(wait_ms: u64, jitter_percent: u32, chance: u64) -> u64 {
    let most = wait_ms.saturating_mul(jitter_percent.into()) / 100;
    wait_ms - chance % (most + 1)
}

mod defaults {
    pub(super) const fn attempts() -> u32 {
        5
    }
    pub(super) const fn first_ms() -> u64 {
        2_000
    }
    pub(super) const fn growth_percent() -> u32 {
        200
    }
    pub(super) const fn longest_ms() -> u64 {
        20 * 60 * 1_000
    }
    pub(super) const fn jitter_percent() -> u32 {
        20
    }
    pub(super) const fn max_age_ms() -> u64 {
        super::limits::MAX_AGE_MS_DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(preset: RetryPreset) -> (u32, Vec<u64>, u64) {
        let policy = RetryPolicy { jitter_percent: 0, ..preset.policy() };
        let waits = (1..policy.attempts).map(|attempts| policy.wait_ms(attempts, 7) / 1_000);
        (policy.attempts, waits.take(12).collect(), policy.max_age_ms / 3_600_000)
    }

    #[test]
    fn the_presets_are_the_curves_that_the_docs_name() {
        assert_eq!(waits(RetryPreset::Standard), (5, vec![2, 4, 8, 16], 6));
        assert_eq!(waits(RetryPreset::Lambda), (3, vec![60, 120], 6));
        assert_eq!(waits(RetryPreset::None), (1, vec![], 6));
        let patient = vec![2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1200, 1200];
        assert_eq!(waits(RetryPreset::Patient), (ATTEMPTS_MAX, patient, 6));
    }

    #[test]
    fn jitter_shortens_and_never_lengthens() {
        let policy = RetryPreset::Standard.policy();
        for chance in [0, 1, 399, 400, 401, u64::MAX] {
            let wait = policy.wait_ms(1, chance);
            assert!((1_600..=2_000).contains(&wait), "{chance}: {wait}");
        }
    }

    #[test]
    fn a_curve_never_passes_its_longest_wait_nor_overflows() {
        let policy =
            RetryPolicy { first_ms: u64::MAX / 2, longest_ms: u64::MAX, ..RetryPreset::Patient.policy() };
        assert!(policy.wait_ms(ATTEMPTS_MAX, 0) > 0);
        assert_eq!(RetryPreset::Patient.policy().wait_unstarted_ms(u32::MAX, 0), 300_000);
    }

    #[test]
    fn it_is_written_as_a_name_or_a_table() {
        let read = |text: &str| serde_json::from_str::<Retry>(text).map(|retry| retry.policy().attempts).ok();
        assert_eq!(read(r#""lambda""#), Some(3));
        assert_eq!(read(r#"{"attempts": 9}"#), Some(9));
        assert_eq!(read(r#"{"attemts": 9}"#), None);
        assert_eq!(read(r#""never""#), None);
    }
}
