//! A gateway on a free port with a scripted function behind it, and a client that speaks raw HTTP/1.1.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula_control::RouteMatch;
use alula_gateway::{Events, Invoke, Later, Observe, Options, Parts, Routes, Service};
use alula_identity::calling::{Gate, NoFetch};
use alula_identity::{Identity, Tokens};
use alula_invoke::cloudevents::CloudEvent;
use alula_invoke::later::{Accepted, Deferred, Repeat};
use alula_invoke::{Failure, Invocation, Outcome, Served};
use alula_model::{
    AccessSpec, AuditEntry, Clock, ErrorCode, Fault, FunctionRef, FunctionSpec, InstanceId, Name, Phases,
    Qualifier, Tier, Timestamp, VersionKey, Way,
};
use alula_runtime::{Answer, Body, BoxFuture, VersionPlan};
use alula_store::{AuditTrail, Batch, Committed, MemoryStore, Records as _};
use alula_trigger::TriggerKey;
use alula_trigger::topic::{Publication, Published};
use alula_trigger::webhook::{Seen, Verified};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No test may hang longer than this.
pub const PATIENCE: Duration = Duration::from_secs(20);

type Result = std::result::Result<Outcome, Failure>;
type Script = Arc<dyn Fn(Invocation) -> BoxFuture<'static, Result> + Send + Sync>;

/// Answers every invocation with a closure, and `/users/...` with the function `users`.
#[derive(Clone)]
pub struct Scripted(Script);

impl Invoke for Scripted {
    async fn invoke(&self, invocation: Invocation) -> Result {
        (self.0)(invocation).await
    }
}

#[derive(Debug)]
pub struct Users;

impl Routes for Users {
    fn route(&self, method: &str, _host: Option<&str>, path: &str) -> Option<RouteMatch> {
        let id = path.strip_prefix("/users/").filter(|_| method != "DELETE")?;
        let target = "users.shop:live".parse().unwrap();
        Some(RouteMatch { target, parameters: vec![("id".to_owned(), id.to_owned())] })
    }

    /// Functions are called after who may call them: `only-namespace` in its first version was `public`.
    fn versions(&self, target: &FunctionRef) -> [Option<Arc<VersionPlan>>; 2] {
        let access = match target.name.as_str() {
            "only-namespace" => r#""namespace""#,
            "only-signed" => r#""signed-url""#,
            "only-inside" => r#""inside""#,
            "only-token" => ISSUER_OF_TOKENS,
            "only-a" => r#"["function:shop/a", "function:bank/a"]"#,
            "only-b" => r#""function:shop/b""#,
            "everybody" => r#""public""#,
            _ => return [None, None],
        };
        let plan = |access: &str, version| {
            let access = serde_json::from_str(access).unwrap();
            let (namespace, function) = (target.namespace.clone(), target.name.clone());
            let key = VersionKey { namespace, function, version };
            let spec = FunctionSpec { access, ..FunctionSpec::new("exec") };
            Some(Arc::new(VersionPlan::new(key, spec, "/".into())))
        };
        match target.qualifier {
            Qualifier::Version(1) => [plan(r#""public""#, 1), plan(access, 2)],
            _ => [plan(access, 2), None],
        }
    }
}

/// Lets in who has a token that is signed with [`TOKEN_SECRET`].
pub const ISSUER_OF_TOKENS: &str = r#"{"jwt": [{"issuer": "https://a.test", "audience": ["shop"],
    "keys": [{"kty": "oct", "k": "dGhpcnR5LXR3byBjaGFyYWN0ZXJzIG9mIGEgc2VjcmV0IQ"}]}]}"#;

#[derive(Debug)]
struct Untold(Arc<MemoryStore>);

impl AuditTrail for Untold {
    fn commit_audited(
        &self,
        batch: Batch,
        _: Vec<AuditEntry>,
    ) -> BoxFuture<'_, std::result::Result<Committed, alula_store::Error>> {
        self.0.commit(batch)
    }
}

/// Everybody who is known, which is nobody yet; a store in memory never waits.
pub fn nobody() -> Identity {
    let store = Arc::new(MemoryStore::new());
    let parts = alula_identity::Parts {
        records: Arc::<MemoryStore>::clone(&store),
        clock: Arc::new(FixedClock),
        audit: Arc::new(Untold(store)),
        random: || 7,
    };
    Identity::load(parts).now_or_never().unwrap().unwrap()
}

