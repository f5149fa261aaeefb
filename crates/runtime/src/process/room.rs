//! One instance's room: its cell, environment, log and main process, and why it died.
//!
//! The four kinds of guests share it. A room has at most one main process (`exec` has none); when that process
//! ends, the room is gone. A room can be retired instead: it takes no new calls, and the cell is destroyed when
//! the last running call has ended. That is how a call that cannot be stopped alone is stopped without cutting
//! its neighbours.
//!
//! What is said to the guest is not here.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use alula_model::{ErrorCode, Fault, InstanceId, InvocationId, LogStream, Tier};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::arena::Arena;
use super::cells::{CODE_DIR, Found, calls_in, door_ports, find_cell};
use super::pipes::{self, Output};
use super::stems::Waiting;
use super::{ProcessBackend, environment};
use crate::faults;
use crate::language::Language;
use crate::{
    Buffers, Caller, Cell, InstanceLog, OpenDoor, Process, ProcessExit, ProcessSpec, RunningCall,
    VersionPlan, Visitors,
};

/// How long the last lines of an ended process are waited for: a grandchild may hold the pipe open for ever.
const LAST_LINES_WAIT: Duration = Duration::from_millis(100);
const SIGTERM: i32 = 15;

/// The sandbox of one instance and everything that belongs to it.
pub(crate) struct Room {
    /// The instance's id.
    pub(crate) id: InstanceId,
    /// The version that runs here.
    pub(crate) plan: Arc<VersionPlan>,
    /// Its language.
    pub(crate) language: Arc<Language>,
    /// What it was made from.
    pub(super) tier: Tier,
    /// The sandbox.
    pub(crate) cell: Arc<dyn Cell>,
    /// The process that waited in the cell for a function.
    waiting: Mutex<Option<Waiting>>,
    /// The environment of every process here.
    pub(crate) env: BTreeMap<String, String>,
    /// The memory for request bodies that are gathered.
    pub(crate) buffers: Buffers,
    /// See [`ProcessBackend::socket_body_bytes_max`].
    pub(super) socket_body_bytes_max: u64,
    /// Takes what the processes write.
    pub(crate) output: Arc<Output>,
    /// The instance as one that calls the platform, where it may.
    caller: Option<Arc<Caller>>,
    /// Lets its connections in.
    _door: Option<OpenDoor>,
    main: OnceLock<MainProcess>,
    occupancy: Mutex<Occupancy>,
    gone: CancellationToken,
}

/// The process whose end is the instance's end.
struct MainProcess {
    process: Arc<dyn Process>,
    launched: Instant,
    exit: watch::Receiver<Option<ProcessExit>>,
}

#[derive(Default)]
struct Occupancy {
    running: usize,
    retired: bool,
    /// Whether it is being stopped.
    ending: bool,
    /// Whether it is to be frozen when it is ready for that, unless a call comes before.
    is_to_freeze: bool,
    frozen: bool,
}

impl Room {
    /// Makes the cell with code and shim in it. No process of the function's runs yet.
    pub(super) async fn open(
        backend: &ProcessBackend,
        plan: Arc<VersionPlan>,
        language: Arc<Language>,
        id: InstanceId,
    ) -> Result<Arc<Self>, Fault> {
        let found = find_cell(backend, &plan, &language).await?;
        Ok(Self::of(backend, plan, language, id, found))
    }

    /// The room of a cell that is there.
    pub(super) fn of(
        backend: &ProcessBackend,
        plan: Arc<VersionPlan>,
        language: Arc<Language>,
        id: InstanceId,
        Found { cell, waiting, tier }: Found,
    ) -> Arc<Self> {
        let log = InstanceLog {
            key: plan.key.clone(),
            instance: id.clone(),
            clock: Arc::clone(&backend.clock),
            sink: Arc::clone(&backend.log),
        };
        let caller = calls_in(&backend.door, &plan).then(|| Arc::new(Caller::new(Arc::clone(&plan))));
        let door = caller.as_ref().and_then(|caller| {
            cell.admit(&id, caller);
            let ports = door_ports(&plan.spec, &language);
            let listeners: Vec<_> = ports.into_iter().filter_map(|port| cell.take_listener(port)).collect();
            let visitors = || Arc::new(Visitors::one(&id, Arc::clone(caller)));
            (!listeners.is_empty()).then(|| backend.door.serve(listeners, &visitors()))
        });
        let output = Arc::new(Output::new(log, plan.secrets.mask()));
        Arc::new(Self {
            env: environment::build(&plan, &language, &id),
            buffers: backend.buffers.of(&plan.key.namespace),
            id,
            plan,
            language,
            tier,
            cell,
            waiting: Mutex::new(waiting),
            socket_body_bytes_max: backend.socket_body_bytes_max,
            output,
            caller,
            _door: door,
            main: OnceLock::new(),
            occupancy: Mutex::default(),
            gone: CancellationToken::new(),
        })
    }

