//! What schedules need from others.

use std::fmt;

use alula_model::{Fault, FunctionRef, InvocationId, Timestamp};
use bytes::Bytes;

use crate::{BoxFuture, Prepared};

/// The call that a slot makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotCall {
    /// The same for the same slot, whoever admits it.
    pub id: InvocationId,
    /// What is called.
    pub target: FunctionRef,
    /// The event, JSON.
    pub event: Bytes,
    /// When it may run first: the slot and its jitter.
    pub available_at: Timestamp,
}

/// Takes calls that nobody waits for.
pub trait Accept: Send + Sync + fmt::Debug {
    /// Checks a call and makes the message of it; nothing is changed yet.
    fn prepare(&self, call: SlotCall) -> BoxFuture<'_, Result<Prepared, Fault>>;

    /// Whether a call waits or runs.
    fn is_open<'a>(&'a self, id: &'a InvocationId) -> BoxFuture<'a, Result<bool, Fault>>;

    /// Cancels a call, whether it waits or runs; one that has ended stays as it is.
    fn cancel<'a>(&'a self, id: &'a InvocationId) -> BoxFuture<'a, Result<(), Fault>>;
}

/// Is told what happens to slots. Must not block.
pub trait Observe: Send + Sync + fmt::Debug {
    /// A slot was admitted so long after its moment.
    fn admitted(&self, _lateness_ms: u64) {}

    /// Slots were skipped.
    fn skipped(&self, _reason: &'static str) {}

    /// A slot could not be admitted this time.
    fn failed(&self) {}

    /// No instance will be ready for a slot.
    fn not_ready(&self) {}

    /// So many schedules are in force.
    fn in_force(&self, _schedules: usize) {}
}

/// Observes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observe for Unobserved {}
