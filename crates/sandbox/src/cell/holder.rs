//! The first process of a cell.
//!
//! It builds the cell, locks itself in and serves the platform over one link: starts programs, passes signals
//! on, makes sockets, kills everything else, reports what has ended. It has no right that a program in the
//! cell has not, so taking it over would gain nothing; and it cannot be taken over by ordinary means: its
//! memory is closed to the others (not dumpable) and the kernel keeps their signals away from a first
//! process.
//!
//! When the platform or the spawner ends, it ends, and the kernel ends everything in the cell with it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, Signal, WaitOptions};

use super::lock::{self, Rulesets};
use super::{Blueprint, mounts};
use crate::exec::{self, Image, Step};
use crate::link::{self, MESSAGE_BYTES_MAX};
use crate::protocol::{Answer, Ending, NEWS, Numbered, Order, SocketKind};
use crate::sys;

/// Connections that may wait to be accepted on a listener of the platform.
const BACKLOG: i32 = 128;
/// The link's number after everything else has been closed.
const LINK: i32 = 3;
/// How much likelier than the platform a cell's processes are to be killed when the whole machine is out of
/// memory; half of the kernel's scale. Raising it needs no right, so nothing depends on its success.
const OOM_SCORE: &[u8] = b"500";

/// Builds the cell and serves it until the link ends; the result is the exit status.
pub(crate) fn run(blueprint: &Blueprint<'_>) -> i32 {
    let (kept, sent) = match set_up(blueprint) {
        Ok((kept, listeners)) => {
            let ruleset = kept.rulesets.as_ref().map(|rulesets| rulesets.whole.as_fd());
            let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).chain(ruleset).collect();
            let sent = send(blueprint.link.as_fd(), NEWS, Answer::Ready, &fds);
            (kept, sent)
        }
        Err(error) => {
            let _ = send(blueprint.link.as_fd(), NEWS, failed(error.to_string()), &[]);
            return 1;
        }
    };
    let has_scope = kept.scope().is_some();
    if sent.is_err() || leave_only_kept(blueprint, &kept).is_err() || lock::set_limits().is_err() {
        return 1;
    }
    // Its descriptors are closed and their numbers may stand for others now.
    std::mem::forget(kept);
    let holder = Holder {
        link: sys::adopt_fd(LINK),
        signals: sys::adopt_fd(LINK + 1),
        scope: has_scope.then(|| sys::adopt_fd(LINK + 2)),
        started: HashMap::new(),
    };
    sys::exit_now(holder.serve())
}

/// What the holder works with besides its link.
struct Kept {
    signals: OwnedFd,
    rulesets: Option<Rulesets>,
}

impl Kept {
    fn scope(&self) -> Option<BorrowedFd<'_>> {
        self.rulesets.as_ref()?.scope.as_ref().map(AsFd::as_fd)
    }
}

