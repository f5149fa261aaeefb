//! Limits by requests a second and by requests in flight.
//!
//! A call passes, from the narrowest to the widest: what operators have blocked or throttled, the caller's limit, the
//! function's for each caller, the function's, its app's, its namespace's, and the node's with its fair shares. What it
//! took of the narrower ones is given back where a wider one refuses it, so that a flood costs nobody else anything.

mod callers;
mod flow;
mod limits;
mod options;
mod policy;
mod rate;
mod registry;
mod shares;
mod told;

pub(crate) use flow::Flow;
pub use limits::Pass;
pub(crate) use limits::{Held, Limits};
pub use options::{Options, OptionsError};
pub(crate) use policy::Policy;
