//! Reading tar archives, plain or from behind a decompressor.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tar::{Archive, Entry, EntryType};

use super::path::entry_path;
use super::tree::{Added, TreeWriter};
use super::{ArchiveError, PATH_BYTES_MAX};

/// Whether the first bytes of a file are a tar header.
pub(super) fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.first_chunk::<512>() else { return false };
    if &block[257..262] == b"ustar" {
        return true;
    }
    // The oldest format has no magic, but a sum of the header's bytes with spaces in place of the sum itself.
    let sum: u32 =
        block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
    let stored = std::str::from_utf8(&block[148..156]).unwrap_or_default();
    let stored = stored.trim_matches(|c: char| c == '\0' || c == ' ');
    u32::from_str_radix(stored, 8).is_ok_and(|stored| stored == sum)
}

/// Writes every entry into `tree`.
pub(super) fn read(archive: impl Read, tree: &mut TreeWriter) -> Result<(), ArchiveError> {
    let mut archive = Archive::new(archive);
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let path = entry_path(&entry.path_bytes())?;
        let executable = entry.header().mode().unwrap_or(0) & 0o111 != 0;
        match entry.header().entry_type() {
            EntryType::Directory => tree.folder(&path)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                tree.file(&path, executable, &mut entry)?;
            }
            EntryType::Symlink => tree.link(&path, &link_target(&entry, &path)?)?,
            EntryType::Link => tree
                .hard_link(&path, &entry_path(link_target(&entry, &path)?.as_os_str().as_encoded_bytes())?)?,
            // Comments of the archive as a whole, such as the commit that `git archive` notes.
            EntryType::XGlobalHeader => {}
            other => {
                return Err(ArchiveError::Special {
                    path: path.display().to_string(),
                    kind: kind_name(other),
                });
            }
        }
    }
    Ok(())
}

/// Shows every file and link of a stored package to `look`.
pub(super) fn for_each(
    archive: impl Read,
    look: &mut dyn FnMut(&Path, Added<'_>) -> io::Result<()>,
) -> Result<(), ArchiveError> {
    let mut archive = Archive::new(archive);
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let path = entry_path(&entry.path_bytes())?;
        let executable = entry.header().mode().unwrap_or(0) & 0o111 != 0;
        match entry.header().entry_type() {
            EntryType::Regular => look(&path, Added::File { executable, content: &mut entry })?,
            EntryType::Symlink => look(&path, Added::Link(&link_target(&entry, &path)?))?,
            _ => {}
        }
    }
    Ok(())
}

fn link_target<R: Read>(entry: &Entry<'_, R>, path: &Path) -> Result<PathBuf, ArchiveError> {
    let refuse = |reason| Err(ArchiveError::BadPath { path: path.display().to_string(), reason });
    match entry.link_name_bytes() {
        None => refuse("the link leads nowhere"),
        Some(target) if target.is_empty() => refuse("the link leads nowhere"),
        Some(target) if target.len() > PATH_BYTES_MAX => {
            refuse("the link's target is longer than 1024 bytes")
        }
        Some(target) => match std::str::from_utf8(&target) {
            Ok(target) if !target.contains('\0') => Ok(PathBuf::from(target)),
            _ => refuse("the link's target is not UTF-8"),
        },
    }
}

fn kind_name(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "pipe",
        _ => "kind of entry that is not known",
    }
}

fn unreadable(error: io::Error) -> ArchiveError {
    ArchiveError::Unreadable(error.to_string())
}
