//! The port for packages: immutable contents under the SHA-256 of their bytes.
//!
//! Contract: a put is durable when it returns and idempotent, and the address is computed from the bytes that were
//! stored; reading verifies nothing, since what is under an address cannot change. No operation brings
//! a whole package into memory that is not there already.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use alula_model::Digest;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::{BoxFuture, Error, Result};

/// A stored package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageInfo {
    /// Its address.
    pub digest: Digest,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A package that is being read, from its first byte. It can be read to its end even if it is removed meanwhile.
///
/// Reading blocks, so it is done on a thread for that.
pub struct OpenPackage {
    /// Its size in bytes.
    pub bytes: u64,
    content: Box<dyn Content>,
}

/// What a package's bytes come from.
trait Content: Read + Seek + Send {}

impl<T: Read + Seek + Send> Content for T {}

impl OpenPackage {
    /// A package of `bytes` bytes that `content` gives, for implementations of the port.
    #[must_use]
    pub fn new(bytes: u64, content: impl Read + Seek + Send + 'static) -> Self {
        Self { bytes, content: Box::new(content) }
    }
}

impl Read for OpenPackage {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.content.read(into)
    }
}

impl Seek for OpenPackage {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.content.seek(to)
    }
}

impl std::fmt::Debug for OpenPackage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenPackage").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Immutable contents by digest.
pub trait Packages: Send + Sync + std::fmt::Debug {
    /// Stores a content that is in memory.
    fn put(&self, content: Bytes) -> BoxFuture<'_, Result<PackageInfo>>;

    /// Moves a file of the same file system into the store; the file is gone afterwards, whatever the outcome.
    fn put_file(&self, file: PathBuf) -> BoxFuture<'_, Result<PackageInfo>>;

    /// Whether it is there, and how large.
    fn stat(&self, digest: &Digest) -> BoxFuture<'_, Result<Option<PackageInfo>>>;

    /// The content, to be read piece by piece: a package may be larger than what the platform may hold in memory.
    fn open(&self, digest: &Digest) -> BoxFuture<'_, Result<OpenPackage>>;

    /// Every package, for clean-up.
    fn list(&self) -> BoxFuture<'_, Result<Vec<PackageInfo>>>;

    /// Forgets it; without effect if it is not there.
    fn remove(&self, digest: &Digest) -> BoxFuture<'_, Result<()>>;
}

/// The address that a content has, or would have.
#[must_use]
pub fn digest_of(content: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(content).into())
}

pub(crate) fn no_package(digest: &Digest) -> Error {
    Error::NotFound { what: format!("package {digest}") }
}
