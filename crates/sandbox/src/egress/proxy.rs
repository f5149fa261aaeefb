//! Carrying out proxy requests: resolve, check, connect, copy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alula_runtime::EgressError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::EgressPolicy;
use super::head::{self, Kind};
use crate::sys;

/// Connections of one cell at once: what a client library's pool opens at most.
const CONNECTIONS_MAX: usize = 256;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// Time for the head of a request; a client that is slower is not there.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for one connection attempt, name lookup included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing moves for so long is closed: longer than the usual long poll.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes copied at once, for each direction.
const COPY_BYTES: usize = 16 * 1024;

/// Serves one cell's proxy until the task is aborted.
pub(crate) async fn serve(listener: TcpListener, policy: Arc<EgressPolicy>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // The connections end with this task.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => {
                let policy = Arc::clone(&policy);
                connections.spawn(async move {
                    let _place = place;
                    if let Err(error) = serve_one(client, &policy).await {
                        tracing::debug!(%error, "an outbound connection of a function ended");
                    }
                });
            }
            // Out of descriptors or memory, most likely: give the others time to end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve_one(mut client: TcpStream, policy: &EgressPolicy) -> io::Result<()> {
    let (head, rest) = match timeout(HEAD_TIMEOUT, head::read(&mut client)).await? {
        Ok(Some(read)) => read,
        Ok(None) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return refuse(&mut client, "unknown", &EgressError::Refused("header_bytes")).await;
        }
        Err(error) => return Err(error),
    };
    let target = match head::parse(&head) {
        Ok(target) => target,
        Err(rule) => return refuse(&mut client, "unknown", &EgressError::Refused(rule)).await,
    };
    match connect(&target.host, target.port, policy).await {
        Ok(mut server) => {
            if target.kind == Kind::Tunnel {
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            }
            server.write_all(&target.first_bytes).await?;
            server.write_all(&rest).await?;
            copy_both(&mut client, &mut server).await
        }
        Err(refusal) => refuse(&mut client, &target.host, &refusal).await,
    }
}

/// Resolves the host and checks every address, of which there is at least one.
pub(super) async fn resolve(
    host: &str,
    port: u16,
    policy: &EgressPolicy,
) -> Result<Vec<SocketAddr>, EgressError> {
    let lookup = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    let found = lookup.map_err(io::Error::from).and_then(|found| found).map_err(EgressError::Unreachable)?;
    let addresses: Vec<SocketAddr> = found.collect();
    let own = sys::interface_addresses().map_err(EgressError::Unreachable)?;
    // One bad address refuses the name: an honest name has none, and which one is used must not be luck.
    for address in &addresses {
        policy.check(address.ip(), &own).map_err(EgressError::Refused)?;
    }
    match addresses.is_empty() {
        true => Err(EgressError::Unreachable(no_address())),
        false => Ok(addresses),
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

/// Resolves the host, checks every address and connects to one that was checked.
pub(super) async fn connect(host: &str, port: u16, policy: &EgressPolicy) -> Result<TcpStream, EgressError> {
    let addresses = resolve(host, port, policy).await?;
    let mut last = no_address();
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(elapsed) => last = elapsed.into(),
        }
    }
    Err(EgressError::Unreachable(last))
}

/// Answers with the reason as JSON and closes.
async fn refuse(client: &mut TcpStream, host: &str, refusal: &EgressError) -> io::Result<()> {
    let (status, body) = match refusal {
        EgressError::Refused(rule) => {
            let message = format!("functions may not reach `{host}`: rule `{rule}`");
            (
                "403 Forbidden",
                serde_json::json!({"error": "egress_refused", "rule": rule, "message": message}),
            )
        }
        EgressError::Unreachable(error) => {
            let message = format!("`{host}` cannot be reached: {error}");
            ("502 Bad Gateway", serde_json::json!({"error": "egress_unreachable", "message": message}))
        }
    };
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}

/// Copies both ways until both have ended, or nothing moves for too long.
async fn copy_both(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
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

#[cfg(test)]
mod tests;
