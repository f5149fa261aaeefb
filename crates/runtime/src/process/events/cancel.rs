//! Ending calls early: cancelling, taking back, waiting for what is still being ended.
//!
//! A cancelled call is nobody's from that moment, but its guest may still work on it. User code gets a grace to stop;
//! where it does not, the instance is given up.

use std::sync::Arc;
use std::time::Duration;

use alula_model::{Fault, LogLevel};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::AbortOnDrop;
use super::flights::{Flights, Stage};
use super::link::Link;
use crate::BodyError;
use crate::frames::{CancelReason, FrameWriter, Head, Kind};
use crate::language::Cancel;

/// Time that cancelled user code has to end before its instance is given up.
const CANCEL_GRACE: Duration = Duration::from_millis(250);
const SIGUSR1: i32 = 10;

impl Link {
    /// Waits until the guest works on no call that nobody wants, where it runs one call at a time and would keep
    /// the next one waiting behind it.
    pub(super) async fn wait_for_abandoned(&self) {
        let is_blocked_by_a_call = self.room.language.manifest.cancel == Cancel::Signal;
        if is_blocked_by_a_call && self.room.plan.spec.concurrency == 1 {
            self.settled().await;
        }
    }

    /// Waits until the guest works on no call that nobody wants.
    pub(super) async fn settled(&self) {
        self.wait_until(|flights| !flights.has_abandoned()).await;
    }

    /// Waits until a call that is sent begins at once.
    pub(super) async fn wait_for_turn(&self) {
        self.wait_until(|flights| !flights.is_full()).await;
    }

    async fn wait_until(&self, is_so: impl Fn(&Flights) -> bool) {
        loop {
            let ended = self.call_ended.notified();
            let mut ended = std::pin::pin!(ended);
            ended.as_mut().enable();
            if is_so(&self.flights()) {
                return;
            }
            ended.await;
        }
    }

    /// Asks for a call that was sent ahead, unless it has begun.
    pub(super) fn take_back(&self, number: u32) {
        if self.flights().has_not_begun(number) {
            let head = Head::new(Kind::TakeBack, number);
            self.outbox.send(|out| FrameWriter::new(out, head).finish(&[]));
            if self.room.language.manifest.cancel == Cancel::Signal {
                self.room.signal(SIGUSR1);
            }
        }
    }

    /// Tells the guest to stop working on a call. The caller hears nothing of the call any more, even before the
    /// task is first polled that is returned: it waits until the guest has stopped, or gives the instance up.
    pub(super) fn cancel(
        self: Arc<Self>,
        number: u32,
        reason: CancelReason,
    ) -> impl Future<Output = ()> + Send {
        let ended = self.abandon(number, reason);
        async move {
            let Some(mut ended) = ended else { return };
            while timeout(CANCEL_GRACE, &mut ended).await.is_err() {
                // The grace is for user code that runs. What lies behind another call is dropped at its turn.
                if !self.flights().has_not_begun(number) {
                    return self.give_up(number);
                }
            }
        }
    }

    fn abandon(&self, number: u32, reason: CancelReason) -> Option<oneshot::Receiver<()>> {
        let (ended_sender, ended) = oneshot::channel();
        {
            let mut flights = self.flights();
            let flight =
                flights.get(number).filter(|flight| !matches!(flight.stage, Stage::Abandoned { .. }))?;
            flight.pump = None;
            let stage = std::mem::replace(&mut flight.stage, Stage::Abandoned { _ended: ended_sender });
            if let Stage::Streaming { body, .. } = &stage {
                let is_late = reason == CancelReason::Deadline;
                body.end(Err(if is_late { BodyError::TimedOut } else { BodyError::Disconnected }));
            }
        }
        let head = Head::new(Kind::Cancel, number).aux(reason as u16);
        self.outbox.send(|out| FrameWriter::new(out, head).finish(&[]));
        match self.room.language.manifest.cancel {
            Cancel::Frame => {}
            Cancel::Signal => self.room.signal(SIGUSR1),
            Cancel::Kill => {
                self.give_up(number);
                return None;
            }
        }
        Some(ended)
    }

    /// The guest does not stop working on a call: nothing new is given to it, and it is killed when no other call
    /// runs in it.
    fn give_up(&self, number: u32) {
        self.room
            .output
            .platform(LogLevel::Warn, "instance given up: a cancelled call did not end".to_owned());
        self.room.retire();
        let flight = self.flights().give_up(number);
        drop(flight);
        self.call_ended.notify_waiters();
    }

    /// Ends a call with `fault` and tells the guest to stop working on it.
    pub(super) fn refuse(self: Arc<Self>, number: u32, fault: Fault) {
        let stage = {
            let mut flights = self.flights();
            let running = flights
                .get(number)
                .filter(|flight| !matches!(flight.stage, Stage::Abandoned { .. } | Stage::Over));
            let Some(flight) = running else { return };
            std::mem::replace(&mut flight.stage, Stage::Over)
        };
        // Cancelled before the caller hears of it, who then asks whether the call has settled; and in a task of its
        // own, because cancelling ends the one that sends the body.
        tokio::spawn(self.cancel(number, CancelReason::CallerGone));
        match stage {
            Stage::Waiting(waiter) | Stage::Gathering(waiter, ..) => drop(waiter.send(Err(fault))),
            Stage::Streaming { body, .. } => body.end(Err(BodyError::Disconnected)),
            Stage::Abandoned { .. } | Stage::Over => {}
        }
    }

    /// Ends a streamed answer at its deadline.
    pub(super) fn watch_deadline(self: &Arc<Self>, number: u32, deadline: Instant) -> AbortOnDrop {
        let link = Arc::clone(self);
        AbortOnDrop(tokio::spawn(async move {
            tokio::time::sleep_until(deadline).await;
            // In a task of its own, because cancelling ends this one.
            tokio::spawn(link.cancel(number, CancelReason::Deadline));
        }))
    }
}

/// Cancels a call when it is dropped, unless it was disarmed: the caller is gone.
#[derive(Debug)]
pub(super) struct Cancelling {
    link: Option<Arc<Link>>,
    number: u32,
}

impl Cancelling {
    pub(super) fn new(link: Arc<Link>, number: u32) -> Self {
        Self { link: Some(link), number }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The call has ended, or is cancelled by somebody else.
    pub(super) fn disarm(&mut self) -> Option<Arc<Link>> {
        self.link.take()
    }

    /// The link, as long as the call has not ended.
    pub(super) fn link(&self) -> Option<&Arc<Link>> {
        self.link.as_ref()
    }
}

impl Drop for Cancelling {
    fn drop(&mut self) {
        if let (Some(link), Ok(runtime)) = (self.link.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(link.cancel(self.number, CancelReason::CallerGone));
        }
    }
}
