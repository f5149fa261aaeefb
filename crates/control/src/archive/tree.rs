//! Folders on disk: written within limits, and walked in order.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::path::{LinkRule, check_links};
use super::{ArchiveError, Limits, RATIO_FREE_BYTES, RATIO_MAX};

/// Mode of folders and of executable files while they are ours to write.
const MODE_EXECUTABLE: u32 = 0o755;
/// Mode of all other files.
const MODE_PLAIN: u32 = 0o644;

/// What an entry of a stored package is.
pub(crate) enum Added<'a> {
    /// A file and its content.
    File { executable: bool, content: &'a mut dyn Read },
    /// A symbolic link and where it leads.
    Link(&'a Path),
}

/// Fills a folder. Links are made last, so that nothing is ever written through one.
#[derive(Debug)]
pub(super) struct TreeWriter {
    root: PathBuf,
    limits: Limits,
    rule: LinkRule,
    bytes_left: u64,
    /// Whether the ratio of a compressed archive allows less than the limits.
    ratio_decides: bool,
    over: Over,
    entries: HashMap<PathBuf, Kind>,
    links: BTreeMap<PathBuf, PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Link,
}

/// What becomes of entries that are in the folder already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The folder was empty: they were in the archive twice.
    Refuse,
    /// They stay as they are.
    Keep,
}

impl TreeWriter {
    /// Makes the folder.
    pub(super) fn create(root: &Path, limits: Limits, rule: LinkRule) -> Result<Self, ArchiveError> {
        fs::create_dir(root)?;
        Ok(Self::new(root, limits, rule, Over::Refuse))
    }

    /// Adds to a folder that is there.
    pub(super) fn over(root: &Path, limits: Limits) -> Result<Self, ArchiveError> {
        let mut tree = Self::new(root, limits, LinkRule::Sandbox, Over::Keep);
        for entry in walk(root)? {
            let kind = match entry.kind {
                EntryKind::Folder => Kind::Folder,
                EntryKind::File { .. } => Kind::File,
                EntryKind::Link { .. } => Kind::Link,
            };
            tree.entries.insert(entry.path, kind);
        }
        Ok(tree)
    }

    fn new(root: &Path, limits: Limits, rule: LinkRule, over: Over) -> Self {
        let (entries, links) = (HashMap::new(), BTreeMap::new());
        let bytes_left = limits.unpacked_bytes_max;
        Self { root: root.to_owned(), limits, rule, bytes_left, ratio_decides: false, over, entries, links }
    }

    /// Limits what a compressed archive of this size may hold.
    pub(super) fn limit_ratio(&mut self, packed_bytes: u64) {
        let allowed = packed_bytes.saturating_mul(RATIO_MAX).saturating_add(RATIO_FREE_BYTES);
        self.ratio_decides = allowed < self.bytes_left;
        self.bytes_left = self.bytes_left.min(allowed);
    }

