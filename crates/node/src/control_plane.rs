//! The control API's listener: HTTP, with limits on connections, time and frames.
//!
//! What one request may do is limited by the API itself; here it is what a connection may cost. Who has more connections
//! than it may is not served; the others always find a place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alula_gateway::{ConnectionsBySource, OfSource};
use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once.
const CONNECTIONS_MAX: usize = 512;
/// Connections at once from one address: a half, so that nobody takes all that there are.
const CONNECTIONS_PER_SOURCE_MAX: usize = CONNECTIONS_MAX / 2;
/// Time for the headers of a request, and between two requests on one connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request line and its headers.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Time in which a peer must take what was sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams at once on one HTTP/2 connection: RFC 9113 recommends at least 100.
const H2_STREAMS_MAX: u32 = 128;
/// Streams that a peer opened and reset before they were looked at: against rapid reset.
const H2_RESET_STREAMS_MAX: usize = 20;
/// A quiet HTTP/2 connection is pinged this often.
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// Pause after a failed accept: while descriptors are short the listener stays ready.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` until `stop`, then lets what runs finish.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let sources = ConnectionsBySource::new(CONNECTIONS_PER_SOURCE_MAX);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection to the control API can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(seat) = seat(&places, &sources, peer) else {
            tracing::debug!(%peer, "a connection to the control API was closed: there are too many");
            continue;
        };
        bound_writes(&stream);
        let routes = router.clone().layer(axum::Extension(ConnectInfo(peer)));
        connections.spawn(serve_one(stream, routes, stop.clone(), seat));
    }
    connections.close();
    connections.wait().await;
}

type Seat = (OwnedSemaphorePermit, OfSource);

fn seat(places: &Arc<Semaphore>, sources: &Arc<ConnectionsBySource>, peer: SocketAddr) -> Option<Seat> {
    let of_source = sources.take(peer.ip())?;
    Some((Arc::clone(places).try_acquire_owned().ok()?, of_source))
}

/// The kernel ends a connection whose peer takes nothing for so long (`TCP_USER_TIMEOUT` of tcp(7), RFC 5482).
fn bound_writes(stream: &TcpStream) {
    let millis = u32::try_from(WRITE_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, millis) {
        tracing::debug!(%error, "a connection has no limit on the time for writes");
    }
}

async fn serve_one(stream: TcpStream, routes: Router, stop: CancellationToken, seat: Seat) {
    let service = TowerToHyperService::new(routes);
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_pending_accept_reset_streams(H2_RESET_STREAMS_MAX)
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(H2_PING_INTERVAL);
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
    drop(seat);
}
