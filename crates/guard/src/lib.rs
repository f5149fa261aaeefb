//! What keeps one tenant from costing another a request: limits, blocks, breakers and degraded answers.
//!
//! All of it is decisions over an injected clock. It knows no transport and runs no call: `invoke` asks it before a call
//! takes a slot and tells it how the call ended, so that HTTP requests, schedules, messages and events pass the same
//! guards.

pub mod breaker;
pub mod limit;
