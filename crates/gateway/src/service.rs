//! The listener's life: accept, hand over, stop.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use alula_invoke::Failure;
use alula_runtime::{Visit, Visits};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activity::Patience;
use crate::connection::{Connection, Counted, Seat, Shared, server};
use crate::ids;
use crate::inside::{Guest, Shares};
use crate::options::Options;
use crate::overload::{self, Refusals};
use crate::peer::{Peer, Scheme};
use crate::ports::{Invoke, Objects, Parts, Routes};
use crate::respond::LogTail;
use crate::sources::ConnectionsBySource;
use crate::tls::{self, TlsError};

/// Pause after a failed accept: while descriptors are short the listener stays ready, and without a pause the
/// loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option is out of its bounds.
    #[error("option {name}: {reason}")]
    Option {
        /// The option's name.
        name: &'static str,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The certificate or its key cannot be used.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The listener does not know its address.
    #[error("the listener cannot be used")]
    Listener(#[source] io::Error),
}

/// The data plane of one listener, ready to run.
#[derive(Debug)]
pub struct Service<I, R> {
    parts: Parts<I, R>,
    options: Options,
    tls: Option<Arc<ServerConfig>>,
}

impl<I: Invoke, R: Routes> Service<I, R> {
    /// Checks the options and reads the certificate.
    pub fn new(options: Options, parts: Parts<I, R>) -> Result<Self, Error> {
        options.validate().map_err(|(name, reason)| Error::Option { name, reason })?;
        let tls = options.tls.as_ref().map(tls::config).transpose()?;
        Ok(Self { parts, options, tls })
    }

    /// Serves `listener` until `shutdown`, then lets what runs finish within `drain_timeout_ms` and returns when
    /// nothing is left.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
        let address = listener.local_addr().map_err(Error::Listener)?;
        let exposes_logs = self.options.expose_function_logs.unwrap_or(address.ip().is_loopback());
        let shared = Arc::new(self.share(exposes_logs));
        tokio::select! {
            () = accept(&listener, &shared) => {}
            () = shutdown.cancelled() => {}
        }
        // Callers that are still in the backlog are refused by the kernel rather than left waiting.
        drop(listener);
        stop(&shared).await;
        Ok(())
    }

    /// Answers functions that come out of their sandboxes until `shutdown`, and then as [`run`](Self::run) does. Speaks
    /// HTTP/1.1 without TLS: the connections never leave this machine.
    pub async fn run_inside(self, visits: Visits, objects: Arc<dyn Objects>, shutdown: CancellationToken) {
        let exposes_logs = self.options.expose_function_logs.unwrap_or(false);
        let mut shared = self.share(exposes_logs);
        shared.server = shared.server.http1_only();
        let shared = Arc::new(shared);
        tokio::select! {
            () = welcome(visits, &shared, &objects) => {}
            () = shutdown.cancelled() => {}
        }
        stop(&shared).await;
    }

    fn share(self, exposes_logs: bool) -> Shared<I, R> {
        Shared {
            patience: Patience::new(&self.options),
            log_tail: if exposes_logs { LogTail::Shown } else { LogTail::Hidden },
            server: server(&self.options),
            tls: self.tls,
            stopping: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
            parts: self.parts,
            options: self.options,
        }
    }
}

