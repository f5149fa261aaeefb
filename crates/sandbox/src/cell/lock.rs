//! Giving every right away, in the one order that works: what needs a right comes before its loss.
//!
//! All of it is inherited: a program started later by the holder can only have less.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};

use super::{Blueprint, MountTree};
use crate::protocol::Purpose;
use crate::{landlock, sys};

/// Device files of a cell that may be written.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Descriptors a process has without asking for more: what `select` can name.
const OPEN_FILES_SOFT: u64 = 1024;
/// Descriptors a process may ask for, where the host gives that many.
const OPEN_FILES_HARD: u64 = 65_536;

/// `SECBIT_NOROOT`, `SECBIT_NO_SETUID_FIXUP`, `SECBIT_NO_CAP_AMBIENT_RAISE`, each with its lock: being root
/// inside or becoming it brings no capability back.
const SECURE_BITS: libc::c_ulong = 0b1100_1111;

/// Rulesets for processes that are not the holder.
#[derive(Debug)]
pub(crate) struct Rulesets {
    /// For those that inherit the holder's: what the holder's leaves out. Absent where the kernel does not know it.
    pub(crate) scope: Option<OwnedFd>,
    /// For those that inherit nothing, because a zygote forks them into the cell.
    pub(crate) whole: OwnedFd,
}

/// Locks this process in, for ever. The rulesets are absent where the kernel has no Landlock.
pub(crate) fn lock(blueprint: &Blueprint<'_>) -> io::Result<Option<Rulesets>> {
    named("session keyring", ignore_missing(sys::new_session_keyring()))?;
    named("death signal", rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))?;
    for capability in 0..=blueprint.last_capability {
        named("bounding set", sys::prctl(libc::PR_CAPBSET_DROP, capability.into()))?;
    }
    named("secure bits", sys::prctl(libc::PR_SET_SECUREBITS, SECURE_BITS))?;
    named("capabilities", sys::drop_capabilities())?;
    named("no new privileges", rustix::thread::set_no_new_privs(true))?;
    named("dumpable", rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
    let rulesets = named_value("landlock", restrict(blueprint))?;
    named("seccomp", sys::install_filter(blueprint.filter))?;
    Ok(rulesets)
}

/// Puts this process under all of Landlock but the scope of signals: processes that a zygote forks into the cell are
/// not below this one, and it must be able to end them.
fn restrict(blueprint: &Blueprint<'_>) -> io::Result<Option<Rulesets>> {
    let abi = blueprint.landlock_abi;
    if abi == 0 {
        return Ok(None);
    }
    let writable = blueprint.mounts.iter().filter(|mount| mount.writable);
    let writable: Vec<_> = writable.map(|mount| mount.target.as_path()).chain([Path::new("/tmp")]).collect();
    let rules = |scopes| landlock::ruleset(abi, scopes, &writable, &DEVICES.map(Path::new));
    sys::landlock_restrict(rules(landlock::ABSTRACT_UNIX)?.as_fd())?;
    let scope = landlock::scope_only(abi, landlock::SIGNAL)?;
    let scopes = landlock::ABSTRACT_UNIX | landlock::SIGNAL;
    let whole = match blueprint.purpose {
        Purpose::Work => rules(scopes)?,
        Purpose::Breeding => landlock::reading(abi, scopes)?,
    };
    Ok(Some(Rulesets { scope, whole }))
}

/// What every process of the spawner's has before it becomes a zygote: its files, its limits, its end.
pub(crate) fn confine_zygote(tmp_bytes: u64, mounts: &[MountTree]) -> io::Result<()> {
    named("death signal", rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))?;
    super::mounts::build(tmp_bytes, mounts)?;
    named("limits", set_limits())
}

/// Limits what programs inherit. It needs no right, and comes when the spawner's descriptors are closed: with those of
/// many cells among them, nothing more could be opened below the limit.
pub(crate) fn set_limits() -> io::Result<()> {
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let most = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES_HARD);
    let most = most.min(OPEN_FILES_HARD);
    let files = Rlimit { current: Some(most.min(OPEN_FILES_SOFT)), maximum: Some(most) };
    Ok(rustix::process::setrlimit(Resource::Nofile, files)?)
}

/// A kernel without keyrings has none to leave.
fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other,
    }
}

fn named<E: Into<io::Error>>(what: &str, result: Result<(), E>) -> io::Result<()> {
    named_value(what, result)
}

fn named_value<T, E: Into<io::Error>>(what: &str, result: Result<T, E>) -> io::Result<T> {
    result.map_err(|error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("{what}: {error}"))
    })
}
