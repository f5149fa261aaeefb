//! Making the stored form of a package: a tar archive that depends on nothing but the content.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use alula_model::Digest;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::path::{LinkRule, check_links, entry_path};
use super::tree::{Entry, EntryKind};
use super::{ArchiveError, Limits};

/// A package that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    /// The SHA-256 of its bytes.
    pub(crate) digest: Digest,
    /// Its size.
    pub(crate) bytes: u64,
}

/// Packs `entries` of the folder `root`, which are ordered by path, into the file `into`.
pub(crate) fn pack(
    root: &Path,
    entries: &[Entry],
    into: &Path,
    limits: Limits,
) -> Result<Packed, ArchiveError> {
    check(entries, limits)?;
    let mut builder = Builder::new(HashingWriter::new(BufWriter::new(File::create_new(into)?)));
    for entry in entries {
        match &entry.kind {
            EntryKind::Folder => {
                let mut header = header(EntryType::Directory, 0o755, 0);
                builder.append_data(&mut header, &entry.path, io::empty())?;
            }
            EntryKind::File { bytes, executable } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                let mut header = header(EntryType::Regular, mode, *bytes);
                let content = File::open(root.join(&entry.path))?;
                builder.append_data(&mut header, &entry.path, io::Read::take(content, *bytes))?;
            }
            EntryKind::Link { target } => {
                let mut header = header(EntryType::Symlink, 0o777, 0);
                builder.append_link(&mut header, &entry.path, target)?;
            }
        }
    }
    let writer = builder.into_inner()?;
    writer.finish()
}

fn check(entries: &[Entry], limits: Limits) -> Result<(), ArchiveError> {
    let sizes = entries.iter().map(|entry| match entry.kind {
        EntryKind::File { bytes, .. } => bytes,
        _ => 0,
    });
    limits.check(entries.len(), sizes.sum())?;
    for entry in entries {
        entry_path(entry.path.as_os_str().as_encoded_bytes())?;
    }
    let links = entries.iter().filter_map(|entry| match &entry.kind {
        EntryKind::Link { target } => Some((entry.path.clone(), target.clone())),
        _ => None,
    });
    check_links(&links.collect(), LinkRule::Sandbox)
}

fn header(kind: EntryType, mode: u32, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    header
}

/// Computes the digest of what passes through.
struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> HashingWriter<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    fn finish(mut self) -> Result<Packed, ArchiveError> {
        self.inner.flush()?;
        Ok(Packed { digest: Digest::from_bytes(self.hash.finalize().into()), bytes: self.bytes })
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
