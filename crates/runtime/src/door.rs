//! The door: how functions call the platform from inside their sandboxes.
//!
//! ```text
//! guest -> 127.0.0.1:3129 in its cell -> Door -> Visits -> whoever answers (the gateway)
//!                                          \-- Visitors: who may be at the other end, and which calls run there
//! ```
//!
//! The platform listens inside a cell and answers there itself, so what a guest sends is read once, by the platform, and
//! no address of the host is reachable. Who calls is known from the cell that a connection came out of and from the
//! calls that run in it, never from what the guest says: that may only choose among the calls that run there.
//!
//! A guest without a cell (an engine inside the platform) enters with a stream in memory. Deliberately absent: what is
//! said over a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{InstanceId, InvocationId, Name};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::{Call, Duplex, LINEAGE_HEADER, VersionPlan, Waiters};

/// Where the platform is on `127.0.0.1` inside a cell: the port beside the egress proxy's.
pub const DOOR_PORT: u16 = 3129;
/// The same as a function is told it, in `ALULA_FUNCTIONS_URL`.
pub const DOOR_URL: &str = "http://127.0.0.1:3129";
/// The name under which functions of OpenFaaS know their gateway; in `/etc/hosts` of every cell.
pub const GATEWAY_HOST: &str = "gateway";
/// The port of that gateway.
pub const GATEWAY_PORT: u16 = 8080;
/// Names the instance that calls where several share a way out. Set by the platform's own code inside a cell; it can
/// only choose among the instances there.
pub const INSTANCE_HEADER: HeaderName = HeaderName::from_static("x-alula-instance");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Connections of one cell at once, waiting ones included: what a client library's pool opens at most, and some.
pub const CONNECTIONS_MAX: usize = 64;
/// Connections of all cells that are accepted and not yet answered by anybody.
const VISITS_MAX: usize = 256;
/// After a failure to accept: descriptors or memory are short, and others need the time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections of guests go in. Cheap to clone; the default is closed, and nobody listens.
#[derive(Debug, Clone, Default)]
pub struct Door(Option<mpsc::Sender<Visit>>);

/// Where they come out.
#[derive(Debug)]
pub struct Visits(mpsc::Receiver<Visit>);

/// A connection that a guest has opened.
pub struct Visit {
    /// What it says, and where it is answered.
    pub connection: Box<dyn Duplex>,
    /// Who may be at its other end.
    pub visitors: Arc<Visitors>,
    /// Its place among those of its cell, to be dropped when it has ended.
    pub place: Option<OwnedSemaphorePermit>,
}

/// The listeners of one cell, which take in connections until this is dropped.
#[derive(Debug)]
pub struct OpenDoor(#[expect(dead_code, reason = "it is held for what its end does")] AbortOnDropHandle<()>);

/// Makes a door.
#[must_use]
pub fn door() -> (Door, Visits) {
    let (visits, received) = mpsc::channel(VISITS_MAX);
    (Door(Some(visits)), Visits(received))
}

impl Door {
    /// Whether there is anybody behind it.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Takes a connection in. False where nobody answers any more.
    pub async fn enter(&self, visit: Visit) -> bool {
        match &self.0 {
            Some(visits) => visits.send(visit).await.is_ok(),
            None => false,
        }
    }

    /// Takes in what comes to `listeners`, which belong to one cell.
    #[must_use]
    pub fn serve(&self, listeners: Vec<TcpListener>, visitors: &Arc<Visitors>) -> OpenDoor {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let accept = |listener| self.clone().accept(listener, Arc::clone(&places), Arc::clone(visitors));
        let serving: Vec<_> = listeners.into_iter().map(accept).collect();
        OpenDoor(AbortOnDropHandle::new(tokio::spawn(async move {
            futures_util::future::join_all(serving).await;
        })))
    }

    async fn accept(self, listener: TcpListener, places: Arc<Semaphore>, visitors: Arc<Visitors>) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Those that are too many wait; the kernel holds back what comes beyond.
                    let place = Arc::clone(&places).acquire_owned().await.ok();
                    // Answers are written whole; waiting for more to send only delays them.
                    let _ = stream.set_nodelay(true);
                    let (connection, visitors) = (Box::new(stream), Arc::clone(&visitors));
                    if !self.enter(Visit { connection, visitors, place }).await {
                        return;
                    }
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

impl Visits {
    /// The next connection; `None` when there is no door any more.
    pub async fn next(&mut self) -> Option<Visit> {
        self.0.recv().await
    }
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visit").field("visitors", &self.visitors).finish_non_exhaustive()
    }
}

/// A call that runs in an instance, as far as what it calls has to know it.
#[derive(Debug, Clone)]
pub struct RunningCall {
    /// Which.
    pub id: InvocationId,
    /// The signed lineage of what it leads to.
    pub lineage: Option<HeaderValue>,
    /// The trace that it belongs to.
    pub traceparent: Option<HeaderValue>,
    /// Who waits for it.
    pub waiters: Waiters,
}

impl RunningCall {
    /// What is kept of `call` while it runs.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        Self {
            id: call.id.clone(),
            lineage: call.headers.get(LINEAGE_HEADER).cloned(),
            traceparent: call.headers.get(TRACEPARENT).cloned(),
            waiters: call.waiters.clone(),
        }
    }

    /// Whether a request with these headers says that it was made by this call.
    fn is_named_by(&self, headers: &HeaderMap) -> bool {
        let lineage = headers.get(LINEAGE_HEADER);
        let trace = headers.get(TRACEPARENT).and_then(trace_id);
        (lineage.is_some() && lineage == self.lineage.as_ref())
            || (trace.is_some() && trace == self.traceparent.as_ref().and_then(trace_id))
    }
}