    /// Starts the main process with nothing on its standard input, its output captured as log lines, and `extra`
    /// as descriptors 3, 4... Called once.
    pub(crate) async fn launch(&self, argv: Vec<String>, extra: Vec<OwnedFd>) -> Result<(), Fault> {
        let (stdout, stdout_inside) = pipes::log_pipe()?;
        let (stderr, stderr_inside) = pipes::log_pipe()?;
        let mut fds = vec![pipes::nothing()?, stdout_inside, stderr_inside];
        fds.extend(extra);
        let spec = ProcessSpec { argv, env: self.env.clone(), cwd: CODE_DIR.to_owned(), fds };
        let process: Arc<dyn Process> = Arc::from(self.cell.start(spec).await?);
        self.adopt(process, [stdout, stderr]);
        Ok(())
    }

    /// Makes the process that waited in the cell the main process, and gives the platform's end of its socket and the
    /// memory that it shares with the platform. `None` where no process waited.
    pub(super) fn adopt_waiting(&self) -> Option<(UnixStream, Option<Arc<Arena>>)> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        self.adopt(waiting.process, waiting.output);
        Some((waiting.socket, waiting.arena))
    }

    fn adopt(&self, process: Arc<dyn Process>, [stdout, stderr]: [pipe::Receiver; 2]) {
        let lines = [
            self.output.capture(stdout, LogStream::Stdout, None),
            self.output.capture(stderr, LogStream::Stderr, None),
        ];
        let (told, exit) = watch::channel(None);
        let main = MainProcess { process: Arc::clone(&process), launched: Instant::now(), exit };
        let gone = self.gone.clone();
        // The task holds no part of the room: a room that is dropped takes its process along, and that ends this.
        tokio::spawn(async move {
            let ended = process.wait().await;
            let _ = tokio::time::timeout(LAST_LINES_WAIT, futures_util::future::join_all(lines)).await;
            // In this order, so that whoever hears of the end also finds the room gone.
            gone.cancel();
            let _ = told.send(Some(ended));
        });
        let first = self.main.set(main).is_ok();
        debug_assert!(first, "a room has one main process");
    }

    /// When the main process was started.
    pub(super) fn launched(&self) -> Option<Instant> {
        self.main.get().map(|main| main.launched)
    }

    /// Sends a signal to the main process.
    pub(crate) fn signal(&self, signal: i32) {
        if let Some(main) = self.main.get() {
            main.process.signal(signal);
        }
    }

    /// Waits until the main process has ended and its last lines are read. Never returns where there is none.
    pub(crate) async fn ended(&self) -> ProcessExit {
        let Some(main) = self.main.get() else { return std::future::pending().await };
        let mut exit = main.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(ProcessExit::Lost),
            Err(_) => ProcessExit::Lost,
        }
    }

    /// Asks the main process to end with SIGTERM and waits until it has.
    pub(crate) async fn terminate(&self) {
        if self.main.get().is_some() {
            self.signal(SIGTERM);
            self.ended().await;
        }
    }

    /// Counts a call as running here until the answer is dropped.
    pub(crate) fn begin(self: &Arc<Self>, call: RunningCall) -> Running {
        {
            let mut occupancy = self.occupancy();
            occupancy.running += 1;
            occupancy.is_to_freeze = false;
            self.thaw(&mut occupancy);
        }
        self.output.attribution().begin(&call.id);
        let id = call.id.clone();
        if let Some(caller) = &self.caller {
            caller.begin(call);
        }
        Running { room: Arc::clone(self), id }
    }

    /// Says that [`Room::freeze`] follows.
    pub(super) fn expect_freeze(&self) {
        let mut occupancy = self.occupancy();
        occupancy.is_to_freeze = occupancy.running == 0;
    }

    /// Takes the CPU away from everything here until the next call, where none has come since it was expected.
    pub(super) fn freeze(&self) {
        let mut occupancy = self.occupancy();
        if !std::mem::take(&mut occupancy.is_to_freeze) {
            return;
        }
        if !occupancy.retired && !occupancy.ending && !occupancy.frozen {
            occupancy.frozen = self.cell.freeze();
        }
    }

    /// Lets everything here run, from now on until its end.
    pub(super) fn wake_to_end(&self) {
        let mut occupancy = self.occupancy();
        occupancy.ending = true;
        self.thaw(&mut occupancy);
    }

    fn thaw(&self, occupancy: &mut Occupancy) {
        if std::mem::take(&mut occupancy.frozen) {
            self.cell.thaw();
        }
    }

    /// Takes no new calls; the cell is destroyed as soon as no call runs here.
    pub(crate) fn retire(&self) {
        let idle = {
            let mut occupancy = self.occupancy();
            occupancy.retired = true;
            occupancy.running == 0
        };
        if idle {
            self.destroy_unwaited();
        }
    }

    fn leave(&self, id: &InvocationId) {
        if let Some(caller) = &self.caller {
            caller.end(id);
        }
        self.output.attribution().end(id);
        let last = {
            let mut occupancy = self.occupancy();
            occupancy.running -= 1;
            occupancy.retired && occupancy.running == 0
        };
        if last {
            self.destroy_unwaited();
        }
    }

    fn destroy_unwaited(&self) {
        self.gone.cancel();
        let cell = Arc::clone(&self.cell);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { cell.destroy().await });
        }
    }

    /// Ends everything here and waits until nothing is left.
    pub(super) async fn close(&self) {
        self.gone.cancel();
        self.cell.destroy().await;
    }

    /// Whether it takes no more calls.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.is_cancelled() || self.occupancy().retired
    }

    /// Waits until the main process has ended or the cell is being destroyed.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    fn occupancy(&self) -> std::sync::MutexGuard<'_, Occupancy> {
        self.occupancy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Faults, in one place, so that the four kinds say the same thing in the same words.
