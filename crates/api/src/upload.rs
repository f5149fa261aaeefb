//! Takes a body of any size to a file, within a limit, and forgets the file afterwards.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alula_model::{ErrorCode, Fault};
use axum::body::Body;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::io::{AsyncWriteExt, BufWriter};

/// Time between two pieces of an upload after which it counts as abandoned.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes that are gathered before they are written: few calls into the kernel, little memory.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// A file that is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct UploadFile(PathBuf);

impl UploadFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for UploadFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "an upload could not be removed");
        }
    }
}

/// Writes `body` to the new file `path`. On any failure nothing is left of it.
pub(crate) async fn receive(mut body: Body, path: PathBuf, bytes_max: u64) -> Result<UploadFile, Fault> {
    if body.size_hint().lower() > bytes_max {
        return Err(too_large(bytes_max));
    }
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(|error| file_fault(&error))?;
    }
    let file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).await;
    let file = file.map_err(|error| file_fault(&error))?;
    let upload = UploadFile(path);
    let mut writer = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
    let mut received: u64 = 0;
    while let Some(piece) = next_piece(&mut body).await? {
        received += piece.len() as u64;
        if received > bytes_max {
            return Err(too_large(bytes_max));
        }
        writer.write_all(&piece).await.map_err(|error| file_fault(&error))?;
    }
    writer.flush().await.map_err(|error| file_fault(&error))?;
    if received == 0 {
        let message = "the body is empty: send the source as an archive (tar, tar.gz, zip), or one file with ?file=NAME";
        return Err(Fault::new(ErrorCode::InvalidPackage, message));
    }
    Ok(upload)
}

async fn next_piece(body: &mut Body) -> Result<Option<bytes::Bytes>, Fault> {
    loop {
        let frame = tokio::time::timeout(STALL_TIMEOUT, body.frame()).await.map_err(|_| {
            let message = format!("the upload stood still for {} s", STALL_TIMEOUT.as_secs());
            Fault::new(ErrorCode::InvalidRequest, message)
        })?;
        let Some(frame) = frame else { return Ok(None) };
        let gone = |_| Fault::new(ErrorCode::CallerGone, "the upload broke off before its end");
        if let Ok(data) = frame.map_err(gone)?.into_data() {
            return Ok(Some(data));
        }
    }
}

fn too_large(bytes_max: u64) -> Fault {
    let message = format!("the upload is larger than {bytes_max} bytes");
    let setting = "build.package_bytes_max in the configuration";
    Fault::limit(ErrorCode::RequestTooLarge, message, "package_bytes_max", bytes_max, setting)
}

fn file_fault(error: &std::io::Error) -> Fault {
    tracing::error!(%error, "an upload could not be written");
    Fault::new(ErrorCode::StoreUnavailable, "the upload could not be written to the data directory")
}