/// The administrator's token.
pub const TOKEN: &str = "alula_admin_1";

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000)
    }
}

/// Counts what the gateway says about connections.
#[derive(Debug, Default)]
pub struct Counts {
    pub opened: AtomicUsize,
    pub closed: AtomicUsize,
    pub rejected: AtomicUsize,
    pub panicked: AtomicUsize,
}

impl Observe for Counts {
    fn connection_opened(&self) {
        self.opened.fetch_add(1, Ordering::SeqCst);
    }
    fn connection_closed(&self) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
    fn connection_rejected(&self) {
        self.rejected.fetch_add(1, Ordering::SeqCst);
    }
    fn request_panicked(&self) {
        self.panicked.fetch_add(1, Ordering::SeqCst);
    }
}

/// Accepts everything but what is for `nobody`, and keeps it.
#[derive(Debug, Default)]
pub struct Accepting(pub Mutex<Vec<Deferred>>);

/// Takes every event, and every webhook whose body is not `forged`.
#[derive(Debug, Default)]
pub struct Receiving {
    pub published: Mutex<Vec<Publication>>,
    pub hooks: Mutex<Vec<(TriggerKey, Bytes)>>,
}

impl Events for Receiving {
    fn publish(&self, publication: Publication) -> BoxFuture<'_, std::result::Result<Vec<Published>, Fault>> {
        let told = |event: &CloudEvent| Published {
            id: event.attribute("id").unwrap().to_owned(),
            calls: 1,
            is_repeat: false,
        };
        let published = publication.events.iter().map(told).collect();
        self.published.lock().unwrap().push(publication);
        Box::pin(async move { Ok(published) })
    }

    fn verify<'a>(
        &'a self,
        trigger: &'a TriggerKey,
        _headers: &'a HeaderMap,
        body: &'a Bytes,
    ) -> BoxFuture<'a, std::result::Result<Verified, Fault>> {
        self.hooks.lock().unwrap().push((trigger.clone(), body.clone()));
        let target = format!("{}.{}", trigger.function, trigger.namespace).parse().unwrap();
        let verified = match &body[..] {
            b"forged" => Err(Fault::new(ErrorCode::Unauthenticated, "the signature is wrong")),
            b"challenge" => Ok(Verified::Challenge("3eZbrw1a".to_owned())),
            _ => Ok(Verified::Later { target, idempotency_key: "webhook-1".to_owned() }),
        };
        Box::pin(async move { verified })
    }

    fn forget<'a>(&'a self, _seen: &'a Seen) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

/// Largest content that it takes, in bytes.
pub const LATER_BODY_BYTES_MAX: u64 = 1_000;

impl Later for Accepting {
    fn accept(&self, deferred: Deferred) -> BoxFuture<'_, std::result::Result<Accepted, Fault>> {
        let accepted = match deferred.target.name.as_str() {
            "nobody" => Err(Fault::new(ErrorCode::FunctionNotFound, "no function nobody")),
            _ => Ok(Accepted { id: deferred.id.clone(), repeat: Repeat::First }),
        };
        self.0.lock().unwrap().push(deferred);
        Box::pin(async move { accepted })
    }

    fn body_bytes_max(&self) -> u64 {
        LATER_BODY_BYTES_MAX
    }
}

/// What lineages are signed with here.
pub const SECRET: &[u8] = b"of these tests";

/// What a gateway hands on to.
pub struct Behind {
    pub later: Arc<Accepting>,
    pub events: Arc<Receiving>,
    pub counts: Arc<Counts>,
    pub identity: Identity,
}

impl Default for Behind {
    fn default() -> Self {
        Self { later: Arc::default(), events: Arc::default(), counts: Arc::default(), identity: nobody() }
    }
}

/// A gateway's parts, whose function is `script`.
pub fn parts<F>(
    script: impl Fn(Invocation) -> F + Send + Sync + 'static,
    later: &Arc<Accepting>,
    events: &Arc<Receiving>,
    counts: &Arc<Counts>,
    identity: &Identity,
) -> Parts<Scripted, Users>
where
    F: Future<Output = Result> + Send + 'static,
{
    let serial = AtomicU64::new(1);
    Parts {
        later: Arc::clone(later) as Arc<dyn Later>,
        invoke: Scripted(Arc::new(move |invocation| Box::pin(script(invocation)))),
        events: Arc::clone(events) as Arc<dyn Events>,
        seal: alula_invoke::LineageSeal::new(SECRET),
        gate: gate(identity),
        routes: Users,
        clock: Arc::new(FixedClock),
        random: Arc::new(move || u128::from(serial.fetch_add(1, Ordering::Relaxed))),
        observe: Arc::clone(counts) as Arc<dyn Observe>,
    }
}

