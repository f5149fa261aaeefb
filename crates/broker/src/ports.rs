//! What watching brokers needs from others.

use std::fmt;

use alula_invoke::later::{Miss, Trail};
use alula_model::{Fault, FunctionRef};
use bytes::Bytes;

use alula_trigger::{Pauses, TriggerKey};

use crate::BoxFuture;

/// Calls functions.
pub trait Call: Send + Sync + fmt::Debug {
    /// Calls `target` with an event, as the `attempt`-th try of what is in it, from 1; answers what the function answered.
    /// A target that leads nowhere is a miss that never began.
    fn call<'a>(
        &'a self,
        target: &'a FunctionRef,
        attempt: u32,
        event: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, Miss>>;
}

/// Keeps durably what is not delivered.
pub trait Keep: Send + Sync + fmt::Debug {
    /// Keeps events that were given up as dead letters, all or none; at most [`LETTERS_MAX`] at once.
    fn bury<'a>(&'a self, target: &'a FunctionRef, letters: Vec<Letter>) -> BoxFuture<'a, Result<(), Fault>>;

    /// Has an event delivered later, as an asynchronous call.
    fn defer<'a>(&'a self, target: &'a FunctionRef, event: Bytes) -> BoxFuture<'a, Result<(), Fault>>;
}

/// Knows which triggers an operator has paused.
pub trait Gate: Send + Sync + fmt::Debug {
    /// Whether this one is paused.
    fn is_shut<'a>(&'a self, trigger: &'a TriggerKey) -> BoxFuture<'a, alula_store::Result<bool>>;
}

impl Gate for Pauses {
    fn is_shut<'a>(&'a self, trigger: &'a TriggerKey) -> BoxFuture<'a, alula_store::Result<bool>> {
        Box::pin(async move { Ok(self.get(trigger).await?.is_some()) })
    }
}

/// Dead letters that are kept with one commit at the most: well within what a batch of the store holds.
pub(crate) const LETTERS_MAX: usize = 100;

/// An event with one record that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The event.
    pub event: Bytes,
    /// Attempts that the record had.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// What became of each attempt.
    pub trail: Trail,
}

/// Is told what happens. Must not block.
pub trait Observe: Send + Sync + fmt::Debug {
    /// A record came.
    fn received(&self, _trigger: &TriggerKey, _kind: &'static str) {}

    /// Records came to an end: `delivered`, `parked` as dead letters, `returned` to their broker, `deferred` to the queue,
    /// or `lost` where neither broker nor store would have them.
    fn ended(&self, _trigger: &TriggerKey, _kind: &'static str, _end: &'static str, _records: usize) {}

    /// An attempt of so many records failed.
    fn failed(&self, _trigger: &TriggerKey, _kind: &'static str, _records: usize) {}

    /// A connection was made (`true`), or ended or could not be made.
    fn connected(&self, _trigger: &TriggerKey, _kind: &'static str, _is_connected: bool) {}

    /// The trigger is no longer watched here.
    fn gone(&self, _trigger: &TriggerKey, _kind: &'static str) {}

    /// The broker says how many records wait; `None` where it no longer says so.
    fn lag(&self, _trigger: &TriggerKey, _kind: &'static str, _records: Option<u64>) {}
}

/// Observes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observe for Unobserved {}