async fn accept<I: Invoke, R: Routes>(listener: &TcpListener, shared: &Arc<Shared<I, R>>) {
    let places = Arc::new(Semaphore::new(shared.options.connections_max));
    let sources = ConnectionsBySource::new(shared.options.connections_per_source_max);
    let refusals = Refusals::new();
    loop {
        match listener.accept().await {
            Ok((stream, address)) => match seat(shared, &places, &sources, address.ip()) {
                Ok(seat) => serve(shared, stream, address, seat),
                Err(failure) => refuse(shared, &refusals, stream, &failure),
            },
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                shared.parts.observe.accept_failed();
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A place for a connection from `source`, unless it is blocked or has, as all have together, what it may.
fn seat<I: Invoke, R: Routes>(
    shared: &Shared<I, R>,
    places: &Arc<Semaphore>,
    sources: &Arc<ConnectionsBySource>,
    source: IpAddr,
) -> Result<Seat, Failure> {
    let options = &shared.options;
    let source = source.to_canonical();
    let is_trusted = options.trusted_proxies.iter().any(|block| block.contains(source));
    let mut of_source = None;
    if !is_trusted {
        shared.parts.invoke.peek_source(source)?;
        let too_many = || overload::too_many_of_source(options.connections_per_source_max);
        of_source = Some(sources.take(source).ok_or_else(too_many)?);
    }
    let permit = Arc::clone(places).try_acquire_owned();
    let permit = permit.map_err(|_| overload::too_many(options.connections_max))?;
    Ok(Seat { _permit: permit, _of_source: of_source })
}

/// Whether the peer gave up before it was accepted, which says nothing about the next one.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ConnectionAborted | Kind::ConnectionReset | Kind::ConnectionRefused)
}

fn serve<I: Invoke, R: Routes>(
    shared: &Arc<Shared<I, R>>,
    stream: TcpStream,
    address: SocketAddr,
    seat: Seat,
) {
    // Responses are written whole; waiting for more to send only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let scheme = if shared.tls.is_some() { Scheme::Https } else { Scheme::Http };
    let peer = Peer::new(address.ip(), scheme, &shared.options.trusted_proxies);
    let counted = Counted::new(Arc::clone(&shared.parts.observe), seat);
    shared.tasks.spawn(Connection::new(Arc::clone(shared), peer, counted).run(stream));
}

/// Serves what comes out of sandboxes.
async fn welcome<I: Invoke, R: Routes>(
    mut visits: Visits,
    shared: &Arc<Shared<I, R>>,
    objects: &Arc<dyn Objects>,
) {
    let places = Arc::new(Semaphore::new(shared.options.connections_max));
    let (shares, refusals) = (Arc::new(Shares::default()), Refusals::new());
    while let Some(Visit { connection, visitors, place }) = visits.next().await {
        let permit = Arc::clone(&places).try_acquire_owned();
        let (Ok(permit), Some(share)) = (permit, shares.take(visitors.namespace())) else {
            refuse(shared, &refusals, connection, &overload::too_many(shared.options.connections_max));
            continue;
        };
        let guest = Guest { visitors, objects: Arc::clone(objects) };
        let seat = Seat { _permit: permit, _of_source: None };
        let counted = Counted::new(Arc::clone(&shared.parts.observe), seat);
        let serving = Connection::inside(Arc::clone(shared), guest, counted).serve(connection);
        shared.tasks.spawn(async move {
            serving.await;
            drop((place, share));
        });
    }
}

fn refuse<I: Invoke, R: Routes, S>(
    shared: &Arc<Shared<I, R>>,
    refusals: &Refusals,
    stream: S,
    failure: &Failure,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    shared.parts.observe.connection_rejected();
    // A peer that expects a TLS handshake could not read the answer.
    if shared.tls.is_some() {
        return;
    }
    let id = ids::invocation_id(shared.parts.clock.now(), (shared.parts.random)());
    if let Some(refusal) = refusals.refuse(stream, &id, failure) {
        shared.tasks.spawn(refusal);
    }
}

async fn stop<I, R>(shared: &Shared<I, R>) {
    shared.stopping.cancel();
    shared.tasks.close();
    let patience = Duration::from_millis(shared.options.drain_timeout_ms);
    if tokio::time::timeout(patience, shared.tasks.wait()).await.is_err() {
        tracing::warn!(left = shared.tasks.len(), "requests still ran when the time to stop was over");
        shared.cut.cancel();
        shared.tasks.wait().await;
    }
}
