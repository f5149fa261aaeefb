use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alula_model::Digest;
use alula_store::{BoxFuture, Error, OpenPackage, PackageInfo, Packages};
use bytes::Bytes;

use crate::code::CodeStore;
use crate::options::Options;

/// Far more than what unpacking may hold in memory.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Most that may be asked for at once.
const PIECE_BYTES_MAX: usize = 1024 * 1024;

/// A store with one package, which is nowhere: a file of zeros in a tar archive.
#[derive(Debug, Default)]
struct Huge {
    largest_piece: Arc<AtomicUsize>,
}

/// Notes the longest piece that is asked for.
struct Noting<R>(R, Arc<AtomicUsize>);

impl<R: Read> Read for Noting<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1.fetch_max(into.len(), Ordering::SeqCst);
        self.0.read(into)
    }
}

/// Nobody who unpacks goes back.
impl<R> io::Seek for Noting<R> {
    fn seek(&mut self, _to: io::SeekFrom) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Packages for Huge {
    fn open(&self, _digest: &Digest) -> BoxFuture<'_, Result<OpenPackage, Error>> {
        let mut header = tar::Header::new_gnu();
        header.set_path("zeros").unwrap();
        header.set_size(FILE_BYTES);
        header.set_mode(0o644);
        header.set_cksum();
        let end = 1024;
        let content = io::Cursor::new(header.as_bytes().to_vec()).chain(io::repeat(0).take(FILE_BYTES + end));
        let package =
            OpenPackage::new(512 + FILE_BYTES + end, Noting(content, Arc::clone(&self.largest_piece)));
        Box::pin(async move { Ok(package) })
    }

    fn put(&self, _content: Bytes) -> BoxFuture<'_, Result<PackageInfo, Error>> {
        unreachable!("nothing is stored")
    }

    fn put_file(&self, _file: PathBuf) -> BoxFuture<'_, Result<PackageInfo, Error>> {
        unreachable!("nothing is stored")
    }

    fn stat(&self, _digest: &Digest) -> BoxFuture<'_, Result<Option<PackageInfo>, Error>> {
        unreachable!("nobody asks")
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<PackageInfo>, Error>> {
        unreachable!("nobody asks")
    }

    fn remove(&self, _digest: &Digest) -> BoxFuture<'_, Result<(), Error>> {
        unreachable!("nothing is removed")
    }
}

#[tokio::test]
async fn a_large_package_is_unpacked_piece_by_piece() {
    let dir = tempfile::tempdir().unwrap();
    let packages = Arc::new(Huge::default());
    let largest_piece = Arc::clone(&packages.largest_piece);
    let code = CodeStore::open(&Options::new(dir.path()), packages).await.unwrap();
    let folder = code.dir().join(Digest::from_bytes([7; 32]).to_string());
    code.ensure(&folder).await.unwrap();
    assert_eq!(fs::metadata(folder.join("zeros")).unwrap().len(), FILE_BYTES);
    assert!((1..=PIECE_BYTES_MAX).contains(&largest_piece.load(Ordering::SeqCst)));
}
