//! The connection to one guest: what goes out, what comes back, and what happens when either breaks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, LogLevel, LogStream};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use super::super::Room;
use super::flights::{Flight, Flights, Misplaced, Reply, Stage};
use super::outbox::Outbox;
use super::stream::OverWindow;
use super::{AbortOnDrop, Modes, answer};
use crate::BodyError;
use crate::frames::{
    CancelReason, Decoder, FailClass, Flags, Frame, FrameError, FrameWriter, Head, Kind, PROTOCOL_VERSION,
    pairs,
};
use crate::language::Cancel;

/// Time that cancelled user code has to end before its instance is given up.
const CANCEL_GRACE: Duration = Duration::from_millis(250);
const SIGUSR1: i32 = 10;
/// Time that the other one of socket and process has to end after the first: frames in flight, an exit status.
const END_WAIT: Duration = Duration::from_millis(500);

/// One guest's connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) room: Arc<Room>,
    pub(super) outbox: Arc<Outbox>,
    flights: Mutex<Flights>,
    ready: Mutex<Option<oneshot::Sender<Result<Modes, Fault>>>>,
    call_ended: Notify,
    is_waiting: AtomicBool,
}

/// The guest does not keep to the protocol.
#[derive(Debug, thiserror::Error)]
enum Violation {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it sent {0:?}, which is not its to send now")]
    Unexpected(Kind),
    #[error("it sent more of a body than it may")]
    OverWindow,
    #[error("it speaks version {0} of the protocol, not {PROTOCOL_VERSION}")]
    Version(u16),
}

impl Link {
    /// The link over `socket`, and the half to give to [`Link::read`]. `ready` is told how the start went.
    pub(super) fn open(
        room: Arc<Room>,
        socket: UnixStream,
        ready: oneshot::Sender<Result<Modes, Fault>>,
    ) -> (Arc<Self>, OwnedReadHalf) {
        let (reader, writer) = socket.into_split();
        let link = Self {
            flights: Mutex::new(Flights::new(Arc::clone(&room))),
            room,
            outbox: Outbox::new(writer),
            ready: Mutex::new(Some(ready)),
            call_ended: Notify::new(),
            is_waiting: AtomicBool::new(false),
        };
        (Arc::new(link), reader)
    }

