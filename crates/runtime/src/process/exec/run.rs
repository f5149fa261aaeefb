//! One running program: its input being fed, its output being read, its end being awaited, all at once.
//!
//! Nothing here holds more than one chunk of either body, so a body of any size passes with the same memory, and
//! a program that does not read its input cannot keep its answer from being read.

use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, LogLevel};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::cgi::OutputForm;
use crate::buffers::request_fault;
use crate::process::room::{Room, Running, describe};
use crate::{Answer, Body, BodyError, Process, ProcessExit};

/// Bytes of the output read at once: the capacity of a pipe.
const CHUNK_BYTES: usize = 64 * 1024;
/// Output that is held back at most until the program has ended well: a small answer is then whole, with its
/// length, and a failure after it is still told as a fault.
const HELD_BYTES: usize = 64 * 1024;
/// How long output is held back: nobody notices it, and most small programs have ended by then.
const HELD_FOR: Duration = Duration::from_millis(10);
/// How long the last lines of a program that failed are waited for.
const LAST_LINES_WAIT: Duration = Duration::from_millis(100);
const SIGKILL: i32 = 9;

/// The right to run a program in the cell. When it is dropped everything in the cell is killed, and the next call
/// has its turn once that is done.
#[derive(Debug)]
pub(super) struct Turn {
    room: Arc<Room>,
    process: Option<Arc<dyn Process>>,
    held: Option<(Running, OwnedMutexGuard<()>)>,
    runtime: tokio::runtime::Handle,
}

impl Turn {
    pub(super) fn new(room: &Arc<Room>, running: Running, turn: OwnedMutexGuard<()>) -> Self {
        let runtime = tokio::runtime::Handle::current();
        Self { room: Arc::clone(room), process: None, held: Some((running, turn)), runtime }
    }

    /// Kills `process` as well when this is dropped, and at once.
    pub(super) fn kills_on_drop(&mut self, process: Arc<dyn Process>) {
        self.process = Some(process);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else { return };
        process.signal(SIGKILL);
        let (room, held) = (Arc::clone(&self.room), self.held.take());
        self.runtime.spawn(async move {
            room.cell.sweep().await;
            drop(held);
        });
    }
}

/// A request body that broke off, with the program's input: it stays open, so that the program cannot take what
/// it has read for the whole.
#[derive(Debug)]
pub(super) struct Torn {
    error: BodyError,
    _stdin: pipe::Sender,
}

/// Writes `body` to the program's input. A program that does not want all of it is no error.
pub(super) async fn feed(mut body: Body, mut stdin: pipe::Sender) -> Result<(), Torn> {
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data(),
            Err(error) => return Err(Torn { error, _stdin: stdin }),
        };
        if let Ok(data) = data
            && stdin.write_all(&data).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

type Feed = AbortOnDropHandle<Result<(), Torn>>;

/// A program that runs for a call.
#[derive(Debug)]
pub(super) struct Run {
    turn: Turn,
    process: Arc<dyn Process>,
    stdout: pipe::Receiver,
    stdout_is_open: bool,
    exit: Option<ProcessExit>,
    log: Option<JoinHandle<()>>,
    feed: Option<Feed>,
    buffer: BytesMut,
    deadline: Instant,
    oom_kills_before: u64,
}

/// What happened next.
enum Event {
    Output(Bytes),
    Ended(ProcessExit),
    TimedOut,
    Torn(BodyError),
}

/// The ends of a program that matter to it.
pub(super) struct Pipes {
    pub(super) stdout: pipe::Receiver,
    pub(super) log: JoinHandle<()>,
    pub(super) feed: Feed,
}

impl Run {
    pub(super) fn new(turn: Turn, process: Arc<dyn Process>, pipes: Pipes, deadline: Instant) -> Self {
        let oom_kills_before = turn.room.cell.oom_kills();
        Self {
            turn,
            process,
            stdout: pipes.stdout,
            stdout_is_open: true,
            exit: None,
            log: Some(pipes.log),
            feed: Some(pipes.feed),
            buffer: BytesMut::new(),
            deadline,
            oom_kills_before,
        }
    }