/// Functions are public that say nothing, and topics of the namespace `closed` are not.
pub fn gate(identity: &Identity) -> Gate {
    let tokens = Tokens::default().with("admin", Tokens::digest_of(TOKEN));
    Gate::new(identity.clone(), tokens, AccessSpec::only(Way::Public), Arc::new(NoFetch))
}

pub struct Gateway {
    pub address: SocketAddr,
    pub later: Arc<Accepting>,
    pub events: Arc<Receiving>,
    pub counts: Arc<Counts>,
    pub identity: Identity,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<()>,
}

impl Gateway {
    pub async fn start<F>(options: Options, script: impl Fn(Invocation) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let Behind { later, events, counts, identity } = Behind::default();
        let parts = parts(script, &later, &events, &counts, &identity);
        let shutdown = CancellationToken::new();
        let service = Service::new(options, parts).unwrap();
        let token = shutdown.clone();
        let running = tokio::spawn(async move { service.run(listener, token).await.unwrap() });
        Self { address, later, events, counts, identity, shutdown, running }
    }

    /// A gateway whose function answers `method uri body`.
    pub async fn echo() -> Self {
        Self::start(Options::default(), echo).await
    }

    pub async fn connect(&self) -> Raw {
        Raw(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends `bytes` on a connection of their own and reads until the gateway closes it.
    pub async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut raw = self.connect().await;
        raw.send(bytes).await;
        raw.remainder().await
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        within(self.running).await.unwrap();
    }
}

/// Answers `method uri body`.
pub async fn echo(invocation: Invocation) -> Result {
    let line = format!("{} {} ", invocation.method, invocation.uri);
    match invocation.body.collect(16 << 20).await {
        Ok(body) => Ok(outcome(Answer::new(
            StatusCode::OK,
            HeaderMap::new(),
            Body::full([line.as_bytes(), &body].concat()),
        ))),
        Err(error) => Err(fault(alula_model::ErrorCode::InvalidRequest, &error.to_string())),
    }
}

pub fn fault(code: alula_model::ErrorCode, message: &str) -> Failure {
    Failure { fault: alula_model::Fault::new(code, message), key: None, retry_after_ms: None }
}

pub fn outcome(answer: Answer) -> Outcome {
    let key = VersionKey {
        namespace: Name::default_namespace(),
        function: Name::new("hello").unwrap(),
        version: 7,
    };
    let phases = Phases { queue_us: 12, run_us: 1_500, total_us: 1_600, ..Phases::default() };
    Outcome {
        answer,
        served: Served {
            key,
            instance: Some(InstanceId::new("i-1")),
            tier: Tier::Warm,
            phases,
            degraded: None,
        },
    }
}

pub fn text(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Outcome {
    let headers =
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    outcome(Answer::new(StatusCode::from_u16(status).unwrap(), headers, Body::full(body)))
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Waits until `holds`, by looking again and again.
pub async fn until(holds: impl Fn() -> bool) {
    within(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A raw connection.
pub struct Raw(pub TcpStream);

impl Raw {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until the gateway closes the connection, politely or not.
    pub async fn remainder(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count) = within(self.0.read(&mut buffer)).await {
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads until what was read contains `end`.
    pub async fn through(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            bytes.push(within(self.0.read_u8()).await.expect("the connection ended early"));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads one response with a `Content-Length`, or without a body.
    pub async fn response(&mut self) -> Reply {
        let head = self.through("\r\n\r\n").await;
        let mut reply = Reply::parse(&head);
        let length = reply.headers.get("content-length").map_or(0, |value| value.parse().unwrap());
        let mut body = vec![0; length];
        within(self.0.read_exact(&mut body)).await.unwrap();
        reply.body = String::from_utf8(body).unwrap();
        reply
    }
}

/// A response that was read from a raw connection.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Reply {
    pub fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a response");
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { status, headers: lines.filter_map(header).collect(), body: body.to_owned() }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: alula.test\r\n\r\n")
}

/// The same with `Connection: close`.
pub fn get_once(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: alula.test\r\nConnection: close\r\n\r\n")
}

/// A request with a body and more header lines, each ended by CR LF, on a connection of its own.
pub fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: alula.test\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}
