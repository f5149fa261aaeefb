//! A number as people write it in a file, with up to six decimals, that can be compared exactly.
//!
//! Targets and thresholds are part of specs, and specs are compared to tell whether anything changed; binary fractions
//! would make `99.9` something else after a round trip.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A millionth is the smallest step.
const STEPS: f64 = 1e6;
/// Beyond this a binary fraction no longer holds six decimals.
const LARGEST: f64 = 1e9;

/// A number with up to six decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Decimal(i64);

/// The number is too large, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a number between -1000000000 and 1000000000 is expected")]
pub struct DecimalError;

impl Decimal {
    /// A whole number.
    #[must_use]
    pub const fn whole(number: i32) -> Self {
        Self(number as i64 * 1_000_000)
    }

    /// So many millionths.
    #[must_use]
    pub const fn millionths(count: i64) -> Self {
        Self(count)
    }

    /// The nearest binary fraction.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / STEPS
    }
}

impl TryFrom<f64> for Decimal {
    type Error = DecimalError;

    #[expect(clippy::cast_possible_truncation, reason = "the bounds are checked before")]
    fn try_from(number: f64) -> Result<Self, DecimalError> {
        if number.is_finite() && number.abs() <= LARGEST {
            return Ok(Self((number * STEPS).round() as i64));
        }
        Err(DecimalError)
    }
}

impl From<Decimal> for f64 {
    fn from(decimal: Decimal) -> Self {
        decimal.as_f64()
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_f64().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_back() {
        for text in ["99.9", "0.0", "-3.5", "99.999", "0.0001"] {
            let read: Decimal = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        assert_eq!(Decimal::whole(80).to_string(), "80");
        assert_eq!(serde_json::from_str::<Decimal>("5").unwrap(), Decimal::whole(5));
        assert!(serde_json::from_str::<Decimal>("1e300").is_err());
        assert!(Decimal::try_from(f64::NAN).is_err());
    }
}
