//! The checksums that a client sends with a content: before it, as a header, or after it, as a trailer.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use s3s::TrailingHeaders;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::Checksum as _;
use s3s::crypto::{Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::StreamingBlob;

use crate::{Error, Result};

const CRC32: &str = "x-amz-checksum-crc32";
const CRC32C: &str = "x-amz-checksum-crc32c";
const CRC64NVME: &str = "x-amz-checksum-crc64nvme";
const SHA1: &str = "x-amz-checksum-sha1";
const SHA256: &str = "x-amz-checksum-sha256";
const ALL: [&str; 5] = [CRC32, CRC32C, CRC64NVME, SHA1, SHA256];

/// What is compared when a content has arrived.
pub(crate) struct Expected {
    hasher: Arc<Mutex<ChecksumHasher>>,
    headers: HeaderMap,
    trailers: Option<TrailingHeaders>,
}

/// Computes, while `body` goes through, what the headers promise.
pub(crate) fn watch(
    body: StreamingBlob,
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
) -> (
    impl Stream<Item = std::result::Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> + Unpin,
    Expected,
) {
    let promised = |name: &str| {
        let trailer = headers.get("x-amz-trailer").and_then(|value| value.to_str().ok()).unwrap_or_default();
        headers.contains_key(name) || trailer.split(',').any(|one| one.trim().eq_ignore_ascii_case(name))
    };
    let hasher = ChecksumHasher {
        crc32: promised(CRC32).then(Crc32::new),
        crc32c: promised(CRC32C).then(Crc32c::new),
        crc64nvme: promised(CRC64NVME).then(Crc64Nvme::new),
        sha1: promised(SHA1).then(Sha1::new),
        sha256: promised(SHA256).then(Sha256::new),
    };
    let hasher = Arc::new(Mutex::new(hasher));
    let expected = Expected { hasher: Arc::clone(&hasher), headers: headers.clone(), trailers };
    let watched = body.map(move |piece| {
        if let Ok(piece) = &piece {
            hasher.lock().unwrap_or_else(PoisonError::into_inner).update(piece);
        }
        piece
    });
    (watched, expected)
}

impl Expected {
    /// Whether what arrived is what the client sent.
    pub(crate) fn check(self, md5: &[u8; 16]) -> Result<()> {
        let hasher = std::mem::take(&mut *self.hasher.lock().unwrap_or_else(PoisonError::into_inner));
        let found = hasher.finalize();
        let trailers = self.trailers.and_then(|trailers| trailers.take()).unwrap_or_default();
        let computed = [
            found.checksum_crc32,
            found.checksum_crc32c,
            found.checksum_crc64nvme,
            found.checksum_sha1,
            found.checksum_sha256,
        ];
        for (name, computed) in ALL.into_iter().zip(computed) {
            let Some(computed) = computed else { continue };
            let sent = self.headers.get(name).or_else(|| trailers.get(name));
            if sent.is_none_or(|sent| sent.as_bytes() != computed.as_bytes()) {
                return Err(Error::Checksum(name));
            }
        }
        let sent = self.headers.get("content-md5").map(http::HeaderValue::as_bytes);
        match sent {
            Some(sent) if sent != base64(md5).as_bytes() => Err(Error::Checksum("Content-MD5")),
            _ => Ok(()),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