    /// Waits for the head of the answer.
    pub(super) async fn answer(mut self, form: OutputForm) -> Result<Answer, Fault> {
        let mut held = BytesMut::new();
        let mut hold_until = None;
        let mut parser = form.parser();
        loop {
            let event = match hold_until {
                // A head is waited for as long as the call may take; what follows it only shortly.
                Some(until) if parser.is_done() => tokio::time::timeout_at(until, self.next()).await.ok(),
                _ => Some(self.next().await),
            };
            match event {
                Some(Event::Output(bytes)) => {
                    held.extend_from_slice(&bytes);
                    parser.look_at(&mut held).map_err(|reason| self.bad_head(&reason))?;
                    hold_until.get_or_insert_with(|| Instant::now() + HELD_FOR);
                    if !parser.is_done() || held.len() < HELD_BYTES {
                        continue;
                    }
                }
                Some(Event::Ended(ProcessExit::Code(0))) => {
                    let head = parser.finish().map_err(|reason| self.bad_head(&reason))?;
                    return Ok(head.answer(Body::full(held.freeze())));
                }
                Some(Event::Ended(exit)) => return Err(self.failed(exit).await),
                Some(Event::TimedOut) => return Err(self.turn.room.timed_out()),
                Some(Event::Torn(error)) => return Err(request_fault(&error)),
                None => {}
            }
            let head = parser.finish().map_err(|reason| self.bad_head(&reason))?;
            return Ok(head.answer(self.into_body(held.freeze())));
        }
    }

    /// Waits for the next thing to happen. May be dropped and called again.
    async fn next(&mut self) -> Event {
        loop {
            if let Some(exit) = self.exit {
                // What it wrote is in the pipe already; whoever else holds the pipe open is not waited for.
                return self.take_rest().map_or(Event::Ended(exit), Event::Output);
            }
            self.buffer.reserve(CHUNK_BYTES);
            tokio::select! {
                biased;
                read = self.stdout.read_buf(&mut self.buffer), if self.stdout_is_open => match read {
                    Ok(1..) => return Event::Output(self.buffer.split().freeze()),
                    Ok(0) | Err(_) => self.stdout_is_open = false,
                },
                exit = self.process.wait() => self.exit = Some(exit),
                error = torn(&mut self.feed) => return Event::Torn(error),
                () = tokio::time::sleep_until(self.deadline) => return Event::TimedOut,
            }
        }
    }

    /// Output that lies in the pipe of a program that has ended.
    fn take_rest(&mut self) -> Option<Bytes> {
        let mut chunk = vec![0; CHUNK_BYTES];
        // Straight from the descriptor: the runtime may not have heard yet that there is something to read.
        let read = rustix::io::read(&self.stdout, &mut chunk).unwrap_or(0);
        chunk.truncate(read);
        (read > 0).then(|| Bytes::from(chunk))
    }

    /// The rest of the output, after `first`.
    fn into_body(self, first: Bytes) -> Body {
        let whole = stream::unfold((Some(first), Some(self)), |(first, run)| async move {
            let mut run = run?;
            if let Some(first) = first.filter(|first| !first.is_empty()) {
                return Some((Ok(Frame::data(first)), (None, Some(run))));
            }
            match run.next().await {
                Event::Output(bytes) => Some((Ok(Frame::data(bytes)), (None, Some(run)))),
                Event::Ended(ProcessExit::Code(0)) => None,
                Event::Ended(exit) => Some((Err(run.broke_off(exit)), (None, None))),
                Event::TimedOut => Some((Err(run.ran_over()), (None, None))),
                Event::Torn(error) => Some((Err(error), (None, None))),
            }
        });
        Body::stream(StreamBody::new(whole))
    }

    async fn failed(&mut self, exit: ProcessExit) -> Fault {
        if let Some(log) = self.log.take() {
            let _ = tokio::time::timeout(LAST_LINES_WAIT, log).await;
        }
        let room = &self.turn.room;
        if room.cell.oom_kills() > self.oom_kills_before {
            return room.out_of_memory();
        }
        match exit {
            ProcessExit::Code(code) => {
                room.fault(ErrorCode::HandlerError, format!("the program failed with exit status {code}"))
            }
            exit => room.crashed(exit),
        }
    }

    fn broke_off(&self, exit: ProcessExit) -> BodyError {
        let reason = format!("the program failed in the middle of its answer: {}", describe(exit));
        self.turn.room.output.platform(LogLevel::Error, reason.clone());
        BodyError::Malformed { reason }
    }

    fn ran_over(&self) -> BodyError {
        let text = format!("the answer was broken off: {}", self.turn.room.timed_out());
        self.turn.room.output.platform(LogLevel::Error, text);
        BodyError::TimedOut
    }

    fn bad_head(&self, reason: &str) -> Fault {
        self.turn.room.fault(ErrorCode::BadResponse, format!("the CGI header block is not valid: {reason}"))
    }
}

/// Waits until the request's body breaks off, which mostly never happens.
async fn torn(feed: &mut Option<Feed>) -> BodyError {
    if let Some(running) = feed {
        let fed = running.await;
        *feed = None;
        if let Ok(Err(torn)) = fed {
            return torn.error;
        }
    }
    std::future::pending().await
}
