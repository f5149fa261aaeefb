//! What an owner promises of a function: how many calls succeed, how many are answered in time, over which days.
//!
//! Only the targets stand here. What is counted and how an error budget follows from it is the business of who counts.

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;
use crate::limits;
use crate::spec::SpecError;

/// The table `slo` of a function: a target for success, one for latency, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SloSpec {
    /// Percent of calls that shall not fail by the function or the platform, such as 99.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Decimal>,
    /// Percent of answered calls that shall take at most `latency_ms`, such as 99.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Decimal>,
    /// From the arrival of a call to the last byte of its answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// The days, with today, over which the targets hold.
    #[serde(default = "window_days")]
    pub window_days: u32,
}

/// Four whole weeks, so that each holds as many weekends.
fn window_days() -> u32 {
    limits::SLO_WINDOW_DAYS_DEFAULT
}

impl SloSpec {
    /// Checks every field against its bounds and names the first that is outside.
    pub fn validate(&self) -> Result<(), SpecError> {
        let refuse = |field, reason: String| Err(SpecError { field, reason });
        for (field, target) in [("slo.availability", self.availability), ("slo.latency", self.latency)] {
            if target
                .is_some_and(|target| !(limits::SLO_TARGET_MIN..=limits::SLO_TARGET_MAX).contains(&target))
            {
                let (least, most) = (limits::SLO_TARGET_MIN, limits::SLO_TARGET_MAX);
                return refuse(field, format!("a percentage from {least} to {most} is expected"));
            }
        }
        if self.latency.is_some() != self.latency_ms.is_some() {
            return refuse("slo.latency", "latency and latency_ms belong together".to_owned());
        }
        if self.latency_ms.is_some_and(|ms| !(1..=limits::TIMEOUT_MS_MAX).contains(&ms)) {
            return refuse("slo.latency_ms", format!("allowed is 1 to {}", limits::TIMEOUT_MS_MAX));
        }
        if self.availability.is_none() && self.latency.is_none() {
            return refuse("slo", "a target is missing: availability, or latency with latency_ms".to_owned());
        }
        if !(1..=limits::SLO_WINDOW_DAYS_MAX).contains(&self.window_days) {
            return refuse("slo.window_days", format!("allowed is 1 to {}", limits::SLO_WINDOW_DAYS_MAX));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: &str) -> Result<(), String> {
        let slo: SloSpec = serde_json::from_str(json).map_err(|error| error.to_string())?;
        slo.validate().map_err(|error| error.field.to_owned())
    }

    #[test]
    fn a_target_is_needed_and_bounded() {
        assert_eq!(checked(r#"{"availability": 99.9}"#), Ok(()));
        assert_eq!(checked(r#"{"latency": 99, "latency_ms": 300, "window_days": 7}"#), Ok(()));
        for (json, field) in [
            ("{}", "slo"),
            (r#"{"availability": 100}"#, "slo.availability"),
            (r#"{"availability": 0.999}"#, "slo.availability"),
            (r#"{"latency": 99}"#, "slo.latency"),
            (r#"{"latency_ms": 99, "availability": 99}"#, "slo.latency"),
            (r#"{"latency": 99, "latency_ms": 0}"#, "slo.latency_ms"),
            (r#"{"availability": 99, "window_days": 31}"#, "slo.window_days"),
        ] {
            assert_eq!(checked(json), Err(field.to_owned()), "{json}");
        }
        assert!(checked(r#"{"availabilty": 99}"#).unwrap_err().contains("availabilty"));
    }
}
