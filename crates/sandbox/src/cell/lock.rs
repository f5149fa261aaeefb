//! Giving every right away, in the one order that works: what needs a right comes before its loss.
//!
//! All of it is inherited: a program started later by the holder can only have less.

use std::io;
use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};

use super::Blueprint;
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

/// Locks this process in, for ever.
pub(crate) fn lock(blueprint: &Blueprint<'_>) -> io::Result<()> {
    named("session keyring", ignore_missing(sys::new_session_keyring()))?;
    named("limits", set_limits())?;
    named("death signal", rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))?;
    for capability in 0..=blueprint.last_capability {
        named("bounding set", sys::prctl(libc::PR_CAPBSET_DROP, capability.into()))?;
    }
    named("secure bits", sys::prctl(libc::PR_SET_SECUREBITS, SECURE_BITS))?;
    named("capabilities", sys::drop_capabilities())?;
    named("no new privileges", rustix::thread::set_no_new_privs(true))?;
    named("dumpable", rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))?;
    if blueprint.landlock_abi > 0 {
        let writable = blueprint.mounts.iter().filter(|mount| mount.writable);
        let writable: Vec<_> =
            writable.map(|mount| mount.target.as_path()).chain([Path::new("/tmp")]).collect();
        named("landlock", landlock::restrict(blueprint.landlock_abi, &writable, &DEVICES.map(Path::new)))?;
    }
    named("seccomp", sys::install_filter(blueprint.filter))
}

fn set_limits() -> io::Result<()> {
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
    result.map_err(|error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("{what}: {error}"))
    })
}
