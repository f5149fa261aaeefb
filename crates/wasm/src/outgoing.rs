//! Outgoing HTTP of a guest: one connection a request, opened by the platform under the function's network policy.
//!
//! The guest has no sockets. It names a host, the platform resolves and checks it ([`Egress`]), speaks TLS for it with
//! the machine's roots, and passes both bodies on while they come. What is for the platform itself enters by the [`Door`], as
//! the call that the guest runs. No connection outlives its request: a fresh guest
//! has nothing to keep one in. Redirects, cookies and caches are the guest's business.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use alula_model::{Calls, InstanceId};
use alula_runtime::{
    Behalf, Call, Caller, DOOR_PORT, Door, Duplex, Egress, EgressError, GATEWAY_HOST, GATEWAY_PORT,
    RunningCall, VersionPlan, Visit, Visitors,
};
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
};

use crate::instance::Loaded;

/// Requests of one instance at once, over all its guests.
pub(crate) const REQUESTS_MAX: usize = 256;
/// Time for a connection where the guest names none; the call's own deadline holds besides.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the first byte of an answer, and between two pieces of it, where the guest names none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// What carries on while a response is read.
type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
/// A response, and what must run for its body to come.
type Sent = (Response<WasiBody>, Io);

/// Bytes that lie between a guest and the platform, in each direction.
const PIPE_BYTES: usize = 64 * 1024;

/// A guest's way out.
pub(crate) struct Outgoing {
    ways: Ways,
    places: Arc<Semaphore>,
}

/// Where it leads.
#[derive(Clone)]
struct Ways {
    egress: Option<Arc<dyn Egress>>,
    /// The platform itself, and who calls it.
    platform: Option<(Door, Arc<VersionPlan>)>,
    /// The call that the guest runs.
    call: Option<RunningCall>,
}

impl Outgoing {
    pub(crate) fn new(loaded: &Loaded) -> Self {
        let Loaded { plan, egress, door, .. } = loaded;
        let own = || egress.on_behalf(Behalf::of(plan)).unwrap_or_else(|| Arc::clone(egress));
        let egress = (!plan.spec.network.is_none()).then(own);
        let may_call = plan.spec.calls == Calls::Namespace && door.is_open();
        let platform = may_call.then(|| (door.clone(), Arc::clone(plan)));
        Self { ways: Ways { egress, platform, call: None }, places: Arc::clone(&loaded.outgoing) }
    }

    /// The guest runs `call` now.
    pub(crate) fn begin(&mut self, call: &Call) {
        if self.ways.platform.is_some() {
            self.ways.call = Some(RunningCall::of(call));
        }
    }
}

impl Ways {
    async fn connect(&self, target: &Target) -> Result<Box<dyn Duplex>, Error> {
        if target.is_platform() {
            return self.enter().await;
        }
        let egress = self.egress.as_ref().ok_or(Error::HttpRequestDenied)?;
        let stream = egress.connect(&target.host, target.port).await.map_err(refusal)?;
        if !target.is_tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?;
        Ok(Box::new(tls()?.connect(name, stream).await.map_err(Error::Tls)?))
    }

    /// A connection to the platform, as the call that runs.
    async fn enter(&self) -> Result<Box<dyn Duplex>, Error> {
        let (door, plan) = self.platform.as_ref().ok_or(Error::HttpRequestDenied)?;
        let caller = Caller::new(Arc::clone(plan));
        if let Some(call) = &self.call {
            caller.begin(call.clone());
        }
        let visitors = Arc::new(Visitors::one(&InstanceId::new("guest"), Arc::new(caller)));
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let visit = Visit { connection: Box::new(theirs), visitors, place: None };
        if door.enter(visit).await { Ok(Box::new(ours)) } else { Err(Error::ConnectionTerminated) }
    }
}

