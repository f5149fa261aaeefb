//! What an owner states about a function that fails or is slow: its breaker, its degraded answer, its adaptive limit.
//!
//! Data and bounds only. What is done with it is decided in the crate `guard`.

mod adaptive;
mod breaker;
mod degraded;
mod switch;

pub use adaptive::AdaptiveSpec;
pub use breaker::{BreakerSpec, StatusClass};
pub use degraded::{Degraded, DegradedSpec, LastGoodSpec};
pub use switch::Switch;

use crate::spec::SpecError;

/// Refuses a number that is out of its bounds.
fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), SpecError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(SpecError { field, reason: format!("{value} is out of bounds, allowed is {min} to {max}") })
}
