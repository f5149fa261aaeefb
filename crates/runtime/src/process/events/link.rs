//! The connection to one guest: what goes out, what comes back, and what happens when either breaks.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, LogLevel, LogStream};
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use super::super::Room;
use super::super::arena::{Arena, Place, PlaceError};
use super::flights::{Flight, Flights, Misplaced, Reply, Stage};
use super::outbox::Outbox;
use super::stream::OverWindow;
use super::{Modes, Ready, answer};
use crate::frames::{
    CancelReason, Decoder, FailClass, Flags, Frame, FrameError, Kind, PROTOCOL_VERSION, pairs,
};

/// Time that the other one of socket and process has to end after the first: frames in flight, an exit status.
const END_WAIT: Duration = Duration::from_millis(500);

/// One guest's connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) room: Arc<Room>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) arena: Option<Arc<Arena>>,
    flights: Mutex<Flights>,
    ready: Mutex<Option<oneshot::Sender<Result<Ready, Fault>>>>,
    pub(super) call_ended: Notify,
    /// Told when the guest has done what comes before a rest.
    pub(super) rested: Notify,
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
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("it speaks version {0} of the protocol, not {PROTOCOL_VERSION}")]
    Version(u16),
}

impl Link {
    /// The link over `socket`, which must not block, and `arena`, and what to give to [`Link::read`]. `ready` is told how
    /// the start went.
    pub(super) fn open(
        room: Arc<Room>,
        socket: UnixStream,
        arena: Option<Arc<Arena>>,
        ready: oneshot::Sender<Result<Ready, Fault>>,
    ) -> io::Result<(Arc<Self>, pipe::Receiver)> {
        // The end of a pipe, since of tokio's types only that is watched for reading alone. See `Outbox` for writing.
        let reader = pipe::Receiver::from_owned_fd_unchecked(socket.try_clone()?.into())?;
        let link = Self {
            flights: Mutex::new(Flights::new(Arc::clone(&room))),
            room,
            outbox: Outbox::new(socket),
            arena,
            ready: Mutex::new(Some(ready)),
            call_ended: Notify::new(),
            rested: Notify::new(),
            is_waiting: AtomicBool::new(false),
        };
        Ok((Arc::new(link), reader))
    }

    /// Remembers for the next call whether others are queued.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.store(is_waiting, Ordering::Relaxed);
    }

    /// Whether others were queued when the pool last said so; asked once for each hint.
    pub(super) fn take_waiting(&self) -> bool {
        self.is_waiting.swap(false, Ordering::Relaxed)
    }

    /// Gives shared memory back, unless a call has come meanwhile.
    pub(super) fn rest(&self) {
        let flights = self.flights();
        if let Some(arena) = self.arena.as_ref().filter(|_| flights.is_empty()) {
            arena.give_back();
        }
    }

    pub(super) fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads frames until the guest is gone, then ends every call that is left.
    pub(super) async fn read(self: Arc<Self>, mut socket: pipe::Receiver) {
        let ended = {
            let mut reading = std::pin::pin!(self.read_frames(&mut socket));
            tokio::select! {
                biased;
                ended = &mut reading => ended,
                never = self.outbox.send_gathered() => match never {},
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

    async fn read_frames(self: &Arc<Self>, socket: &mut pipe::Receiver) -> Result<(), Violation> {
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
            Kind::Rested => {
                self.rested.notify_waiters();
                Ok(())
            }
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
        let says_yes = |wanted: &[u8]| pairs(frame.meta()).flatten().any(|pair| pair == (wanted, b"yes"));
        let modes = Modes {
            streams_requests: says_stream(b"request"),
            streams_responses: says_stream(b"response"),
            takes_ahead: self.room.plan.spec.concurrency == 1 && says_yes(b"ahead"),
            shares_memory: says_yes(b"arena"),
        };
        let obstacle = pairs(frame.meta()).flatten().find(|(name, _)| name == b"obstacle");
        let obstacle = obstacle.map(|(_, text)| String::from_utf8_lossy(text).into_owned());
        let _ = ready.send(Ok(Ready { modes, obstacle: obstacle.unwrap_or_default() }));
        Ok(())
    }

    /// The head of an answer, with its body or with the announcement of more.
    fn reply(self: &Arc<Self>, number: u32, frame: Frame) -> Result<(), Violation> {
        let unexpected = Violation::Unexpected(frame.head.kind);
        let place = self.place_of(&frame)?;
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
        let shared = place.map(|(arena, place)| self.take_from(arena, place));
        let body = shared.unwrap_or_else(|| Ok(frame.body()));
        match flight.into_stage() {
            Stage::Waiting(waiter) => {
                let reply = body.map(|body| Reply::Whole(frame, body, begun_at));
                let _ = waiter.send(reply);
                Ok(())
            }
            Stage::Abandoned { .. } => Ok(()),
            Stage::Gathering(..) | Stage::Streaming { .. } | Stage::Over => Err(unexpected),
        }
    }

    /// Where the body of an answer lies in shared memory, if it does.
    fn place_of(&self, frame: &Frame) -> Result<Option<(&Arc<Arena>, Place)>, Violation> {
        if !frame.head.flags.has(Flags::ARENA) {
            return Ok(None);
        }
        let arena = self.arena.as_ref().filter(|_| !frame.head.flags.has(Flags::MORE));
        let arena = arena.ok_or(Violation::Unexpected(frame.head.kind))?;
        Ok(Some((arena, Place::of_answer(frame.body_bytes())?)))
    }

    /// A copy of an answer's body in shared memory.
    fn take_from(&self, arena: &Arena, place: Place) -> Result<Bytes, Fault> {
        let limit_bytes = self.room.plan.spec.response_bytes_max;
        let is_small = place.length() <= limit_bytes;
        let body = if is_small { arena.take_answer(place) } else { Err(answer::too_large(limit_bytes)) };
        arena.count_taken();
        body
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
        let fault = match self.room.lost_a_process_to_memory() {
            // What the handler says then is an effect, and what else was killed is not known.
            true => {
                self.room.retire();
                self.room.out_of_memory()
            }
            false => answer::fault_of(&self.room, class, frame.body_bytes()),
        };
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
        let id = self.flights().get(frame.head.call).map(|flight| flight.call.id.clone());
        for text in answer::log_lines(frame.body_bytes()) {
            self.room.output.line(id.as_ref(), stream, level, text);
        }
    }

    fn lock_ready(&self) -> MutexGuard<'_, Option<oneshot::Sender<Result<Ready, Fault>>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_ready(&self) -> Option<oneshot::Sender<Result<Ready, Fault>>> {
        self.lock_ready().take()
    }
}

/// A failure before READY is a failure to start, except where the reason says more.
const fn as_init(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::OutOfMemory => ErrorCode::OutOfMemory,
        _ => ErrorCode::InitFailed,
    }
}
