//! Slots as calls of the queue.

use alula_invoke::later::{CallState, Calls, Deferred, LaneClass};
use alula_model::{ErrorCode, Fault, InvocationId, TriggerKind};

use super::{Accept, SlotCall};
use crate::{BoxFuture, Prepared};

impl Accept for Calls {
    fn prepare(&self, call: SlotCall) -> BoxFuture<'_, Result<Prepared, Fault>> {
        Box::pin(async move {
            let SlotCall { id, target, event, available_at } = call;
            let deferred = Deferred {
                class: LaneClass::Scheduled,
                available_at: Some(available_at),
                ..Deferred::event(id, target, TriggerKind::Schedule, event)
            };
            let acceptor = self.acceptor().clone();
            let mut prepared = acceptor.prepare(deferred).await?;
            let batch = std::mem::take(&mut prepared.batch);
            Ok(Prepared { batch, committed: Box::new(move || acceptor.committed(&prepared)) })
        })
    }

    fn is_open<'a>(&'a self, id: &'a InvocationId) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async move { Ok(self.find(id).await?.is_some_and(|call| !call.state.is_final())) })
    }

    fn cancel<'a>(&'a self, id: &'a InvocationId) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let Err(fault) = Calls::cancel(self, id).await else { return Ok(()) };
            // It may have ended meanwhile; where it runs on another node, it has to be tried again.
            let is_over = match self.find(id).await? {
                None => true,
                Some(call) => matches!(call.state, CallState::Ended(_) | CallState::Dead { .. }),
            };
            match (is_over, fault.code) {
                (true, _) => Ok(()),
                (false, ErrorCode::Conflict) => Err(Fault::new(
                    ErrorCode::StoreUnavailable,
                    format!("the run before cannot be cancelled: {fault}"),
                )),
                (false, _) => Err(fault),
            }
        })
    }
}