    /// Remembers for the next call whether others are queued.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::Relaxed);
    }

    /// Whether others were queued when the pool last said so; asked once for each hint.
    pub(super) fn take_waiting(&self) -> bool {
        self.is_waiting.swap(false, Ordering::Relaxed)
    }

    pub(super) fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads frames until the guest is gone, then ends every call that is left.
    pub(super) async fn read(self: Arc<Self>, mut socket: OwnedReadHalf) {
        let ended = {
            let mut reading = std::pin::pin!(self.read_frames(&mut socket));
            tokio::select! {
                biased;
                ended = &mut reading => ended,
                _ = self.room.ended() => timeout(END_WAIT, reading).await.unwrap_or(Ok(())),
            }
        };
        let fault = match ended {
            Err(violation) => self.protocol_broken(&violation),
            Ok(()) => self.connection_ended().await,
        };
        self.room.retire();
        if let Some(ready) = self.take_ready() {
            let _ = ready.send(Err(Fault { code: as_init(fault.code), ..fault.clone() }));
        }
        let left = self.flights().drain();
        for flight in left {
            flight.lose(&fault);
        }
        self.call_ended.notify_waiters();
    }

    async fn read_frames(self: &Arc<Self>, socket: &mut OwnedReadHalf) -> Result<(), Violation> {
        let mut decoder = Decoder::new();
        loop {
            // A socket that cannot be read has ended, whatever the reason.
            let Ok(read @ 1..) = socket.read_buf(decoder.read_buffer()).await else { return Ok(()) };
            while let Some(frame) = decoder.next_frame()? {
                self.dispatch(frame)?;
            }
            self.room.output.hold_back_flood(read).await;
        }
    }

    fn protocol_broken(&self, violation: &Violation) -> Fault {
        self.room.output.platform(LogLevel::Error, format!("instance killed: {violation}"));
        let message = "the function's process wrote something else than answers to the platform's socket";
        self.room.fault(ErrorCode::BadResponse, message)
    }

    async fn connection_ended(&self) -> Fault {
        let is_start = self.lock_ready().is_some();
        match timeout(END_WAIT, self.room.ended()).await {
            Ok(exit) if is_start => self.room.init_failed(exit),
            Ok(exit) => self.room.crashed(exit),
            Err(_) => {
                let message = "the function's process closed its connection to the platform";
                self.room.fault(ErrorCode::FunctionCrashed, message)
            }
        }
    }

    fn dispatch(self: &Arc<Self>, frame: Frame) -> Result<(), Violation> {
        let number = frame.head.call;
        match frame.head.kind {
            Kind::Reply | Kind::Result => self.reply(number, frame),
            Kind::Data => self.data(number, &frame),
            Kind::Log => {
                self.log(&frame);
                Ok(())
            }
            Kind::Fail => {
                self.fail(number, &frame);
                Ok(())
            }
            Kind::Credit => self.credit(number, &frame),
            Kind::Ready => self.is_ready(&frame),
            Kind::Pong | Kind::Bye => Ok(()),
            kind => Err(Violation::Unexpected(kind)),
        }
    }

    fn is_ready(&self, frame: &Frame) -> Result<(), Violation> {
        if frame.head.aux != PROTOCOL_VERSION {
            return Err(Violation::Version(frame.head.aux));
        }
        let ready = self.take_ready().ok_or(Violation::Unexpected(Kind::Ready))?;
        let says_stream =
            |wanted: &[u8]| pairs(frame.meta()).flatten().any(|pair| pair == (wanted, b"stream"));
        let modes = Modes {
            streams_requests: says_stream(b"request"),
            streams_responses: says_stream(b"response"),
            takes_ahead: self.room.plan.spec.concurrency == 1
                && pairs(frame.meta()).flatten().any(|pair| pair == (b"ahead", b"yes")),
        };
        let _ = ready.send(Ok(modes));
        Ok(())
    }

    /// The head of an answer, with its body or with the announcement of more.
    fn reply(self: &Arc<Self>, number: u32, frame: Frame) -> Result<(), Violation> {
        let unexpected = Violation::Unexpected(frame.head.kind);
        let mut flights = self.flights();
        if frame.head.flags.has(Flags::MORE) {
            let Some(deadline) = flights.deadline(number) else { return Err(unexpected) };
            let Some(flight) = flights.get(number) else { return Err(unexpected) };
            let watch = || self.watch_deadline(number, deadline);
            return flight.expect_more(frame, watch).map_err(|Misplaced| unexpected);
        }
        let Some(begun_at) = flights.begun_at(number) else { return Err(unexpected) };
        let Some(flight) = flights.ended(number) else { return Err(unexpected) };
        drop(flights);
        self.call_ended.notify_waiters();
        match flight.into_stage() {
            Stage::Waiting(waiter) => {
                let body = frame.body();
                let _ = waiter.send(Ok(Reply::Whole(frame, body, begun_at)));
                Ok(())
            }
            Stage::Abandoned { .. } => Ok(()),
            Stage::Gathering(..) | Stage::Streaming { .. } | Stage::Over => Err(unexpected),
        }
    }

    fn data(self: &Arc<Self>, number: u32, frame: &Frame) -> Result<(), Violation> {
        let mut flights = self.flights();
        let Some(flight) = flights.get(number) else { return Err(Violation::Unexpected(Kind::Data)) };
        let limit = self.room.plan.spec.response_bytes_max;
        let is_last = frame.head.flags.has(Flags::END);
        if !flight.take_piece(frame.body(), limit).map_err(|OverWindow| Violation::OverWindow)? && !is_last {
            drop(flights);
            tokio::spawn(Arc::clone(self).cancel(number, CancelReason::CallerGone));
            return Ok(());
        }
        if !is_last {
            return Ok(());
        }
        let begun_at = flights.begun_at(number);
        let ended = flights.ended(number);
        drop(flights);
        self.call_ended.notify_waiters();
        match ended.map(Flight::into_stage) {
            Some(Stage::Gathering(waiter, head, body)) => drop(waiter.send(Ok(Reply::Whole(
                head,
                body.freeze(),
                begun_at.unwrap_or_else(Instant::now),
            )))),
            Some(Stage::Streaming { body, .. }) => body.end(Ok(())),
            _ => {}
        }
        Ok(())
    }

    fn credit(&self, number: u32, frame: &Frame) -> Result<(), Violation> {
        let bytes = frame.body_bytes().first_chunk().ok_or(Violation::Unexpected(Kind::Credit))?;
        // Credit for a call that has just ended comes too late and means nothing.
        let credit = self.flights().get(number).and_then(|flight| flight.credit.clone());
        credit
            .map_or(Ok(()), |credit| credit.grant(u32::from_le_bytes(*bytes)))
            .map_err(|OverWindow| Violation::OverWindow)
    }

    fn fail(&self, number: u32, frame: &Frame) {
        let class = FailClass::from_number(frame.head.aux);
        if class == FailClass::NotBegun {
            return self.returned(number);
        }
        let fault = answer::fault_of(&self.room, class, frame.body_bytes());
        if let Some(ready) = self.take_ready() {
            let _ = ready.send(Err(Fault { code: as_init(fault.code), ..fault }));
        } else if let Some(flight) = { self.flights().ended(number) } {
            flight.fail(fault);
            self.call_ended.notify_waiters();
        }
    }

    /// The guest has given back a call that was sent ahead. That it has not begun is known here as well.
    fn returned(&self, number: u32) {
        let flight = {
            let mut flights = self.flights();
            if flights.has_not_begun(number) { flights.ended(number) } else { None }
        };
        if let Some(flight) = flight {
            flight.give_back();
            self.call_ended.notify_waiters();
        }
    }

    fn log(&self, frame: &Frame) {
        let [level, stream] = frame.head.aux.to_le_bytes();
        let stream = if stream == 2 { LogStream::Stderr } else { LogStream::Stdout };
        let level = match level {
            0 => LogLevel::Debug,
            2 => LogLevel::Warn,
            3 => LogLevel::Error,
            _ => LogLevel::Info,
        };
        let id = self.flights().get(frame.head.call).map(|flight| flight.id.clone());
        for text in answer::log_lines(frame.body_bytes()) {
            self.room.output.line(id.as_ref(), stream, level, text);
        }
    }

    fn lock_ready(&self) -> MutexGuard<'_, Option<oneshot::Sender<Result<Modes, Fault>>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_ready(&self) -> Option<oneshot::Sender<Result<Modes, Fault>>> {
        self.lock_ready().take()
    }

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
        let waiter =
            self.flights().get(number).map(|flight| std::mem::replace(&mut flight.stage, Stage::Over));
        match waiter {
            Some(Stage::Waiting(waiter) | Stage::Gathering(waiter, ..)) => drop(waiter.send(Err(fault))),
            Some(Stage::Streaming { body, .. }) => body.end(Err(BodyError::Disconnected)),
            Some(Stage::Abandoned { .. } | Stage::Over) | None => return,
        }
        // In a task of its own, because cancelling ends the one that sends the body.
        tokio::spawn(self.cancel(number, CancelReason::CallerGone));
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

/// A failure before READY is a failure to start, except where the reason says more.
const fn as_init(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::OutOfMemory => ErrorCode::OutOfMemory,
        _ => ErrorCode::InitFailed,
    }
}
