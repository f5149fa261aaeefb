//! Cells within other cells: for processes that a version's zygote forks.
//!
//! A process may enter a user namespace that was made by its own user below its own, and a process namespace below its
//! own, and no others. So the cells that a zygote's children are to live in are made inside the zygote's: their users
//! are the same, and everything in them ends with the outer cell's first process. Files, network, limits and the
//! sight of other processes are as separate as between any two cells.
//!
//! The spawner cannot come back from a user namespace, so a helper of its own goes there, makes the holder as the
//! spawner's child, and ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::PipeFlags;
use rustix::process::{
    DumpableBehavior, Gid, Pid, PidfdFlags, Signal, Uid, WaitId, WaitIdOptions, pidfd_send_signal, waitid,
};

use crate::cell::{self, Blueprint, IdMap};
use crate::sys;

/// What the helper says at most: a number and a reason.
const WORDS_BYTES_MAX: usize = 1024;

/// Starts the holder of a cell within the one whose holder is `outer`, with its users mapped; its number and pidfd.
pub(super) fn start_holder(
    outer: &OwnedFd,
    namespaces: libc::c_int,
    map: IdMap,
    blueprint: &Blueprint<'_>,
) -> io::Result<(i32, OwnedFd)> {
    let outer = sys::pid_of(outer.as_fd())?;
    let users = File::open(format!("/proc/{outer}/ns/user"))?;
    let processes = File::open(format!("/proc/{outer}/ns/pid"))?;
    let own = File::open("/proc/self/ns/pid")?;
    // Without waiting: a helper that was killed has said nothing.
    let (told, tells) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    sys::setns(processes.as_fd(), libc::CLONE_NEWPID)?;
    let helper = sys::clone_into(0, || match help(&users, namespaces, map, blueprint, &tells) {
        Ok(()) => 0,
        Err(error) => {
            let _ = rustix::io::write(&tells, format!(" {error}").as_bytes());
            1
        }
    });
    sys::setns(own.as_fd(), libc::CLONE_NEWPID)?;
    let (_, helper) = helper?;
    drop(tells);
    // A process that entered the outer cell from here must be reaped here, or that cell could not end. The pipe has no
    // end yet, since the holder has it too.
    waitid(WaitId::PidFd(helper.as_fd()), WaitIdOptions::EXITED)?;
    let mut words = [0; WORDS_BYTES_MAX];
    let bytes = rustix::io::read(&told, &mut words)?;
    let text = String::from_utf8_lossy(words.get(..bytes).unwrap_or_default()).into_owned();
    let (pid, error) = text.split_once(' ').map_or((&*text, None), |(pid, error)| (pid, Some(error)));
    let pid = pid.parse().ok().and_then(Pid::from_raw);
    let holder = pid.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty())).transpose()?;
    match (pid, holder, error) {
        (Some(pid), Some(holder), None) => Ok((pid.as_raw_pid(), holder)),
        (_, holder, error) => {
            if let Some(holder) = holder {
                let _ = pidfd_send_signal(&holder, Signal::KILL);
                let _ = waitid(WaitId::PidFd(holder.as_fd()), WaitIdOptions::EXITED);
            }
            Err(io::Error::other(error.unwrap_or("the helper said nothing").to_owned()))
        }
    }
}

/// The helper's life. It says the holder's number as soon as there is one.
fn help(
    users: &File,
    namespaces: libc::c_int,
    map: IdMap,
    blueprint: &Blueprint<'_>,
    tells: &OwnedFd,
) -> io::Result<()> {
    sys::setns(users.as_fd(), libc::CLONE_NEWUSER)?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    // The change of the user took it, and without it the holder's maps would belong to the host's root.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    let (_, holder) = sys::clone_beside(namespaces, || cell::run(blueprint))?;
    let pid = sys::pid_of(holder.as_fd())?;
    rustix::io::write(tells, pid.to_string().as_bytes())?;
    cell::write_maps(pid, map)
}
