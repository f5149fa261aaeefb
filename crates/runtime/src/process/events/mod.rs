//! Guests that speak the protocol of `frames` with a shim: event handlers and applications of a language.
//!
//! The platform makes a socket pair, starts the shim with one end as descriptor 3, tells it what to load (INIT)
//! and waits for READY. A call writes its own INVOKE to the socket, without a task in between; one task reads
//! everything that comes back and hands it to the calls.
//!
//! ```text
//! call ---- outbox ----> socket ----> shim          outbox   frames out, in order, with what the socket refused
//!   ^                                   |           link     who waits for what; the reading task
//!   |                                   |           content  request bodies: in frames, in pieces, in shared memory
//!   +---- flights <---- reader <--------+           stream   bodies that come or go in pieces
//!                                                   cancel   calls that end early or are taken back
//! ```
//!
//! A guest that runs one call at a time, and says so, is given the next ones while one runs: they lie ready on its side
//! of the socket, so that neither side sleeps between two calls. What does not come to its turn soon is taken back.
//!
//! Not here: log lines once they are cut out of their frames, how a process is started, why it died (`room`).

mod answer;
mod cancel;
mod content;
mod flights;
mod invoke;
mod link;
mod outbox;
mod stream;

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, SpecError};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::arena::{ARENA_BYTES, Arena};
use super::cells::CODE_DIR;
use super::{Guest, Room, pipes};
use crate::frames::{Flags, FrameWriter, Head, Kind, PROTOCOL_VERSION};
use crate::language::Language;
use crate::{Ahead, Answer, BoxFuture, Call, VersionPlan};

use link::Link;

/// How long a guest may take to give back memory: a collection of a large heap, on a busy machine.
const REST_WAIT: Duration = Duration::from_millis(200);

/// Refuses a version whose handler cannot be told, or is in no file of the code.
pub(super) fn validate(plan: &VersionPlan, language: &Language) -> Result<(), SpecError> {
    match handler(plan, language) {
        Some(handler) if handler.contains('\0') || handler.is_empty() => {
            Err(SpecError { field: "handler", reason: format!("{handler:?} names no file and function") })
        }
        Some(handler) => match missing_file(plan, language, &handler) {
            Some(file) => {
                let reason =
                    format!("{handler:?} is in a file or folder {file:?}, which the code does not have");
                Err(SpecError { field: "handler", reason })
            }
            None => Ok(()),
        },
        None => {
            let files = language.manifest.entry_files.join(", ");
            Err(SpecError {
                field: "handler",
                reason: format!("none is named, and the code has none of {files}"),
            })
        }
    }
}

/// The first part of the handler's path, where nothing has that name: neither in the code nor in the folders of
/// the code that variables name, as `PYTHONPATH` does. Whether the file holds the handler shows when it is loaded.
fn missing_file<'a>(plan: &VersionPlan, language: &Language, handler: &'a str) -> Option<&'a str> {
    let first = handler.split(['/', '.']).find(|part| !part.is_empty())?;
    let values = language.manifest.env.values().chain(plan.spec.env.values());
    let named = values.flat_map(|value| value.split(':')).filter_map(|folder| folder.strip_prefix(CODE_DIR));
    let folders = std::iter::once("").chain(named);
    let is_it =
        |name: &str| name.strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let has_it = |folder: &str| {
        let entries = std::fs::read_dir(plan.code.join(folder.trim_start_matches('/')));
        entries.into_iter().flatten().flatten().any(|entry| entry.file_name().to_str().is_some_and(is_it))
    };
    (!folders.into_iter().any(has_it)).then_some(first)
}

/// The handler as the shim is told: what the spec names, or what the language makes of the file that is there.
fn handler(plan: &VersionPlan, language: &Language) -> Option<String> {
    plan.spec.handler.clone().or_else(|| {
        let entry = language.manifest.entry_files.iter().find(|file| plan.code.join(file).is_file());
        language.default_handler(Path::new(&entry.cloned().or_else(|| only_file(plan, language))?))
    })
}

