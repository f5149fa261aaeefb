//! The bytes of objects: streamed in and out, never whole in memory.
//!
//! They lie in a package store of their own. Equal contents would be one package, and removing one object's would take
//! another's, so each begins with a title that is drawn at random.
//!
//! Whatever ends when, nothing stays for ever: before a content is stored, a note in the records says so, and the commit
//! that names the content takes the note away. What a commit replaces it notes in turn. [`crate::sweep`] removes what
//! notes are left of.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alula_model::{Clock, Digest, Timestamp};
use alula_store::{Batch, Expect, Key, OpenPackage, Packages, Records, Revision};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use s3s::crypto::{Checksum as _, Md5, Sha256};
use tokio::sync::mpsc;

use crate::options::{REMOVED_KEEP_MS, UNNAMED_KEEP_MS};
use crate::record::{self, Content, Piece};
use crate::{Error, Result};

/// Length of a title: a hyphenated UUID and a line break.
const TITLE_BYTES: u64 = 37;
/// Written and read at once: large enough that the change of threads does not count.
const DISK_BYTES: usize = 256 * 1024;
/// Reads that are ahead of the network.
const READS_AHEAD: usize = 1;
/// A client that sends nothing for so long is gone.
const BODY_IDLE: Duration = Duration::from_secs(60);
/// Below the data directory: what is arriving.
const INCOMING: &str = "objects-incoming";
const UNSETTLED: &str = "unsettled";

/// Contents on the disk.
#[derive(Debug, Clone)]
pub(crate) struct Contents {
    pub(crate) packages: Arc<dyn Packages>,
    pub(crate) records: Arc<dyn Records>,
    clock: Arc<dyn Clock>,
    title: fn() -> String,
    incoming: PathBuf,
}

/// A content that is durable and that no record names yet.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) piece: Piece,
    pub(crate) md5: [u8; 16],
    note: (Key, Revision),
}

impl Arrived {
    /// The MD5 in hexadecimal digits.
    pub(crate) fn etag(&self) -> String {
        hex(&self.md5)
    }

    /// Adds to `batch`, which names the content, that it is only committed while the content is certainly there.
    pub(crate) fn named(&self, batch: Batch) -> Batch {
        batch.delete(self.note.0.clone(), Expect::At(self.note.1))
    }
}