/// The second field of a `traceparent` (W3C Trace Context): the same for all that belongs to one trace.
fn trace_id(traceparent: &HeaderValue) -> Option<&[u8]> {
    traceparent.as_bytes().split(|byte| *byte == b'-').nth(1)
}

/// An instance, as one that calls.
#[derive(Debug)]
pub struct Caller {
    plan: Arc<VersionPlan>,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    /// In the order in which they began.
    running: Vec<RunningCall>,
    /// The one that ended last, for what code does after its call.
    last: Option<RunningCall>,
}

impl Caller {
    /// An instance of `plan` in which nothing runs yet.
    #[must_use]
    pub fn new(plan: Arc<VersionPlan>) -> Self {
        Self { plan, calls: Mutex::default() }
    }

    /// A call begins.
    pub fn begin(&self, call: RunningCall) {
        self.calls().running.push(call);
    }

    /// A call has ended.
    pub fn end(&self, id: &InvocationId) {
        let mut calls = self.calls();
        if let Some(at) = calls.running.iter().position(|call| call.id == *id) {
            // Nobody waits for what code does after its call.
            let ended = calls.running.remove(at);
            calls.last = Some(RunningCall { waiters: Waiters::default(), ..ended });
        }
    }

    /// The calls one of which a request comes from: those that it names, else all that run, else the last that ran. The
    /// functions that wait for them are those that wait for what they call.
    fn calls_behind(&self, headers: &HeaderMap) -> Vec<RunningCall> {
        let calls = self.calls();
        let named: Vec<_> = match calls.running[..] {
            [_, _, ..] => calls.running.iter().filter(|call| call.is_named_by(headers)).collect(),
            _ => Vec::new(),
        };
        let found = if named.is_empty() { calls.running.iter().collect() } else { named };
        if found.is_empty() {
            return calls.last.iter().cloned().collect();
        }
        let key = &self.plan.key;
        let own =
            |call: &RunningCall| RunningCall { waiters: call.waiters.with(key.clone()), ..call.clone() };
        found.into_iter().map(own).collect()
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The instances that share a way to the door: one, or those of a namespace in one process.
#[derive(Debug)]
pub struct Visitors {
    namespace: Name,
    callers: Mutex<HashMap<InstanceId, Arc<Caller>>>,
}

/// Who made a request.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The versions that it may have been.
    pub plans: Vec<Arc<VersionPlan>>,
    /// The calls one of which it was. Empty where no call has run there yet: while code is loaded.
    pub calls: Vec<RunningCall>,
}

impl Visitors {
    /// Nobody yet, of `namespace`.
    #[must_use]
    pub fn new(namespace: Name) -> Self {
        Self { namespace, callers: Mutex::default() }
    }

    /// One instance.
    #[must_use]
    pub fn one(id: &InstanceId, caller: Arc<Caller>) -> Self {
        let visitors = Self::new(caller.plan.key.namespace.clone());
        visitors.admit(id, caller);
        visitors
    }

    /// The namespace of all of them.
    #[must_use]
    pub const fn namespace(&self) -> &Name {
        &self.namespace
    }

    /// One more.
    pub fn admit(&self, id: &InstanceId, caller: Arc<Caller>) {
        self.callers().insert(id.clone(), caller);
    }

    /// One less.
    pub fn dismiss(&self, id: &InstanceId) {
        self.callers().remove(id);
    }

