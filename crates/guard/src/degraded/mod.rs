//! Degraded answers: what is kept of good ones, within bounds.
//!
//! When a degraded answer is given its function's owner states (`alula_model::DegradedSpec`); `invoke` makes it.

mod kept;

pub use kept::{Bounds, Kept};