/// Everything that needs a right.
fn set_up(blueprint: &Blueprint<'_>) -> io::Result<(Kept, Vec<OwnedFd>)> {
    for group in &blueprint.groups {
        rustix::io::write(group, b"0").map_err(|error| named("control group", error.into()))?;
    }
    if rustix::io::read(&blueprint.mapped, &mut [0_u8; 1])? != 1 {
        return Err(io::Error::other("the user map was not written"));
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    become_root_inside(blueprint.own_user).map_err(|error| named("user", error))?;
    // After joining, so that the cell's own groups are the roots that it sees.
    sys::unshare(libc::CLONE_NEWCGROUP).map_err(|error| named("control group namespace", error))?;
    rustix::system::sethostname(b"cell")?;
    let _ = rustix::thread::set_name(c"alula-cell");
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    sys::loopback_up(socket.as_fd()).map_err(|error| named("loopback interface", error))?;
    mounts::build(blueprint.tmp_bytes, &blueprint.mounts)?;
    let listeners = blueprint.listeners.iter().map(|port| listen(*port)).collect::<io::Result<_>>()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for standard in 0..=2 {
        sys::place_fd(null.as_fd(), standard)?;
    }
    sys::default_fault_signals();
    let signals = sys::child_signals()?;
    let rulesets = lock::lock(blueprint)?;
    Ok((Kept { signals, rulesets }, listeners))
}

fn become_root_inside(own_user: bool) -> io::Result<()> {
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    if own_user {
        // Without a user of its own the kernel refuses to change groups; they map to nobody's.
        rustix::thread::set_thread_groups(&[])?;
    }
    Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
}

fn listen(port: u16) -> io::Result<OwnedFd> {
    let socket = socket(SocketKind::StreamV4).map_err(|error| named("listener", error))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .map_err(|error| named(&format!("listener on port {port}"), error.into()))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn socket(kind: SocketKind) -> io::Result<OwnedFd> {
    let (family, transport) = match kind {
        SocketKind::StreamV4 => (AddressFamily::INET, SocketType::STREAM),
        SocketKind::StreamV6 => (AddressFamily::INET6, SocketType::STREAM),
        SocketKind::Datagram => (AddressFamily::INET, SocketType::DGRAM),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, transport, flags, None)?)
}

/// Leaves the standard streams, the link, the signals and the ruleset, and closes all else, whatever the spawner had
/// open.
fn leave_only_kept(blueprint: &Blueprint<'_>, kept: &Kept) -> io::Result<()> {
    let wanted: Vec<_> = [kept.signals.as_fd()].into_iter().chain(kept.scope()).collect();
    // Out of the way first: one may stand where another must go.
    let above = LINK + 1 + i32::try_from(wanted.len()).unwrap_or(i32::MAX);
    let moved = wanted.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, above));
    let moved = moved.collect::<Result<Vec<_>, _>>()?;
    sys::place_fd(blueprint.link.as_fd(), LINK)?;
    for (fd, target) in moved.iter().zip(LINK + 1..) {
        sys::place_fd(fd.as_fd(), target)?;
    }
    std::mem::forget(moved);
    sys::close_from(above.cast_unsigned())
}

/// The holder at work.
struct Holder {
    link: OwnedFd,
    signals: OwnedFd,
    /// What programs are put under besides what they inherit; the holder itself must be able to signal those that
    /// zygotes forked.
    scope: Option<OwnedFd>,
    /// Processes that were started and have not ended: the number of their order by pid.
    started: HashMap<i32, u64>,
}

