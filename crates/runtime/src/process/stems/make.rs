//! Making one stem: a cell for nobody in particular, with the language's process in it where the language has one
//! that can wait.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, FunctionSpec, Network};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

use super::super::arena::Arena;
use super::super::cells::{limited, listeners, shim_mount};
use super::super::{environment, pipes};
use crate::frames::{FrameWriter, HEADER_BYTES, Head, Kind};
use crate::language::Language;
use crate::{
    Cell, DOOR_PORT, EGRESS_PROXY_PORT, GATEWAY_PORT, Launcher, Parent, Process, ProcessSpec, ZygoteSpec,
};

/// How long a process may take to get warm: many times what the slowest language needs on a busy machine.
const WARM_WAIT: Duration = Duration::from_secs(10);
/// Where a process waits: the code is not there yet.
const WAITING_DIR: &str = "/";

/// A cell that waits for a function.
#[derive(Debug)]
pub(crate) struct Stem {
    /// Prepared for nobody; [`Cell::specialise`] comes next.
    pub(crate) cell: Arc<dyn Cell>,
    /// The process in it, which waits for INIT.
    pub(crate) waiting: Option<Waiting>,
}

/// A process that waits for INIT.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) process: Arc<dyn Process>,
    /// The platform's end of its socket.
    pub(crate) socket: UnixStream,
    /// The memory that it shares with the platform.
    pub(crate) arena: Option<Arc<Arena>>,
    /// Its standard output and standard error.
    pub(crate) output: [pipe::Receiver; 2],
}

/// Makes a stem for functions in `language`, with the limits that a function has by default, because most have them.
pub(super) async fn make(launcher: &dyn Launcher, language: &Language) -> Result<Stem, Fault> {
    let usual = FunctionSpec { network: Network::None, ..FunctionSpec::new(&language.name) };
    // What the function may use shows later; for the rest, nobody ever listens.
    let ports = listeners(language).into_iter().chain([EGRESS_PROXY_PORT, DOOR_PORT, GATEWAY_PORT]).collect();
    let spec = limited(&usual, ports, shim_mount(language).into_iter().collect());
    let cell: Arc<dyn Cell> = Arc::from(launcher.prepare(spec).await?);
    let waiting = match language.manifest.stem {
        Some(_) => Some(start_warm(launcher, &*cell, language).await?),
        None => None,
    };
    Ok(Stem { cell, waiting })
}

async fn start_warm(launcher: &dyn Launcher, cell: &dyn Cell, language: &Language) -> Result<Waiting, Fault> {
    let begin = async {
        let mut waiting = match zygote_of(launcher, language) {
            Some(zygote) => fork(cell, Parent::Runtime(zygote), Arena::open(language)).await?,
            None => start(cell, language).await?,
        };
        warm(&mut waiting.socket).await.map_err(|error| not_warm(&error.to_string()))?;
        Ok(waiting)
    };
    let late = |_| not_warm(&format!("it took longer than {} s", WARM_WAIT.as_secs()));
    tokio::time::timeout(WARM_WAIT, begin).await.map_err(late)?
}

/// The zygote that processes of the language are forked from, where they can be.
pub(super) fn zygote_of(launcher: &dyn Launcher, language: &Language) -> Option<ZygoteSpec> {
    let argv = language.zygote_command().filter(|_| launcher.can_fork())?;
    let mounts = shim_mount(language).into_iter().collect();
    Some(ZygoteSpec { argv, env: environment::of_stem(language), mounts })
}

/// Has a process forked that waits for INIT or WARM.
///
/// `arena` is the memory that it is to share with the platform, and its own descriptor of it.
pub(crate) async fn fork(
    cell: &dyn Cell,
    parent: Parent,
    arena: Option<(Arc<Arena>, OwnedFd)>,
) -> Result<Waiting, Fault> {
    let Ends { socket, arena, output, inside } = ends(arena)?;
    let process = Arc::from(cell.fork(parent, inside).await?);
    Ok(Waiting { process, socket, arena, output })
}

/// Starts a process that waits for INIT or WARM.
async fn start(cell: &dyn Cell, language: &Language) -> Result<Waiting, Fault> {
    let Ends { socket, arena, output, inside } = ends(Arena::open(language))?;
    let spec = ProcessSpec {
        argv: language.command(),
        env: environment::of_stem(language),
        cwd: WAITING_DIR.to_owned(),
        fds: inside,
    };
    let process = Arc::from(cell.start(spec).await?);
    Ok(Waiting { process, socket, arena, output })
}

/// Both sides of what a process has open.
struct Ends {
    socket: UnixStream,
    arena: Option<Arc<Arena>>,
    output: [pipe::Receiver; 2],
    /// Its descriptors from 0 on.
    inside: Vec<OwnedFd>,
}

fn ends(arena: Option<(Arc<Arena>, OwnedFd)>) -> Result<Ends, Fault> {
    let (stdout, stdout_inside) = pipes::log_pipe()?;
    let (stderr, stderr_inside) = pipes::log_pipe()?;
    let (socket, socket_inside) = pipes::socket_pair()?;
    let mut inside = vec![pipes::nothing()?, stdout_inside, stderr_inside, socket_inside];
    let (arena, arena_inside) = arena.unzip();
    inside.extend(arena_inside);
    Ok(Ends { socket, arena, output: [stdout, stderr], inside })
}

async fn warm(socket: &mut UnixStream) -> std::io::Result<()> {
    let mut frame = Vec::new();
    FrameWriter::new(&mut frame, Head::new(Kind::Warm, 0)).finish(&[]);
    socket.write_all(&frame).await?;
    let mut answer = [0; HEADER_BYTES];
    socket.read_exact(&mut answer).await?;
    let mut expected = Vec::new();
    FrameWriter::new(&mut expected, Head::new(Kind::Warmed, 0)).finish(&[]);
    if answer.as_slice() == expected {
        return Ok(());
    }
    Err(std::io::Error::other("it answered something else"))
}

fn not_warm(reason: &str) -> Fault {
    Fault::new(
        ErrorCode::Internal,
        format!("a process that waits for a function did not get ready: {reason}"),
    )
}
