//! A platform in memory: functions of the fake back end that note what they are handed, a worker, topics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula_control::{CheckTriggers, Control, DryRun, Overrides, Upload};
use alula_invoke::cloudevents::CloudEvent;
use alula_invoke::later::{
    Acceptor, AcceptorParts, BoxFuture, Calls, Courier, CourierError, Delivery, Unobserved, WorkerParts,
};
use alula_invoke::{Invoker, LINEAGE_HEADER, LineageSeal, OpenRun, RunSink};
use alula_model::trigger::Trigger;
use alula_model::{Clock, InvocationId, Lineage, Name, SpecError, Timestamp};
use alula_pool::{Pool, PoolOptions};
use alula_runtime::VersionPlan;
use alula_runtime::bare::BareLauncher;
use alula_runtime::fake::{Does, FakeBackend};
use alula_runtime::language::{Host, Languages};
use alula_store::{MemoryPackages, MemoryStore};
use alula_trigger::topic::{self, NamedBy, Publication, Published, Topics};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) const EPOCH_MS: i64 = 1_700_000_000_000;

/// A clock that moves with the paused one of the runtime.
#[derive(Debug)]
struct TestClock(Instant);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(EPOCH_MS).plus_millis(i64::try_from(self.0.elapsed().as_millis()).unwrap())
    }
}

#[derive(Debug)]
struct NoRuns;

impl RunSink for NoRuns {
    fn begin(&self, _plan: &VersionPlan) -> OpenRun {
        OpenRun::new(drop)
    }
}

#[derive(Debug)]
struct KnownTriggers;

impl CheckTriggers for KnownTriggers {
    fn check(&self, triggers: &[Trigger], _env: &BTreeMap<String, String>) -> Result<(), SpecError> {
        alula_trigger::check::check(triggers)
    }
}

#[derive(Debug)]
struct NoCourier;

impl Courier for NoCourier {
    fn send<'a>(&'a self, _delivery: &'a Delivery, _body: Bytes) -> BoxFuture<'a, Result<(), CourierError>> {
        Box::pin(async { Ok(()) })
    }
}

/// What a function was handed.
#[derive(Debug, Clone)]
pub(crate) struct Handed {
    pub(crate) function: String,
    pub(crate) event: Value,
    pub(crate) lineage: Lineage,
}

pub(crate) struct World {
    pub(crate) topics: Topics,
    /// Kept, since whoever waits for calls goes with it.
    _calls: Calls,
    pub(crate) store: Arc<MemoryStore>,
    handed: Arc<Mutex<Vec<Handed>>>,
    control: Control,
    folder: tempfile::TempDir,
    stop: CancellationToken,
    worker: JoinHandle<()>,
}

