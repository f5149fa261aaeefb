//! Alarms: who must know of what goes wrong learns it, once, and learns when it is over.
//!
//! ```text
//! Measure, signals, Told -> samples -> Engine: rules over samples -> alarms: pending, firing, resolved
//!                                                                     |
//!                        records, history <-------- Service ----------+--> plan: groups, silences, repeats -> Outbox
//!                                                                                                            (Deliver)
//! ```
//!
//! What an alarm is decided by is pure: samples, rules and the present go in, alarms and messages come out. The service
//! around it measures, remembers over restarts, and hands messages to one queue for each receiver, so that one that hangs
//! delays no other.
//!
//! It is a crate because it draws a line: what counts on the path of calls knows no judgement, and what judges is on
//! nobody's path. It knows no HTTP; [`Deliver`] does.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod alarm;
mod alertmanager;
mod engine;
mod handle;
mod history;
mod message;
mod options;
mod outbox;
mod plan;
mod ports;
mod record;
mod rules;
mod sample;
mod service;
mod silence;
pub mod slo;
mod told;

#[cfg(test)]
mod tests;

pub use alarm::{Acknowledgement, Alarm, State};
pub use handle::{Alarms, TestOutcome};
pub use history::{Event, HISTORY_MAX, Occurrence};
pub use options::{Options, ReceiverOptions};
pub use ports::{
    BoxFuture, Deliver, DeliverError, Deployed, Measure, Message, NoDelivery, NothingDeployed,
    NothingMeasured, Observe, Trust, Unobserved, Watch,
};
pub use rules::{Rules, built_in};
pub use sample::{Round, Sample, Subject};
pub use service::{Parts, Service};
pub use silence::{Matcher, MatcherError, SILENCES_MAX, Silence};
pub use told::Told;
