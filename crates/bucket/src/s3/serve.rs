//! The endpoint's listener.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use alula_invoke::{LINEAGE_HEADER, LineageSeal};
use alula_model::{Lineage, Name};
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::endpoint::{Endpoint, Secrets};
use super::gate;
use crate::options::{CONNECTIONS_MAX, HEADER_TIMEOUT, XML_BYTES_MAX};
use crate::{Buckets, Observe, Parts};

/// After a failure to accept: descriptors or memory are short, and others need the time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a body breaks off with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where a request came from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// The address.
    pub(crate) remote: Option<IpAddr>,
    /// The functions that led to it.
    pub(crate) lineage: Lineage,
}

/// The function that makes a request from inside its sandbox. It reaches the buckets of its own namespace only, whatever
/// access key it has.
#[derive(Debug, Clone)]
pub struct Insider {
    /// Its namespace.
    pub namespace: Name,
    /// The functions that led to the request, itself the last.
    pub lineage: Lineage,
}

/// Answers requests of S3 clients. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: S3Service,
    observe: Arc<dyn Observe>,
    seal: LineageSeal,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// The endpoint of these buckets.
    #[must_use]
    pub fn new(buckets: Buckets) -> Self {
        let mut config = S3Config::default();
        config.xml_max_body_size = XML_BYTES_MAX;
        // Forms are refused before anything of them is read.
        config.post_object_max_file_size = 0;
        let mut builder = S3ServiceBuilder::new(Endpoint { buckets: buckets.clone() });
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        let Parts { observe, seal, .. } = buckets.shared.parts.clone();
        builder.set_auth(Secrets(buckets));
        Self { inner: builder.build(), observe, seal }
    }

    /// Answers one request that a function makes from inside its sandbox. The error is that of the client's connection.
    pub async fn answer(
        &self,
        request: Request<Incoming>,
        insider: Insider,
    ) -> Result<Response<impl Body<Data = Bytes, Error = BoxError> + Send + use<>>, BoxError> {
        let mut request = request.map(s3s::Body::from);
        let (remote, lineage) = (Some(Ipv4Addr::LOCALHOST.into()), insider.lineage.clone());
        request.extensions_mut().insert(Origin { remote, lineage });
        request.extensions_mut().insert(insider);
        Ok(self.respond(request).await?)
    }

    async fn answer_outsider(
        self,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Response<s3s::Body>, s3s::HttpError> {
        let mut request = request.map(s3s::Body::from);
        // It stays in the request, whose signature may cover it.
        let lineage = request.headers().get(LINEAGE_HEADER).and_then(|header| self.seal.open(header));
        let origin = Origin { remote: Some(peer), lineage: lineage.unwrap_or_default() };
        request.extensions_mut().insert(origin);
        self.respond(request).await
    }

    async fn respond(&self, request: Request<s3s::Body>) -> Result<Response<s3s::Body>, s3s::HttpError> {
        let method = request.method().clone();
        let answered = match gate::check(&request) {
            Ok(()) => self.inner.call(request).await,
            Err(refusal) => refusal.to_http_response().map_err(|error| s3s::HttpError::new(error.into())),
        };
        let status = answered.as_ref().map_or(http::StatusCode::INTERNAL_SERVER_ERROR, Response::status);
        self.observe.answered(method.as_str(), status.as_u16());
        answered
    }

    async fn connection(self, stream: TcpStream, peer: IpAddr, stop: CancellationToken) {
        let answer =
            service_fn(move |request: Request<Incoming>| self.clone().answer_outsider(request, peer));
        // S3 clients speak HTTP/1.1, where a connection has one request at a time.
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let connection = server.serve_connection(TokioIo::new(stream), answer);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => {}
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                drop(connection.await);
            }
        }
    }
}

/// Serves until it is told to stop; requests that have begun are answered.
pub async fn serve(listener: TcpListener, service: Service, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Answers are small and written at once.
                drop(stream.set_nodelay(true));
                let connection = service.clone().connection(stream, peer.ip(), stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection to the buckets can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}
