//! Copying between a program in a cell and the outside.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::metered::Metered;

/// A connection on which nothing moves for so long is closed: longer than the usual long poll.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes copied at once, for each direction.
const COPY_BYTES: usize = 16 * 1024;

/// Copies both ways until both have ended, nothing moves for too long, or it is not permitted any more.
pub(super) async fn copy_both(client: &mut TcpStream, server: &mut Metered) -> io::Result<()> {
    let revoked = server.revocation();
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    // Milliseconds since the start at which something moved.
    let (start, moved) = (Instant::now(), AtomicU64::new(0));
    let now_moved = || moved.store(start.elapsed().as_millis() as u64, Ordering::Relaxed);
    let up = copy(&mut from_client, &mut to_server, &now_moved);
    let down = copy(&mut from_server, &mut to_client, &now_moved);
    let idle = async {
        loop {
            let ends = start + Duration::from_millis(moved.load(Ordering::Relaxed)) + IDLE_TIMEOUT;
            if ends <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(ends).await;
        }
    };
    tokio::select! {
        both = async { tokio::try_join!(up, down) } => both.map(drop),
        () = idle => Err(io::ErrorKind::TimedOut.into()),
        () = revoked => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the ceiling was lowered")),
    }
}

async fn copy(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    moved: &impl Fn(),
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..count).unwrap_or_default()).await?;
        moved();
    }
}
