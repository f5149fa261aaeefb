//! A folder, held open for one look.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A folder as it was found under its path. It stays the same folder whatever is put in its place.
#[derive(Debug)]
pub(super) struct Opened {
    folder: OwnedFd,
    identity: Identity,
}

/// Tells one folder from another that took its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Opened {
    /// Opens a folder, following links.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        let status = rustix::fs::fstat(&folder)?;
        Ok(Self { folder, identity: Identity { device: status.st_dev, inode: status.st_ino } })
    }

    /// Which folder it is.
    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// A path that leads to it, and to no other, while this is held.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd()))
    }

    /// Where it lies, without links.
    pub(super) fn real_path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(self.path())
    }
}
