//! From a child that the zygote has just forked to a process in another cell: what it is made to do, in order, and how
//! it is checked.
//!
//! ```text
//! zygote ── child ─────────── enters the cell's namespaces, gives every right away
//!             └── second      the first that is in the cell's process namespace
//!                   └── ...   until the number inside is another than the zygote's
//!                         └── the process; adopted by the cell's holder when those above have ended
//! ```
//!
//! All of them share one memory, the child's copy of the zygote's, and only the last ever runs in it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::fs::MetadataExt;

use super::registers;
use super::tracee::{self, Near, Tracee};
use crate::protocol::ForkOrder;
use crate::sys;

/// The namespaces of a cell, in the order in which they are entered: the first gives the right to the others.
const SPACES: [&str; 7] = ["user", "mnt", "net", "ipc", "uts", "cgroup", "pid"];
/// Processes between the child and the one that stays.
const GENERATIONS_MAX: usize = 8;

const JOIN_SESSION_KEYRING: u64 = 1;
/// `SECBIT_NOROOT`, `SECBIT_NO_SETUID_FIXUP`, `SECBIT_NO_CAP_AMBIENT_RAISE`, each with its lock.
const SECURE_BITS: u64 = 0b1100_1111;
/// `_LINUX_CAPABILITY_VERSION_3`, and that it is about the caller.
const CAPABILITY_HEADER: u64 = 0x2008_0522;

/// The namespaces of the cell that a process is made for.
pub(super) struct Spaces {
    files: Vec<File>,
}

impl Spaces {
    /// Those of the cell with this first process.
    pub(super) fn of(holder: &OwnedFd) -> io::Result<Self> {
        let holder_pid = sys::pid_of(holder.as_fd())?;
        let open = |name: &&str| File::open(format!("/proc/{holder_pid}/ns/{name}"));
        Ok(Self { files: SPACES.iter().map(open).collect::<io::Result<_>>()? })
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(AsFd::as_fd)
    }
}

/// Where a child is to live.
pub(super) struct Place<'a> {
    pub(super) order: &'a ForkOrder,
    pub(super) spaces: &'a Spaces,
    /// Numbers of the files by which it joins the cell's control groups.
    pub(super) groups: &'a [u64],
    /// The zygote's number in its own cell, which the child must not have in the other.
    pub(super) zygote_inside: i32,
}

/// The number of a process in the innermost namespace that it is in.
pub(super) fn pid_inside(pid: i32) -> io::Result<i32> {
    Ok(Status::of(pid)?.pid_inside)
}

/// Moves the child into the cell and lets the process run there that has come of it; its number inside. `numbers` are
/// those that the zygote has the namespaces and the ruleset under, as it says.
pub(super) fn settle(child: Tracee, place: &Place<'_>, numbers: &[u64]) -> io::Result<i32> {
    let near = Near::bring(child.pid);
    let mut line = vec![child];
    let born = enter(&line[0], place.order, numbers).and_then(|()| descend(&mut line, place, &near));
    born.inspect_err(|_| line.iter().rev().for_each(|left| tracee::kill(left.pid)))
}

fn enter(child: &Tracee, order: &ForkOrder, numbers: &[u64]) -> io::Result<()> {
    child.suspend_filter().map_err(|error| named("suspending the filter", &error))?;
    let (spaces, rest) = numbers.split_at(SPACES.len().min(numbers.len()));
    for (name, number) in SPACES.iter().zip(spaces) {
        child.call(libc::SYS_setns, &[*number, 0]).map_err(|error| named(name, &error))?;
    }
    if order.own_user {
        child.call(libc::SYS_setgroups, &[0, 0]).map_err(|error| named("groups", &error))?;
    }
    match child.call(libc::SYS_keyctl, &[JOIN_SESSION_KEYRING, 0]) {
        Err(error) if error.raw_os_error() != Some(libc::ENOSYS) => return Err(named("keyring", &error)),
        _ => {}
    }
    give_rights_away(child, order, rest.first().copied()).map_err(|error| named("rights", &error))
}

/// In the order that works, as [`crate::cell`] does it for holders.
fn give_rights_away(child: &Tracee, order: &ForkOrder, ruleset: Option<u64>) -> io::Result<()> {
    let prctl = |option: libc::c_int, value: u64| {
        child.call(libc::SYS_prctl, &[u64::from(option.cast_unsigned()), value, 0, 0, 0]).map(drop)
    };
    for capability in 0..=order.last_capability {
        prctl(libc::PR_CAPBSET_DROP, capability.into())?;
    }
    prctl(libc::PR_SET_SECUREBITS, SECURE_BITS)?;
    let header = child.write_scratch(&[CAPABILITY_HEADER, 0, 0, 0])?;
    child.call(libc::SYS_capset, &[header, header + 8])?;
    // The change of the user namespace took it, and without it a process cannot look at itself.
    prctl(libc::PR_SET_DUMPABLE, 1)?;
    if let (true, Some(ruleset)) = (order.landlock, ruleset) {
        child.call(libc::SYS_landlock_restrict_self, &[ruleset, 0])?;
    }
    Ok(())
}

