//! A function, a store for dead letters and a watch, under the eyes of a test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alula_invoke::later::{AttemptEnd, Hope, Miss};
use alula_model::trigger::Batching;
use alula_model::{Clock, Fault, FunctionRef, Name, Timestamp};
use alula_runtime::{Connection, Egress, EgressError};
use alula_trigger::TriggerKey;
use bytes::Bytes;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::BoxFuture;
use crate::network::Network;
use crate::place::{Parts, Place};
use crate::ports::{Call, Gate, Keep, Letter, Unobserved};
use crate::source::Source;
use crate::watch::Watch;

/// Longest time that a test waits for anything: far beyond what it takes, so only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(600);

/// A record as the function saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) text: String,
}

/// What the function does with an event.
#[derive(Debug, Clone)]
pub(super) enum Does {
    /// Takes all of it.
    Takes,
    /// Fails.
    Fails,
    /// Refuses it before it begins.
    Refuses,
    /// Takes all but these.
    Reports(Vec<String>),
    /// Waits until the test lets it go, and takes all of it.
    Waits,
}

type Handler = Box<dyn Fn(&[Seen]) -> Does + Send>;

#[derive(Debug, Default)]
struct Log {
    begun: Vec<Vec<Seen>>,
    events: Vec<Bytes>,
    attempts: Vec<u32>,
    taken: Vec<String>,
    running: usize,
    most_running: usize,
    letters: Vec<Letter>,
    deferred: Vec<Bytes>,
    is_store_down: bool,
    is_paused: bool,
}

/// See the module.
pub(super) struct World {
    log: Mutex<Log>,
    handler: Mutex<Handler>,
    text: fn(&Value) -> String,
    changed: watch::Sender<u64>,
    gate: watch::Sender<bool>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("log", &self.log).finish_non_exhaustive()
    }
}

/// A watch that runs.
pub(super) struct Watching {
    pub(super) place: Arc<Place>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Watching {
    /// Stops, and waits until all has ended.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }

    /// Waits until it has ended by itself.
    pub(super) async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }

    /// Begins to stop.
    pub(super) fn begin_to_stop(&self) {
        self.stop.cancel();
    }
}

impl World {
    /// A world in which `text` reads what was published out of an item.
    pub(super) fn new(text: fn(&Value) -> String) -> Arc<Self> {
        Arc::new(Self {
            log: Mutex::default(),
            handler: Mutex::new(Box::new(|_| Does::Takes)),
            text,
            changed: watch::channel(0).0,
            gate: watch::channel(false).0,
        })
    }

    /// Decides from now on what the function does.
    pub(super) fn function(&self, handler: impl Fn(&[Seen]) -> Does + Send + 'static) {
        *self.handler.lock().unwrap() = Box::new(handler);
    }

    /// Lets calls go that wait.
    pub(super) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// Takes the store away, or gives it back.
    pub(super) fn set_store_down(&self, is_down: bool) {
        self.change(|log| log.is_store_down = is_down);
    }

    /// Pauses the trigger.
    pub(super) fn pause(&self) {
        self.change(|log| log.is_paused = true);
    }

