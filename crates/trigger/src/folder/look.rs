//! Looking at a folder and at its files: what lies there, and what is in it.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use alula_model::trigger::FolderSource;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::FILES_MAX;
use super::opened::Opened;

/// What changes when a file is written or another is put in its place. Times in nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) bytes: u64,
    pub(super) inode: u64,
    pub(super) modified_ns: i128,
    /// Nobody can set it: a file that was moved here has the time of the move.
    pub(super) changed_ns: i128,
}

/// A file that did not change while it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) mark: Mark,
    /// SHA-256, in hexadecimal digits.
    pub(super) digest: String,
}

/// What a look at one name gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// There is no regular file of this name.
    Nothing,
    /// It was written while it was read.
    Changing,
    /// A file.
    File(Found),
}

/// Read at once: large enough that system calls do not count.
const CHUNK_BYTES: usize = 128 * 1024;

/// Whether a name is one that a trigger wants.
pub(super) fn wants(source: &FolderSource, name: &[u8]) -> bool {
    name.starts_with(source.prefix.as_bytes()) && name.ends_with(source.suffix.as_bytes())
}

/// The regular files of a folder that a trigger wants, [`FILES_MAX`] at the most.
pub(super) fn list(folder: &Opened, source: &FolderSource) -> io::Result<Vec<(Vec<u8>, Mark)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder.path())? {
        let name = entry?.file_name();
        if !wants(source, name.as_bytes()) {
            continue;
        }
        let Some(mark) = mark(folder, name.as_bytes())? else { continue };
        if files.len() == FILES_MAX {
            tracing::warn!(folder = %source.path, "the folder holds over {FILES_MAX} files: some are not watched");
            break;
        }
        files.push((name.as_bytes().to_vec(), mark));
    }
    Ok(files)
}

fn mark(folder: &Opened, name: &[u8]) -> io::Result<Option<Mark>> {
    match std::fs::symlink_metadata(folder.path().join(OsStr::from_bytes(name))) {
        Ok(metadata) => Ok(metadata.is_file().then(|| Mark::of(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a file to its end, or until `stop`.
pub(super) fn read(folder: &Opened, name: &[u8], stop: &CancellationToken) -> io::Result<Sight> {
    if mark(folder, name)?.is_none() {
        return Ok(Sight::Nothing);
    }
    // What was put there in the meantime may be a link, or a pipe that never ends.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let path = folder.path().join(OsStr::from_bytes(name));
    let mut file = match OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sight::Nothing),
        Err(error) => return Err(error),
    };
    let before = file.metadata()?;
    if !before.is_file() {
        return Ok(Sight::Nothing);
    }
    let digest = digest(&mut file, stop)?;
    let (mark, after) = (Mark::of(&before), Mark::of(&file.metadata()?));
    match mark == after {
        true => Ok(Sight::File(Found { mark, digest })),
        false => Ok(Sight::Changing),
    }
}

fn digest(file: &mut File, stop: &CancellationToken) -> io::Result<String> {
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    while !stop.is_cancelled() {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hasher.update(piece.get(..count).unwrap_or_default()),
        }
    }
    Err(io::Error::new(io::ErrorKind::Interrupted, "the platform ends"))
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            bytes: metadata.len(),
            inode: metadata.ino(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
