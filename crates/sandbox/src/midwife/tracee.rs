//! A process that stands still and is made to do single system calls.
//!
//! Everything that `ptrace` is needed for, each behind a safe signature; together with `sys` and `exec` the only place
//! of the crate with `unsafe`. A call is made by pointing a stopped process at the system call instruction that it has
//! just executed and stepping over it: no other instruction of it runs. Which calls, and why, is the business of
//! `labour`.

use std::ffi::{c_int, c_void};
use std::io;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::registers::{self, Registers};

/// Stops of other kinds that are passed over while one is waited for: signals that happened to come.
const STOPS_MAX: usize = 64;

/// A process that is stopped and traced by this thread.
#[derive(Debug)]
pub(super) struct Tracee {
    pub(super) pid: i32,
    /// As it was stopped first, right behind a system call.
    pub(super) origin: Registers,
}

/// Why a traced process stands still.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// It has made one step.
    Step,
    /// It has just been made, or was asked to.
    Fresh,
    /// It has made this process.
    Child(i32),
    /// Something else: a signal is to be delivered.
    Signal(c_int),
}

/// A process that stands still, on the processor on which its tracer runs: each of many steps changes over between the two,
/// and waking another processor takes longer than a step. Without the right to this they are only slower.
#[derive(Debug)]
pub(super) struct Near {
    own: Option<CpuSet>,
    its: Option<CpuSet>,
}

impl Near {
    /// Brings a process here, and keeps it and what it makes until it is sent back.
    pub(super) fn bring(pid: i32) -> Self {
        let near =
            Self { own: sched_getaffinity(None).ok(), its: sched_getaffinity(Pid::from_raw(pid)).ok() };
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        let _ = sched_setaffinity(None, &here).and_then(|()| sched_setaffinity(Pid::from_raw(pid), &here));
        near
    }

    /// Lets a process that came of it run where the first one could.
    pub(super) fn send_back(&self, pid: i32) -> io::Result<()> {
        match &self.its {
            Some(its) => Ok(sched_setaffinity(Pid::from_raw(pid), its)?),
            None => Ok(()),
        }
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            let _ = sched_setaffinity(None, own);
        }
    }
}

/// Traces a running process, which goes on. It and what it makes dies should this thread end.
pub(super) fn seize(pid: i32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_EXITKILL;
    request(libc::PTRACE_SEIZE, pid, 0, options as usize).map(drop)
}

/// Waits until the seized process has made another one, lets the first go on untraced and gives the second.
pub(super) fn await_fork(pid: i32) -> io::Result<Tracee> {
    for _ in 0..STOPS_MAX {
        match wait(pid)? {
            Stop::Child(child) => {
                detach(pid)?;
                return Tracee::fresh(child);
            }
            Stop::Signal(signal) => resume(libc::PTRACE_CONT, pid, signal)?,
            Stop::Step | Stop::Fresh => resume(libc::PTRACE_CONT, pid, 0)?,
        }
    }
    Err(unexpected("it was stopped by one signal after the other"))
}

/// Lets a stopped process run, untraced.
pub(super) fn detach(pid: i32) -> io::Result<()> {
    request(libc::PTRACE_DETACH, pid, 0, 0).map(drop)
}

impl Tracee {
    /// A process that a traced one has made: waits for its first stop.
    fn fresh(pid: i32) -> io::Result<Self> {
        let stop = wait(pid)?;
        if stop != Stop::Fresh {
            return Err(unexpected(&format!("a new process stopped for {stop:?}")));
        }
        let origin = read_registers(pid)?;
        let at = registers::call_instruction(&origin);
        let word = request(libc::PTRACE_PEEKDATA, pid, at, 0)?;
        if !registers::is_call_instruction(word) {
            return Err(unexpected("it was not made by a system call"));
        }
        Ok(Self { pid, origin })
    }

