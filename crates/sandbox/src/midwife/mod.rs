//! The midwife: helps a process of one version, which can do nothing itself, to fork into another cell.
//!
//! A zygote of a *version* has run that version's code, so it lives in a cell, has given every right away and may be
//! hostile. A process that is to live in a cell of its own must enter that cell's namespaces, which takes rights; so
//! the zygote cannot place its children itself. One midwife for each such zygote does it from outside: a fork of the
//! spawner, with its rights, that never runs or reads anything of a function.
//!
//! ```text
//! spawner --order--> midwife --"fork", descriptors--> zygote
//!                       |                               | fork()
//!                       +--- ptrace: enter the cell <-- child, stopped before its first instruction
//!                       +--- ptrace: give rights away
//!                       +--- check it from outside, let it go
//! ```
//!
//! The child is stopped by the kernel in the moment in which it is made and does nothing but the system calls that are
//! given to it, one by one, until it has no right again. What they led to is then read from the kernel and compared;
//! a child that is not exactly where and what it should be is killed. Rights that the child has in between hold in
//! the new cell's user namespace only. `labour` is that sequence, `tracee` the mechanism, `registers` the architecture.

mod labour;
mod registers;
mod tracee;

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::retry_on_intr;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{PidfdFlags, Signal};

use crate::link::{self, ANSWER_BYTES_MAX};
use crate::protocol::{ForkAnswer, ForkOrder};
use crate::sys;

/// Where its link to the spawner and its connection to the zygote are.
const LINK: i32 = 3;
const ZYGOTE: i32 = 4;

/// What the zygote is asked over the connection. It answers the first with the same; to the second it says under which
/// numbers it has what came with it, and forks.
const HELLO: &[u8] = b"H";
const FORK: &[u8] = b"F";
/// Longest answer of a zygote: numbers of descriptors.
const WORD_BYTES_MAX: usize = 1024;

/// Serves the orders for one zygote until the spawner is gone; the result is the exit status. `zygote` is the
/// platform's end of the zygote's connection. The answer to `request` says that the zygote is there.
pub(crate) fn run(link: &OwnedFd, zygote: &OwnedFd, request: u64) -> i32 {
    match attend(link, zygote, request) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn attend(link: &OwnedFd, zygote: &OwnedFd, request: u64) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let _ = rustix::thread::set_name(c"alula-midwife");
    // Out of the way first: one may stand where the other must go.
    let moved = [link, zygote].map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, ZYGOTE + 1));
    let [link, zygote] = moved;
    sys::place_fd(link?.as_fd(), LINK)?;
    sys::place_fd(zygote?.as_fd(), ZYGOTE)?;
    sys::close_from(ZYGOTE.cast_unsigned() + 1)?;
    let (link, zygote) = (sys::adopt_fd(LINK), sys::adopt_fd(ZYGOTE));
    let flags = rustix::fs::fcntl_getfl(&zygote)?;
    rustix::fs::fcntl_setfl(&zygote, flags - rustix::fs::OFlags::NONBLOCK)?;
    let midwife = Midwife::meet(zygote)?;
    link::send(&link, &ForkAnswer { number: request, pid: Some(midwife.zygote_pid), error: None }, &[])?;
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    while let Some(received) = link::receive::<ForkOrder>(&link, &mut buffer)? {
        let number = received.message.number;
        let answer = match midwife.deliver(&received.message, &received.fds) {
            Ok(pid) => ForkAnswer { number, pid: Some(pid), error: None },
            Err(error) => ForkAnswer { number, pid: None, error: Some(error.to_string()) },
        };
        link::send(&link, &answer, &[])?;
    }
    Ok(())
}

struct Midwife {
    zygote: OwnedFd,
    /// Its number outside.
    zygote_pid: i32,
    /// Its number in its cell.
    zygote_inside: i32,
    /// Keeps the number from standing for another process unnoticed.
    process: OwnedFd,
}

impl Midwife {
    /// Learns from the kernel which process is at the other end.
    fn meet(zygote: OwnedFd) -> io::Result<Self> {
        rustix::net::sockopt::set_socket_passcred(&zygote, true)?;
        say(&zygote, HELLO, &[])?;
        let mut word = [0; WORD_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut word)];
        let got =
            retry_on_intr(|| rustix::net::recvmsg(&zygote, &mut slices, &mut control, RecvFlags::empty()))?;
        let sender = control.drain().find_map(|part| match part {
            RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid),
            _ => None,
        });
        let Some(pid) = sender.filter(|_| got.bytes > 0) else {
            return Err(io::Error::other("the zygote said nothing"));
        };
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        rustix::net::sockopt::set_socket_passcred(&zygote, false)?;
        let zygote_pid = pid.as_raw_pid();
        Ok(Self { zygote, zygote_pid, zygote_inside: labour::pid_inside(zygote_pid)?, process })
    }

    /// Has one process made in a cell; its number inside.
    fn deliver(&self, order: &ForkOrder, fds: &[OwnedFd]) -> io::Result<i32> {
        let (holder, rest) = fds.split_first().ok_or_else(|| io::Error::other("the order names no cell"))?;
        let (ruleset, rest) = rest.split_at(usize::from(order.landlock));
        let (standard, groups) = rest.split_at(order.standard.min(rest.len()));
        let spaces = labour::Spaces::of(holder)?;
        // The zygote knows those for the new process by their place at the end.
        let others = ruleset.iter().chain(groups).chain(standard).map(AsFd::as_fd);
        let given: Vec<_> = spaces.fds().chain(others).collect();
        self.check_alive()?;
        tracee::seize(self.zygote_pid)?;
        say(&self.zygote, FORK, &given)?;
        // A zygote that does something else than to fork is of no use any more.
        let child = tracee::await_fork(self.zygote_pid).inspect_err(|_| tracee::kill(self.zygote_pid))?;
        let numbers = self.numbers(given.len()).inspect_err(|_| tracee::kill(child.pid))?;
        let first_group = given.len() - standard.len() - groups.len();
        let place = labour::Place {
            order,
            spaces: &spaces,
            groups: numbers.get(first_group..first_group + groups.len()).unwrap_or_default(),
            zygote_inside: self.zygote_inside,
        };
        labour::settle(child, &place, &numbers)
    }

    /// Its number could stand for another process once it has ended.
    fn check_alive(&self) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ended = rustix::event::poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&now))?;
        if ended == 0 { Ok(()) } else { Err(io::Error::other("the zygote has ended")) }
    }

    /// The numbers under which it has the descriptors that it was given: said before it forked.
    fn numbers(&self, given: usize) -> io::Result<Vec<u64>> {
        let mut word = vec![0; WORD_BYTES_MAX];
        let (bytes, _) = retry_on_intr(|| rustix::net::recv(&self.zygote, &mut word, RecvFlags::DONTWAIT))?;
        let numbers: Vec<u64> = serde_json::from_slice(word.get(..bytes).unwrap_or_default())?;
        if numbers.len() != given {
            return Err(io::Error::other("the zygote did not take what it was given"));
        }
        Ok(numbers)
    }
}

fn say(to: &OwnedFd, what: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    link::send_bytes(to.as_fd(), what, fds)
}
