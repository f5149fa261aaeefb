//! What a hundred thousand schedules cost: loading them the first time and after a restart, the CPU that they use while
//! they wait, and how late their slots are admitted, over SQLite on the disk.
//!
//! The queue's worker is not in it: a slot counts as admitted when its call is durable.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "an example")]
#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use alula_model::{Clock, Fault, InvocationId, Name, Timestamp, VersionKey};
use alula_pool::{Pool, PoolOptions};
use alula_runtime::VersionPlan;
use alula_runtime::fake::FakeBackend;
use alula_store::{Batch, DataDir, MessageId, NewMessage, SqliteOptions, SqliteStore, open_sqlite};
use alula_trigger::schedule::{
    Accept, Declared, Deployed, Handle, Observe, Options, Parts, Service, SlotCall,
};
use alula_trigger::{BoxFuture, Prepared};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const FUNCTIONS: usize = 1_000;
const TRIGGERS: usize = 100;
const IDLE: Duration = Duration::from_secs(10);
const FIRING: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp(since_epoch.as_millis() as i64)
    }
}

#[derive(Debug)]
struct Functions(Vec<Declared>, watch::Sender<u64>);

impl Deployed for Functions {
    fn changed(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }

    fn schedules(&self) -> Vec<Declared> {
        self.0.clone()
    }
}

/// Makes messages of the size that the platform's have.
#[derive(Debug)]
struct Taker;

impl Accept for Taker {
    fn prepare(&self, call: SlotCall) -> BoxFuture<'_, Result<Prepared, Fault>> {
        let message = NewMessage {
            id: MessageId(call.id.to_string()),
            lane: format!("{}/{}/scheduled", call.target.namespace, call.target.name),
            ordering_key: None,
            enqueued_at: call.available_at,
            available_at: call.available_at,
            body: call.event,
        };
        let prepared = Prepared { batch: Batch::default().enqueue(message), committed: Box::new(|| ()) };
        Box::pin(async move { Ok(prepared) })
    }

    fn is_open<'a>(&'a self, _id: &'a InvocationId) -> BoxFuture<'a, Result<bool, Fault>> {
        Box::pin(async { Ok(false) })
    }

    fn cancel<'a>(&'a self, _id: &'a InvocationId) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }
}

/// Milliseconds from slots to their durable calls.
#[derive(Debug, Default)]
struct Lateness(Mutex<Vec<u64>>);

impl Observe for Lateness {
    fn admitted(&self, lateness_ms: u64) {
        self.0.lock().unwrap().push(lateness_ms);
    }
}

/// Schedules whose patterns `pattern` makes of their numbers.
fn declared(since: Timestamp, pattern: impl Fn(usize) -> String) -> Vec<Declared> {
    let function = |function: usize| {
        let triggers: Vec<_> = (0..TRIGGERS)
            .map(|trigger| {
                let cron = pattern(function * TRIGGERS + trigger);
                json!({ "name": format!("t{trigger}"), "kind": "schedule", "cron": cron, "zone": "Europe/Berlin" })
            })
            .collect();
        let key = VersionKey {
            namespace: Name::default_namespace(),
            function: Name::new(&format!("f{function}")).unwrap(),
            version: 1,
        };
        let spec = serde_json::from_value(json!({ "runtime": "fake", "triggers": triggers })).unwrap();
        let plan = Arc::new(VersionPlan::new(key, spec, "/nowhere".into()));
        (0..TRIGGERS).filter_map(move |place| Declared::new(&plan, place, Some(Arc::clone(&plan)), since))
    };
    (0..FUNCTIONS).flat_map(function).collect()
}

struct Running {
    handle: Handle,
    lateness: Arc<Lateness>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(store: &Arc<SqliteStore>, declared: Vec<Declared>) -> Running {
    let lateness = Arc::new(Lateness::default());
    let parts = Parts {
        deployed: Arc::new(Functions(declared, watch::channel(0).0)),
        records: store.clone(),
        accept: Arc::new(Taker),
        pool: Pool::new(PoolOptions::default(), Arc::new(FakeBackend::default()), "b".to_owned()),
        observe: lateness.clone(),
        clock: Arc::new(WallClock),
    };
    let (service, handle) = Service::new(Options::default(), parts);
    let stop = CancellationToken::new();
    let task = tokio::spawn(service.run(stop.clone()));
    Running { handle, lateness, stop, task }
}

impl Running {
    async fn loaded(&self) {
        while self.handle.in_force() < FUNCTIONS * TRIGGERS {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn stop(self) -> Vec<u64> {
        self.stop.cancel();
        self.task.await.unwrap();
        let mut lateness = self.lateness.0.lock().unwrap().clone();
        lateness.sort_unstable();
        lateness
    }
}

/// CPU time of this process so far, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn rss_mb() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4 / 1024
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = DataDir::open(&folder.path().join("data")).unwrap();
    let store = Arc::new(open_sqlite(&data_dir, &SqliteOptions::default()).unwrap());
    let now = WallClock.now();

    // None of these comes soon: the day is months away.
    let far = |number: usize| {
        format!(
            "{} {} {} 1 {} *",
            number % 60,
            number / 60 % 60,
            number / 3_600 % 24,
            1 + (now_month() + 5) % 12
        )
    };
    let before_mb = rss_mb();
    let waiting = declared(now, far);
    let stated_mb = rss_mb();
    for what in ["first load", "load after a restart"] {
        let began = Instant::now();
        let running = start(&store, waiting.clone());
        running.loaded().await;
        println!("{what}: {:.2} s", began.elapsed().as_secs_f64());
        println!("  memory: {} MB stated, {} MB more loaded", stated_mb - before_mb, rss_mb() - stated_mb);
        let cpu = cpu_seconds();
        tokio::time::sleep(IDLE).await;
        println!(
            "  CPU while waiting: {:.2} % of a core",
            (cpu_seconds() - cpu) / IDLE.as_secs_f64() * 100.0
        );
        running.stop().await;
    }

    // Each comes once an hour, at a second of its own.
    let hourly = |number: usize| format!("{} {} * * * *", number % 60, number / 60 % 60);
    let running = start(&store, declared(WallClock.now(), hourly));
    running.loaded().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    running.lateness.0.lock().unwrap().clear();
    let cpu = cpu_seconds();
    tokio::time::sleep(FIRING).await;
    let cpu = (cpu_seconds() - cpu) / FIRING.as_secs_f64() * 100.0;
    let lateness = running.stop().await;
    let at = |part: f64| lateness[((lateness.len() - 1) as f64 * part) as usize];
    println!(
        "firing, {:.1} slots a second: lateness p50 {} ms, p99 {} ms, most {} ms; CPU {cpu:.2} % of a core",
        lateness.len() as f64 / FIRING.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
}

/// The month now, near enough.
fn now_month() -> usize {
    (WallClock.now().as_millis() / 86_400_000 % 365 / 31) as usize
}
