//! Packages as files: `packages/ab/<digest>`, where `ab` are the digest's first two digits.
//!
//! A content is written beside its place, synced and renamed, so a file under its digest is always whole. What a
//! crash left half-written is removed at the next start.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alula_model::Digest;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::packages::{digest_of, no_package};
use crate::{BoxFuture, DataDir, Error, OpenPackage, PackageInfo, Packages, Result};

/// Packages in a folder of the data directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DiskPackages {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    unfinished: AtomicU64,
    _dir: DataDir,
}

/// Begins the names of files that are not whole yet.
const UNFINISHED_PREFIX: &str = "new-";
/// Read at once of a file: large enough that system calls do not count.
const CHUNK_BYTES: usize = 128 * 1024;

impl DiskPackages {
    /// Opens the packages of a data directory and clears away what a crash left unfinished.
    pub fn open(dir: &DataDir) -> Result<Self> {
        Self::open_in(dir, "packages")
    }

    /// The same in a folder of its own, for contents that are not code: what clears one away does not know of the other.
    pub fn open_in(dir: &DataDir, folder: &str) -> Result<Self> {
        let root = dir.path().join(folder);
        let opened = make_dir(&root).and_then(|()| remove_unfinished(&root));
        opened.map_err(|error| Error::from_io("opening the packages", &error))?;
        Ok(Self { shared: Arc::new(Shared { root, unfinished: AtomicU64::new(0), _dir: dir.clone() }) })
    }

    /// The file of a package, whether it is there or not. It must not be changed.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.shared.path(digest)
    }

    /// Reads a package and compares it with its address: [`Error::DigestMismatch`] where the disk changed it.
    pub async fn verify(&self, digest: &Digest) -> Result<()> {
        let digest = *digest;
        let read = self.blocking("verifying a package", move |shared| hash_file(&shared.path(&digest))).await;
        let (found, _) = read.map_err(|error| absent_as_not_found(error, &digest))?;
        if found == digest { Ok(()) } else { Err(Error::DigestMismatch) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Shared) -> io::Result<T> + Send + 'static,
    ) -> std::result::Result<T, Failure> {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(outcome) => outcome.map_err(|error| Failure { doing, error }),
            Err(error) => Err(Failure { doing, error: io::Error::other(error) }),
        }
    }
}

