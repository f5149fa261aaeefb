//! A launcher without any isolation, for tests: processes run as the test's own user, with the host's files and
//! network. Never for code that is not trusted, and no part of the binary.
//!
//! It looks like a cell from both sides: `/code` and `/alula` in arguments, environment and working directory
//! are replaced by the host folders mounted there, and ports inside by ports that are free on the host, so tests
//! run side by side. Memory, CPU and network are not limited, and a process that leaves its process group escapes
//! a sweep.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::{ErrorCode, Fault};
use rustix::io::FdFlags;
use rustix::process::{Pid, Signal};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::{
    BoxFuture, Cell, CellSpec, Launcher, LauncherReport, Mount, Process, ProcessExit, ProcessSpec,
    Protection, Usage,
};

/// Descriptors are moved up here before a shell moves them down to 3, 4..., so that none is in another's place.
const HIGH_FD: i32 = 400;
/// Held while a process is made: descriptors meant for one must not leak into another.
static SPAWNING: Mutex<()> = Mutex::new(());

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct BareLauncher;

impl Launcher for BareLauncher {
    fn prepare(&self, spec: CellSpec) -> BoxFuture<'_, Result<Box<dyn Cell>, Fault>> {
        Box::pin(async move {
            let mut cell = BareCell { state: Mutex::default() };
            let state = cell.state.get_mut().unwrap_or_else(PoisonError::into_inner);
            state.mounts = spec.mounts;
            for inside in spec.listeners {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
                state.ports.insert(inside, listener.local_addr().map_err(failed)?.port());
                state.listeners.insert(inside, listener);
            }
            Ok(Box::new(cell) as Box<dyn Cell>)
        })
    }

    fn report(&self) -> LauncherReport {
        let detail = "processes run without any isolation: for tests only".to_owned();
        LauncherReport { protections: vec![Protection { name: "isolation", in_force: false, detail }] }
    }
}

/// Ports for programs to listen on. Below the range that the kernel picks from: on a port of that range another test's
/// listener, or a connection to itself, could answer in place of a program that does not listen.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A port that no other cell of this process gets and that nobody listens on now.
fn free_port() -> std::io::Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Processes of different tests begin at different places.
    let start = std::process::id().wrapping_mul(97);
    for _ in PORTS {
        let step = start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from(step % u32::from(PORTS.end - PORTS.start)).unwrap_or(0);
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(std::io::ErrorKind::AddrInUse.into())
}

fn failed(error: std::io::Error) -> Fault {
    Fault::new(ErrorCode::SandboxFailed, format!("the bare launcher failed: {error}"))
}

#[derive(Debug)]
struct BareCell {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mounts: Vec<Mount>,
    listeners: HashMap<u16, TcpListener>,
    /// Ports inside, and what stands for them on the host.
    ports: HashMap<u16, u16>,
    processes: Vec<Arc<BareProcess>>,
}

impl BareCell {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill_all(&self) -> Vec<Arc<BareProcess>> {
        let processes = std::mem::take(&mut self.state().processes);
        processes.iter().for_each(|process| process.kill_group());
        processes
    }
}

impl Drop for BareCell {
    fn drop(&mut self) {
        self.kill_all();
    }
}

impl State {
    /// `text` as it must read on the host.
    fn on_host(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for mount in &self.mounts {
            let inside = mount.target.to_string_lossy();
            let is_inside = text == inside || text.starts_with(&format!("{inside}/"));
            if is_inside {
                text = mount.source.to_string_lossy().into_owned() + &text[inside.len()..];
            }
        }
        for (inside, host) in &self.ports {
            text = text.replace(&format!("127.0.0.1:{inside}"), &format!("127.0.0.1:{host}"));
        }
        text
    }

    /// The environment on the host; `PORT` is replaced by a port that is free there.
    fn environment(&mut self, env: BTreeMap<String, String>) -> std::io::Result<BTreeMap<String, String>> {
        if let Some(inside) = env.get("PORT").and_then(|port| port.parse().ok())
            && !self.ports.contains_key(&inside)
        {
            self.ports.insert(inside, free_port()?);
        }
        let on_host = |(name, value): (String, String)| {
            let port =
                value.parse().ok().filter(|_| name == "PORT").and_then(|inside| self.ports.get(&inside));
            let value = port.map_or_else(|| self.on_host(&value), u16::to_string);
            (name, value)
        };
        Ok(env.into_iter().map(on_host).collect())
    }

    fn start(&mut self, spec: ProcessSpec) -> std::io::Result<Arc<BareProcess>> {
        let env = self.environment(spec.env)?;
        let argv: Vec<String> = spec.argv.iter().map(|part| self.on_host(part)).collect();
        let cwd = self.on_host(&spec.cwd);
        let mut fds = spec.fds.into_iter();
        let [stdin, stdout, stderr] = [(); 3].map(|()| fds.next().map_or_else(Stdio::null, Stdio::from));
        let _alone = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
        let extra = fds.map(high_inheritable).collect::<std::io::Result<Vec<_>>>()?;
        let mut command = command(&argv, &extra);
        command.env_clear().envs(env).current_dir(cwd).stdin(stdin).stdout(stdout).stderr(stderr);
        let child = command.process_group(0).spawn()?;
        let process = Arc::new(BareProcess::watch(child));
        self.processes.push(Arc::clone(&process));
        Ok(process)
    }
}

