//! Archives: how source comes in, and how packages are stored.
//!
//! Whatever comes in is taken for hostile: [`unpack`] writes only plain files, folders and symbolic links that stay
//! inside, into an empty folder, within limits. Whatever is stored is normalised: [`pack`] makes the same bytes of
//! the same content, so that a package's digest names its content. Packages are plain tar archives: a compressed
//! form would depend on the version of the compressor, and would make every publish wait for it.
//!
//! Everything here blocks; callers run it on a thread for that.

mod pack;
mod path;
mod tar_in;
mod tree;
mod zip_in;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use alula_model::{ErrorCode, Fault};
use flate2::bufread::MultiGzDecoder;

pub(crate) use pack::{Packed, pack};
use path::LinkRule;
pub(crate) use path::entry_path;
use tree::TreeWriter;
pub(crate) use tree::{Added, EntryKind, walk};

/// Unpacked bytes for each packed one, beyond [`RATIO_FREE_BYTES`]: text compresses to a tenth, deflate's own
/// limit is a thousandth.
const RATIO_MAX: u64 = 200;
/// Unpacked bytes that the ratio is not looked at for: small files of zeros are harmless.
const RATIO_FREE_BYTES: u64 = 16 * 1024 * 1024;
/// Longest path of an entry, in bytes.
const PATH_BYTES_MAX: usize = 1_024;
/// Bytes of an archive that are looked at to tell its kind: one tar header.
const MAGIC_BYTES: usize = 512;

/// Extensions of archives: a file with one of them is not a function.
const ARCHIVE_KINDS: [&str; 4] = ["zip", "tar", "gz", "tgz"];

/// How much an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of all files together.
    pub(crate) unpacked_bytes_max: u64,
    /// Files, folders and links.
    pub(crate) files_max: u64,
}

impl Limits {
    /// Refuses what is over a limit.
    pub(crate) fn check(self, files: usize, bytes: u64) -> Result<(), ArchiveError> {
        if bytes > self.unpacked_bytes_max {
            return Err(self.too_large());
        }
        if files as u64 > self.files_max { Err(self.too_many()) } else { Ok(()) }
    }

    fn too_large(self) -> ArchiveError {
        ArchiveError::OverLimit {
            name: "unpacked_bytes_max",
            value: self.unpacked_bytes_max,
            unit: "bytes",
            setting: "build.unpacked_bytes_max in the configuration",
        }
    }

    fn too_many(self) -> ArchiveError {
        ArchiveError::OverLimit {
            name: "files_max",
            value: self.files_max,
            unit: "files and folders",
            setting: "build.files_max in the configuration",
        }
    }
}

/// An archive cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// It is not what it seems to be.
    #[error("the archive cannot be read: {0}")]
    Unreadable(String),
    /// An entry's path leads out of the archive, or cannot be a path.
    #[error("entry {path:?}: {reason}")]
    BadPath { path: String, reason: &'static str },
    /// A link leads out of the archive.
    #[error("link {path:?} leads to {target:?}, out of the archive")]
    LinkEscapes { path: String, target: String },
    /// A device, a socket, a pipe.
    #[error("entry {path:?} is a {kind}: only files, folders and links are allowed")]
    Special { path: String, kind: &'static str },
    /// Two entries have the same path, or one is both a file and a folder.
    #[error("entry {path:?} is there twice")]
    Duplicate { path: String },
    /// Over a limit.
    #[error("the archive holds more than {value} {unit}")]
    OverLimit { name: &'static str, value: u64, unit: &'static str, setting: &'static str },
    /// It unpacks to far more than any honest content does.
    #[error("the archive unpacks to more than {RATIO_MAX} times its size")]
    Bomb,
    /// The platform's own disk.
    #[error("cannot write the unpacked archive")]
    Io(#[from] io::Error),
}

impl ArchiveError {
    /// As the caller is told.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Io(error) => crate::error::file("unpack the archive", error),
            Self::OverLimit { name, value, setting, .. } => {
                Fault::limit(ErrorCode::InvalidPackage, self.to_string(), name, *value, setting)
            }
            _ => Fault::new(ErrorCode::InvalidPackage, self.to_string()),
        }
    }
}

/// What an upload turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unpacked {
    /// An archive; its files are in the folder.
    Archive,
    /// One file of this name, which is in the folder.
    SingleFile(PathBuf),
}

/// Unpacks an upload into `into`, which must not exist. `file_name` is the name for a single file.
pub(crate) fn unpack(
    archive: &Path,
    file_name: Option<&str>,
    into: &Path,
    limits: Limits,
) -> Result<Unpacked, ArchiveError> {
    let mut file = File::open(archive)?;
    let packed_bytes = file.metadata()?.len();
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(MAGIC_BYTES as u64).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    let mut tree = TreeWriter::create(into, limits, LinkRule::Inside)?;
    if head.starts_with(&[0x1f, 0x8b]) {
        tree.limit_ratio(packed_bytes);
        tar_in::read(MultiGzDecoder::new(BufReader::new(file)), &mut tree)?;
    } else if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        tree.limit_ratio(packed_bytes);
        zip_in::read(BufReader::new(file), &mut tree)?;
    } else if tar_in::is_tar(&head) {
        tar_in::read(BufReader::new(file), &mut tree)?;
    } else {
        let name = path::file_name(file_name.unwrap_or_default())?;
        // Otherwise a broken upload would be taken for a program of this name.
        if let Some(kind) = name.extension().filter(|kind| ARCHIVE_KINDS.iter().any(|known| kind == known)) {
            let reason = format!("{} is no {} archive", name.display(), kind.display());
            return Err(ArchiveError::Unreadable(reason));
        }
        let executable = head.starts_with(b"#!") || head.starts_with(b"\x7fELF");
        tree.file(&name, executable, &mut file)?;
        tree.finish()?;
        return Ok(Unpacked::SingleFile(name));
    }
    tree.finish()?;
    Ok(Unpacked::Archive)
}

/// Unpacks a stored package into `into`, which must not exist.
pub(crate) fn unpack_package(package: impl Read, into: &Path, limits: Limits) -> Result<(), ArchiveError> {
    let mut tree = TreeWriter::create(into, limits, LinkRule::Sandbox)?;
    tar_in::read(package, &mut tree)?;
    tree.finish()
}

/// Lays the content of a stored package over a folder; what is there already stays.
pub(crate) fn lay_over(package: impl Read, folder: &Path, limits: Limits) -> Result<(), ArchiveError> {
    let mut tree = TreeWriter::over(folder, limits)?;
    tar_in::read(package, &mut tree)?;
    tree.finish()
}

/// The files of a stored package with their contents, for those who only look.
pub(crate) fn for_each_file(
    package: impl Read,
    mut look: impl FnMut(&Path, Added<'_>) -> io::Result<()>,
) -> Result<(), ArchiveError> {
    tar_in::for_each(package, &mut look)
}

#[cfg(test)]
mod tests;
