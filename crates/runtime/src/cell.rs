//! The port towards the operating system: sandboxes as empty rooms, and processes started in them.
//!
//! A cell is made ahead of what it will run: namespaces, mounts, limits and network first, code and process
//! later. So the expensive part can be prepared before a request asks for it, and every process instance is a cell
//! plus a language. A cell runs code of one version in its whole life.
//!
//! Implemented by the Linux sandbox. Deliberately absent: pools of cells and the choice of what to run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use alula_model::{ErrorCode, Fault, InstanceId};
use tokio::net::{TcpListener, TcpStream};

use crate::{Behalf, BoxFuture, Caller, Usage};

/// Where the platform's egress proxy listens inside a cell with a network, on `127.0.0.1`: the port
/// that HTTP proxies are known by. Goes into `HTTP_PROXY` and `HTTPS_PROXY`.
pub const EGRESS_PROXY_PORT: u16 = 3128;

/// Makes cells.
pub trait Launcher: Send + Sync + std::fmt::Debug {
    /// Makes an empty cell.
    fn prepare(&self, spec: CellSpec) -> BoxFuture<'_, Result<Box<dyn Cell>, Fault>>;

    /// Whether [`Cell::specialise`] works, so that cells can be prepared for nobody in particular.
    fn can_specialise(&self) -> bool {
        false
    }

    /// Whether [`Cell::fork`] works here.
    fn can_fork(&self) -> bool {
        false
    }

    /// Makes an empty cell for a process that others are to be forked from, into cells of their own. Only where
    /// [`Launcher::can_fork`] says so.
    fn prepare_breeding(&self, spec: CellSpec) -> BoxFuture<'_, Result<Arc<dyn BreedingCell>, Fault>> {
        drop(spec);
        Box::pin(std::future::ready(Err(nothing_is_forked())))
    }

    /// What this machine gives and what is missing.
    fn report(&self) -> LauncherReport;
}

/// An empty, sandboxed room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellSpec {
    /// Memory of all processes in it together, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads in it.
    pub processes_max: u32,
    /// Size of `/tmp`, in bytes.
    pub tmp_bytes: u64,
    /// Relative share of the CPU; 100 is one usual instance.
    pub cpu_weight: u32,
    /// In whose name, and by which rules, it reaches what is outside. The default has no rules, which for a cell is nothing.
    pub behalf: Behalf,
    /// TCP ports on `127.0.0.1` inside that the platform listens on; the listeners are taken with
    /// [`Cell::take_listener`].
    pub listeners: Vec<u16>,
    /// Host folders to show inside.
    pub mounts: Vec<Mount>,
}

/// A host folder or file shown inside a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// Inside; absolute, below `/code`, `/alula` or `/build`, which exist in every cell.
    pub target: PathBuf,
    /// Whether it may be written from inside. Files made there belong to the cell's outside user.
    pub writable: bool,
}

/// A sandbox that processes are started in.
pub trait Cell: Send + Sync + std::fmt::Debug {
    /// Shows a host folder inside. Only before the first process is started, or below an empty mount point.
    fn mount(&self, mount: Mount) -> BoxFuture<'_, Result<(), Fault>>;

    /// Makes a cell that was prepared for nobody into one that is as if it had been prepared with `spec`: limits,
    /// network, and those mounts that it does not have. Its listeners must be among those of the cell; the cell's
    /// others are closed. At most once, where [`Launcher::can_specialise`] says so; after a failure the cell is of no use.
    fn specialise(&self, spec: CellSpec) -> BoxFuture<'_, Result<(), Fault>>;