/// A copy of `fd` above [`HIGH_FD`] that a child inherits.
fn high_inheritable(fd: OwnedFd) -> std::io::Result<OwnedFd> {
    let high = rustix::io::fcntl_dupfd_cloexec(&fd, HIGH_FD)?;
    rustix::io::fcntl_setfd(&high, FdFlags::empty())?;
    Ok(high)
}

/// Runs `argv`; where it gets more than three descriptors a shell puts them in their places first.
fn command(argv: &[String], extra: &[OwnedFd]) -> Command {
    if extra.is_empty() {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]);
        return command;
    }
    let moves: String =
        (3..).zip(extra).map(|(to, from)| format!("{to}<&{0} {0}<&- ", from.as_raw_fd())).collect();
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &format!("exec {moves}; exec \"$@\""), "bash"]).args(argv);
    command
}

impl Cell for BareCell {
    fn mount(&self, mount: Mount) -> BoxFuture<'_, Result<(), Fault>> {
        self.state().mounts.push(mount);
        Box::pin(async { Ok(()) })
    }

    fn specialise(&self, _spec: CellSpec) -> BoxFuture<'_, Result<(), Fault>> {
        let fault = Fault::new(ErrorCode::Internal, "the bare launcher prepares no cell ahead");
        Box::pin(std::future::ready(Err(fault)))
    }

    fn start(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>> {
        let started = self.state().start(spec);
        Box::pin(async move {
            let process = started.map_err(failed)?;
            Ok(Box::new(SharedProcess(process)) as Box<dyn Process>)
        })
    }

    fn take_listener(&self, port: u16) -> Option<TcpListener> {
        self.state().listeners.remove(&port)
    }

    fn dial(&self, inside: SocketAddr) -> BoxFuture<'_, std::io::Result<TcpStream>> {
        let port = self.state().ports.get(&inside.port()).copied();
        Box::pin(async move {
            let port = port.ok_or(std::io::ErrorKind::ConnectionRefused)?;
            TcpStream::connect((inside.ip(), port)).await
        })
    }

    fn sweep(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            for process in self.kill_all() {
                process.ended().await;
            }
        })
    }

    fn usage(&self) -> Usage {
        let state = self.state();
        state.processes.iter().map(|process| process.usage()).fold(Usage::default(), |sum, one| Usage {
            memory_bytes: sum.memory_bytes + one.memory_bytes,
            cpu_us: sum.cpu_us + one.cpu_us,
        })
    }

    fn oom_kills(&self) -> u64 {
        0
    }

    fn destroy(&self) -> BoxFuture<'_, ()> {
        self.sweep()
    }
}

#[derive(Debug)]
struct BareProcess {
    pid: Pid,
    exit: watch::Receiver<Option<ProcessExit>>,
}

impl BareProcess {
    fn watch(mut child: std::process::Child) -> Self {
        let pid = Pid::from_child(&child);
        let (told, exit) = watch::channel(None);
        // A thread of its own: a blocking pool would keep a test from ending while the process runs.
        std::thread::spawn(move || {
            let status = child.wait();
            let code = |status: std::process::ExitStatus| match (status.code(), status.signal()) {
                (Some(code), _) => ProcessExit::Code(code),
                (None, Some(signal)) => ProcessExit::Signal(signal),
                (None, None) => ProcessExit::Lost,
            };
            let _ = told.send(Some(status.map_or(ProcessExit::Lost, code)));
        });
        Self { pid, exit }
    }

    /// Kills the process and what it started, the latter even after the process itself has ended.
    fn kill_group(&self) {
        // Nothing left to kill is what was wanted.
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
    }

    async fn ended(&self) -> ProcessExit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        ended.unwrap_or(ProcessExit::Lost)
    }

    fn usage(&self) -> Usage {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", self.pid.as_raw_nonzero())).unwrap_or_default()
        };
        let pages = read("statm").split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
        let stat = read("stat");
        // The name in parentheses may hold anything; the numbers follow it. Times are in hundredths of a second.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split(' ').collect::<Vec<_>>());
        let ticks = |at: usize| fields.as_ref().and_then(|f| f.get(at)?.parse::<u64>().ok()).unwrap_or(0);
        Usage { memory_bytes: pages * 4096, cpu_us: (ticks(12) + ticks(13)) * 10_000 }
    }
}

#[derive(Debug)]
struct SharedProcess(Arc<BareProcess>);

impl Process for SharedProcess {
    fn wait(&self) -> BoxFuture<'_, ProcessExit> {
        Box::pin(self.0.ended())
    }

    fn signal(&self, signal: i32) {
        if self.0.exit.borrow().is_none()
            && let Some(signal) = Signal::from_named_raw(signal)
        {
            // It may have ended in this moment, which is as well.
            let _ = rustix::process::kill_process(self.0.pid, signal);
        }
    }
}