    /// Keeps its system calls from being filtered for as long as it is traced; processes that it makes have this too.
    pub(super) fn suspend_filter(&self) -> io::Result<()> {
        const SUSPEND_SECCOMP: c_int = 1 << 21;
        let options = libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_EXITKILL | SUSPEND_SECCOMP;
        request(libc::PTRACE_SETOPTIONS, self.pid, 0, options as usize).map(drop)
    }

    /// Has it make a system call; what that gave.
    pub(super) fn call(&self, number: libc::c_long, arguments: &[u64]) -> io::Result<u64> {
        self.step(number, arguments).map(|(result, _)| result)
    }

    /// Has it make a process with `clone`, which starts out like itself.
    pub(super) fn clone_one(&self, flags: c_int, child_tid: u64) -> io::Result<Self> {
        let arguments = registers::clone_arguments(flags, child_tid);
        match self.step(libc::SYS_clone, &arguments)? {
            (_, Some(child)) => Self::fresh(child),
            (_, None) => Err(unexpected("it made no process")),
        }
    }

    /// Ends it.
    pub(super) fn exit(self) -> io::Result<()> {
        let mut registers = self.origin;
        registers::set_call(&mut registers, libc::SYS_exit_group, &[0]);
        let told = write_registers(self.pid, &mut registers)
            .and_then(|()| resume(libc::PTRACE_CONT, self.pid, 0))
            .and_then(|()| reap(self.pid));
        told.inspect_err(|_| kill(self.pid))
    }

    /// Where the C library keeps its restartable sequences: address, length, signature.
    pub(super) fn restartable_sequences(&self) -> Option<[u64; 3]> {
        #[repr(C)]
        struct Sequences {
            address: u64,
            size: u32,
            signature: u32,
            flags: u32,
            padding: u32,
        }
        const GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
        let mut found = Sequences { address: 0, size: 0, signature: 0, flags: 0, padding: 0 };
        request(GET_RSEQ_CONFIGURATION, self.pid, size_of::<Sequences>(), (&raw mut found) as usize).ok()?;
        (found.address != 0).then_some([found.address, found.size.into(), found.signature.into()])
    }

    /// The same process, which is to go on elsewhere.
    pub(super) fn with_origin(self, origin: Registers) -> Self {
        Self { origin, ..self }
    }

    /// Lets it run on, untraced, as it was stopped first.
    pub(super) fn release(mut self) -> io::Result<()> {
        registers::forget_call(&mut self.origin);
        write_registers(self.pid, &mut self.origin)?;
        detach(self.pid)
    }

    /// Writes words below its stack, out of the way of what it keeps there, and gives their address.
    pub(super) fn write_scratch(&self, words: &[u64]) -> io::Result<u64> {
        for (index, word) in (0..).zip(words) {
            self.write_scratch_at(index, *word)?;
        }
        Ok(self.scratch())
    }

    /// Writes one word behind `index` others of the scratch place, and gives its address.
    pub(super) fn write_scratch_at(&self, index: u64, word: u64) -> io::Result<u64> {
        let place = self.scratch() + 8 * index;
        request(libc::PTRACE_POKEDATA, self.pid, usize_of(place), usize_of(word))?;
        Ok(place)
    }

    fn scratch(&self) -> u64 {
        /// More than what a function may keep below its stack without saying so, on every architecture.
        const BELOW: u64 = 1024;
        (registers::stack(&self.origin) - BELOW) & !0xf
    }

    fn step(&self, number: libc::c_long, arguments: &[u64]) -> io::Result<(u64, Option<i32>)> {
        let mut registers = self.origin;
        registers::set_call(&mut registers, number, arguments);
        write_registers(self.pid, &mut registers)?;
        let mut child = None;
        for _ in 0..STOPS_MAX {
            resume(libc::PTRACE_SINGLESTEP, self.pid, 0)?;
            match wait(self.pid)? {
                Stop::Step => {
                    let after = read_registers(self.pid)?;
                    if registers::call_instruction(&after) != registers::call_instruction(&self.origin) {
                        return Err(unexpected("it went elsewhere"));
                    }
                    return Ok((registers::result(&after)?, child));
                }
                Stop::Child(made) => child = Some(made),
                // A signal for a process that does not live yet means nothing.
                Stop::Signal(_) | Stop::Fresh => {}
            }
        }
        Err(unexpected("it was stopped by one signal after the other"))
    }
}

