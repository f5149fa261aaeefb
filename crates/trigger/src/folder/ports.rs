//! What folders need from others.

use std::fmt;

use alula_invoke::later::{Acceptor, Deferred};
use alula_model::{Fault, FunctionRef, InvocationId, TriggerKind};
use bytes::Bytes;

use crate::{BoxFuture, Prepared};

/// Takes calls that nobody waits for.
pub trait Deliver: Send + Sync + fmt::Debug {
    /// Checks a call with this event and makes the message of it; nothing is changed yet.
    fn prepare(&self, target: FunctionRef, event: Bytes) -> BoxFuture<'_, Result<Prepared, Fault>>;
}

impl Deliver for Acceptor {
    fn prepare(&self, target: FunctionRef, event: Bytes) -> BoxFuture<'_, Result<Prepared, Fault>> {
        let acceptor = self.clone();
        Box::pin(async move {
            let id = invocation_id();
            let mut prepared =
                acceptor.prepare(Deferred::event(id, target, TriggerKind::Folder, event)).await?;
            let batch = std::mem::take(&mut prepared.batch);
            Ok(Prepared { batch, committed: Box::new(move || acceptor.committed(&prepared)) })
        })
    }
}

#[expect(clippy::expect_used, reason = "a hyphenated UUID is letters, digits and hyphens")]
fn invocation_id() -> InvocationId {
    InvocationId::new(&uuid::Uuid::now_v7().to_string()).expect("a UUID is an invocation id")
}

/// Is told what happens to folders. Must not block.
pub trait Observe: Send + Sync + fmt::Debug {
    /// A file became a call: `put` or `delete`.
    fn told(&self, _change: &'static str) {}

    /// A folder cannot be watched at the moment, or a call not be handed in.
    fn failed(&self) {}

    /// So many triggers of this kind are in force.
    fn in_force(&self, _triggers: usize) {}
}