    /// Who made a request with these headers.
    #[must_use]
    pub fn origin(&self, headers: &HeaderMap) -> Origin {
        let callers = self.callers();
        let named = headers.get(INSTANCE_HEADER).and_then(|name| name.to_str().ok());
        let named = named.and_then(|name| callers.get(&InstanceId::new(name)));
        let callers: Vec<&Arc<Caller>> = named.map_or_else(|| callers.values().collect(), |one| vec![one]);
        Origin {
            plans: callers.iter().map(|caller| Arc::clone(&caller.plan)).collect(),
            calls: callers.iter().flat_map(|caller| caller.calls_behind(headers)).collect(),
        }
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<InstanceId, Arc<Caller>>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    fn caller() -> Arc<Caller> {
        Arc::new(Caller::new(crate::conformance::plan("exec", |_| {})))
    }

    fn call(id: &str) -> RunningCall {
        RunningCall {
            id: InvocationId::new(id).unwrap(),
            lineage: HeaderValue::from_str(&format!("lineage-of-{id}")).ok(),
            traceparent: HeaderValue::from_str(&format!("00-trace{id}-span-01")).ok(),
            waiters: Waiters::default(),
        }
    }

    fn behind(visitors: &Visitors, headers: &[(&'static str, &'static str)]) -> Vec<String> {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let origin = visitors.origin(&headers.iter().map(pair).collect());
        let mut ids: Vec<_> = origin.calls.iter().map(|call| call.id.as_str().to_owned()).collect();
        ids.sort();
        ids
    }

    #[test]
    fn one_call_at_a_time_needs_no_name_and_no_name_changes_which_it_is() {
        let caller = caller();
        let visitors = Visitors::one(&InstanceId::new("i"), Arc::clone(&caller));
        assert!(behind(&visitors, &[]).is_empty(), "its code is being loaded");
        for id in ["1", "2"] {
            caller.begin(call(id));
            assert_eq!(behind(&visitors, &[]), [id]);
            assert_eq!(behind(&visitors, &[("x-alula-lineage", "lineage-of-9")]), [id]);
            assert_eq!(behind(&visitors, &[("x-alula-instance", "another")]), [id]);
            caller.end(&InvocationId::new(id).unwrap());
            assert_eq!(behind(&visitors, &[]), [id], "what goes on after a call belongs to it");
        }
    }

    #[test]
    fn what_a_call_calls_is_waited_for_until_it_ends() {
        let caller = caller();
        let key = caller.plan.key.clone();
        let visitors = Visitors::one(&InstanceId::new("i"), Arc::clone(&caller));
        let waiting = || visitors.origin(&HeaderMap::new()).calls[0].waiters.of(&key);
        let waiters = Waiters::default().with(key.clone());
        caller.begin(RunningCall { waiters, ..call("1") });
        assert_eq!(waiting(), 2);
        caller.end(&InvocationId::new("1").unwrap());
        assert_eq!(waiting(), 0);
    }

    #[test]
    fn of_several_calls_a_request_names_its_own_or_may_be_from_any() {
        let caller = caller();
        let visitors = Visitors::one(&InstanceId::new("i"), Arc::clone(&caller));
        ["1", "2", "3"].into_iter().for_each(|id| caller.begin(call(id)));
        assert_eq!(behind(&visitors, &[]), ["1", "2", "3"]);
        assert_eq!(behind(&visitors, &[("x-alula-lineage", "lineage-of-2")]), ["2"]);
        assert_eq!(behind(&visitors, &[("traceparent", "00-trace3-other-00")]), ["3"]);
        assert_eq!(behind(&visitors, &[("traceparent", "00-unknown-span-01")]), ["1", "2", "3"]);
        assert_eq!(behind(&visitors, &[("traceparent", "rubbish")]), ["1", "2", "3"]);
    }

    #[test]
    fn of_several_instances_the_named_one_or_any() {
        let visitors = Visitors::new(Name::default_namespace());
        for id in ["1", "2"] {
            let caller = caller();
            caller.begin(call(id));
            visitors.admit(&InstanceId::new(id), caller);
        }
        assert_eq!(behind(&visitors, &[("x-alula-instance", "2")]), ["2"]);
        assert_eq!(behind(&visitors, &[("x-alula-instance", "3")]), ["1", "2"]);
        visitors.dismiss(&InstanceId::new("1"));
        assert_eq!(behind(&visitors, &[]), ["2"]);
    }

    #[tokio::test]
    async fn what_comes_to_a_listener_comes_out_and_no_cell_has_more_than_its_places() {
        let (door, mut visits) = door();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let visitors = Arc::new(Visitors::one(&InstanceId::new("i"), caller()));
        let serving = door.serve(vec![listener], &visitors);
        let mut clients = Vec::new();
        for _ in 0..=CONNECTIONS_MAX {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        clients[0].write_all(b"hello").await.unwrap();
        let mut taken = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            taken.push(visits.next().await.unwrap());
        }
        let mut said = [0; 5];
        taken[0].connection.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
        assert!(visits.0.try_recv().is_err(), "one waits");
        drop(taken.pop());
        assert!(visits.next().await.is_some());
        drop(serving);
        assert!(!Door::default().is_open());
    }
}
