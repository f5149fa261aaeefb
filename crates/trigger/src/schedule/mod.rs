//! Schedules: the clock makes functions run, once a slot, whatever happens.
//!
//! ```text
//! catalog ── sync ──> table: every schedule in force, in a heap by its next slot
//!                       │ due
//!                       v
//!                     policy: which slots run, which are skipped    (pure)
//!                       v
//!                     admit:  message + "next slot is now ..." in one commit, by compare-and-set
//! ```
//!
//! The record of a schedule says which slot is next. A slot is admitted by the commit that both moves this on and puts the
//! call into the queue, so however many replicas try, one succeeds; after a crash the slot is either still next or in the
//! queue. The others find the record changed, read it again and go on from there.
//!
//! Time is the wall clock, looked at once a second at least. Where it jumps ahead, slots are missed as if the platform had
//! been away; where it jumps back, no slot before the recorded one is ever looked at again.
//!
//! Some seconds before a slot the pool is asked for an instance ([`Options::look_ahead_ms`]), and operators are told where
//! there will be none.
//!
//! Deliberately absent: running the calls and what becomes of them (the queue's worker).

mod admit;
mod calls;
mod cron;
mod deployed;
mod event;
mod handle;
mod look_ahead;
mod options;
pub mod plan;
mod policy;
mod ports;
mod service;
mod states;
mod sync;
mod table;

pub use deployed::{Declared, Deployed};
pub use handle::{Filter, Handle, RunInfo, ScheduleView, SkipInfo, Upcoming};
pub use look_ahead::Readiness;
pub use options::Options;
pub use ports::{Accept, Observe, SlotCall, Unobserved};
pub use service::{Parts, Service};
pub use states::SkipReason;

#[cfg(test)]
mod tests;
