//! What the spawner hands to a new holder: open descriptors and plain values, nothing that must be looked up
//! on the host.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::protocol::Purpose;

/// A cell to build.
pub(crate) struct Blueprint<'a> {
    /// What the cell is for.
    pub(crate) purpose: Purpose,
    /// The holder's end of its link.
    pub(crate) link: OwnedFd,
    /// Closed with a byte in it when the user and group maps are written, without one when that failed.
    pub(crate) mapped: OwnedFd,
    /// Files into which the first process writes itself to join its control groups.
    pub(crate) groups: Vec<OwnedFd>,
    /// Whether the outside has more than one user to map.
    pub(crate) own_user: bool,
    /// Size of `/tmp`.
    pub(crate) tmp_bytes: u64,
    /// Ports on 127.0.0.1 that the platform listens on.
    pub(crate) listeners: Vec<u16>,
    /// Host folders and files to show.
    pub(crate) mounts: Vec<MountTree>,
    /// The kernel's version of Landlock; 0 where there is none.
    pub(crate) landlock_abi: u32,
    /// The system call filter.
    pub(crate) filter: &'a [libc::sock_filter],
    /// The kernel's highest capability.
    pub(crate) last_capability: u32,
}

/// A host folder or file as a mount that is not attached anywhere yet.
pub(crate) struct MountTree {
    pub(crate) tree: OwnedFd,
    pub(crate) target: PathBuf,
    pub(crate) writable: bool,
}
