//! What keeps one tenant from costing another a request: limits, blocks, breakers and degraded answers.
//!
//! ```text
//! admit -> (who is blocked, who calls, what is called, the node: narrow to wide) -> Admission | Refusal
//!                                                                                      \-- told how the call ended
//! ```
//!
//! All of it is decisions over an injected clock. It knows no transport and runs no call: `invoke` asks it before a call
//! takes a slot and tells it how the call ended, so that HTTP requests, schedules, messages and events pass the same
//! guards.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

pub mod adaptive;
mod ask;
pub mod breaker;
pub mod degraded;
mod function_guard;
mod guard;
pub mod limit;
pub mod protect;
mod refusal;

#[cfg(test)]
mod tests;

pub use ask::{Ask, Ended, Origin};
pub use function_guard::{FunctionGuard, Passage};
pub use guard::{Admission, Guard};
pub use refusal::Refusal;
