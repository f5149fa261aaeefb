//! One connection: TLS, the choice between HTTP/1.1 and HTTP/2, and the watch over both.
//!
//! A connection lives until its peer leaves, its watch finds it overdue, or the gateway stops: then it is asked to
//! finish what runs, and is cut when the time for that is over.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;

use alula_model::ErrorCode;
use http::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activity::{Activity, Finding, Patience, Watched};
use crate::explain::{Explained, Refusal};
use crate::inside::{Guest, Source};
use crate::options::{HEADERS_MAX_DEFAULT, Options};
use crate::peer::{Peer, Scheme};
use crate::ports::{Invoke, Observe, Parts, Routes};
use crate::respond::LogTail;
use crate::sources::OfSource;
use crate::upgrade::Joint;
use crate::{ids, request};

/// What hyper may hold of the response of one HTTP/2 stream: a few frames, enough to keep a fast peer busy.
const H2_SEND_BUFFER_BYTES: usize = 128 * 1024;

/// How much more than is allowed HTTP/2 lets through, so that what is a little too large is refused with a reason.
const H2_HEADER_ROOM: usize = 2;

/// What all connections of one listener share.
#[derive(Debug)]
pub(crate) struct Shared<I, R> {
    pub(crate) parts: Parts<I, R>,
    pub(crate) options: Options,
    pub(crate) patience: Patience,
    pub(crate) log_tail: LogTail,
    pub(crate) server: auto::Builder<TokioExecutor>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Connections finish what runs and take nothing new.
    pub(crate) stopping: CancellationToken,
    /// Connections end at once.
    pub(crate) cut: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// hyper with every limit that it knows.
pub(crate) fn server(options: &Options) -> auto::Builder<TokioExecutor> {
    let millis = std::time::Duration::from_millis;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let mut http1 = builder.http1();
    // The watch over the connection does this at a lower price.
    http1.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(options.header_bytes_max);
    if options.headers_max != HEADERS_MAX_DEFAULT {
        http1.max_headers(options.headers_max);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(options.h2_streams_max)
        .max_header_list_size(
            u32::try_from(options.header_bytes_max.saturating_mul(H2_HEADER_ROOM)).unwrap_or(u32::MAX),
        )
        .max_pending_accept_reset_streams(options.h2_reset_streams_max)
        .max_send_buf_size(H2_SEND_BUFFER_BYTES)
        .keep_alive_interval(millis(options.h2_ping_interval_ms))
        .keep_alive_timeout(millis(options.h2_ping_timeout_ms));
    builder
}

/// One accepted connection. What came out of it, such as an upgraded byte stream, keeps it counted.
#[derive(Debug)]
pub(crate) struct Connection<I, R> {
    pub(crate) shared: Arc<Shared<I, R>>,
    pub(crate) peer: Peer,
    pub(crate) activity: Arc<Activity>,
    /// Whose function is at the other end, where it comes out of a sandbox.
    pub(crate) guest: Option<Guest>,
    _counted: Counted,
}

/// One of the connections that are allowed at once.
#[derive(Debug)]
pub(crate) struct Counted {
    observe: Arc<dyn Observe>,
    _seat: Seat,
}

/// What a connection holds of what there is.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) _permit: OwnedSemaphorePermit,
    /// None where its source is not counted.
    pub(crate) _of_source: Option<OfSource>,
}

impl Counted {
    pub(crate) fn new(observe: Arc<dyn Observe>, seat: Seat) -> Self {
        observe.connection_opened();
        Self { observe, _seat: seat }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.observe.connection_closed();
    }
}

impl<I: Invoke, R: Routes> Connection<I, R> {
    pub(crate) fn new(shared: Arc<Shared<I, R>>, peer: Peer, counted: Counted) -> Arc<Self> {
        Arc::new(Self { shared, peer, activity: Arc::new(Activity::new()), guest: None, _counted: counted })
    }

    /// The same for one that comes out of a sandbox.
    pub(crate) fn inside(shared: Arc<Shared<I, R>>, guest: Guest, counted: Counted) -> Arc<Self> {
        let peer = Peer::new(Ipv4Addr::LOCALHOST.into(), Scheme::Http, &[]);
        let activity = Arc::new(Activity::new());
        Arc::new(Self { shared, peer, activity, guest: Some(guest), _counted: counted })
    }

    /// What led to a request on it, by what is known of the other end.
    pub(crate) fn source(&self, headers: &mut HeaderMap) -> Source {
        let seal = &self.shared.parts.seal;
        match &self.guest {
            Some(guest) => guest.source(seal, headers),
            None => Source::outside(seal, headers),
        }
    }

    /// Serves the connection to its end.
    pub(crate) async fn run(self: Arc<Self>, stream: TcpStream) {
        let shared = Arc::clone(&self.shared);
        let Some(tls) = &shared.tls else { return self.serve(stream).await };
        let handshake = TlsAcceptor::from(Arc::clone(tls)).accept(stream);
        let handshake = tokio::time::timeout(shared.patience.header, handshake);
        tokio::select! {
            result = handshake => match result {
                Ok(Ok(stream)) => self.serve(stream).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake was not finished in time"),
            },
            () = shared.stopping.cancelled() => {}
        }
    }

    /// Speaks HTTP on it.
    pub(crate) async fn serve<S>(self: Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let activity = Arc::clone(&self.activity);
        let stream = Watched { stream, witness: Arc::clone(&activity) };
        let explainer = Arc::clone(&shared);
        let explain = move |refusal: Refusal| {
            let id = ids::invocation_id(explainer.parts.clock.now(), (explainer.parts.random)());
            refusal.explain(&explainer.options, &id)
        };
        let stream = TokioIo::new(Explained::new(stream, Arc::clone(&activity), explain));
        let service = service_fn(move |request| {
            let connection = Arc::clone(&self);
            async move { Ok::<_, Infallible>(request::answer(connection, request).await) }
        });
        let mut http = pin!(shared.server.serve_connection_with_upgrades(stream, service));
        // A token of its own: the shared one is locked by whoever waits on it.
        let stopping = shared.stopping.child_token();
        let mut look = pin!(tokio::time::sleep(shared.patience.step()));
        let mut is_closing = false;
        loop {
            tokio::select! {
                biased;
                result = http.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(error, "a connection ended early");
                    }
                    return;
                }
                () = stopping.cancelled(), if !is_closing => {
                    http.as_mut().graceful_shutdown();
                    is_closing = true;
                }
                () = shared.cut.cancelled(), if is_closing => return,
                () = &mut look => {
                    match activity.find(&shared.patience) {
                        Finding::Fine => {}
                        Finding::Idle if !is_closing => {
                            http.as_mut().graceful_shutdown();
                            is_closing = true;
                        }
                        Finding::Idle | Finding::Stalled => return,
                    }
                    look.as_mut().reset(Instant::now() + shared.patience.step());
                }
            }
        }
    }

    /// Copies between the two ends of an upgraded connection in a task of its own.
    pub(crate) fn join(self: &Arc<Self>, joint: Joint) {
        self.activity.hand_over();
        let connection = Arc::clone(self);
        self.shared.tasks.spawn(async move {
            let idle = std::time::Duration::from_millis(connection.shared.options.upgrade_idle_timeout_ms);
            tokio::select! {
                () = joint.run(idle) => {}
                () = connection.shared.cut.cancelled() => {
                    tracing::debug!(code = %ErrorCode::Draining, "an upgraded connection was cut");
                }
            }
        });
    }
}
