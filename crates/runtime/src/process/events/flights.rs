//! The calls that a guest has been given and has not ended: who waits for what, and which of them have begun.
//!
//! A guest that runs one call at a time ends them in the order in which they were sent, and ends one before it
//! begins the next. So the first one in the order may have begun; those behind it have not, as long as nothing of
//! its end has arrived. That holds for a guest that has died as well, once its socket has been read to the end.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault};
use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::arena::Region;
use super::super::{Room, Running};
use super::stream::{Credit, Inbound, OverWindow};
use super::{AbortOnDrop, answer};
use crate::buffers::Reserved;
use crate::frames::Frame;
use crate::{BodyError, RunningCall};

/// What a call waits for first.
pub(super) enum Reply {
    /// REPLY or RESULT with its whole body, and when the call had begun.
    Whole(Frame, Bytes, Instant),
    /// A REPLY whose body is still coming.
    Streamed(Frame, Arc<Inbound>),
    /// The call was sent ahead and has not begun.
    Returned,
}

/// One call that the guest works on.
pub(super) struct Flight {
    /// Which call it is.
    pub(super) call: RunningCall,
    /// How far the answer is.
    pub(super) stage: Stage,
    /// What the guest grants for a streamed request body.
    pub(super) credit: Option<Arc<Credit>>,
    /// Sends the request body; ends with the call.
    pub(super) pump: Option<AbortOnDrop>,
    /// Whether a body that comes in pieces is put together before the answer is handed on.
    pub(super) is_gathered: bool,
    /// Time that the call has once it has begun.
    pub(super) time_limit: Duration,
    /// Set when its turn has come.
    pub(super) begun: Option<Begun>,
    /// Where the request body is as long as the guest may read it.
    pub(super) _held: Held,
}

/// What a request body takes of the platform's memory.
#[derive(Default)]
pub(super) struct Held {
    /// A gathered body's share.
    pub(super) _reserved: Option<Reserved>,
    /// A body's part of the shared memory.
    pub(super) _region: Option<Region>,
}

/// A call whose turn has come.
pub(super) struct Begun {
    /// When it did.
    pub(super) at: Instant,
    /// The room counts the call as running until this is dropped.
    _running: Running,
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
pub(super) struct Flights {
    room: Arc<Room>,
    by_number: HashMap<u32, Flight>,
    last_number: u32,
    /// Numbers that the guest was sent and has not ended, whether or not somebody still waits for them.
    order: VecDeque<u32>,
    /// How many of them, from the first, may have begun.
    at_once: usize,
}

impl Flights {
    pub(super) fn new(room: Arc<Room>) -> Self {
        let at_once = room.plan.spec.concurrency as usize;
        Self { room, by_number: HashMap::new(), last_number: 0, order: VecDeque::new(), at_once }
    }

    /// Takes a call in and gives it a number that no other one has. 0 is nobody's number.
    pub(super) fn insert(&mut self, flight: Flight) -> u32 {
        loop {
            self.last_number = self.last_number.wrapping_add(1).max(1);
            if !self.by_number.contains_key(&self.last_number) {
                break;
            }
        }
        self.by_number.insert(self.last_number, flight);
        self.order.push_back(self.last_number);
        self.begin_next();
        self.last_number
    }

    /// The guest has ended a call: nothing comes of it any more, and the next one begins. Its flight, unless it was
    /// given up before.
    pub(super) fn ended(&mut self, number: u32) -> Option<Flight> {
        if let Some(at) = self.order.iter().position(|other| *other == number) {
            self.order.remove(at);
            self.begin_next();
        }
        self.by_number.remove(&number)
    }

    /// The calls whose turn has come have begun, as far as anybody outside the guest can tell.
    fn begin_next(&mut self) {
        for number in self.order.iter().take(self.at_once) {
            if let Some(flight) = self.by_number.get_mut(number).filter(|flight| flight.begun.is_none()) {
                flight.begun =
                    Some(Begun { at: Instant::now(), _running: self.room.begin(flight.call.clone()) });
            }
        }
    }

    /// Whether a call that is sent now lies behind others.
    pub(super) fn is_full(&self) -> bool {
        self.order.len() >= self.at_once
    }

    /// When the call's turn came; `None` where it has not, or the call has ended.
    pub(super) fn begun_at(&self, number: u32) -> Option<Instant> {
        Some(self.by_number.get(&number)?.begun.as_ref()?.at)
    }

    /// When the call must have been answered; `None` where its turn has not come, or it has ended.
    pub(super) fn deadline(&self, number: u32) -> Option<Instant> {
        let flight = self.by_number.get(&number)?;
        Some(flight.begun.as_ref()?.at + flight.time_limit)
    }

    /// Whether the guest works on no call at all.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether the call lies behind another one.
    pub(super) fn has_not_begun(&self, number: u32) -> bool {
        self.by_number.get(&number).is_some_and(|flight| flight.begun.is_none())
    }

    pub(super) fn get(&mut self, number: u32) -> Option<&mut Flight> {
        self.by_number.get_mut(&number)
    }

    /// Forgets a call that the guest goes on with. Where its turn has not come, it never is the room's.
    pub(super) fn give_up(&mut self, number: u32) -> Option<Flight> {
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
    /// Ends the call of a guest that is gone: with `fault` if it may have begun.
    pub(super) fn lose(self, fault: &Fault) {
        match self.begun {
            Some(_) => self.fail(fault.clone()),
            None => self.give_back(),
        }
    }

    /// Gives the call back to whoever sent it ahead.
    pub(super) fn give_back(self) {
        if let Stage::Waiting(waiter) = self.stage {
            // Nobody may wait any more; then there is nobody to give it back to.
            let _ = waiter.send(Ok(Reply::Returned));
        }
    }

    /// Ends the call with a fault, for whoever still waits.
    pub(super) fn fail(self, fault: Fault) {
        match self.stage {
            Stage::Waiting(waiter) | Stage::Gathering(waiter, ..) => drop(waiter.send(Err(fault))),
            Stage::Streaming { body, .. } => body.end(Err(torn(fault))),
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

/// How a body ends whose head was passed on before the call failed.
fn torn(fault: Fault) -> BodyError {
    match fault.code {
        ErrorCode::HandlerError | ErrorCode::BadResponse => BodyError::Malformed { reason: fault.message },
        _ => BodyError::Disconnected,
    }
}

impl std::fmt::Debug for Flights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flights({})", self.by_number.len())
    }
}