/// How long everything that was accepted takes here, and more.
const SETTLED: Duration = Duration::from_secs(60);

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(TestClock(Instant::now()));
        let (store, packages) = (Arc::new(MemoryStore::new()), Arc::new(MemoryPackages::default()));
        let backend = FakeBackend::default();
        let host = Host { resolve: &|path| path.canonicalize().ok(), run: &|_| None };
        let parts = alula_control::Parts {
            records: store.clone(),
            packages: packages.clone(),
            backend: Arc::new(backend.clone()),
            launcher: Arc::new(BareLauncher),
            languages: Arc::new(Languages::load(&folder.path().join("languages"), &[], &host).unwrap()),
            triggers: Arc::new(KnownTriggers),
            clock: clock.clone(),
        };
        let control = Control::open(alula_control::Options::new(folder.path()), parts).await.unwrap();
        let catalog = control.catalog().clone();
        let pool = Pool::new(PoolOptions::default(), Arc::new(backend.clone()), "t".to_owned());
        let seal = LineageSeal::new(b"of these tests");
        let invoker = Invoker::new(catalog.clone(), pool, clock.clone(), Arc::new(NoRuns), seal.clone());
        let parts = AcceptorParts {
            guard: alula_invoke::Guard::default(),
            catalog: catalog.clone(),
            records: store.clone(),
            blobs: packages,
            clock: clock.clone(),
            observe: Arc::new(Unobserved),
        };
        let acceptor = Acceptor::new(alula_invoke::later::Options::default(), parts);
        let parts = topic::Parts { catalog, records: store.clone(), acceptor: acceptor.clone(), clock };
        let topics = Topics::new(topic::Options::default(), parts);
        let (calls, worker) = Calls::with_worker(WorkerParts {
            acceptor,
            queue: store.clone(),
            invoker,
            courier: Arc::new(NoCourier),
            topics: Arc::new(topics.clone()),
            random: || 0,
            data_plane: tokio::runtime::Handle::current(),
        });
        let stop = CancellationToken::new();
        let worker = tokio::spawn(worker.run(stop.clone()));
        let handed = Arc::new(Mutex::new(Vec::new()));
        note(&backend, &seal, &handed);
        tokio::time::pause();
        Self { topics, _calls: calls, store, handed, control, folder, stop, worker }
    }

    /// Deploys a function that listens to `topic`, with the other keys of its trigger and its table `async`.
    pub(crate) async fn listen(&self, function: &str, topic: &str, trigger: Value, table: Value) {
        let mut stated = json!({"name": "t", "kind": "topic", "topic": topic});
        stated.as_object_mut().unwrap().extend(trigger.as_object().unwrap().clone());
        let archive = self.folder.path().join(format!("tmp/{function}.sh"));
        std::fs::write(&archive, format!("#!/bin/sh\necho {stated}\n")).unwrap();
        let spec = [("triggers", json!([stated])), ("async", table)];
        let upload = Upload {
            namespace: Name::default_namespace(),
            archive,
            file_name: Some(format!("{function}.sh")),
            overrides: Overrides {
                spec: spec.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
                ..Overrides::default()
            },
            message: String::new(),
            dry_run: DryRun::No,
        };
        let (progress, _told) = tokio::sync::mpsc::channel(64);
        self.control.deploy("tester", upload, progress).await.unwrap();
    }

    pub(crate) async fn publish(&self, topic: &str, event: Value) -> Published {
        self.try_publish(topic, vec![event], Lineage::default()).await.unwrap().remove(0)
    }

    pub(crate) async fn try_publish(
        &self,
        topic: &str,
        events: Vec<Value>,
        lineage: Lineage,
    ) -> Result<Vec<Published>, alula_model::Fault> {
        let publication = Publication {
            namespace: Name::default_namespace(),
            topic: Name::new(topic).unwrap(),
            events: events.into_iter().map(|event| CloudEvent::of_value(event).unwrap()).collect(),
            named_by: NamedBy::Publisher,
            lineage,
        };
        self.topics.publish(&publication).await
    }

    /// What functions were handed since the last look, once everything has ended.
    pub(crate) async fn handed(&self) -> Vec<Handed> {
        tokio::time::sleep(SETTLED).await;
        std::mem::take(&mut *self.handed.lock().unwrap())
    }

    /// Their names and the ids of the events.
    pub(crate) async fn told(&self) -> Vec<(String, String)> {
        let told = |handed: Handed| (handed.function, handed.event["id"].as_str().unwrap_or("").to_owned());
        let mut told: Vec<_> = self.handed().await.into_iter().map(told).collect();
        told.sort();
        told
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.worker.await.unwrap();
    }
}

/// Has functions note what they are handed, and answer it.
fn note(backend: &FakeBackend, seal: &LineageSeal, handed: &Arc<Mutex<Vec<Handed>>>) {
    let (seal, handed) = (seal.clone(), Arc::clone(handed));
    backend.change(|script| {
        script.handler = Arc::new(move |call| {
            let lineage = seal.open(call.headers.get(LINEAGE_HEADER).unwrap()).unwrap();
            let function =
                lineage.chain().rsplit("-> ").next().unwrap().split('.').next().unwrap().to_owned();
            let event = call.body.as_full().map(|body| serde_json::from_slice(body).unwrap_or_default());
            let handed_now = Handed { function, event: event.unwrap_or_default(), lineage };
            handed.lock().unwrap().push(handed_now);
            Does::answers("{}")
        });
    });
}

/// An event with this id and content.
pub(crate) fn event(id: &str, data: Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "order.placed", "data": data})
}

pub(crate) fn id(text: &str) -> InvocationId {
    InvocationId::new(text).unwrap()
}
