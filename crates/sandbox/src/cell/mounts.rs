//! The file system of a cell, built by its holder in its own mount namespace.
//!
//! The prepared read-only root is cloned (mounts that came along from the spawner are locked and cannot
//! become a root), `/proc` and `/tmp` are new, host folders arrive as unattached mounts. In the end nothing
//! else is reachable.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::MountTree;

/// Where the spawner's template keeps the cells' root.
pub(crate) const ROOT: &str = "/cell";

/// Bytes of `/tmp` for each file in it: a file takes at least a page.
const TMP_BYTES_PER_FILE: u64 = 4096;
/// Files in the smallest `/tmp`.
const TMP_FILES_MIN: u64 = 1024;

/// Makes the cell's file system the root of this process; says at which step it failed.
pub(crate) fn build(tmp_bytes: u64, mounts: &[MountTree]) -> io::Result<()> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let root = step("clone of the root", rustix::mount::open_tree(CWD, ROOT, flags))?;
    step("the root", attach(root.as_fd(), Path::new(ROOT)))?;
    step("the root", rustix::process::chdir(ROOT))?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    step("/proc", rustix::mount::mount("proc", "proc", "proc", plain | MountFlags::NOEXEC, None))?;
    let options = tmp_options(tmp_bytes)?;
    step("/tmp", rustix::mount::mount("tmpfs", "tmp", "tmpfs", plain, options.as_c_str()))?;
    for mount in mounts {
        let inside = mount.target.strip_prefix("/").unwrap_or(&mount.target);
        step(&mount.target.to_string_lossy(), attach(mount.tree.as_fd(), inside))?;
    }
    step("change of the root", rustix::process::pivot_root(".", "."))?;
    step("the host's root", rustix::mount::unmount(".", UnmountFlags::DETACH))?;
    step("the new root", rustix::process::chdir("/"))
}

/// Gives `/tmp` of the cell whose mount namespace this process is in another size.
pub(crate) fn resize_tmp(tmp_bytes: u64) -> io::Result<()> {
    let options = tmp_options(tmp_bytes)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    step("/tmp", rustix::mount::mount_remount("/tmp", flags, options.as_c_str()))
}

fn tmp_options(tmp_bytes: u64) -> io::Result<CString> {
    let files = (tmp_bytes / TMP_BYTES_PER_FILE).max(TMP_FILES_MIN);
    Ok(CString::new(format!("size={tmp_bytes},nr_inodes={files},mode=1777"))?)
}

/// Attaches an unattached mount.
pub(crate) fn attach(tree: std::os::fd::BorrowedFd<'_>, target: &Path) -> rustix::io::Result<()> {
    rustix::mount::move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn step<T>(what: &str, result: rustix::io::Result<T>) -> io::Result<T> {
    result.map_err(|errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("mounting {what}: {error}"))
    })
}
