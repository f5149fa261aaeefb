//! Looking at one file: its marks, and its content where the marks differ.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::FILES_MAX;

/// What changes when a file is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) bytes: u64,
    pub(super) modified_ns: i128,
    pub(super) inode: u64,
}

/// A file as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) mark: Mark,
    /// SHA-256, in hexadecimal digits.
    pub(super) digest: String,
}

/// Read at once: large enough that system calls do not count.
const CHUNK_BYTES: usize = 128 * 1024;

/// The marks of a regular file; `None` where there is none.
pub(super) fn mark(folder: &Path, name: &[u8]) -> io::Result<Option<Mark>> {
    match std::fs::symlink_metadata(folder.join(OsStr::from_bytes(name))) {
        Ok(metadata) => Ok(metadata.is_file().then(|| of(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn of(metadata: &std::fs::Metadata) -> Mark {
    let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Mark { bytes: metadata.len(), modified_ns, inode: metadata.ino() }
}

/// Reads a file; `None` where it is not there, or was written while it was read.
pub(super) fn read(folder: &Path, name: &[u8]) -> io::Result<Option<Found>> {
    // What was put there in the meantime may be a link or a pipe that never ends.
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(folder.join(OsStr::from_bytes(name)));
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let before = file.metadata()?;
    if !before.is_file() {
        return Ok(None);
    }
    let digest = digest(&mut file)?;
    let (mark, after) = (of(&before), of(&file.metadata()?));
    Ok((mark == after).then_some(Found { mark, digest }))
}

fn digest(file: &mut File) -> io::Result<String> {
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hasher.update(piece.get(..count).unwrap_or_default()),
        }
    }
}

/// The names of what lies in a folder, [`FILES_MAX`] at the most.
pub(super) fn names(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(FILES_MAX + 1) {
        names.push(entry?.file_name().as_bytes().to_vec());
    }
    if names.len() > FILES_MAX {
        tracing::warn!(folder = %folder.display(), "the folder holds over {FILES_MAX} files: some are not watched");
        names.truncate(FILES_MAX);
    }
    Ok(names)
}
