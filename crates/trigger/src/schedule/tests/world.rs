//! What tests of schedules work with: what is deployed, who takes calls, and time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula_model::{Clock, ErrorCode, Fault, InvocationId, Name, Timestamp, VersionKey};
use alula_pool::{Pool, PoolOptions};
use alula_runtime::VersionPlan;
use alula_runtime::fake::FakeBackend;
use alula_store::{
    Batch, BoxFuture as StoreFuture, Committed, Key, MemoryStore, MessageId, NewMessage, Record, Records,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::schedule::{Accept, Declared, Deployed, Handle, Options, Parts, Service, SlotCall, Unobserved};
use crate::{BoxFuture, Prepared, TriggerKey};

/// Where tests begin: 2026-01-01T00:00:00Z.
pub(super) const BEGIN: Timestamp = Timestamp(1_767_225_600_000);

/// Goes with the runtime's clock, and jumps where a test says so.
#[derive(Debug)]
pub(super) struct TestClock {
    began: Instant,
    jumped_ms: AtomicI64,
}

impl TestClock {
    pub(super) fn jump(&self, millis: i64) {
        self.jumped_ms.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let passed = self.began.elapsed().as_millis() as i64;
        BEGIN.plus_millis(passed + self.jumped_ms.load(Ordering::Relaxed))
    }
}

/// What is deployed.
#[derive(Debug)]
pub(super) struct Functions {
    declared: Mutex<Vec<Declared>>,
    changed: watch::Sender<u64>,
}

impl Deployed for Functions {
    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn schedules(&self) -> Vec<Declared> {
        self.declared.lock().unwrap().clone()
    }
}

/// Takes calls and remembers them.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) calls: Mutex<Vec<SlotCall>>,
    pub(super) ended: Mutex<HashSet<InvocationId>>,
    pub(super) cancelled: Mutex<Vec<InvocationId>>,
    /// What the next call is refused with.
    pub(super) refusal: Mutex<Option<Fault>>,
}

impl Accept for Arc<Taken> {
    fn prepare(&self, call: SlotCall) -> BoxFuture<'_, Result<Prepared, Fault>> {
        Box::pin(async move {
            if let Some(fault) = self.refusal.lock().unwrap().take() {
                return Err(fault);
            }
            let message = NewMessage {
                id: MessageId(call.id.to_string()),
                lane: "lane".to_owned(),
                ordering_key: None,
                enqueued_at: call.available_at,
                available_at: call.available_at,
                body: call.event.clone(),
            };
            let taken = Arc::clone(self);
            let committed = Box::new(move || taken.calls.lock().unwrap().push(call));
            Ok(Prepared { batch: Batch::default().enqueue(message), committed })
        })
    }

    fn is_open<'a>(&'a self, id: &'a InvocationId) -> BoxFuture<'a, Result<bool, Fault>> {
        let is_open = !self.ended.lock().unwrap().contains(id);
        Box::pin(async move { Ok(is_open) })
    }

    fn cancel<'a>(&'a self, id: &'a InvocationId) -> BoxFuture<'a, Result<(), Fault>> {
        self.ended.lock().unwrap().insert(id.clone());
        self.cancelled.lock().unwrap().push(id.clone());
        Box::pin(async { Ok(()) })
    }
}

/// What becomes of the next commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Commits {
    /// They succeed.
    #[default]
    Work,
    /// They change nothing.
    Fail,
    /// They happen, but the answer is lost.
    LoseAnswer,
}

/// A store whose commits take their time and may fail.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    pub(super) inner: MemoryStore,
    pub(super) commits: Arc<Mutex<Commits>>,
}

impl Records for Store {
    fn get(&self, key: &Key) -> StoreFuture<'_, alula_store::Result<Option<Record>>> {
        self.inner.get(key)
    }

    fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        limit: usize,
    ) -> StoreFuture<'_, alula_store::Result<Vec<Record>>> {
        self.inner.scan(prefix, after, limit)
    }

    fn expire(&self, now: Timestamp, limit: usize) -> StoreFuture<'_, alula_store::Result<u64>> {
        self.inner.expire(now, limit)
    }

    fn commit(&self, batch: Batch) -> StoreFuture<'_, alula_store::Result<Committed>> {
        let lost = || alula_store::Error::Unavailable { detail: "gone".to_owned() };
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let commits = *self.commits.lock().unwrap();
            if commits == Commits::Fail {
                return Err(lost());
            }
            let committed = self.inner.commit(batch).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            if commits == Commits::LoseAnswer { Err(lost()) } else { committed }
        })
    }
}