/// Program and arguments that look for mistakes in the handler's file, to be run in the code's folder; `None` where the
/// language has no such program or the handler is in no file of its own.
#[must_use]
pub fn check_command(plan: &VersionPlan, language: &Language) -> Option<Vec<String>> {
    if language.manifest.check.is_empty() {
        return None;
    }
    let handler = handler(plan, language)?;
    // A handler may name the file alone.
    let stem = handler.rsplit_once('.').map_or(&*handler, |(stem, _name)| stem);
    let stems = [stem.to_owned(), stem.replace('.', "/")];
    let files = stems.iter().flat_map(|stem| {
        language.manifest.extensions.iter().map(move |extension| format!("{stem}.{extension}"))
    });
    let file = files.into_iter().find(|file| plan.code.join(file).is_file())?;
    let interpreter = language.interpreter.as_ref()?.to_string_lossy();
    let fill = |part: &String| part.replace("{interpreter}", &interpreter).replace("{file}", &file);
    Some(language.manifest.check.iter().map(fill).collect())
}

/// The one file of the code that is a function in this language, for a function that is a single file.
fn only_file(plan: &VersionPlan, language: &Language) -> Option<String> {
    let is_ours = |name: &String| {
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| language.manifest.extensions.iter().any(|e| e == extension))
    };
    let entries = std::fs::read_dir(&plan.code).ok()?;
    let mut files = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(is_ours);
    let first = files.next()?;
    files.next().is_none().then_some(first)
}

/// Starts the shim in the room and waits until it has loaded the code.
pub(super) async fn start(room: &Arc<Room>) -> Result<Box<dyn Guest>, Fault> {
    Ok(Box::new(Events::start(room).await?))
}

/// Has the process that waits in the room load the code to be forked. Gives its connection, which nobody reads any more,
/// or why nothing can be forked from it.
pub(super) async fn start_parent(room: &Arc<Room>) -> Result<Result<OwnedFd, String>, Fault> {
    let no_process = || Fault::new(ErrorCode::Internal, "no process waits in the room");
    let (socket, _) = room.adopt_waiting().ok_or_else(no_process)?;
    let init = init_frame(room, Role::Parent, None, &environment_block(&room.env))?;
    let connection = socket.as_fd().try_clone_to_owned().map_err(pipes::no_pipe)?;
    let (_, reader, ready) = greet(room, socket, None, &init).await?;
    drop(reader);
    Ok(if ready.obstacle.is_empty() { Ok(connection) } else { Err(ready.obstacle) })
}

/// Says INIT over a shim's socket and waits for READY.
async fn greet(
    room: &Arc<Room>,
    socket: UnixStream,
    arena: Option<Arc<Arena>>,
    init: &[u8],
) -> Result<(Arc<Link>, AbortOnDrop, Ready), Fault> {
    let (told, ready) = oneshot::channel();
    let socket = socket.into_std().map_err(pipes::no_pipe)?;
    let (link, reader) = Link::open(Arc::clone(room), socket, arena, told).map_err(pipes::no_pipe)?;
    link.outbox.send(|out| out.extend_from_slice(init));
    let reader = AbortOnDrop(tokio::spawn(Arc::clone(&link).read(reader)));
    let died = |_| room.fault(ErrorCode::InitFailed, "the function's process ended before it was ready");
    let ready = ready.await.map_err(died)??;
    Ok((link, reader, ready))
}

/// What a process is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// To serve calls.
    Instance,
    /// To be forked into instances.
    Parent,
}

/// The environment as the body of INIT.
fn environment_block(env: &BTreeMap<String, String>) -> Vec<u8> {
    let texts: Vec<&str> = env.iter().flat_map(|(name, value)| [name.as_str(), value]).collect();
    texts.join("\0").into_bytes()
}

