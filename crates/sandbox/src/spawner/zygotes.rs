//! Zygotes: warmed parent processes from which processes are forked into cells.
//!
//! A zygote is a program of ours, started by the spawner with the spawner's rights, outside of every cell and with the
//! same files and no network. It gets orders over a link (which process to make where, see [`Order`]); what it forks
//! enters the cell, gives every right away and is then adopted by the cell's holder. It never runs or reads anything of
//! a function, and what a function does never reaches it.
//!
//! All that one zygote forks have the layout of their memory in common, so a zygote is replaced by a fresh one after
//! some forks and some time. The old one serves until the new one is ready.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::RecvFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use rustix::time::{ClockId, clock_gettime};

use super::cells::Maker;
use crate::cell::{self, MountTree};
use crate::exec::{self, Image};
use crate::link;
use crate::midwife;
use crate::protocol::{ForkAnswer, ForkOrder, ZygotePlan};
use crate::sys;

/// Forks after which a zygote is replaced.
const FORKS_MAX: u32 = 1000;
/// Seconds after which a zygote is replaced, when it is next used.
const AGE_MAX_S: i64 = 15 * 60;
/// Size of its `/tmp`, where nothing is.
const TMP_BYTES: u64 = 1024 * 1024;
/// Zygotes at once: one for each runtime that has one, their successors, and those of versions, which the pool's memory
/// bounds before this does.
const ZYGOTES_MAX: usize = 256;
/// Orders that one zygote may have before it has answered the first; each holds a dozen descriptors in its socket.
const PENDING_MAX: usize = 32;
/// Namespaces of its own: it needs no network and must not see what the spawner mounts.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC;

/// The answer to a fork.
pub(super) type Forked = (u64, Result<i32, String>);

/// A process to make: in which cell and with which descriptors.
pub(super) struct Fork<'a> {
    /// The number of the request.
    pub(super) number: u64,
    pub(super) holder: &'a OwnedFd,
    pub(super) ruleset: Option<&'a OwnedFd>,
    pub(super) standard: &'a [OwnedFd],
    pub(super) groups: &'a [OwnedFd],
}

/// What a zygote is of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// Of a runtime: a program of ours, for cells of any function.
    Runtime(ZygotePlan),
    /// Of a version: a process in this cell, for the cells within it. The one that is spoken with is its midwife.
    Version(u64),
}

#[derive(Debug)]
struct Zygote {
    kind: Kind,
    pub(super) link: OwnedFd,
    process: OwnedFd,
    /// The process in the cell where there is a midwife for it.
    mother: Option<OwnedFd>,
    is_ready: bool,
    /// Numbers of requests that it has not answered.
    pending: Vec<u64>,
    forks: u32,
    started_s: i64,
}

/// All zygotes.
#[derive(Debug, Default)]
pub(super) struct Zygotes {
    live: HashMap<u64, Zygote>,
    last: u64,
}

impl Zygotes {
    /// Has a process forked. Zygotes that had to be started for it are returned: their links and ends must be watched.
    pub(super) fn fork(
        &mut self,
        maker: &mut Maker,
        plan: &ZygotePlan,
        fork: &Fork<'_>,
    ) -> io::Result<Vec<u64>> {
        let mut new = Vec::new();
        let id = match self.serving(plan) {
            Some(id) => id,
            None => self.start(maker, plan, &mut new)?,
        };
        if self.is_worn(id) && self.of(plan).count() == 1 {
            // Without a successor the old one goes on; the next fork tries again.
            let _ = self.start(maker, plan, &mut new);
        }
        let Some(zygote) = self.live.get_mut(&id) else { return Ok(new) };
        zygote.order(maker, fork)?;
        Ok(new)
    }

    /// Has a process forked by the zygote in the cell `outer`.
    pub(super) fn fork_version(&mut self, maker: &Maker, outer: u64, fork: &Fork<'_>) -> io::Result<()> {
        let found = self.live.values_mut().find(|zygote| zygote.kind == Kind::Version(outer));
        found.ok_or_else(|| io::Error::other("the zygote has ended"))?.order(maker, fork)
    }