/// Makes the process that stays and ends those between it and the zygote.
fn descend(line: &mut Vec<Tracee>, place: &Place<'_>, near: &Near) -> io::Result<i32> {
    let child = &line[0];
    let origin = child.origin;
    // What a process that shares memory with its parent does not get from it, though a forked one would.
    let stack = child.write_scratch(&[0; 3])?;
    child.call(libc::SYS_sigaltstack, &[0, stack])?;
    let sequences = child.restartable_sequences();
    let inside = loop {
        let next = bear(&line[line.len() - 1], registers::cleared_tid(&origin))?;
        let status = Status::of(next.pid);
        line.push(next);
        let status = status?;
        // The second's parent is outside, and would stay its parent. Libraries know by their number that they have
        // been forked, and make anew what must not be the same twice: randomness, above all.
        if line.len() > 2 && status.pid_inside != place.zygote_inside {
            break status;
        }
        if line.len() > GENERATIONS_MAX {
            return Err(io::Error::other("no number inside is free"));
        }
    };
    let last = &line[line.len() - 1];
    inside.check(place.spaces, last.pid)?;
    let own = last.write_scratch_at(4, u64::from(b'0'))?;
    for group in place.groups {
        // By itself: the kernel makes whoever moves another process wait for milliseconds.
        last.call(libc::SYS_write, &[*group, own, 1]).map_err(|error| named("group", &error))?;
    }
    last.call(libc::SYS_sigaltstack, &[stack, 0])?;
    if let Some([address, size, signature]) = sequences {
        // A library that has none, or a kernel that does not tell, does without.
        let _ = last.call(libc::SYS_rseq, &[address, size, 0, signature]);
    }
    near.send_back(last.pid)?;
    let last = line.pop();
    while line.len() > 1 {
        line.pop().map_or(Ok(()), Tracee::exit)?;
    }
    if let Some(child) = line.pop() {
        // Its own child must be reaped outside of the cell, or the cell's first process could not end.
        child.call(libc::SYS_wait4, &[u64::MAX, 0, u64::from(libc::__WALL.cast_unsigned()), 0])?;
        child.exit()?;
    }
    last.map_or(Ok(()), |last| last.with_origin(origin).release())?;
    Ok(inside.pid_inside)
}

/// Has a process make another one that shares its memory. `tid` is where the C library keeps a process's number.
fn bear(parent: &Tracee, tid: u64) -> io::Result<Tracee> {
    // Otherwise the parent would write there when it ends, into the memory of the one that stays.
    parent.call(libc::SYS_set_tid_address, &[0])?;
    let keeps = if tid == 0 { 0 } else { libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID };
    parent.clone_one(libc::CLONE_VM | libc::SIGCHLD | keeps, tid)
}

/// What the kernel says of a process.
struct Status {
    pid_inside: i32,
    capabilities: Vec<u64>,
    no_new_privileges: bool,
    is_filtered: bool,
}

impl Status {
    fn of(pid: i32) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim()
        };
        let capabilities = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
        let set = |name: &&str| u64::from_str_radix(value(name), 16).unwrap_or(u64::MAX);
        Ok(Self {
            pid_inside: value("NSpid").rsplit('\t').next().and_then(|pid| pid.parse().ok()).unwrap_or(-1),
            capabilities: capabilities.iter().map(set).collect(),
            no_new_privileges: value("NoNewPrivs") == "1",
            is_filtered: value("Seccomp") == "2",
        })
    }

    /// Whether the process is where and what it has to be, whatever it was told to do.
    fn check(&self, spaces: &Spaces, pid: i32) -> io::Result<()> {
        if self.capabilities.iter().any(|set| *set != 0) || !self.no_new_privileges || !self.is_filtered {
            return Err(io::Error::other("the process has rights left"));
        }
        for (name, file) in SPACES.iter().zip(&spaces.files) {
            let (wanted, found) = (file.metadata()?, std::fs::metadata(format!("/proc/{pid}/ns/{name}"))?);
            if (wanted.st_dev(), wanted.st_ino()) != (found.st_dev(), found.st_ino()) {
                return Err(io::Error::other(format!("the process is in another {name} namespace")));
            }
        }
        Ok(())
    }
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
