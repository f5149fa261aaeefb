//! A loaded component, and the calls that its guests run.
//!
//! For the pool an instance is a loaded component: its code is mapped and its imports are resolved. Each call gets a
//! guest of its own, made for it and gone after it, so nothing that one call leaves in memory is there for the next.
//! A version may ask for guests that run several calls, one after another.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alula_model::{Fault, FunctionSpec, InstanceId, InvocationId, LogLevel};
use alula_runtime::{
    Answer, BodyError, BoxFuture, Call, Door, Egress, Instance, Output, StopGrace, Usage, VersionPlan,
};
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::{Error as WasiError, WasiHttpView};

use crate::crew::Crew;
use crate::engine::{Ticker, Ticking};
use crate::exchange::{Exchange, Head};
use crate::fault::{self, Ending};
use crate::guest::{self, Guest};
use crate::outgoing::REQUESTS_MAX;

const INVOCATION_ID: HeaderName = HeaderName::from_static("x-alula-invocation-id");
const DEADLINE_MS: HeaderName = HeaderName::from_static("x-alula-deadline-ms");

/// A component that is ready to be called, and what its guests have in common.
pub(crate) struct Loaded {
    pub(crate) plan: Arc<VersionPlan>,
    pub(crate) pre: ProxyPre<Guest>,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) env: Arc<[(String, String)]>,
    pub(crate) output: Arc<Output>,
    pub(crate) egress: Arc<dyn Egress>,
    pub(crate) door: Door,
    /// Places for outgoing requests.
    pub(crate) outgoing: Arc<Semaphore>,
    pub(crate) memory_bytes: Arc<AtomicU64>,
    pub(crate) cpu_ns: AtomicU64,
    /// Ends every guest.
    pub(crate) stopped: CancellationToken,
    calls: TaskTracker,
    /// Guests that wait for another call; at most as many as there were calls at once.
    kept: Mutex<Vec<Warm>>,
}

impl Loaded {
    pub(crate) fn new(
        plan: Arc<VersionPlan>,
        pre: ProxyPre<Guest>,
        ticker: Arc<Ticker>,
        env: BTreeMap<String, String>,
        output: Output,
        egress: Arc<dyn Egress>,
        door: Door,
    ) -> Self {
        Self {
            plan,
            pre,
            ticker,
            env: env.into_iter().collect(),
            output: Arc::new(output),
            egress,
            door,
            outgoing: Arc::new(Semaphore::new(REQUESTS_MAX)),
            memory_bytes: Arc::default(),
            cpu_ns: AtomicU64::new(0),
            stopped: CancellationToken::new(),
            calls: TaskTracker::new(),
            kept: Mutex::default(),
        }
    }

    /// Keeps a guest for another call.
    pub(crate) fn keep(&self, guest: Warm) {
        guest.store.data().log.finish();
        if !self.stopped.is_cancelled() {
            self.kept().push(guest);
        }
    }

    /// Says something about this instance in the log, in the platform's name.
    pub(crate) fn tell(&self, text: &str) {
        self.output.platform(LogLevel::Error, text.to_owned());
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Warm>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, call: InvocationId) -> Running {
        Running { call, _ticking: self.ticker.running(), _counted: self.calls.token() }
    }
}

/// A call that runs; it is counted until this is dropped.
pub(crate) struct Running {
    call: InvocationId,
    _ticking: Ticking,
    _counted: TaskTrackerToken,
}

impl Running {
    /// Which.
    pub(crate) fn call(&self) -> &InvocationId {
        &self.call
    }
}

/// A guest with its state.
pub(crate) struct Warm {
    store: Store<Guest>,
    /// `None` before its first call.
    proxy: Option<Proxy>,
    calls: u32,
}

impl Warm {
    pub(crate) fn may_run_another(&self, spec: &FunctionSpec) -> bool {
        self.calls < spec.calls_per_guest
    }

    pub(crate) fn was_refused_memory(&self) -> bool {
        self.store.data().memory.was_refused
    }

    async fn handle(
        mut self,
        pre: ProxyPre<Guest>,
        request: Resource<HostIncomingRequest>,
        answer: Resource<HostResponseOutparam>,
    ) -> Ended {
        let result = self.try_handle(&pre, request, answer).await;
        Ended { result, guest: self }
    }

