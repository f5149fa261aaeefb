//! How many requests somebody may make: the words in which limits are stated.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::SpecError;
use crate::limits::{BURST_MAX, IN_FLIGHT_MAX, REQUESTS_PER_SECOND_MAX};

/// A limit by requests a second and by requests in flight. What is not stated is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limit {
    /// Requests in a second, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<NonZeroU32>,
    /// Requests that may come at once after a quiet time. Without it, those of one second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// Requests that may be in flight at once, their answers' bodies included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<NonZeroU32>,
}

impl Limit {
    /// No limit.
    pub const NONE: Self = Self { requests_per_second: None, burst: None, in_flight: None };

    /// Whether it limits nothing.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.requests_per_second.is_none() && self.in_flight.is_none()
    }

    /// The rate and the burst that goes with it.
    #[must_use]
    pub fn rate(&self) -> Option<(NonZeroU32, NonZeroU32)> {
        let rate = self.requests_per_second?;
        Some((rate, self.burst.unwrap_or(rate)))
    }

    /// Refuses what is out of bounds and what means nothing; `field` is where it stands.
    pub fn validate(&self, field: &'static str) -> Result<(), SpecError> {
        let within = |name: &str, value: Option<NonZeroU32>, max: u32| match value {
            Some(value) if value.get() > max => {
                let reason = format!("{name} is {value}, allowed is 1 to {max}");
                Err(SpecError { field, reason })
            }
            _ => Ok(()),
        };
        within("requests_per_second", self.requests_per_second, REQUESTS_PER_SECOND_MAX)?;
        within("burst", self.burst, BURST_MAX)?;
        within("in_flight", self.in_flight, IN_FLIGHT_MAX)?;
        if self.burst.is_some() && self.requests_per_second.is_none() {
            let reason = "burst says nothing without requests_per_second".to_owned();
            return Err(SpecError { field, reason });
        }
        Ok(())
    }
}

/// What a function's owner states about the requests that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FunctionLimits {
    /// Requests in a second, on average, on one node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<NonZeroU32>,
    /// Requests that may come at once after a quiet time. Without it, those of one second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// Requests that may be in flight at once, those that wait for an instance included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<NonZeroU32>,
    /// The same for each caller by itself: a known one by its name, others by their address, of IPv6 by its /64.
    #[serde(skip_serializing_if = "Limit::is_none")]
    pub per_caller: Limit,
}

impl FunctionLimits {
    /// Of all callers together.
    #[must_use]
    pub const fn whole(&self) -> Limit {
        let Self { requests_per_second, burst, in_flight, per_caller: _ } = *self;
        Limit { requests_per_second, burst, in_flight }
    }

    /// Refuses what is out of bounds and what means nothing.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.whole().validate("limits")?;
        self.per_caller.validate("limits.per_caller")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_checked_and_zero_is_none_of_it() {
        let read = |text: &str| serde_json::from_str::<FunctionLimits>(text);
        let limits = read(r#"{"requests_per_second": 5, "per_caller": {"in_flight": 2}}"#).unwrap();
        assert_eq!(limits.whole().rate().map(|(rate, burst)| (rate.get(), burst.get())), Some((5, 5)));
        assert_eq!(limits.per_caller.in_flight.map(NonZeroU32::get), Some(2));
        assert!(limits.validate().is_ok());
        assert!(read(r#"{"requests_per_second": 0}"#).is_err());
        assert!(read(r#"{"requests_per_minute": 1}"#).is_err());
        assert_eq!(read(r#"{"burst": 5}"#).unwrap().validate().unwrap_err().field, "limits");
        let far = read(r#"{"per_caller": {"in_flight": 4000000000}}"#).unwrap();
        assert_eq!(far.validate().unwrap_err().field, "limits.per_caller");
    }
}
