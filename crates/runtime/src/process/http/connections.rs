//! The connections to one server: kept between calls, because a handle that can send is the slot of a call.
//!
//! A connection is used by one call at a time and comes back when its answer has been read to the end. One that
//! lay idle for longer than common servers keep theirs is not used again, so a request is not sent into a
//! connection that is just being closed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Outgoing;
use crate::Body;

/// Largest head of an answer, in bytes; also what is read ahead of a body.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most headers of an answer.
const HEADERS_MAX: usize = 200;
/// Idle time after which a connection is not used again: below the shortest keep-alive of common servers (2 s).
const IDLE_MAX: Duration = Duration::from_millis(1_500);

/// A connection to a server; closed when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Body>,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// Makes a fresh TCP connection ready for requests.
    pub(super) async fn open(stream: TcpStream) -> Result<Self, hyper::Error> {
        // Small writes go out at once; without this a streamed answer would wait for acknowledgements. A socket
        // that refuses the option works as well.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await?;
        let driver = tokio::spawn(async move {
            // What goes wrong is told to the call that uses the connection.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender, _driver: AbortOnDropHandle::new(driver) })
    }

    /// Whether the server is known to have closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends one request and waits for the head of the answer. The error gives the request back where no byte of
    /// it was sent.
    pub(super) async fn send(
        &mut self,
        request: Outgoing,
    ) -> Result<Response<Incoming>, TrySendError<Outgoing>> {
        // A connection that comes back may not be done with its last answer; one that cannot get ready says so
        // when it is used.
        let _ = self.sender.ready().await;
        self.sender.try_send_request(request).await
    }
}

/// The idle connections to one server.
#[derive(Debug)]
pub(super) struct Connections {
    idle: Mutex<Vec<(Connection, Instant)>>,
    idle_max: usize,
}

impl Connections {
    /// Keeps up to one connection for each of `concurrency` calls.
    pub(super) fn new(concurrency: u32) -> Self {
        Self { idle: Mutex::default(), idle_max: concurrency as usize }
    }

    /// The connection that was used last, if any can be used.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let usable =
            |connection: &Connection, since: Instant| !connection.is_closed() && now - since < IDLE_MAX;
        match idle.pop() {
            Some((connection, since)) if usable(&connection, since) => Some(connection),
            Some(_) => {
                // All others have been idle for longer still, or may be closed for the same reason.
                idle.retain(|(connection, since)| usable(connection, *since));
                idle.pop().map(|(connection, _)| connection)
            }
            None => None,
        }
    }

    /// Keeps a connection whose answer has been read to the end.
    pub(super) fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.idle_max && !connection.is_closed() {
            idle.push((connection, Instant::now()));
        }
    }
}