impl Contents {
    /// Contents below `dir`; what a process that has ended left half-written is removed.
    pub(crate) fn open(parts: &crate::Parts) -> io::Result<Self> {
        let incoming = parts.data_dir.join(INCOMING);
        match fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&incoming)?,
        }
        Ok(Self {
            packages: Arc::clone(&parts.packages),
            records: Arc::clone(&parts.records),
            clock: Arc::clone(&parts.clock),
            title: parts.draw_id,
            incoming,
        })
    }

    /// Takes a content in; more than `bytes_max` bytes are refused.
    pub(crate) async fn take<S, E>(&self, body: S, bytes_max: u64) -> Result<Arrived>
    where
        S: Stream<Item = std::result::Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let title = (self.title)();
        let file = Unfinished(self.incoming.join(&title));
        let written = receive(body, bytes_max, file.0.clone(), title).await?;
        let note = self.note_unnamed(&written.digest).await?;
        self.packages.put_file(file.0.clone()).await?;
        Ok(Arrived { piece: Piece(written.digest, written.bytes), md5: written.md5, note })
    }

    async fn note_unnamed(&self, digest: &Digest) -> Result<(Key, Revision)> {
        let content = Content::Whole(*digest);
        let key = note_key(self.clock.now().plus_millis(UNNAMED_KEEP_MS), &content);
        let batch = Batch::default().put(key.clone(), record::write(&content), Expect::Absent);
        let committed = self.records.commit(batch).await?;
        Ok((key, committed.revision))
    }

    /// Removes a content that will not be named. What fails here is made good by the sweep.
    pub(crate) async fn discard(&self, arrived: Arrived) {
        let forget = Batch::default().delete(arrived.note.0, Expect::At(arrived.note.1));
        let removed = match self.packages.remove(&arrived.piece.0).await {
            Ok(()) => self.records.commit(forget).await.map(drop),
            failed => failed,
        };
        if let Err(error) = removed {
            tracing::debug!(%error, "a content stays until it is swept");
        }
    }

    /// Adds to `batch` that `content` is no object's any more.
    pub(crate) fn released(&self, batch: Batch, content: &Content) -> Batch {
        let key = note_key(self.clock.now().plus_millis(REMOVED_KEEP_MS), content);
        batch.put(key, record::write(content), Expect::Any)
    }

    /// The pieces of a content of `bytes` bytes.
    pub(crate) async fn pieces(&self, content: &Content, bytes: u64) -> Result<Vec<Piece>> {
        match content {
            Content::Whole(digest) => Ok(vec![Piece(*digest, bytes)]),
            Content::Pieces(id) | Content::Parts(id) => {
                let record = self.records.get(&crate::key::pieces(id)).await?;
                Ok(record.map(|record| record::read(&record)).transpose()?.unwrap_or_default())
            }
        }
    }

    /// The bytes of `range` of a content that is made of `pieces`. The first piece is open when this returns.
    pub(crate) async fn read(
        &self,
        pieces: &[Piece],
        range: Range<u64>,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + Sync + use<>> {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(READS_AHEAD);
        let mut cuts = cut(pieces, range).into_iter();
        let mut next = match cuts.next() {
            Some(cut) => Some((self.packages.open(&cut.digest).await?, cut.range)),
            None => None,
        };
        let packages = Arc::clone(&self.packages);
        tokio::spawn(async move {
            while let Some((package, range)) = next {
                if pump(package, range, &sender).await.is_break() {
                    return;
                }
                next = match cuts.next() {
                    Some(cut) => match packages.open(&cut.digest).await {
                        Ok(package) => Some((package, cut.range)),
                        Err(error) => return drop(sender.send(Err(io::Error::other(error))).await),
                    },
                    None => None,
                };
            }
        });
        Ok(futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (piece, receiver))
        }))
    }
}

/// A file that is removed unless somebody has taken it.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is gone where it became a package.
        drop(fs::remove_file(&self.0));
    }
}

/// A content on its way to the disk. What it does blocks, and no thread waits in between for the network.
struct Writer {
    file: File,
    digest: Sha256,
    md5: Md5,
    bytes: u64,
}

struct Written {
    digest: Digest,
    md5: [u8; 16],
    bytes: u64,
}

impl Writer {
    fn create(path: &Path, title: &str) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let title = format!("{title}\n");
        let mut digest = Sha256::new();
        digest.update(title.as_bytes());
        file.write_all(title.as_bytes())?;
        Ok(Self { file, digest, md5: Md5::new(), bytes: 0 })
    }

    fn write(mut self, pieces: &[Bytes]) -> io::Result<Self> {
        for piece in pieces {
            self.digest.update(piece);
            self.md5.update(piece);
            self.bytes += piece.len() as u64;
            self.file.write_all(piece)?;
        }
        Ok(self)
    }

    fn finish(self) -> Written {
        let digest = Digest::from_bytes(self.digest.finalize());
        Written { digest, md5: self.md5.finalize(), bytes: self.bytes }
    }
}

async fn receive<S, E>(mut body: S, bytes_max: u64, path: PathBuf, title: String) -> Result<Written>
where
    S: Stream<Item = std::result::Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut writer = blocking(move || Writer::create(&path, &title)).await?;
    let (mut bytes, mut gathered, mut gathered_bytes) = (0, Vec::new(), 0);
    while let Some(piece) = next_piece(&mut body).await {
        let piece = piece?;
        bytes += piece.len() as u64;
        if bytes > bytes_max {
            return Err(too_large(bytes, bytes_max));
        }
        gathered_bytes += piece.len();
        gathered.push(piece);
        if gathered_bytes >= DISK_BYTES {
            let pieces = std::mem::take(&mut gathered);
            gathered_bytes = 0;
            writer = blocking(move || writer.write(&pieces)).await?;
        }
    }
    blocking(move || writer.write(&gathered)).await.map(Writer::finish)
}

