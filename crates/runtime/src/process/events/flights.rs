//! The calls that a guest has been given and has not ended: who waits for what.

use std::collections::HashMap;
use std::sync::Arc;

use alula_model::{Fault, InvocationId};
use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::Running;
use super::stream::{Credit, Inbound, OverWindow};
use super::{AbortOnDrop, answer};
use crate::buffers::Reserved;
use crate::frames::Frame;

/// What a call waits for first.
pub(super) enum Reply {
    /// REPLY or RESULT with its whole body.
    Whole(Frame, Bytes),
    /// A REPLY whose body is still coming.
    Streamed(Frame, Arc<Inbound>),
}

/// One call that the guest works on.
pub(super) struct Flight {
    /// The call's id, for log lines.
    pub(super) id: InvocationId,
    /// How far the answer is.
    pub(super) stage: Stage,
    /// What the guest grants for a streamed request body.
    pub(super) credit: Option<Arc<Credit>>,
    /// Sends the request body; ends with the call.
    pub(super) pump: Option<AbortOnDrop>,
    /// Whether a body that comes in pieces is put together before the answer is handed on.
    pub(super) is_gathered: bool,
    /// When the answer must have ended.
    pub(super) deadline: Instant,
    /// The share of the platform's memory that a gathered request body takes.
    pub(super) _reserved: Option<Reserved>,
    /// The room counts the call as running until this is dropped.
    pub(super) _running: Running,
}

/// How far an answer is.
pub(super) enum Stage {
    /// Nothing has come yet.
    Waiting(oneshot::Sender<Result<Reply, Fault>>),
    /// The head of an answer that is handed on whole, and what has come of its body.
    Gathering(oneshot::Sender<Result<Reply, Fault>>, Frame, BytesMut),
    /// The head has been handed on; `_deadline` ends a body that takes too long.
    Streaming { body: Arc<Inbound>, _deadline: AbortOnDrop },
    /// Nobody wants the answer any more. Dropped, and so told, when the guest has ended the call.
    Abandoned { _ended: oneshot::Sender<()> },
    /// The waiter has been told; what still comes is dropped.
    Over,
}

/// An answer's head came where none was due.
#[derive(Debug)]
pub(super) struct Misplaced;

/// All calls of one guest.
#[derive(Default)]
pub(super) struct Flights {
    by_number: HashMap<u32, Flight>,
    last_number: u32,
}

impl Flights {
    /// Takes a call in and gives it a number that no other one has. 0 is nobody's number.
    pub(super) fn insert(&mut self, flight: Flight) -> u32 {
        loop {
            self.last_number = self.last_number.wrapping_add(1).max(1);
            if !self.by_number.contains_key(&self.last_number) {
                break;
            }
        }
        self.by_number.insert(self.last_number, flight);
        self.last_number
    }

    pub(super) fn get(&mut self, number: u32) -> Option<&mut Flight> {
        self.by_number.get_mut(&number)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Flight> {
        self.by_number.remove(&number)
    }

    pub(super) fn drain(&mut self) -> Vec<Flight> {
        self.by_number.drain().map(|(_, flight)| flight).collect()
    }

    /// Whether the guest still works on a call that nobody waits for.
    pub(super) fn has_abandoned(&self) -> bool {
        self.by_number.values().any(|flight| matches!(flight.stage, Stage::Abandoned { .. }))
    }
}

impl Flight {
    /// Ends the call with a fault, for whoever still waits.
    pub(super) fn fail(self, fault: Fault) {
        match self.stage {
            Stage::Waiting(waiter) | Stage::Gathering(waiter, ..) => drop(waiter.send(Err(fault))),
            Stage::Streaming { body, .. } => body.end(Err(crate::BodyError::Disconnected)),
            Stage::Abandoned { .. } | Stage::Over => {}
        }
    }

    /// What was waited for last; everything else that belongs to the call ends.
    pub(super) fn into_stage(self) -> Stage {
        self.stage
    }

    /// Takes the head of an answer whose body comes in pieces.
    pub(super) fn expect_more(
        &mut self,
        head: Frame,
        watch: impl FnOnce() -> AbortOnDrop,
    ) -> Result<(), Misplaced> {
        let waiter = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Waiting(waiter) => waiter,
            Stage::Abandoned { _ended } => {
                self.stage = Stage::Abandoned { _ended };
                return Ok(());
            }
            _ => return Err(Misplaced),
        };
        self.stage = if self.is_gathered {
            Stage::Gathering(waiter, head, BytesMut::new())
        } else {
            let body = Inbound::new();
            // Nobody may wait any more; then the call is being cancelled.
            let _ = waiter.send(Ok(Reply::Streamed(head, Arc::clone(&body))));
            Stage::Streaming { body, _deadline: watch() }
        };
        Ok(())
    }

    /// Takes a piece of the answer's body. `false` where it is larger than `limit_bytes`; the waiter knows.
    pub(super) fn take_piece(&mut self, piece: Bytes, limit_bytes: u64) -> Result<bool, OverWindow> {
        match &mut self.stage {
            Stage::Streaming { body, .. } => body.push(piece)?,
            Stage::Gathering(_, _, body) if (body.len() + piece.len()) as u64 <= limit_bytes => {
                body.extend_from_slice(&piece);
            }
            Stage::Gathering(..) => {
                let fault = answer::too_large(limit_bytes);
                if let Stage::Gathering(waiter, ..) = std::mem::replace(&mut self.stage, Stage::Over) {
                    let _ = waiter.send(Err(fault));
                }
                return Ok(false);
            }
            Stage::Waiting(_) => return Err(OverWindow),
            Stage::Abandoned { .. } | Stage::Over => {}
        }
        Ok(true)
    }
}

impl std::fmt::Debug for Flights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flights({})", self.by_number.len())
    }
}
