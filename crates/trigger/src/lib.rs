//! Triggers: what happens outside becomes invocations.
//!
//! A trigger is stated in a version's spec ([`alula_model::trigger`]) and belongs to a function; those of `latest` are in
//! force. Each kind of source has a module of its own, and all of them do the same three things: watch the source, hand
//! what happens to the queue of asynchronous calls, and remember in the records how far they are, in the same commit, so
//! that nothing is lost or doubled whatever ends when.
//!
//! ```text
//! key        names a trigger: namespace, function, trigger
//! pause      an operator's pause of one trigger, whatever its kind; survives restarts
//! prepared   a call on its way into the queue, to be committed with a record of its source
//! describe   what a trigger watches, in words
//! check      what a deploy is asked: is every trigger of this spec possible?
//! schedule   the clock: slots, exactly once each
//! topic      events that functions and clients publish: kept, filtered, fanned out, replayed
//! webhook    signed requests of outside services
//! folder     folders of the machine: files that were written whole, or that went
//! ```
//!
//! A new kind is a module beside [`schedule`] with a `Service` that runs until it is told to stop and a `Handle` that
//! others hold; it answers for its kind in [`check`], asks [`Pauses`] before it delivers, and reports its state through
//! its handle. Nothing here is on the path of a call.
//!
//! Deliberately absent: running calls, retries and dead letters (`alula-invoke`), HTTP, and the statements themselves.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

pub mod check;
mod describe;
pub mod folder;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod key;
mod pause;
mod prepared;
pub mod schedule;
pub mod topic;
pub mod webhook;

pub use describe::describe;
pub use key::TriggerKey;
pub use pause::{Pause, Pauses};
pub use prepared::Prepared;

/// A boxed future that may cross threads: what the object-safe ports return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
