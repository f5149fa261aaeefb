//! The unpacked packages that instances run, and the folder for unfinished work.
//!
//! ```text
//! data_dir/code/<digest>/    one package, unpacked, read-only; it becomes /code
//! data_dir/code/boot-id      the boot of the machine in which these folders were written
//! data_dir/tmp/              unfinished work of this process; emptied at every start
//! ```
//!
//! A folder in `code/` is complete, since it is unpacked in `tmp/` and renamed. Its files are not flushed to the
//! disk, which would make every publish wait: they survive the end of this process, but perhaps not that of the
//! machine. So the folders are only trusted within the boot they were written in; after a reboot they are unpacked
//! again from the packages, which are durable, as calls ask for them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alula_model::{Digest, Fault};
use alula_store::Packages;

use crate::archive::{self, EntryKind, Limits};
use crate::error;
use crate::keyed_lock::KeyedLock;
use crate::options::Options;

/// Tells one boot of the machine from the next.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Unpacked packages by digest.
#[derive(Debug)]
pub(crate) struct CodeStore {
    dir: PathBuf,
    tmp: PathBuf,
    limits: Limits,
    packages: Arc<dyn Packages>,
    unpacking: KeyedLock<Digest>,
    scratch: AtomicU64,
}

impl CodeStore {
    /// Makes the folders where they are missing and clears away what earlier processes left unfinished.
    pub(crate) async fn open(options: &Options, packages: Arc<dyn Packages>) -> Result<Self, Fault> {
        let dir = options.data_dir.join("code");
        let tmp = options.data_dir.join("tmp");
        let limits = Limits { unpacked_bytes_max: options.unpacked_bytes_max, files_max: options.files_max };
        let folders = (dir.clone(), tmp.clone());
        let old = blocking("prepare the data directory", move || clear(&folders.0, &folders.1)).await?;
        // Nobody waits for it: what is left of it at the end of the process goes at the next start.
        drop(tokio::task::spawn_blocking(move || old.map(|old| remove_tree(&old))));
        Ok(Self { dir, tmp, limits, packages, unpacking: KeyedLock::default(), scratch: AtomicU64::new(0) })
    }

    /// Where the folders are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What a package may hold.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// A path below `tmp` that nobody else has.
    pub(crate) fn scratch(&self, purpose: &str) -> PathBuf {
        self.tmp.join(format!("{purpose}-{}", self.scratch.fetch_add(1, Ordering::Relaxed)))
    }

    /// Makes sure that `folder`, the code folder of a plan, is there.
    pub(crate) async fn ensure(&self, folder: &Path) -> Result<(), Fault> {
        if folder.is_dir() {
            return Ok(());
        }
        let name = folder.strip_prefix(&self.dir).ok().and_then(Path::to_str);
        let digest: Option<Digest> = name.and_then(|name| name.parse().ok());
        let digest = digest.ok_or_else(|| error::defect("a plan's code folder is not named by a digest"))?;
        let _one_at_a_time = self.unpacking.lock(digest).await;
        if folder.is_dir() {
            return Ok(());
        }
        let package = self.packages.open(&digest).await.map_err(|error| error::store(&error))?;
        self.unpack(digest, package).await
    }

    /// Unpacks the package in `file` unless its folder is there.
    pub(crate) async fn install(&self, digest: Digest, file: &Path) -> Result<(), Fault> {
        let _one_at_a_time = self.unpacking.lock(digest).await;
        if self.folder(&digest).is_dir() {
            return Ok(());
        }
        let file = fs::File::open(file).map_err(|error| error::file("open a package", &error))?;
        self.unpack(digest, io::BufReader::new(file)).await
    }

    /// The digests of all folders.
    pub(crate) async fn list(&self) -> Result<BTreeSet<Digest>, Fault> {
        let dir = self.dir.clone();
        blocking("list the unpacked packages", move || {
            let mut digests = BTreeSet::new();
            for entry in fs::read_dir(dir)? {
                digests.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Digest>().ok()));
            }
            Ok(digests)
        })
        .await
    }

    /// Removes a folder. It leaves `code/` at once, so that a half-removed one is never run.
    pub(crate) async fn remove(&self, digest: Digest) -> Result<(), Fault> {
        let (folder, leaving) = (self.folder(&digest), self.scratch("leaving"));
        blocking("remove an unpacked package", move || {
            fs::rename(&folder, &leaving)?;
            remove_tree(&leaving)
        })
        .await
    }

    fn folder(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.to_string())
    }

    async fn unpack(&self, digest: Digest, package: impl io::Read + Send + 'static) -> Result<(), Fault> {
        let (folder, unfinished, limits) = (self.folder(&digest), self.scratch("code"), self.limits);
        let unpacked = blocking("unpack a package", move || {
            let done = archive::unpack_package(package, &unfinished, limits).and_then(|()| {
                seal(&unfinished)?;
                Ok(fs::rename(&unfinished, &folder)?)
            });
            if done.is_err() {
                // What is left over goes at the next start at the latest.
                let _ = remove_tree(&unfinished);
            }
            Ok(done)
        });
        unpacked.await?.map_err(|error| error.fault())
    }
}

/// Runs file operations on a thread for that; `what` says in a fault what was tried.
pub(crate) async fn blocking<T, F>(what: &'static str, work: F) -> Result<T, Fault>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error::file(what, &error)),
        Err(_) => Err(error::defect("a file operation was broken off")),
    }
}

/// Removes a folder with everything in it, read-only folders too; nothing happens where it is not there.
pub(crate) fn remove_tree(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_folders_writable(root)?;
            fs::remove_dir_all(root)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn make_folders_writable(root: &Path) -> io::Result<()> {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Makes everything in a finished folder read-only, and readable for the users that sandboxes map to.
fn seal(root: &Path) -> Result<(), archive::ArchiveError> {
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    for entry in archive::walk(root)? {
        let path = root.join(&entry.path);
        match entry.kind {
            EntryKind::Folder => set(&path, 0o555)?,
            EntryKind::File { executable: true, .. } => set(&path, 0o555)?,
            EntryKind::File { executable: false, .. } => set(&path, 0o444)?,
            EntryKind::Link { .. } => {}
        }
    }
    // The folder itself is renamed yet, for which its owner must be able to write into it.
    Ok(set(root, 0o755)?)
}

/// Prepares the folders. Returns the unpacked packages of an earlier boot, moved aside, to be removed.
fn clear(dir: &Path, tmp: &Path) -> io::Result<Option<PathBuf>> {
    remove_tree(tmp)?;
    fs::create_dir_all(tmp)?;
    let boot = fs::read(BOOT_ID).unwrap_or_default();
    let marker = dir.join("boot-id");
    let is_same_boot = !boot.is_empty() && fs::read(&marker).is_ok_and(|written| written == boot);
    let old = tmp.join("earlier-boot");
    let is_moved = !is_same_boot && dir.is_dir();
    if is_moved {
        fs::rename(dir, &old)?;
    }
    fs::create_dir_all(dir)?;
    fs::write(marker, boot)?;
    Ok(is_moved.then_some(old))
}