    pub(super) fn watch(self: &Arc<Self>, source: Box<dyn Source>, batching: Batching) -> Watching {
        let name = |text| Name::new(text).unwrap();
        let key = TriggerKey { namespace: name("shop"), function: name("pay"), trigger: name("orders") };
        let parts = Parts {
            call: Arc::clone(self) as Arc<dyn Call>,
            keep: Arc::clone(self) as Arc<dyn Keep>,
            gate: Arc::clone(self) as Arc<dyn Gate>,
            network: network(),
            observe: Arc::new(Unobserved),
            clock: Arc::new(NoClock),
            random: || 7,
        };
        let target = "pay.shop".parse().unwrap();
        let place = Arc::new(Place::new(key, "fake", target, batching, source.shape(), parts));
        let stop = CancellationToken::new();
        let task = tokio::spawn(Watch::new(Arc::clone(&place), source).run(stop.clone()));
        Watching { place, stop, task }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Log) -> T) -> T {
        let changed = change(&mut self.log.lock().unwrap());
        self.changed.send_modify(|count| *count += 1);
        changed
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Log) -> bool) {
        let mut changed = self.changed.subscribe();
        let reached = async {
            while !is_so(&self.log.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(PATIENCE, reached).await;
        assert!(waited.is_ok(), "never {what}: {:?}", self.log.lock().unwrap());
    }

    pub(super) async fn until_taken(&self, bodies: &[String]) {
        self.until("all taken", |log| bodies.iter().all(|body| log.taken.contains(body))).await;
    }

    pub(super) async fn until_begun(&self, events: usize) {
        self.until("so many begun", |log| log.begun.len() >= events).await;
    }

    pub(super) async fn until_parked(&self, letters: usize) {
        self.until("so many parked", |log| log.letters.len() >= letters).await;
    }

    /// Texts of records that the function took, in the order in which it did.
    pub(super) fn taken(&self) -> Vec<String> {
        self.log.lock().unwrap().taken.clone()
    }

    /// How often the function saw each text.
    pub(super) fn sights(&self) -> BTreeMap<String, usize> {
        let mut sights = BTreeMap::new();
        for seen in self.log.lock().unwrap().begun.iter().flatten() {
            *sights.entry(seen.text.clone()).or_default() += 1;
        }
        sights
    }

    /// Texts of each event that began.
    pub(super) fn begun(&self) -> Vec<Vec<String>> {
        let texts = |event: &Vec<Seen>| event.iter().map(|seen| seen.text.clone()).collect();
        self.log.lock().unwrap().begun.iter().map(texts).collect()
    }

    /// Each event that began, whole.
    pub(super) fn events(&self) -> Vec<Value> {
        let events = self.log.lock().unwrap().events.clone();
        events.iter().map(|event| serde_json::from_slice(event).unwrap()).collect()
    }

    pub(super) fn attempts(&self) -> Vec<u32> {
        self.log.lock().unwrap().attempts.clone()
    }

    pub(super) fn most_running(&self) -> usize {
        self.log.lock().unwrap().most_running
    }

    pub(super) fn letters(&self) -> Vec<Letter> {
        self.log.lock().unwrap().letters.clone()
    }

    /// Texts in the dead letters.
    pub(super) fn parked(&self) -> Vec<String> {
        self.letters().iter().flat_map(|letter| self.read(&letter.event)).map(|seen| seen.text).collect()
    }

    /// Texts that were handed to the queue.
    pub(super) fn deferred(&self) -> Vec<String> {
        let deferred = self.log.lock().unwrap().deferred.clone();
        deferred.iter().flat_map(|event| self.read(event)).map(|seen| seen.text).collect()
    }

    fn read(&self, event: &Bytes) -> Vec<Seen> {
        let event: Value = serde_json::from_slice(event).unwrap();
        let lists = match &event {
            Value::Object(event) if event.contains_key("Records") => vec![event["Records"].clone()],
            event => {
                let groups = event.get("records").or_else(|| event.get("rmqMessagesByQueue")).unwrap();
                groups.as_object().unwrap().values().cloned().collect()
            }
        };
        let items = lists.iter().flat_map(|list| list.as_array().unwrap());
        let id = |item: &Value| {
            let id = item.get("messageId").or_else(|| item.get("itemIdentifier")).unwrap();
            id.as_str().unwrap().to_owned()
        };
        items.map(|item| Seen { id: id(item), text: (self.text)(item) }).collect()
    }
}

impl Call for World {
    fn call<'a>(
        &'a self,
        target: &'a FunctionRef,
        attempt: u32,
        event: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, Miss>> {
        assert_eq!(target.to_string(), "pay.shop:latest");
        let seen = self.read(&event);
        let does = (self.handler.lock().unwrap())(&seen);
        self.change(|log| {
            log.begun.push(seen.clone());
            log.events.push(event.clone());
            log.attempts.push(attempt);
            log.running += 1;
            log.most_running = log.most_running.max(log.running);
        });
        Box::pin(async move {
            if matches!(does, Does::Waits) {
                self.gate.subscribe().wait_for(|is_open| *is_open).await.unwrap();
            }
            let failed: Vec<String> = match &does {
                Does::Reports(ids) => ids.clone(),
                _ => Vec::new(),
            };
            let is_taken = matches!(does, Does::Takes | Does::Waits | Does::Reports(_));
            self.change(|log| {
                log.running -= 1;
                let taken = seen.iter().filter(|seen| is_taken && !failed.contains(&seen.id));
                log.taken.extend(taken.map(|seen| seen.text.clone()));
            });
            match does {
                Does::Fails => Err(Miss::reported("it failed")),
                Does::Refuses => {
                    let (end, hope) = (AttemptEnd::Throttled, Hope::NeverBegan);
                    Err(Miss { end, hope, ..Miss::reported("no room") })
                }
                _ => {
                    let failed = failed.iter().map(|id| serde_json::json!({"itemIdentifier": id}));
                    let failed: Vec<_> = failed.collect();
                    Ok(serde_json::json!({"batchItemFailures": failed}).to_string().into())
                }
            }
        })
    }
}

impl Keep for World {
    fn bury<'a>(
        &'a self,
        _target: &'a FunctionRef,
        letters: Vec<Letter>,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        let buried = self.change(|log| match log.is_store_down {
            true => Err(Fault::new(alula_model::ErrorCode::StoreUnavailable, "the store does not answer")),
            false => {
                log.letters.extend(letters);
                Ok(())
            }
        });
        Box::pin(async move { buried })
    }

    fn defer<'a>(&'a self, _target: &'a FunctionRef, event: Bytes) -> BoxFuture<'a, Result<(), Fault>> {
        self.change(|log| log.deferred.push(event));
        Box::pin(async { Ok(()) })
    }
}

impl Gate for World {
    fn is_shut<'a>(&'a self, _trigger: &'a TriggerKey) -> BoxFuture<'a, alula_store::Result<bool>> {
        Box::pin(std::future::ready(Ok(self.log.lock().unwrap().is_paused)))
    }
}

/// Leads everywhere, as the names of this machine say.
pub(super) fn network() -> Network {
    Network { egress: Arc::new(Everywhere), tls: None }
}

#[derive(Debug)]
struct Everywhere;

impl Egress for Everywhere {
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, EgressError>> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await.map_err(EgressError::Unreachable)?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, EgressError>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, port)).await.map_err(EgressError::Unreachable)?;
            Ok(found.collect())
        })
    }
}

#[derive(Debug)]
struct NoClock;

impl Clock for NoClock {
    fn now(&self) -> Timestamp {
        Timestamp(1)
    }
}
