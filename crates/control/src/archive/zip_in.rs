//! Reading zip archives.

use std::io::{Read, Seek};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::path::entry_path;
use super::tree::TreeWriter;
use super::{ArchiveError, PATH_BYTES_MAX};

/// Writes every entry into `tree`.
pub(super) fn read(archive: impl Read + Seek, tree: &mut TreeWriter) -> Result<(), ArchiveError> {
    let mut archive = ZipArchive::new(archive).map_err(unreadable)?;
    if archive.has_duplicate_names() {
        return Err(ArchiveError::Unreadable("two entries have the same name".to_owned()));
    }
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(unreadable)?;
        let raw = entry.name_raw().to_vec();
        if raw.contains(&b'\\') {
            let path = String::from_utf8_lossy(&raw).into_owned();
            return Err(ArchiveError::BadPath {
                path,
                reason: "the path has backslashes: use / between folders",
            });
        }
        let path = entry_path(&raw)?;
        if entry.is_dir() {
            tree.folder(&path)?;
        } else if entry.is_symlink() {
            let mut target = String::new();
            let limit = PATH_BYTES_MAX as u64;
            entry.take(limit).read_to_string(&mut target).map_err(|error| unreadable(error.into()))?;
            tree.link(&path, Path::new(&target))?;
        } else {
            let mode = entry.unix_mode().unwrap_or(0);
            if !matches!(mode & 0o170_000, 0 | 0o100_000) {
                return Err(ArchiveError::Special {
                    path: path.display().to_string(),
                    kind: "device, pipe or socket",
                });
            }
            tree.file(&path, mode & 0o111 != 0, &mut entry)?;
        }
    }
    Ok(())
}

fn unreadable(error: ZipError) -> ArchiveError {
    ArchiveError::Unreadable(error.to_string())
}
