//! What a connection over the limit is told: 503, quickly, and then it is closed.
//!
//! The answer is written without reading the request. The end of the peer's data is awaited for a moment, because
//! closing a socket with unread data makes the kernel reset it, and the answer would be lost on the way.

use std::sync::Arc;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, InvocationId};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use crate::respond::{self, LogTail};

/// Refusals that may wait for their peers at once; beyond it connections are closed without a word.
const REFUSALS_MAX: usize = 64;
/// Time for a peer to take its refusal and to close.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of the refused request that are read and thrown away.
const DISCARDED_BYTES_MAX: u64 = 64 * 1024;

/// Turns connections away.
#[derive(Debug, Clone)]
pub(crate) struct Refusals {
    places: Arc<Semaphore>,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(REFUSALS_MAX)) }
    }

    /// What goes to the peer, if there is a place for it to wait.
    pub(crate) fn refuse<S: AsyncRead + AsyncWrite + Send + Unpin>(
        &self,
        stream: S,
        id: &InvocationId,
        connections_max: usize,
    ) -> Option<impl Future<Output = ()> + Send + use<S>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let text = refusal(id, connections_max);
        Some(async move {
            let _place = place;
            let _in_time = tokio::time::timeout(REFUSAL_TIMEOUT, say(stream, text)).await;
        })
    }
}

fn refusal(id: &InvocationId, connections_max: usize) -> Vec<u8> {
    let fault = Fault::limit(
        ErrorCode::ConcurrencyExceeded,
        "too many connections",
        "connections_max",
        connections_max as u64,
        "gateway.connections_max in the configuration",
    );
    let mut response = respond::failure(&respond::refused(fault), id, LogTail::Hidden);
    // Here it is the platform that is full, not one function.
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    respond::on_the_wire(&response)
}

async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: Vec<u8>) -> std::io::Result<()> {
    stream.write_all(&text).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(DISCARDED_BYTES_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}