/// INIT; `environment` is empty where the process was started with it.
fn init_frame(
    room: &Room,
    role: Role,
    arena: Option<&Arc<Arena>>,
    environment: &[u8],
) -> Result<Vec<u8>, Fault> {
    let plan = &room.plan;
    let handler = handler(plan, &room.language)
        .ok_or_else(|| Fault::new(ErrorCode::InitFailed, "the function names no handler"))?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut out = Vec::new();
    let mut frame = FrameWriter::new(&mut out, Head::new(Kind::Init, 0).aux(PROTOCOL_VERSION));
    for (name, value) in [
        ("handler", handler),
        ("namespace", plan.key.namespace.to_string()),
        ("function", plan.key.function.to_string()),
        ("version", plan.key.version.to_string()),
        ("instance", room.id.to_string()),
        ("memory_mb", plan.spec.memory_mb.to_string()),
        ("timeout_ms", plan.spec.timeout_ms.to_string()),
        ("concurrency", plan.spec.concurrency.to_string()),
        ("response_bytes_max", plan.spec.response_bytes_max.to_string()),
        ("cpus", cpus.to_string()),
    ] {
        frame.field(name.as_bytes());
        frame.field(value.as_bytes());
    }
    if arena.is_some() && room.socket_body_bytes_max < ARENA_BYTES.into() {
        for (name, value) in
            [("arena_bytes", ARENA_BYTES.into()), ("socket_body_bytes_max", room.socket_body_bytes_max)]
        {
            frame.field(name.as_bytes());
            frame.field(value.to_string().as_bytes());
        }
    }
    if !environment.is_empty() {
        frame.field(b"code");
        frame.field(CODE_DIR.as_bytes());
    }
    if role == Role::Parent {
        frame.field(b"parent");
        frame.field(b"yes");
    }
    frame.finish(environment);
    Ok(out)
}

/// How a guest takes calls and their bodies and gives the bodies of its responses, as READY said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Modes {
    streams_requests: bool,
    streams_responses: bool,
    /// Whether a call may be sent before the one that runs has ended.
    takes_ahead: bool,
    /// Whether long bodies may go through shared memory.
    shares_memory: bool,
}

/// What READY said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Ready {
    modes: Modes,
    /// Why nothing can be forked from the process, where it was started for that; empty where something can.
    obstacle: String,
}

/// A guest with a shim.
#[derive(Debug)]
struct Events {
    link: Arc<Link>,
    modes: Modes,
    _reader: AbortOnDrop,
}

impl Events {
    async fn start(room: &Arc<Room>) -> Result<Self, Fault> {
        let (socket, arena, init) = match room.adopt_waiting() {
            Some((socket, arena)) => {
                let init = init_frame(room, Role::Instance, arena.as_ref(), &environment_block(&room.env))?;
                (socket, arena, init)
            }
            None => {
                let (ours, inside) = pipes::socket_pair()?;
                let (arena, arena_inside) = Arena::open(&room.language).unzip();
                let init = init_frame(room, Role::Instance, arena.as_ref(), &[])?;
                let inside = std::iter::once(inside).chain(arena_inside).collect();
                room.launch(room.language.command(), inside).await?;
                (ours, arena, init)
            }
        };
        let (link, reader, ready) = greet(room, socket, arena, &init).await?;
        Ok(Self { link, modes: ready.modes, _reader: reader })
    }

    /// Asks the guest to give back what it can, and waits until it has.
    async fn quiesce(&self) {
        let mut rested = std::pin::pin!(self.link.rested.notified());
        // From now on, so that an answer is not missed.
        rested.as_mut().enable();
        let head = Head::new(Kind::Rest, 0).flags(Flags::SKIPPABLE);
        self.link.outbox.send(|out| FrameWriter::new(out, head).finish(&[]));
        rested.await;
    }
}

#[derive(Debug)]
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Guest for Events {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(invoke::run(&self.link, self.modes, call))
    }

    fn takes_ahead(&self) -> bool {
        self.modes.takes_ahead
    }

    fn call_ahead(&self, call: Call) -> BoxFuture<'_, Ahead> {
        Box::pin(invoke::run_ahead(&self.link, self.modes, call))
    }

    fn hint_waiting(&self, waiting: usize) {
        self.link.set_waiting(waiting > 0);
    }

    fn settled(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.link.settled())
    }

    fn rest(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A guest that does not know the word says nothing.
            let _ = tokio::time::timeout(REST_WAIT, self.quiesce()).await;
            self.link.rest();
        })
    }

    fn finish(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let grace_ms = u16::try_from(grace.as_millis()).unwrap_or(u16::MAX);
            let head = Head::new(Kind::Shutdown, 0).aux(grace_ms);
            self.link.outbox.send(|out| FrameWriter::new(out, head).finish(&[]));
            self.link.room.ended().await;
        })
    }
}

#[cfg(test)]
mod tests;