    /// Adds a folder; that it was made before for an entry inside is no duplicate.
    pub(super) fn folder(&mut self, path: &Path) -> Result<(), ArchiveError> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        self.parents(path)?;
        match self.entries.get(path) {
            Some(Kind::Folder) => Ok(()),
            Some(_) => self.twice(path).map(|_| ()),
            None => {
                self.count(path, Kind::Folder)?;
                fs::create_dir(self.root.join(path))?;
                Ok(())
            }
        }
    }

    /// Adds a file.
    pub(super) fn file(
        &mut self,
        path: &Path,
        executable: bool,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        if !self.begins(path, Kind::File)? {
            return Ok(());
        }
        let mode = if executable { MODE_EXECUTABLE } else { MODE_PLAIN };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(self.root.join(path))?;
        let allowed = self.bytes_left;
        let written = copy_limited(content, &mut file, allowed).map_err(|error| match error {
            CopyError::Read(error) => ArchiveError::Unreadable(error.to_string()),
            CopyError::Write(error) => ArchiveError::Io(error),
        })?;
        self.bytes_left = allowed.checked_sub(written).ok_or_else(|| self.too_large())?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Adds a symbolic link; it is made and checked by [`TreeWriter::finish`].
    pub(super) fn link(&mut self, path: &Path, target: &Path) -> Result<(), ArchiveError> {
        if self.begins(path, Kind::Link)? {
            self.links.insert(path.to_owned(), target.to_owned());
        }
        Ok(())
    }

    /// Adds a second name for a file that came earlier: a copy of it.
    pub(super) fn hard_link(&mut self, path: &Path, target: &Path) -> Result<(), ArchiveError> {
        if self.entries.get(target) != Some(&Kind::File) {
            return Err(ArchiveError::LinkEscapes {
                path: path.display().to_string(),
                target: target.display().to_string(),
            });
        }
        let mut content = File::open(self.root.join(target))?;
        let executable = content.metadata()?.permissions().mode() & 0o111 != 0;
        self.file(path, executable, &mut content)
    }

    /// Checks and makes the links.
    pub(super) fn finish(self) -> Result<(), ArchiveError> {
        check_links(&self.links, self.rule)?;
        for (path, target) in &self.links {
            symlink(target, self.root.join(path))?;
        }
        Ok(())
    }

    /// Whether an entry is to be written; makes room for it if so.
    fn begins(&mut self, path: &Path, kind: Kind) -> Result<bool, ArchiveError> {
        if path.as_os_str().is_empty() {
            return Err(ArchiveError::BadPath { path: String::new(), reason: "an entry has no name" });
        }
        if self.entries.contains_key(path) {
            return self.twice(path);
        }
        if self.over == Over::Keep && path.ancestors().skip(1).any(|p| self.is_no_folder(p)) {
            return Ok(false);
        }
        self.parents(path)?;
        self.count(path, kind)?;
        Ok(true)
    }

    fn is_no_folder(&self, path: &Path) -> bool {
        self.entries.get(path).is_some_and(|kind| *kind != Kind::Folder)
    }

    fn parents(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let mut missing = Vec::new();
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            match self.entries.get(parent) {
                Some(Kind::Folder) => break,
                Some(_) => return Err(ArchiveError::Duplicate { path: parent.display().to_string() }),
                None => missing.push(parent.to_owned()),
            }
        }
        for parent in missing.into_iter().rev() {
            fs::create_dir(self.root.join(&parent))?;
            self.count(&parent, Kind::Folder)?;
        }
        Ok(())
    }

    fn count(&mut self, path: &Path, kind: Kind) -> Result<(), ArchiveError> {
        if self.entries.len() as u64 >= self.limits.files_max {
            return Err(self.limits.too_many());
        }
        self.entries.insert(path.to_owned(), kind);
        Ok(())
    }

    fn twice(&self, path: &Path) -> Result<bool, ArchiveError> {
        match self.over {
            Over::Keep => Ok(false),
            Over::Refuse => Err(ArchiveError::Duplicate { path: path.display().to_string() }),
        }
    }

    fn too_large(&self) -> ArchiveError {
        if self.ratio_decides { ArchiveError::Bomb } else { self.limits.too_large() }
    }
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies up to `limit` bytes and one more, so that the caller sees when it was too much.
fn copy_limited(from: &mut dyn Read, to: &mut File, limit: u64) -> Result<u64, CopyError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut copied = 0;
    while copied <= limit {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        copied += count as u64;
        if copied <= limit {
            to.write_all(&buffer[..count]).map_err(CopyError::Write)?;
        }
    }
    Ok(copied)
}

/// One entry of a folder on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Below the folder.
    pub(crate) path: PathBuf,
    /// What it is.
    pub(crate) kind: EntryKind,
}

/// What an entry of a folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Folder,
    File { bytes: u64, executable: bool },
    Link { target: PathBuf },
}

/// Every entry below `root`, folders before what is in them, otherwise ordered by path. Links are not followed.
pub(crate) fn walk(root: &Path) -> Result<Vec<Entry>, ArchiveError> {
    let mut entries = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for found in fs::read_dir(root.join(&folder))? {
            let found = found?;
            let path = folder.join(found.file_name());
            let metadata = found.metadata()?;
            let kind = if metadata.is_dir() {
                folders.push(path.clone());
                EntryKind::Folder
            } else if metadata.is_file() {
                let executable = metadata.permissions().mode() & 0o111 != 0;
                EntryKind::File { bytes: metadata.len(), executable }
            } else if metadata.is_symlink() {
                EntryKind::Link { target: fs::read_link(found.path())? }
            } else {
                return Err(ArchiveError::Special {
                    path: path.display().to_string(),
                    kind: "socket, pipe or device",
                });
            };
            entries.push(Entry { path, kind });
        }
    }
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}