    /// Starts a process.
    fn start(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>>;

    /// Has a process forked into the cell by a zygote; `fds` become its descriptors 0, 1, 2... It is told what to do
    /// over them. Only where [`Launcher::can_fork`] says so.
    fn fork(&self, parent: Parent, fds: Vec<OwnedFd>) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>> {
        drop((parent, fds));
        Box::pin(std::future::ready(Err(nothing_is_forked())))
    }

    /// The listener on `port` that [`CellSpec::listeners`] asked for; `None` if it was taken before.
    fn take_listener(&self, port: u16) -> Option<TcpListener>;

    /// Says which instance this is, where it shares a way to the platform with others.
    fn admit(&self, _id: &InstanceId, _caller: &Arc<Caller>) {}

    /// Connects to a server inside, by its loopback address.
    fn dial(&self, inside: SocketAddr) -> BoxFuture<'_, std::io::Result<TcpStream>>;

    /// Kills every process in it and waits until they are gone; the cell itself stays.
    fn sweep(&self) -> BoxFuture<'_, ()>;

    /// Takes the CPU away from everything in it, until [`Cell::thaw`] or [`Cell::destroy`]; nothing else may be asked of
    /// a frozen cell but its usage. False where that is not possible.
    fn freeze(&self) -> bool {
        false
    }

    /// Lets a frozen cell run on.
    fn thaw(&self) {}

    /// Gives everything in it another share of the CPU, on the scale of [`CellSpec::cpu_weight`]. Without effect where the
    /// machine does not share it out by weight.
    fn set_cpu_weight(&self, _weight: u32) {}

    /// What all processes in it use.
    fn usage(&self) -> Usage;

    /// How often a process in it was killed because the cell was over its memory.
    fn oom_kills(&self) -> u64;

    /// Ends it with everything in it and waits until nothing is left. Dropping a cell does the same unwaited.
    fn destroy(&self) -> BoxFuture<'_, ()>;
}

/// A cell in which a process has become a zygote, or is to: it has loaded one version's code and may be forked, but it
/// serves nothing itself.
pub trait BreedingCell: Cell {
    /// Makes the process at the other end of `connection` the one that is forked from now on. It is asked over the
    /// connection, which is the launcher's from now on: `H`, which it answers with anything; then for every process `F`
    /// with descriptors, which it answers with their numbers as a JSON list, and `G`, upon which it forks. The child
    /// finds itself in the other cell with the last four of the descriptors for its 0 to 3.
    fn breed(&self, connection: OwnedFd) -> BoxFuture<'_, Result<(), Fault>>;

    /// Makes a cell for a process that is forked from this one's. It is as separate from this and others as any, but
    /// ends should the first process of this one end; dropping this one does not end it.
    fn prepare_within(&self, spec: CellSpec) -> BoxFuture<'_, Result<Box<dyn Cell>, Fault>>;
}

fn nothing_is_forked() -> Fault {
    Fault::new(ErrorCode::Internal, "nothing is forked into cells here")
}

/// What a process is forked from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// The zygote of a runtime. Where it is not there, it is started first, which takes longer than a process started in
    /// the usual way.
    Runtime(ZygoteSpec),
    /// The zygote in the cell that this one was made within.
    Version,
}

/// A process to start in a cell.
#[derive(Debug)]
pub struct ProcessSpec {
    /// Program and arguments; the program is absolute, or looked up in `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Working directory inside.
    pub cwd: String,
    /// Becomes descriptors 0, 1, 2, 3... of the process; nothing else is open in it.
    pub fds: Vec<OwnedFd>,
}

/// A parent process of the platform's own, outside of all cells, that has done what processes of a language do before
/// they know what they will run. The same values always mean the same zygote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZygoteSpec {
    /// Program and arguments. The program speaks with the launcher on its descriptor 3.
    pub argv: Vec<String>,
    /// The whole environment, which the forked processes have too.
    pub env: BTreeMap<String, String>,
    /// What it sees besides what cells see.
    pub mounts: Vec<Mount>,
}

/// A process in a cell.
pub trait Process: Send + Sync + std::fmt::Debug {
    /// Waits until it has ended. May be called often and by several.
    fn wait(&self) -> BoxFuture<'_, ProcessExit>;

    /// Sends a signal; without effect once the process has ended.
    fn signal(&self, signal: i32);
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessExit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// The sandbox went away with it.
    Lost,
}

/// What a machine gives, for `alula doctor` and the start-up messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LauncherReport {
    /// Each protection, in the order of importance.
    pub protections: Vec<Protection>,
}

/// One protection and whether it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// Its name: `user namespace`, `memory limit`...
    pub name: &'static str,
    /// Whether it is in force.
    pub in_force: bool,
    /// How it is done, or what is missing, what that means and how to get it.
    pub detail: String,
}
