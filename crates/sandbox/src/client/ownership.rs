//! Giving writable folders to the outside user of a cell, so that root inside may write what the platform put
//! there. Links are changed themselves and never followed: the content may be hostile.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid};

/// Deepest folder that is given away: each level holds a descriptor while it is walked.
const DEPTH_MAX: usize = 128;

/// Gives the folders, with all that is in them, to `owner`.
pub(super) async fn give(folders: Vec<PathBuf>, owner: u32) -> io::Result<()> {
    if folders.is_empty() {
        return Ok(());
    }
    let walk = move || folders.iter().try_for_each(|folder| give_one(folder, owner));
    tokio::task::spawn_blocking(walk).await.map_err(io::Error::other)?
}

fn give_one(path: &Path, owner: u32) -> io::Result<()> {
    chown(CWD, path, owner)?;
    match rustix::fs::open(path, folder_flags(), Mode::empty()) {
        Ok(folder) => give_content(folder, owner, DEPTH_MAX),
        Err(rustix::io::Errno::NOTDIR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn give_content(folder: OwnedFd, owner: u32, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other(format!("a folder is deeper than {DEPTH_MAX} levels")));
    }
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        chown(folder.as_fd(), name, owner)?;
        if entry.file_type() == FileType::Directory {
            let inner = rustix::fs::openat(&folder, name, folder_flags(), Mode::empty())?;
            give_content(inner, owner, depth - 1)?;
        }
    }
    Ok(())
}

fn chown(at: impl AsFd, name: impl rustix::path::Arg, owner: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
    rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}
