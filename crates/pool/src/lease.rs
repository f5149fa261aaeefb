//! The right to use one slot of an instance, given back on drop.
//!
//! A lease that is only dropped belongs to a call that failed, timed out or lost its caller. User code may take a
//! moment to stop, and whoever got the slot meanwhile could find that the instance is given up under it: so the slot
//! stays taken until the instance has settled. Nobody who has an answer waits for that.

use std::sync::Arc;
use std::time::Duration;

use alula_model::Tier;
use alula_runtime::Instance;
use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::version_pool::VersionPool;

/// One slot of an instance. Release it when the call is over, or hand it to the answer's body.
#[derive(Debug)]
pub struct Lease {
    /// The instance.
    pub instance: Arc<dyn Instance>,
    /// What of it this is the right to.
    pub place: Place,
    /// Whether the instance was started for this call, and from what.
    pub tier: Tier,
    /// Time in line, the start not counted.
    pub queue: Duration,
    /// Time to make the sandbox and start the process, where this call waited for it.
    pub start: Duration,
    /// Time to load the code, where this call waited for it.
    pub init: Duration,
    pub(crate) taken_at: Instant,
    /// Taken when the slot is given back.
    pub(crate) pool: Option<Arc<VersionPool>>,
}

/// What a lease is the right to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A free slot.
    Slot,
    /// The place behind the call that runs: to be used with [`Instance::call_ahead`].
    Ahead,
}

/// What became of a slot that was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// Nobody waited for it.
    Idle,
    /// A waiting call has it now, and the instance idles until that call is sent.
    HandedOver,
}

impl Lease {
    /// Gives the slot of a call that has ended back, and says what became of it.
    pub fn release(mut self) -> Released {
        match self.pool.take() {
            Some(pool) => pool.give_back(&self.instance, self.taken_at),
            None => Released::Idle,
        }
    }

    /// Gives a place back that could not be used because the instance did not come to the call.
    pub fn release_unused(mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give_back_unused(&self.instance);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(pool) = self.pool.take() else { return };
        let (instance, taken_at) = (Arc::clone(&self.instance), self.taken_at);
        let runtime = Handle::try_current().ok();
        let is_settled = instance.settled().now_or_never().is_some();
        if let Some(runtime) = runtime.filter(|_| !is_settled) {
            runtime.spawn(async move {
                instance.settled().await;
                pool.give_back(&instance, taken_at);
            });
        } else {
            pool.give_back(&instance, taken_at);
        }
    }
}