    /// Makes the process in `cell` at the other end of `connection` a zygote; the answer to `number` says that it is.
    pub(super) fn breed(&mut self, number: u64, cell: u64, connection: &OwnedFd) -> io::Result<u64> {
        self.check_room()?;
        let (ours, theirs) = link::pair()?;
        let (_, process) = sys::clone_into(0, || midwife::run(&theirs, connection, number))?;
        let mut zygote = Zygote::new(Kind::Version(cell), ours, process);
        zygote.pending.push(number);
        Ok(self.add(zygote))
    }

    /// Ends the zygote of a version, and with it what it is just forking.
    pub(super) fn end_version(&mut self, cell: u64) {
        for zygote in self.live.values().filter(|zygote| zygote.kind == Kind::Version(cell)) {
            zygote.kill();
        }
    }

    /// What to watch of a zygote: its link, and its process.
    pub(super) fn watched(&self, id: u64) -> Option<(&OwnedFd, &OwnedFd)> {
        self.live.get(&id).map(|zygote| (&zygote.link, &zygote.process))
    }

    /// A zygote has spoken. A word of a zygote that is ready retires its elders.
    pub(super) fn heard(&mut self, id: u64) -> Option<Forked> {
        let zygote = self.live.get_mut(&id)?;
        let mut buffer = [0; 4096];
        let (bytes, _) = rustix::net::recv(&zygote.link, &mut buffer, RecvFlags::DONTWAIT).ok()?;
        let answer: ForkAnswer = serde_json::from_slice(buffer.get(..bytes)?).ok()?;
        if answer.number == crate::protocol::NEWS {
            zygote.is_ready = true;
            let kind = zygote.kind.clone();
            self.end_idle(|other, zygote| other < id && zygote.kind == kind);
            return None;
        }
        if !zygote.is_ready && zygote.is_version() {
            zygote.is_ready = true;
            let pid = answer.pid.and_then(Pid::from_raw);
            zygote.mother = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        }
        zygote.pending.retain(|number| *number != answer.number);
        let retired = self.newer_ready(id);
        self.end_idle(|other, _| other == id && retired);
        let result = answer.pid.ok_or_else(|| answer.error.unwrap_or_default());
        Some((answer.number, result))
    }

    /// A zygote has ended: the requests that nobody answers any more.
    pub(super) fn ended(&mut self, id: u64) -> Vec<u64> {
        let Some(zygote) = self.live.remove(&id) else { return Vec::new() };
        let _ = waitid(WaitId::PidFd(zygote.process.as_fd()), WaitIdOptions::EXITED);
        zygote.pending
    }

    fn of<'a>(&'a self, plan: &'a ZygotePlan) -> impl Iterator<Item = (u64, &'a Zygote)> {
        let is_it = move |zygote: &Zygote| matches!(&zygote.kind, Kind::Runtime(own) if own == plan);
        self.live.iter().filter(move |(_, zygote)| is_it(zygote)).map(|(id, zygote)| (*id, zygote))
    }

    /// The newest that is ready, or else the newest.
    fn serving(&self, plan: &ZygotePlan) -> Option<u64> {
        self.of(plan).max_by_key(|(id, zygote)| (zygote.is_ready, *id)).map(|(id, _)| id)
    }

    fn newer_ready(&self, id: u64) -> bool {
        let Some(zygote) = self.live.get(&id) else { return false };
        let Kind::Runtime(plan) = &zygote.kind else { return false };
        self.of(plan).any(|(other, zygote)| other > id && zygote.is_ready)
    }

    fn is_worn(&self, id: u64) -> bool {
        let worn = |zygote: &Zygote| zygote.forks >= FORKS_MAX || now_s() - zygote.started_s >= AGE_MAX_S;
        self.live.get(&id).is_some_and(worn)
    }

    /// Ends those of `which` that nobody waits for. Their ends are noticed like any other.
    fn end_idle(&mut self, which: impl Fn(u64, &Zygote) -> bool) {
        for (id, zygote) in &self.live {
            if which(*id, zygote) && zygote.pending.is_empty() {
                let _ = pidfd_send_signal(&zygote.process, Signal::KILL);
            }
        }
    }

    fn start(&mut self, maker: &mut Maker, plan: &ZygotePlan, new: &mut Vec<u64>) -> io::Result<u64> {
        self.check_room()?;
        let id = self.add(Zygote::start(maker, plan)?);
        new.push(id);
        Ok(id)
    }

    fn check_room(&self) -> io::Result<()> {
        if self.live.len() < ZYGOTES_MAX {
            return Ok(());
        }
        Err(io::Error::other(format!("there are {ZYGOTES_MAX} zygotes already")))
    }

    fn add(&mut self, zygote: Zygote) -> u64 {
        self.last += 1;
        self.live.insert(self.last, zygote);
        self.last
    }
}