/// What brings so many bytes is over the limit.
pub(crate) fn too_large(value: u64, limit: u64) -> Error {
    let remedy = "; large objects are uploaded in parts, and bucket.object_bytes_max is the operator's limit";
    Error::TooLarge { what: "the content's size", value, limit, remedy }
}

async fn next_piece<S, E>(body: &mut S) -> Option<Result<Bytes>>
where
    S: Stream<Item = std::result::Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match tokio::time::timeout(BODY_IDLE, body.next()).await {
        Ok(next) => next.map(|piece| piece.map_err(|error| Error::Incomplete(error.into()))),
        Err(elapsed) => Some(Err(Error::Incomplete(elapsed.into()))),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(io::Error::other)??)
}

/// What is read of one piece: the range is within the piece's own bytes.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    digest: Digest,
    range: Range<u64>,
}

/// The pieces that `range` touches.
fn cut(pieces: &[Piece], range: Range<u64>) -> Vec<Cut> {
    let mut begins = 0;
    let mut cuts = Vec::new();
    for Piece(digest, bytes) in pieces {
        let within = range.start.max(begins)..range.end.min(begins + bytes);
        if within.start < within.end {
            cuts.push(Cut { digest: *digest, range: within.start - begins..within.end - begins });
        }
        begins += bytes;
    }
    cuts
}

/// Hands on the bytes of `range` of a package, until the reader goes or the disk fails.
async fn pump(
    package: OpenPackage,
    range: Range<u64>,
    into: &mpsc::Sender<io::Result<Bytes>>,
) -> ControlFlow<()> {
    let (mut package, mut at) = (package, range.start);
    while at < range.end {
        let length = DISK_BYTES.min(usize::try_from(range.end - at).unwrap_or(DISK_BYTES));
        match blocking(move || read_at(package, at, length)).await {
            Ok((rest, piece)) => {
                package = rest;
                at += length as u64;
                if into.send(Ok(piece)).await.is_err() {
                    return ControlFlow::Break(());
                }
            }
            Err(error) => {
                drop(into.send(Err(io::Error::other(error))).await);
                return ControlFlow::Break(());
            }
        }
    }
    ControlFlow::Continue(())
}

fn read_at(mut package: OpenPackage, at: u64, length: usize) -> io::Result<(OpenPackage, Bytes)> {
    package.seek(SeekFrom::Start(TITLE_BYTES + at))?;
    let mut piece = BytesMut::zeroed(length);
    package.read_exact(&mut piece)?;
    Ok((package, piece.freeze()))
}

/// The note that `content` is no object's and may go at `due`.
fn note_key(due: Timestamp, content: &Content) -> Key {
    let name = match content {
        Content::Whole(digest) => digest.to_string(),
        Content::Pieces(id) => format!("pieces-{id}"),
        Content::Parts(id) => format!("parts-{id}"),
    };
    Key::new(&[UNSETTLED, &format!("{:016}", due.0.max(0)), &name])
}

/// Every note, those first that are due first.
pub(crate) fn notes() -> Key {
    Key::new(&[UNSETTLED])
}

/// When a note is due.
pub(crate) fn due_at(note: &Key) -> Option<Timestamp> {
    note.segments().nth(1)?.parse().ok().map(Timestamp)
}

/// The same note, claimed: due since ever, so that nobody's commit finds it any more.
pub(crate) fn claimed(content: &Content) -> Key {
    note_key(Timestamp(0), content)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_out_of_the_pieces_that_it_touches() {
        let digest = |byte| Digest::from_bytes([byte; 32]);
        let pieces = [Piece(digest(1), 10), Piece(digest(2), 0), Piece(digest(3), 5), Piece(digest(4), 7)];
        let cut_to =
            |range| cut(&pieces, range).into_iter().map(|cut| (cut.digest, cut.range)).collect::<Vec<_>>();
        assert_eq!(cut_to(0..22), [(digest(1), 0..10), (digest(3), 0..5), (digest(4), 0..7)]);
        assert_eq!(cut_to(9..11), [(digest(1), 9..10), (digest(3), 0..1)]);
        assert_eq!(cut_to(12..13), [(digest(3), 2..3)]);
        assert_eq!(cut_to(0..0), []);
        assert_eq!(cut_to(21..99), [(digest(4), 6..7)]);
    }
}