/// Kills a traced process and waits for its end.
pub(super) fn kill(pid: i32) {
    // SAFETY: plain system call; the process is traced by this thread, so its number stands for it until it is reaped.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    let _ = reap(pid);
}

fn reap(pid: i32) -> io::Result<()> {
    loop {
        let mut status = 0;
        wait_status(pid, &mut status)?;
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            return Ok(());
        }
        resume(libc::PTRACE_CONT, pid, 0)?;
    }
}

fn wait(pid: i32) -> io::Result<Stop> {
    let mut status = 0;
    wait_status(pid, &mut status)?;
    if !libc::WIFSTOPPED(status) {
        return Err(unexpected("it has ended"));
    }
    match (status >> 16, libc::WSTOPSIG(status)) {
        (libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_VFORK, _) => {
            let mut child: libc::c_ulong = 0;
            request(libc::PTRACE_GETEVENTMSG, pid, 0, (&raw mut child) as usize)?;
            Ok(Stop::Child(i32::try_from(child).map_err(io::Error::other)?))
        }
        (libc::PTRACE_EVENT_STOP, _) => Ok(Stop::Fresh),
        (0, libc::SIGTRAP) => Ok(Stop::Step),
        (_, signal) => Ok(Stop::Signal(signal)),
    }
}

fn wait_status(pid: i32, status: &mut c_int) -> io::Result<()> {
    loop {
        // SAFETY: `status` is a valid place for the result.
        if unsafe { libc::waitpid(pid, status, libc::__WALL) } == pid {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn resume(how: libc::c_uint, pid: i32, signal: c_int) -> io::Result<()> {
    request(how, pid, 0, usize_of(signal.unsigned_abs().into())).map(drop)
}

fn read_registers(pid: i32) -> io::Result<Registers> {
    // SAFETY: a struct of numbers.
    let mut registers: Registers = unsafe { std::mem::zeroed() };
    transfer(libc::PTRACE_GETREGSET, pid, &mut registers)?;
    Ok(registers)
}

fn write_registers(pid: i32, registers: &mut Registers) -> io::Result<()> {
    transfer(libc::PTRACE_SETREGSET, pid, registers)
}

fn transfer(how: libc::c_uint, pid: i32, registers: &mut Registers) -> io::Result<()> {
    const GENERAL: usize = 1;
    let mut space =
        libc::iovec { iov_base: (&raw mut *registers).cast::<c_void>(), iov_len: size_of::<Registers>() };
    request(how, pid, GENERAL, (&raw mut space) as usize).map(drop)
}

/// `ptrace` as the C library offers it. Every address that is passed is either one of the other process, where the
/// kernel checks it, or that of a local value which the kernel fills and whose size it is told or knows.
fn request(what: libc::c_uint, pid: i32, address: usize, data: usize) -> io::Result<u64> {
    // SAFETY: resets this thread's own error number, by which a word of -1 is told from a failure.
    unsafe { *libc::__errno_location() = 0 };
    // SAFETY: see above.
    let answer = unsafe { libc::ptrace(what as _, pid, address, data) };
    let error = io::Error::last_os_error();
    if answer == -1 && error.raw_os_error() != Some(0) {
        return Err(error);
    }
    Ok(answer.cast_unsigned())
}

fn usize_of(word: u64) -> usize {
    // Both architectures that are known here have words of 64 bits.
    word as usize
}

fn unexpected(what: &str) -> io::Error {
    io::Error::other(format!("tracing: {what}"))
}