impl Holder {
    fn serve(mut self) -> i32 {
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        loop {
            let mut ready =
                [PollFd::new(&self.link, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            match rustix::event::poll(&mut ready, None) {
                Ok(_) => {}
                // Programs in the cell may send any signal, and even an ignored one can interrupt.
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return 1,
            }
            let [order, ended] = ready.map(|fd| !fd.revents().is_empty());
            if ended {
                let _ = rustix::io::read(&self.signals, &mut [0_u8; 128]);
            }
            // Orders come first, so that a start is answered before its end is reported.
            let served = if order { self.serve_order(&mut buffer) } else { Ok(true) };
            match served.and_then(|goes_on| self.reap(WaitOptions::NOHANG).map(|()| goes_on)) {
                Ok(true) => {}
                Ok(false) => return 0,
                Err(_) => return 1,
            }
        }
    }

    /// Answers one order; false when the platform is gone.
    fn serve_order(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let Some(received) = link::receive::<Numbered<Order>>(&self.link, buffer)? else { return Ok(false) };
        let Numbered { number, body } = received.message;
        match body {
            Order::Start { argv, env, cwd } => {
                let answer = self.start(number, &argv, env, &cwd, received.fds);
                self.answer(number, answer, &[])?;
            }
            Order::Adopt { pid } => {
                let answer = self.adopt(number, pid);
                self.answer(number, answer, &[])?;
            }
            Order::Signal { process, signal } => self.signal(process, signal),
            Order::Socket { kind } => match socket(kind) {
                Ok(socket) => self.answer(number, Answer::Done, &[socket.as_fd()])?,
                Err(error) => self.answer(number, failed(error.to_string()), &[])?,
            },
            Order::Sweep => {
                self.sweep()?;
                self.answer(number, Answer::Done, &[])?;
            }
        }
        Ok(true)
    }

    fn start(
        &mut self,
        number: u64,
        argv: &[String],
        env: BTreeMap<String, String>,
        cwd: &str,
        fds: Vec<OwnedFd>,
    ) -> Answer {
        let program = argv.first().map_or("", String::as_str);
        let image = match Image::new(argv, env.into_iter(), cwd, fds) {
            Ok(image) => image.under(self.scope.as_ref().map(AsRawFd::as_raw_fd)),
            Err(_) => {
                return failed("arguments, variables and folder must not contain a nul byte".to_owned());
            }
        };
        match exec::spawn(&image) {
            Ok(pid) => {
                self.started.insert(pid, number);
                Answer::Started
            }
            Err((step, error)) => failed(explain(program, cwd, &image, step, &error)),
        }
    }

    /// Counts a process as started that a zygote left to this first process. It is there until it is reaped here.
    fn adopt(&mut self, number: u64, pid: i32) -> Answer {
        let exists = Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
        if !exists {
            return failed("the process has ended already".to_owned());
        }
        self.started.insert(pid, number);
        Answer::Started
    }

    fn signal(&self, process: u64, signal: i32) {
        let pid = self.started.iter().find(|(_, number)| **number == process).map(|(pid, _)| *pid);
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && let Some(signal) = Signal::from_named_raw(signal)
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Kills every other process in the cell and waits until all are gone.
    fn sweep(&mut self) -> io::Result<()> {
        sys::kill_all_others();
        self.reap(WaitOptions::empty())
    }

    /// Collects what has ended; without `NOHANG` until there is no child left.
    fn reap(&mut self, options: WaitOptions) -> io::Result<()> {
        loop {
            let (pid, status) = match rustix::process::wait(options) {
                Ok(Some(ended)) => ended,
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if let Some(process) = self.started.remove(&pid.as_raw_pid()) {
                let ending = match status.terminating_signal() {
                    Some(signal) => Ending::Signal(signal),
                    None => Ending::Code(status.exit_status().unwrap_or(0)),
                };
                self.answer(NEWS, Answer::Ended { process, ending }, &[])?;
            }
        }
    }

    fn answer(&self, number: u64, answer: Answer, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(self.link.as_fd(), number, answer, fds)
    }
}

fn send(to: BorrowedFd<'_>, number: u64, body: Answer, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    link::send(to, &Numbered { number, body }, fds)
}

fn failed(reason: String) -> Answer {
    Answer::Failed { reason }
}

fn named(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Why a program did not start, so that the one who named it knows what to change.
fn explain(program: &str, cwd: &str, image: &Image, step: Step, error: &io::Error) -> String {
    let missing = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR));
    match step {
        Step::Directory => format!("the working directory `{cwd}` cannot be entered in the sandbox: {error}"),
        Step::Program if missing && image.candidates.iter().any(|path| sys::exists(path)) => {
            format!("the interpreter or loader that `{program}` asks for was not found in the sandbox")
        }
        Step::Program if missing && program.contains('/') => {
            format!("the program `{program}` was not found in the sandbox")
        }
        Step::Program if missing => {
            let folders: Vec<_> = image.candidates.iter().filter_map(|path| path.to_str().ok()).collect();
            format!("the program `{program}` was not found in PATH; looked for {}", folders.join(", "))
        }
        Step::Program => format!("the program `{program}` cannot be run in the sandbox: {error}"),
        Step::Clone => {
            format!("no process could be made for `{program}`, the cell may be at its limit: {error}")
        }
        Step::Rights => format!("`{program}` could not be confined: {error}"),
        Step::Descriptors => format!("the descriptors for `{program}` could not be set up: {error}"),
    }
}