impl Zygote {
    fn start(maker: &mut Maker, plan: &ZygotePlan) -> io::Result<Self> {
        let mounts = plan.mounts.iter().map(|mount| {
            let tree = maker.template.fetch(mount)?;
            Ok(MountTree { tree, target: mount.target.clone(), writable: false })
        });
        let mounts = mounts.collect::<io::Result<Vec<_>>>()?;
        let (ours, theirs) = link::pair()?;
        let null = || {
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
            rustix::fs::open("/cell/dev/null", flags, rustix::fs::Mode::empty())
        };
        let fds = vec![null()?, null()?, rustix::io::dup(io::stderr())?, theirs];
        let image = Image::new(&plan.argv, plan.env.clone().into_iter(), "/", fds)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let (_, process) = sys::clone_into(NAMESPACES, || {
            let built = cell::confine_zygote(TMP_BYTES, &mounts);
            if built.is_ok() {
                exec::replace(&image);
            }
            1
        })?;
        // The filter is the same for every cell, so it is told once.
        link::send_bytes(ours.as_fd(), &filter_bytes(&maker.filter), &[])?;
        Ok(Self::new(Kind::Runtime(plan.clone()), ours, process))
    }

    fn new(kind: Kind, link: OwnedFd, process: OwnedFd) -> Self {
        let started_s = now_s();
        Self { kind, link, process, mother: None, is_ready: false, pending: Vec::new(), forks: 0, started_s }
    }

    fn is_version(&self) -> bool {
        matches!(self.kind, Kind::Version(_))
    }

    /// The midwife first, so that nobody is left who could let a child go.
    fn kill(&self) {
        for process in [Some(&self.process), self.mother.as_ref()].into_iter().flatten() {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }

    fn order(&mut self, maker: &Maker, fork: &Fork<'_>) -> io::Result<()> {
        if self.pending.len() >= PENDING_MAX {
            return Err(io::Error::other(format!("{PENDING_MAX} processes wait to be forked already")));
        }
        let order = ForkOrder {
            number: fork.number,
            landlock: fork.ruleset.is_some(),
            standard: fork.standard.len(),
            own_user: maker.uid_base.is_some(),
            last_capability: maker.last_capability,
            keyctl: libc::SYS_keyctl,
        };
        let mut fds: Vec<BorrowedFd<'_>> = vec![fork.holder.as_fd()];
        fds.extend(fork.ruleset.map(AsFd::as_fd));
        fds.extend(fork.standard.iter().chain(fork.groups).map(AsFd::as_fd));
        link::send(&self.link, &order, &fds)?;
        self.pending.push(fork.number);
        self.forks += 1;
        Ok(())
    }
}

impl Drop for Zygotes {
    fn drop(&mut self) {
        self.live.values().for_each(Zygote::kill);
    }
}

/// The filter as the kernel reads it: eight bytes an instruction.
fn filter_bytes(filter: &[libc::sock_filter]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(filter.len() * 8);
    for instruction in filter {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    bytes
}

fn now_s() -> i64 {
    clock_gettime(ClockId::Monotonic).tv_sec
}