pub(super) struct World {
    pub(super) clock: Arc<TestClock>,
    pub(super) store: Store,
    pub(super) functions: Arc<Functions>,
    pub(super) taken: Arc<Taken>,
    pub(super) backend: FakeBackend,
    pub(super) pool: Pool,
    version: AtomicI64,
}

/// One running service.
pub(super) struct Replica {
    pub(super) handle: Handle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    /// Stops it in order.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Ends it wherever it is.
    pub(super) async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

impl World {
    pub(super) fn new() -> Self {
        let backend = FakeBackend::default();
        Self {
            clock: Arc::new(TestClock { began: Instant::now(), jumped_ms: AtomicI64::new(500) }),
            store: Store::default(),
            functions: Arc::new(Functions { declared: Mutex::default(), changed: watch::channel(0).0 }),
            taken: Arc::default(),
            pool: Pool::new(PoolOptions::default(), Arc::new(backend.clone()), "t".to_owned()),
            backend,
            version: AtomicI64::new(0),
        }
    }

    /// Starts a service over the store.
    pub(super) fn start(&self) -> Replica {
        let parts = Parts {
            deployed: Arc::clone(&self.functions) as Arc<dyn Deployed>,
            records: Arc::new(self.store.clone()),
            accept: Arc::new(Arc::clone(&self.taken)),
            pool: self.pool.clone(),
            observe: Arc::new(Unobserved),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
        };
        let (service, handle) = Service::new(Options::default(), parts);
        let stop = CancellationToken::new();
        let task = tokio::spawn(service.run(stop.clone()));
        Replica { handle, stop, task }
    }

    /// Publishes the function `job` with these triggers, beside other functions.
    pub(super) fn publish(&self, triggers: Value) {
        self.publish_as("job", triggers);
    }

    pub(super) fn publish_as(&self, function: &str, triggers: Value) {
        let version = self.version.fetch_add(1, Ordering::Relaxed) as u64 + 1;
        let (namespace, function) = (Name::default_namespace(), Name::new(function).unwrap());
        let key = VersionKey { namespace, function: function.clone(), version };
        let spec = serde_json::from_value(json!({ "runtime": "exec", "triggers": triggers })).unwrap();
        let plan = Arc::new(VersionPlan::new(key, spec, "/nowhere".into()));
        let now = self.clock.now();
        let places = 0..plan.spec.triggers.len();
        let stated = places.filter_map(|place| Declared::new(&plan, place, Some(Arc::clone(&plan)), now));
        let mut declared = self.functions.declared.lock().unwrap();
        declared.retain(|declared| declared.key.function != function);
        declared.extend(stated);
        drop(declared);
        self.functions.changed.send_modify(|changes| *changes += 1);
    }

    /// The slots that became calls, in seconds since the beginning, in the order of admission.
    pub(super) fn slots(&self) -> Vec<i64> {
        let calls = self.taken.calls.lock().unwrap();
        calls.iter().map(|call| (call.available_at.0 - BEGIN.0) / 1_000).collect()
    }

    /// Ends every call that was taken so far.
    pub(super) fn end_calls(&self) {
        let calls = self.taken.calls.lock().unwrap();
        self.taken.ended.lock().unwrap().extend(calls.iter().map(|call| call.id.clone()));
    }

    /// Messages in the queue: what really was accepted.
    pub(super) async fn messages(&self) -> u64 {
        use alula_store::QueueCounts as _;
        self.store.inner.totals(Timestamp(i64::MAX)).await.unwrap().accepted
    }
}

/// Lets so many seconds pass, and the one after them begin: the clock begins half a second after the full one.
pub(super) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds + 1)).await;
}

pub(super) fn key(trigger: &str) -> TriggerKey {
    let name = |text| Name::new(text).unwrap();
    TriggerKey { namespace: Name::default_namespace(), function: name("job"), trigger: name(trigger) }
}

pub(super) fn passing_fault() -> Fault {
    Fault::new(ErrorCode::StoreUnavailable, "gone for a moment")
}