impl Room {
    /// The fault of a call whose process ended with `exit` in the middle of it.
    pub(crate) fn crashed(&self, exit: ProcessExit) -> Fault {
        self.death(ErrorCode::FunctionCrashed, "the function's process ended during the call", exit)
    }

    /// The fault of a start whose process ended with `exit` before it was ready.
    pub(crate) fn init_failed(&self, exit: ProcessExit) -> Fault {
        self.death(ErrorCode::InitFailed, "the function's process ended before it was ready", exit)
    }

    /// The fault of a start that took longer than it may.
    pub(super) fn init_timeout(&self) -> Fault {
        let value = self.plan.spec.init_timeout_ms;
        let message = format!("the function was not ready after {value} ms");
        let name = "init_timeout_ms";
        Fault::limit(ErrorCode::InitTimeout, message, name, value, "init_timeout_ms in alula.toml")
            .with_log_tail(self.output.tail())
    }

    /// The fault of a call that took longer than it may.
    pub(crate) fn timed_out(&self) -> Fault {
        faults::timed_out(&self.plan.spec).with_log_tail(self.output.tail())
    }

    /// A fault with the last log lines.
    pub(crate) fn fault(&self, code: ErrorCode, message: impl Into<String>) -> Fault {
        Fault::new(code, message).with_log_tail(self.output.tail())
    }

    /// `fault` as the caller of one call may see it: without the lines of other calls, and without secrets.
    pub(super) fn told_to(&self, id: &InvocationId, mut fault: Fault) -> Fault {
        if !fault.log_tail.is_empty() {
            fault.log_tail = self.output.tail_of(id);
        }
        self.output.masked(fault)
    }

    fn death(&self, code: ErrorCode, what: &str, exit: ProcessExit) -> Fault {
        if self.lost_a_process_to_memory() {
            return self.out_of_memory();
        }
        let code = match (exit, code) {
            (ProcessExit::Lost, ErrorCode::InitFailed) => ErrorCode::SandboxFailed,
            (ProcessExit::Lost, _) => ErrorCode::SandboxLost,
            _ => code,
        };
        self.fault(code, format!("{what}: {}", describe(exit)))
    }

    /// Whether a process in the cell was killed because the cell was over its memory, be it a child of the function's.
    pub(crate) fn lost_a_process_to_memory(&self) -> bool {
        self.cell.oom_kills() > 0
    }

    /// The fault of a call that was killed because the cell was over its memory.
    pub(crate) fn out_of_memory(&self) -> Fault {
        faults::out_of_memory(&self.plan.spec).with_log_tail(self.output.tail())
    }
}

/// How a process ended, in words.
pub(crate) fn describe(exit: ProcessExit) -> String {
    match exit {
        ProcessExit::Code(code) => format!("exit status {code}"),
        ProcessExit::Signal(signal) => format!("killed by signal {signal}{}", signal_name(signal)),
        ProcessExit::Lost => "its sandbox went away".to_owned(),
    }
}

/// The names of the signals that a function dies of, where people know them by name.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        31 => " (SIGSYS: a system call that the sandbox forbids)",
        _ => "",
    }
}

/// A call that runs in a room; the room is told when this is dropped.
pub(crate) struct Running {
    room: Arc<Room>,
    id: InvocationId,
}

impl Running {
    /// The room it runs in.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.room.leave(&self.id);
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({})", self.id)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        environment::wipe(&mut self.env, &self.plan);
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("id", &self.id).field("key", &self.plan.key).finish_non_exhaustive()
    }
}
