//! The data directory: one folder, one process, one format.
//!
//! Whoever holds a [`DataDir`] is the only process that uses the folder, and the folder has the format that this
//! binary knows: an older one was upgraded step by step when it was opened, a newer one is refused. The format
//! is a number in the file `format`; it changes when the layout of the folder does, not when a database's tables
//! do (those have versions of their own).

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use crate::{Error, Result};

/// The data directory, locked for this process until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct DataDir {
    path: Arc<PathBuf>,
    _lock: Arc<File>,
}

/// Makes a folder of one format into one of the next. Must be safe to do again after it was interrupted.
type Upgrade = fn(&Path) -> io::Result<()>;

/// The step at place `i` makes format `i + 2` of format `i + 1`.
const UPGRADES: &[Upgrade] = &[];
const FORMAT_FILE: &str = "format";
const FORMAT_FILE_NEW: &str = "format.new";
const LOCK_FILE: &str = "lock";
/// A format file holds one number; more than this is not ours.
const FORMAT_BYTES_MAX: u64 = 32;
/// Only the owner may look inside: there are tokens and other people's data.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

impl DataDir {
    /// Opens the folder at `path`, making it where it is not there, and locks it.
    ///
    /// Fails with [`Error::InUse`] where another process has it, [`Error::TooNew`] where a newer binary wrote it,
    /// [`Error::Damaged`] where the folder holds files but is no data directory.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, UPGRADES)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_with(path: &Path, upgrades: &[Upgrade]) -> Result<Self> {
        let doing = |error: io::Error| {
            Error::from_io(&format!("opening the data directory {}", path.display()), &error)
        };
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(path).map_err(doing)?;
        refuse_foreign(path)?;
        let lock = lock(path)?;
        fs::set_permissions(path, Permissions::from_mode(DIR_MODE)).map_err(doing)?;
        let known = u32::try_from(upgrades.len()).unwrap_or(u32::MAX - 1) + 1;
        match read_format(path)? {
            None => write_format(path, known).map_err(doing)?,
            Some(found) if found > known => return Err(Error::TooNew { found, known }),
            Some(found) => upgrade(path, found, upgrades).map_err(doing)?,
        }
        Ok(Self { path: Arc::new(path.to_owned()), _lock: Arc::new(lock) })
    }
}

/// A folder with foreign files is left alone: it is more likely a slip of the finger than an empty data directory.
fn refuse_foreign(path: &Path) -> Result<()> {
    let doing = |error| Error::from_io("reading the data directory", &error);
    if path.join(FORMAT_FILE).try_exists().map_err(doing)? {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(doing)? {
        let name = entry.map_err(doing)?.file_name();
        if name != LOCK_FILE && name != FORMAT_FILE_NEW && name != FORMAT_FILE {
            let detail = format!(
                "{} holds {name:?} but no file {FORMAT_FILE:?}: it is no data directory",
                path.display()
            );
            return Err(Error::Damaged { detail });
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File> {
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(FILE_MODE)
        .open(path.join(LOCK_FILE));
    let file = opened.map_err(|error| Error::from_io("opening the data directory's lock", &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path: path.display().to_string() }),
        Err(error) => Err(Error::from_io("locking the data directory", &error.into())),
    }
}

fn read_format(path: &Path) -> Result<Option<u32>> {
    let file = match File::open(path.join(FORMAT_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::from_io("reading the data directory's format", &error)),
    };
    let mut text = Vec::new();
    file.take(FORMAT_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|error| Error::from_io("reading the data directory's format", &error))?;
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()).filter(|n| *n > 0);
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(Error::Damaged { detail: format!("{FORMAT_FILE} does not hold a format's number") }),
    }
}

/// The number appears whole or not at all, after everything it speaks of is on the disk.
fn write_format(path: &Path, format: u32) -> io::Result<()> {
    let new = path.join(FORMAT_FILE_NEW);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(FILE_MODE).open(&new)?;
    writeln!(file, "{format}")?;
    file.sync_all()?;
    fs::rename(&new, path.join(FORMAT_FILE))?;
    File::open(path)?.sync_all()
}

fn upgrade(path: &Path, found: u32, upgrades: &[Upgrade]) -> io::Result<()> {
    for (format, step) in (2..).zip(upgrades).filter(|(format, _)| *format > found) {
        tracing::info!(format, "upgrading the data directory");
        step(path)?;
        write_format(path, format)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_folder_belongs_to_its_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&root.path().join("a/b")).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
        assert_eq!(mode(&dir.path().join(LOCK_FILE)), 0o600);
        assert_eq!(fs::read_to_string(dir.path().join(FORMAT_FILE)).unwrap(), "1\n");
        drop(dir);
        fs::set_permissions(root.path().join("a/b"), Permissions::from_mode(0o755)).unwrap();
        let dir = DataDir::open(&root.path().join("a/b")).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
    }

    #[test]
    fn a_second_holder_is_refused_until_the_last_clone_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let first = DataDir::open(&path).unwrap();
        let clone = first.clone();
        drop(first);
        assert_eq!(DataDir::open(&path).unwrap_err(), Error::InUse { path: path.display().to_string() });
        drop(clone);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused_and_an_older_one_upgraded_step_by_step() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        drop(DataDir::open(&path).unwrap());
        let steps: &[Upgrade] =
            &[|dir| fs::write(dir.join("two"), "2"), |dir| fs::rename(dir.join("two"), dir.join("three"))];
        drop(DataDir::open_with(&path, steps).unwrap());
        assert_eq!(fs::read_to_string(path.join("three")).unwrap(), "2");
        assert_eq!(read_format(&path).unwrap(), Some(3));
        drop(DataDir::open_with(&path, steps).unwrap());
        let refused = DataDir::open(&path).unwrap_err();
        assert_eq!(refused, Error::TooNew { found: 3, known: 1 });
        assert!(refused.to_string().contains("use the newer binary"), "{refused}");
    }

    #[test]
    fn an_upgrade_that_failed_is_done_again() {
        let root = tempfile::tempdir().unwrap();
        drop(DataDir::open(root.path()).unwrap());
        let broken: &[Upgrade] = &[|_| Ok(()), |_| Err(io::ErrorKind::StorageFull.into())];
        assert_eq!(DataDir::open_with(root.path(), broken).unwrap_err(), Error::Full);
        assert_eq!(read_format(root.path()).unwrap(), Some(2));
        drop(DataDir::open_with(root.path(), &[|_| Err(io::ErrorKind::Other.into()), |_| Ok(())]).unwrap());
        assert_eq!(read_format(root.path()).unwrap(), Some(3));
    }

    #[test]
    fn what_is_not_a_data_directory_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.txt"), "mine").unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(DataDir::open(root.path()), Err(Error::Damaged { .. })));
        assert_eq!(mode(root.path()), 0o755);
        for text in ["", "x", "-1", "0", "99999999999999", "\u{0}\u{1}"] {
            let root = tempfile::tempdir().unwrap();
            fs::write(root.path().join(FORMAT_FILE), text).unwrap();
            assert!(matches!(DataDir::open(root.path()), Err(Error::Damaged { .. })), "{text:?}");
        }
        let file = root.path().join("thesis.txt");
        assert!(matches!(DataDir::open(&file), Err(Error::Unavailable { .. })));
    }
}
