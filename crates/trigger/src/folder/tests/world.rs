//! What tests of folders work with: a folder, a store that outlives the watch, and the calls that were made.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula_model::trigger::FolderSource;
use alula_model::{Clock, Fault, FunctionRef, Name, Qualifier, Timestamp};
use alula_store::{Batch, MemoryStore, MessageId, NewMessage, Queue as _};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::seen::Memory;
use super::super::service::Problems;
use super::super::watch::Watch;
use super::super::{Allowed, Deliver, Observe};
use crate::{BoxFuture, Prepared, TriggerKey};

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// The time that files are stamped with, and what a test lets pass besides: the runtime's time, and jumps.
#[derive(Debug)]
pub(super) struct TestClock {
    began: Instant,
    ahead_ms: AtomicI64,
}

impl TestClock {
    pub(super) fn jump(&self, millis: i64) {
        self.ahead_ms.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the kernel stamps files with the real time")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let passed = now + self.began.elapsed();
        Timestamp(passed.as_millis() as i64 + self.ahead_ms.load(Ordering::Relaxed))
    }
}

/// Makes messages of events.
#[derive(Debug, Default)]
pub(super) struct Calls {
    number: AtomicU64,
    committed: Notify,
    /// What calls are refused with.
    pub(super) refusal: Mutex<Option<Fault>>,
}

impl Deliver for Arc<Calls> {
    fn prepare(&self, _target: FunctionRef, event: Bytes) -> BoxFuture<'_, Result<Prepared, Fault>> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let message = NewMessage {
            id: MessageId(format!("{number:08}")),
            lane: "lane".to_owned(),
            ordering_key: None,
            enqueued_at: Timestamp(0),
            available_at: Timestamp(0),
            body: event,
        };
        let refusal = self.refusal.lock().unwrap().clone();
        let calls = Arc::clone(self);
        Box::pin(async move {
            match refusal {
                Some(fault) => Err(fault),
                None => Ok(Prepared {
                    batch: Batch::default().enqueue(message),
                    committed: Box::new(move || calls.committed.notify_waiters()),
                }),
            }
        })
    }
}

#[derive(Debug)]
struct Unobserved;

impl Observe for Unobserved {}

pub(super) struct World {
    root: tempfile::TempDir,
    pub(super) clock: Arc<TestClock>,
    pub(super) store: MemoryStore,
    pub(super) calls: Arc<Calls>,
    pub(super) problems: Problems,
    since: Timestamp,
}

/// A watch that runs.
pub(super) struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Ends it in order.
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
    /// With an empty folder, and a trigger that comes into force now.
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("in")).unwrap();
        let clock = Arc::new(TestClock { began: Instant::now(), ahead_ms: AtomicI64::new(0) });
        let since = clock.now();
        Self {
            root,
            clock,
            store: MemoryStore::new(),
            calls: Arc::default(),
            problems: Problems::default(),
            since,
        }
    }

    /// The trigger comes into force now, after everything that lies there, by the times of files too.
    pub(super) async fn deployed_later(mut self) -> Self {
        let last = self.clock.now();
        self.since = last.plus_millis(2 * super::super::FILE_CLOCK_LAG_MS);
        while self.clock.now() <= self.since {
            tokio::task::yield_now().await;
        }
        self
    }

    /// A path outside the watched folder.
    pub(super) fn outside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.outside("in")
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder().join(name)
    }

    pub(super) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Watches the folder for everything.
    pub(super) fn start(&self) -> Running {
        self.start_with(serde_json::json!({}))
    }

    /// The same, with other settings.
    pub(super) fn start_with(&self, settings: Value) -> Running {
        let mut source = serde_json::json!({"path": self.folder(), "on": ["put", "delete"]});
        source.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let source: FolderSource = serde_json::from_value(source).unwrap();
        let stop = CancellationToken::new();
        let watch = Watch {
            memory: Memory { records: Arc::new(self.store.clone()), trigger: key() },
            target: FunctionRef {
                namespace: key().namespace,
                name: key().function,
                qualifier: Qualifier::Latest,
            },
            source,
            since: self.since,
            allowed: Allowed::new(&[self.root.path().to_owned()]),
            deliver: Arc::new(Arc::clone(&self.calls)),
            observe: Arc::new(Unobserved),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            problems: self.problems.clone(),
        };
        Running { task: tokio::spawn(watch.run(stop.clone())), stop }
    }

    /// The first `count` calls, each as `put NAME SIZE` or `delete NAME`, in the order of their names.
    pub(super) async fn called(&self, count: usize) -> Vec<String> {
        let arrived = async {
            loop {
                let committed = self.calls.committed.notified();
                let events = self.events().await;
                if events.len() >= count {
                    return events;
                }
                committed.await;
            }
        };
        let Ok(events) = tokio::time::timeout(PATIENCE, arrived).await else {
            panic!("only {:?}; {:?}", self.events().await, self.problem());
        };
        let mut said: Vec<String> = events.iter().map(told).collect();
        said.sort();
        said
    }

    /// The events of all calls so far.
    pub(super) async fn events(&self) -> Vec<Value> {
        // A lease that is over at once takes nothing away.
        let claims = self.store.claim("lane", 1_000, Timestamp(1), 0).await.unwrap().claims;
        claims.iter().map(|claim| serde_json::from_slice(&claim.body).unwrap()).collect()
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.problems.all().get(&key()).cloned()
    }

    /// Waits until a whole look at the folder has come to its end: one at the beginning of a watch, then another.
    pub(super) async fn looked(&self) {
        // Time stands still while anything is being done, so that when so much has passed, so many looks are over.
        tokio::time::sleep(2 * super::super::LOOK_AGAIN).await;
    }
}

fn told(event: &Value) -> String {
    let record = &event["Records"][0];
    let name = record["file"]["name"].as_str().unwrap();
    match record["eventName"].as_str().unwrap() {
        "FileCreated" => format!("put {name} {}", record["file"]["size"]),
        "FileRemoved" => format!("delete {name}"),
        other => panic!("{other}"),
    }
}

pub(super) fn key() -> TriggerKey {
    let name = |text| Name::new(text).unwrap();
    TriggerKey { namespace: Name::default_namespace(), function: name("job"), trigger: name("in") }
}