impl Packages for DiskPackages {
    fn put(&self, content: Bytes) -> BoxFuture<'_, Result<PackageInfo>> {
        let store = move |shared: &Shared| {
            let info = PackageInfo { digest: digest_of(&content), bytes: content.len() as u64 };
            let place = shared.path(&info.digest);
            if !place.try_exists()? {
                let new = shared.write_unfinished(&place, &content)?;
                finish(&new, &place)?;
            }
            Ok(info)
        };
        Box::pin(async move { Ok(self.blocking("storing a package", store).await?) })
    }

    fn put_file(&self, file: PathBuf) -> BoxFuture<'_, Result<PackageInfo>> {
        let store = move |shared: &Shared| {
            let taken = shared.take_file(&file);
            if taken.is_err() && file.try_exists()? {
                fs::remove_file(&file)?;
            }
            taken
        };
        Box::pin(async move { Ok(self.blocking("storing a file as package", store).await?) })
    }

    fn stat(&self, digest: &Digest) -> BoxFuture<'_, Result<Option<PackageInfo>>> {
        let digest = *digest;
        let stat = move |shared: &Shared| match fs::metadata(shared.path(&digest)) {
            Ok(metadata) => Ok(Some(PackageInfo { digest, bytes: metadata.len() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Box::pin(async move { Ok(self.blocking("looking for a package", stat).await?) })
    }

    fn open(&self, digest: &Digest) -> BoxFuture<'_, Result<OpenPackage>> {
        let digest = *digest;
        let open = move |shared: &Shared| {
            let file = File::open(shared.path(&digest))?;
            Ok(OpenPackage::new(file.metadata()?.len(), BufReader::with_capacity(CHUNK_BYTES, file)))
        };
        Box::pin(async move {
            let opened = self.blocking("opening a package", open).await;
            opened.map_err(|error| absent_as_not_found(error, &digest))
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<PackageInfo>>> {
        Box::pin(async move { Ok(self.blocking("listing the packages", Shared::list).await?) })
    }

    fn remove(&self, digest: &Digest) -> BoxFuture<'_, Result<()>> {
        let digest = *digest;
        let remove = move |shared: &Shared| match fs::remove_file(shared.path(&digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        Box::pin(async move { Ok(self.blocking("removing a package", remove).await?) })
    }
}

impl Shared {
    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(&name[..2]).join(name)
    }

    fn write_unfinished(&self, place: &Path, content: &[u8]) -> io::Result<PathBuf> {
        let dir = place.parent().unwrap_or(&self.root);
        make_dir(dir)?;
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        let new = dir.join(format!("{UNFINISHED_PREFIX}{number}"));
        let written = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
        if written.is_err() {
            drop(fs::remove_file(&new));
        }
        written.map(|()| new)
    }

    fn take_file(&self, file: &Path) -> io::Result<PackageInfo> {
        fs::set_permissions(file, Permissions::from_mode(0o600))?;
        let (digest, bytes) = hash_file(file)?;
        let place = self.path(&digest);
        if place.try_exists()? {
            fs::remove_file(file)?;
        } else {
            make_dir(place.parent().unwrap_or(&self.root))?;
            File::open(file)?.sync_all()?;
            finish(file, &place)?;
        }
        Ok(PackageInfo { digest, bytes })
    }

    fn list(&self) -> io::Result<Vec<PackageInfo>> {
        let mut list = Vec::new();
        for entry in files(&self.root)? {
            let name = entry.file_name();
            if let Some(digest) = name.to_str().and_then(|name| name.parse().ok()) {
                list.push(PackageInfo { digest, bytes: entry.metadata()?.len() });
            }
        }
        list.sort_by_key(|info| info.digest);
        Ok(list)
    }
}

/// An error of the file system and what was being done.
struct Failure {
    doing: &'static str,
    error: io::Error,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::from_io(failure.doing, &failure.error)
    }
}

fn absent_as_not_found(failure: Failure, digest: &Digest) -> Error {
    match failure.error.kind() {
        io::ErrorKind::NotFound => no_package(digest),
        _ => failure.into(),
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives a synced file its final name and makes the name durable.
fn finish(new: &Path, place: &Path) -> io::Result<()> {
    fs::rename(new, place)?;
    place.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn hash_file(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            return Ok((Digest::from_bytes(hasher.finalize().into()), bytes));
        }
        hasher.update(&chunk[..length]);
        bytes += length as u64;
    }
}

fn files(root: &Path) -> io::Result<Vec<fs::DirEntry>> {
    let mut files = Vec::new();
    for dir in fs::read_dir(root)? {
        let dir = dir?;
        if dir.file_type()?.is_dir() {
            files.extend(fs::read_dir(dir.path())?.collect::<io::Result<Vec<_>>>()?);
        }
    }
    Ok(files)
}

fn remove_unfinished(root: &Path) -> io::Result<()> {
    let is_unfinished =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(UNFINISHED_PREFIX);
    files(root)?
        .iter()
        .filter(|entry| is_unfinished(entry))
        .try_for_each(|entry| fs::remove_file(entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    fn packages(root: &tempfile::TempDir) -> DiskPackages {
        DiskPackages::open(&DataDir::open(&root.path().join("data")).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn conforms() {
        let root = tempfile::tempdir().unwrap();
        conformance::packages(&packages(&root), root.path()).await;
    }

    #[tokio::test]
    async fn contents_survive_and_unfinished_ones_do_not() {
        let root = tempfile::tempdir().unwrap();
        let first = packages(&root);
        let info = first.put(Bytes::from_static(b"kept")).await.unwrap();
        let torn = first.path(&info.digest).with_file_name("new-7");
        fs::write(&torn, "half").unwrap();
        drop(first);
        let second = packages(&root);
        assert_eq!(second.list().await.unwrap(), vec![info.clone()]);
        assert_eq!(std::io::read_to_string(second.open(&info.digest).await.unwrap()).unwrap(), "kept");
        assert!(!torn.exists());
    }

    #[tokio::test]
    async fn a_changed_file_is_found_by_verifying() {
        let root = tempfile::tempdir().unwrap();
        let packages = packages(&root);
        let digest = packages.put(Bytes::from_static(b"good")).await.unwrap().digest;
        assert_eq!(packages.verify(&digest).await, Ok(()));
        fs::write(packages.path(&digest), "evil").unwrap();
        assert_eq!(packages.verify(&digest).await, Err(Error::DigestMismatch));
        packages.remove(&digest).await.unwrap();
        assert!(matches!(packages.verify(&digest).await, Err(Error::NotFound { .. })));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_stored_is_gone_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let packages = packages(&root);
        fs::remove_dir_all(root.path().join("data/packages")).unwrap();
        let file = root.path().join("upload");
        fs::write(&file, "content").unwrap();
        assert!(packages.put_file(file.clone()).await.is_err());
        assert!(!file.exists());
    }
}
