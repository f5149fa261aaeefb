//! The table `adaptive` of a function: calls at once that follow its latency.

use serde::{Deserialize, Serialize};

use super::within;
use crate::spec::SpecError;

/// Most calls at once that may be stated.
const LIMIT_MAX: u64 = 100_000;

/// Between which bounds the number of calls at once moves, and what it takes for a rise of latency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptiveSpec {
    /// Calls at once that are always allowed.
    pub min: u32,
    /// Calls at once that are never exceeded.
    pub max: u32,
    /// Calls at once to begin with.
    pub initial: u32,
    /// How far the latency may rise above the usual one before fewer calls are let through: 150 is half as much again.
    pub tolerance_percent: u32,
}

impl Default for AdaptiveSpec {
    fn default() -> Self {
        Self { min: 1, max: 1_000, initial: 20, tolerance_percent: 150 }
    }
}

impl AdaptiveSpec {
    /// Checks every field against its bounds and names the first that is outside.
    pub fn validate(&self) -> Result<(), SpecError> {
        within("adaptive.min", self.min.into(), 1, LIMIT_MAX)?;
        within("adaptive.max", self.max.into(), self.min.into(), LIMIT_MAX)?;
        within("adaptive.initial", self.initial.into(), self.min.into(), self.max.into())?;
        within("adaptive.tolerance_percent", self.tolerance_percent.into(), 100, 1_000)
    }
}
