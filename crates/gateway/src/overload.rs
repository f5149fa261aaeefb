//! What a connection that is not served is told, quickly, and then it is closed.
//!
//! The answer is written without reading the request. The end of the peer's data is awaited for a moment, because
//! closing a socket with unread data makes the kernel reset it, and the answer would be lost on the way.

use std::sync::Arc;
use std::time::Duration;

use alula_invoke::Failure;
use alula_model::{ErrorCode, Fault, InvocationId};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use crate::activity::ABANDONED_MAX;
use crate::respond::{self, LogTail};

/// The limit on all connections.
const ALL: &str = "connections_max";
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
        failure: &Failure,
    ) -> Option<impl Future<Output = ()> + Send + use<S>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let text = text_of(failure, id);
        Some(async move {
            let _place = place;
            let _in_time = tokio::time::timeout(REFUSAL_TIMEOUT, say(stream, text)).await;
        })
    }
}

fn text_of(failure: &Failure, id: &InvocationId) -> Vec<u8> {
    let mut response = respond::failure(failure, id, LogTail::Hidden);
    if failure.fault.limit.as_ref().is_some_and(|limit| limit.name == ALL) {
        // Here it is the platform that is full, not one function.
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    respond::on_the_wire(&response)
}

/// There are too many connections.
pub(crate) fn too_many(connections_max: usize) -> Failure {
    respond::refused(Fault::limit(
        ErrorCode::ConcurrencyExceeded,
        "too many connections",
        ALL,
        connections_max as u64,
        "gateway.connections_max in the configuration",
    ))
}

/// Far more requests of a connection were reset than answered; its watch ends it.
pub(crate) fn too_many_resets() -> Failure {
    respond::refused(Fault::limit(
        ErrorCode::RateLimited,
        "too many requests of this connection were reset before their answers",
        "h2_abandoned_max",
        ABANDONED_MAX.into(),
        "fixed in this version",
    ))
}

/// There are too many connections from where this one comes from.
pub(crate) fn too_many_of_source(connections_per_source_max: usize) -> Failure {
    respond::refused(Fault::limit(
        ErrorCode::RateLimited,
        "too many connections from this address",
        "connections_per_source_max",
        connections_per_source_max as u64,
        "gateway.connections_per_source_max in the configuration",
    ))
}

async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: Vec<u8>) -> std::io::Result<()> {
    stream.write_all(&text).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(DISCARDED_BYTES_MAX), &mut tokio::io::sink()).await?;
    Ok(())
}
