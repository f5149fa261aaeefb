//! Contents that are too large for a message or a record.
//!
//! They lie in a package store of their own. Equal contents would be one package, and removing it for one call would take
//! it from another, so the call's id and what the content is of it are stored before the content and make each unique. A note in the records says until
//! when a blob may lie there at the most, so that nothing stays for ever whatever is killed when.

use std::io::Read as _;
use std::sync::Arc;

use alula_model::{Digest, Timestamp};
use alula_store::{Batch, Expect, Key, Packages, Records, SCAN_LEN_MAX};
use bytes::{BufMut, Bytes, BytesMut};

use super::envelope::Blob;

/// Blobs by call.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    packages: Arc<dyn Packages>,
    records: Arc<dyn Records>,
}

/// What a content is of its call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BlobKind {
    Request,
    Result,
    Delivery,
}

impl Blobs {
    pub(crate) fn new(packages: Arc<dyn Packages>, records: Arc<dyn Records>) -> Self {
        Self { packages, records }
    }

    /// Stores `content` of the message `id`; it goes at `until` if nobody has removed it before.
    pub(crate) async fn put(
        &self,
        id: &str,
        kind: BlobKind,
        content: &[u8],
        until: Timestamp,
    ) -> alula_store::Result<Blob> {
        let title = format!("{id} {kind:?}\n");
        let mut whole = BytesMut::with_capacity(title.len() + content.len());
        whole.put_slice(title.as_bytes());
        whole.put_slice(content);
        let whole = whole.freeze();
        // The note comes first: a blob without one would stay for ever if the process ended here.
        let digest = alula_store::digest_of(&whole);
        let note = Batch::default().put(note_key(until, &digest), Bytes::new(), Expect::Any);
        self.records.commit(note).await?;
        self.packages.put(whole).await?;
        Ok(Blob { digest, bytes: content.len() as u64 })
    }

    /// The content; an error where it is gone.
    pub(crate) async fn get(&self, blob: &Blob) -> alula_store::Result<Bytes> {
        let mut package = self.packages.open(&blob.digest).await?;
        let read = tokio::task::spawn_blocking(move || {
            let mut whole = Vec::with_capacity(usize::try_from(package.bytes).unwrap_or(0));
            package.read_to_end(&mut whole).map(|_| Bytes::from(whole))
        });
        let unreadable = |detail: String| alula_store::Error::Unavailable { detail };
        let whole = read.await.map_err(|error| unreadable(error.to_string()))?;
        let whole = whole.map_err(|error| unreadable(error.to_string()))?;
        let content_bytes = usize::try_from(blob.bytes).unwrap_or(usize::MAX);
        Ok(whole.slice(whole.len().saturating_sub(content_bytes)..))
    }

    /// Forgets a blob. What fails here is made good by [`Blobs::sweep`].
    pub(crate) async fn remove(&self, blob: &Blob) {
        if let Err(error) = self.packages.remove(&blob.digest).await {
            tracing::debug!(%error, "a content stays until it is swept");
        }
    }

    /// Removes what has lain there for longer than it may.
    pub(crate) async fn sweep(&self, now: Timestamp) -> alula_store::Result<()> {
        loop {
            let notes = self.records.scan(&Key::new(&["blob"]), None, SCAN_LEN_MAX).await?;
            let due: Vec<_> = notes
                .into_iter()
                .filter_map(|note| due(&note.key, now).map(|digest| (note.key, digest)))
                .collect();
            if due.is_empty() {
                return Ok(());
            }
            let mut forget = Batch::default();
            for (key, digest) in due {
                self.packages.remove(&digest).await?;
                forget = forget.delete(key, Expect::Any);
            }
            self.records.commit(forget).await?;
        }
    }
}

fn note_key(until: Timestamp, digest: &Digest) -> Key {
    Key::new(&["blob", &format!("{:016}", until.0.max(0)), &digest.to_string()])
}

/// The digest that a note is about, if its time has come.
fn due(key: &Key, now: Timestamp) -> Option<Digest> {
    let mut segments = key.segments().skip(1);
    let until: i64 = segments.next()?.parse().ok()?;
    let digest = segments.next()?.parse().ok()?;
    (until <= now.0).then_some(digest)
}