    async fn try_handle(
        &mut self,
        pre: &ProxyPre<Guest>,
        request: Resource<HostIncomingRequest>,
        answer: Resource<HostResponseOutparam>,
    ) -> wasmtime::Result<()> {
        let proxy = match &mut self.proxy {
            Some(proxy) => proxy,
            none => none.insert(pre.instantiate_async(&mut self.store).await?),
        };
        self.calls += 1;
        proxy.wasi_http_incoming_handler().call_handle(&mut self.store, request, answer).await
    }
}

/// A guest whose call is over.
pub(crate) struct Ended {
    pub(crate) result: wasmtime::Result<()>,
    pub(crate) guest: Warm,
}

/// An instance of the back end.
pub(crate) struct WasmInstance {
    pub(crate) id: InstanceId,
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) crew: Arc<Crew<Called>>,
}

/// How a call ends.
pub(crate) type Called = Result<Answer, Fault>;

impl Loaded {
    async fn run(self: Arc<Self>, call: Call) -> Called {
        let loaded = &self;
        if loaded.stopped.is_cancelled() {
            return Err(fault::of(&Ending::Stopped, loaded, &call.id));
        }
        let (running, deadline, method) = (loaded.begin(call.id.clone()), call.deadline, call.method.clone());
        let mut guest = loaded.kept().pop().unwrap_or_else(|| Warm {
            store: guest::store(loaded, deadline),
            proxy: None,
            calls: 0,
        });
        let (tell, told) = oneshot::channel::<Head>();
        let state = guest.store.data_mut();
        state.deadline = deadline;
        state.log.begin(call.id.clone());
        state.outgoing.begin(&call);
        let started = call.events.started.clone();
        let host = &loaded.plan.key.function;
        let request = state.http().new_incoming_request(Scheme::Http, request(call, host.as_str()));
        let answer = state.http().new_response_outparam(tell);
        let (request, answer) = match (request, answer) {
            (Ok(request), Ok(answer)) => (request, answer),
            (Err(error), _) | (_, Err(error)) => {
                let ending = Ending::of(&error, false, deadline);
                return Err(fault::of(&ending, loaded, running.call()));
            }
        };
        if let Some(started) = started {
            started.store(true, Ordering::Relaxed);
        }
        let handled = guest.handle(loaded.pre.clone(), request, answer);
        Exchange::new(loaded, running, handled, deadline).answer(told, method).await
    }
}

type GuestRequest = Request<http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, WasiError>>;

/// The request that the guest gets.
fn request(call: Call, host: &str) -> GuestRequest {
    let Call { id, method, target, mut headers, body, deadline_at, .. } = call;
    if headers.get(header::HOST).is_none_or(|host| host.to_str().is_err())
        && let Ok(host) = HeaderValue::from_str(host)
    {
        headers.insert(header::HOST, host);
    }
    headers.insert(DEADLINE_MS, deadline_at.as_millis().into());
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert(INVOCATION_ID, id);
    }
    let body = body.map_err(|error| match error {
        BodyError::TooLarge { limit_bytes } => WasiError::HttpRequestBodySize(Some(limit_bytes)),
        BodyError::TimedOut => WasiError::ConnectionReadTimeout,
        BodyError::Malformed { .. } => WasiError::HttpProtocolError,
        BodyError::Disconnected => WasiError::ConnectionTerminated,
    });
    let mut request = Request::new(body.boxed_unsync());
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.headers_mut() = headers;
    request
}

impl Instance for WasmInstance {
    fn id(&self) -> &InstanceId {
        &self.id
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(self.crew.run(Arc::clone(&self.loaded).run(call)))
    }

    fn usage(&self) -> Usage {
        Usage {
            memory_bytes: self.loaded.memory_bytes.load(Ordering::Relaxed),
            cpu_us: self.loaded.cpu_ns.load(Ordering::Relaxed) / 1_000,
        }
    }

    fn is_gone(&self) -> bool {
        self.loaded.stopped.is_cancelled()
    }

    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.loaded.stopped.cancelled())
    }

    fn stop(&self, grace: StopGrace) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.loaded.calls.close();
            let _ = tokio::time::timeout(grace.0, self.loaded.calls.wait()).await;
            self.loaded.stopped.cancel();
            self.loaded.kept().clear();
        })
    }
}

impl fmt::Debug for WasmInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmInstance").field("id", &self.id).finish_non_exhaustive()
    }
}
