//! Circuit breakers: who fails again and again is asked less, and asked again in time.
//!
//! ```text
//!                 too many of a window failed          nearly all failed even so
//!        closed --------------------------> throttled --------------------------> open <----------+
//!          ^                                    |                                  | its time     |
//!          |        few enough failed           |                                  v is over      |
//!          +------------------------------------+                              half-open ---------+
//!          |                 probes went well: 1, 2, 4, 8                          |  probes failed, it
//!          +-----------------------------------------------------------------------+  stays open twice as long
//! ```
//!
//! A breaker counts for one version of a function; calls by an alias have one of their own beside it, so that the callers of
//! one who fail cost the others nothing. It is made when a call fails for the first time, so what works has none. What counts as a failure the function's owner states (`alula_model::BreakerSpec`); a fault of the
//! platform is counted and shown, and never opens the breaker of a function.
//!
//! No state takes the last chance away: however often callers are refused, at least one call gets through in
//! every [`LAST_CHANCE`] while it is throttled, and after every wait while it is open. Only an operator's hand stops all.
//!
//! Throttling is the client-side throttling of "Site Reliability Engineering" (Beyer and others, 2016), chapter 21. Read
//! `machine` first; `registry` is what the platform asks.

mod event;
mod hand;
mod machine;
mod registry;
mod set;
mod window;

#[cfg(test)]
mod tests;

pub use event::{BreakerEvent, BreakerWatch, State, Why};
pub use hand::{Hand, HandKey, Held, Scope};
pub use machine::LAST_CHANCE;
pub use registry::{BreakerParts, BreakerView, Breakers, Called, Passed, Refused};
pub use window::Counts;