impl WasiHttpHooks for Outgoing {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        static FILTER: OnceLock<ForbiddenHeaderFilter> = OnceLock::new();
        Arc::clone(FILTER.get_or_init(|| Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name))))
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let (ways, place) = (self.ways.clone(), Arc::clone(&self.places).try_acquire_owned());
        Box::new(async move {
            let place = place.map_err(|_| Error::ConnectionLimitReached)?;
            send(&ways, request, options.unwrap_or_default(), place).await
        })
    }
}

async fn send(
    ways: &Ways,
    request: Request<WasiBody>,
    options: RequestOptions,
    place: OwnedSemaphorePermit,
) -> Result<Sent, Error> {
    let target = Target::of(request.uri())?;
    let patience = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let stream = tokio::time::timeout(patience, ways.connect(&target))
        .await
        .map_err(|_| Error::ConnectionTimeout)??;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut io: std::pin::Pin<Io> = Box::into_pin(Box::new(async move {
        let _place = place;
        connection.await.map_err(Error::from)
    }));
    let patience = options.first_byte_timeout.unwrap_or(ANSWER_TIMEOUT);
    let answering = tokio::time::timeout(patience, sender.send_request(origin_form(request)?));
    tokio::pin!(answering);
    let (answer, rest): (_, Io) = tokio::select! {
        biased;
        answer = &mut answering => (answer, Box::new(io)),
        ended = &mut io => {
            ended?;
            // What arrived before the end may still be the answer.
            (answering.await, Box::new(std::future::ready(Ok(()))))
        }
    };
    let answer = answer.map_err(|_| Error::HttpResponseTimeout)??;
    let between = options.between_bytes_timeout.unwrap_or(ANSWER_TIMEOUT);
    let answer = answer.map(|body| paced(body, between));
    Ok((answer, rest))
}

/// A body each of whose pieces comes within `between`.
fn paced(body: hyper::body::Incoming, between: Duration) -> WasiBody {
    let pieces = futures_util::stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout(between, body.frame()).await {
            Ok(None) => None,
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
            Ok(Some(Err(error))) => Some((Err(Error::from(error)), None)),
            Err(_) => Some((Err(Error::ConnectionReadTimeout), None)),
        }
    });
    http_body_util::StreamBody::new(pieces).boxed_unsync()
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
    is_tls: bool,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, Error> {
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        if host.is_empty() || port == 0 {
            return Err(Error::HttpRequestUriInvalid);
        }
        Ok(Self { host, port, is_tls })
    }

    /// Whether the platform itself answers there.
    fn is_platform(&self) -> bool {
        let place = (self.host.as_str(), self.port);
        !self.is_tls && (place == ("127.0.0.1", DOOR_PORT) || place == (GATEWAY_HOST, GATEWAY_PORT))
    }
}

/// The request as a server reads it: a path, and the host in its header.
fn origin_form(mut request: Request<WasiBody>) -> Result<Request<WasiBody>, Error> {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri: Uri = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    let host = HeaderValue::from_str(&authority.unwrap_or_default());
    request.headers_mut().insert(header::HOST, host.map_err(|_| Error::HttpRequestUriInvalid)?);
    *request.uri_mut() = uri;
    Ok(request)
}

fn refusal(error: EgressError) -> Error {
    match error {
        EgressError::Refused(rule) => {
            tracing::debug!(rule, "a guest may not reach an address");
            Error::DestinationIpProhibited
        }
        EgressError::Limit { .. } => Error::ConnectionLimitReached,
        EgressError::Unreachable(error) => Error::Connect(error),
    }
}

/// TLS with the machine's roots, read once.
fn tls() -> Result<TlsConnector, Error> {
    static CONNECTOR: OnceLock<Option<TlsConnector>> = OnceLock::new();
    let connector = CONNECTOR.get_or_init(|| {
        let mut roots = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (_, unusable) = roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::error!(unusable, errors = ?found.errors, "no root certificates: functions cannot use HTTPS");
            return None;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.ok()?.with_root_certificates(roots).with_no_client_auth();
        Some(TlsConnector::from(Arc::new(config)))
    });
    connector.clone().ok_or(Error::ConfigurationError)
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
