//! The recorder with a paused clock, a store that fails, and more runs than fit.

use std::sync::Mutex;

use alula_model::{InvocationId, Name, Phases, RunStatus, Tier, Timestamp, TriggerKind, VersionKey};
use alula_store::{BoxFuture, Error, MemoryStore, RunFilter, RunPage};

use super::*;

#[derive(Debug)]
struct FixedClock(i64);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0)
    }
}

fn run(number: u64) -> Run {
    let name = |text| Name::new(text).unwrap();
    Run {
        degraded: None,
        id: InvocationId::new(&format!("r{number}")).unwrap(),
        key: VersionKey { namespace: name("default"), function: name("f"), version: 1 },
        qualifier: "latest".to_owned(),
        trigger: TriggerKind::Http,
        attempt: 1,
        status: RunStatus::Done,
        http_status: Some(200),
        error: None,
        message: None,
        started_at: Timestamp(number as i64),
        phases: Phases::default(),
        tier: Tier::Warm,
        instance: None,
        request_bytes: 0,
        response_bytes: 0,
        parent: None,
        caller: None,
    }
}

/// A history that answers with the errors it was given before it works, and notes the sizes of batches.
#[derive(Debug, Default)]
struct Flaky {
    store: MemoryStore,
    errors: Mutex<Vec<Error>>,
    batches: Mutex<Vec<usize>>,
}

impl History for Flaky {
    fn append(&self, runs: Arc<[Run]>) -> BoxFuture<'_, alula_store::Result<()>> {
        let error = self.errors.lock().unwrap().pop();
        self.batches.lock().unwrap().push(runs.len());
        match error {
            Some(error) => Box::pin(async { Err(error) }),
            None => self.store.append(runs),
        }
    }
    fn get(&self, id: &InvocationId) -> BoxFuture<'_, alula_store::Result<Vec<Run>>> {
        self.store.get(id)
    }
    fn list(&self, filter: RunFilter) -> BoxFuture<'_, alula_store::Result<RunPage>> {
        self.store.list(filter)
    }
    fn prune(&self, before: Timestamp, keep_max: u64) -> BoxFuture<'_, alula_store::Result<u64>> {
        self.store.prune(before, keep_max)
    }
}

struct Started {
    history: Arc<Flaky>,
    recorder: RunRecorder,
    service: RunService,
    cancel: CancellationToken,
}

fn started(errors: Vec<Error>) -> Started {
    let history = Arc::new(Flaky { errors: Mutex::new(errors), ..Flaky::default() });
    let options = RunOptions { retention_ms: 100, keep_max: 3 };
    let (service, recorder) = start(options, Arc::clone(&history) as _, Arc::new(FixedClock(1_000)));
    Started { history, recorder, service, cancel: CancellationToken::new() }
}

async fn ids(history: &Flaky) -> Vec<String> {
    let page = history.list(RunFilter { limit: 1_000, ..RunFilter::default() }).await.unwrap();
    page.runs.iter().map(|run| run.id.to_string()).collect()
}

fn unavailable() -> Error {
    Error::Unavailable { detail: "test".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn runs_gather_and_are_appended_together() {
    let Started { history, recorder, service, cancel } = started(Vec::new());
    let running = tokio::spawn(service.run(cancel));
    for round in 0..2 {
        (0..10).for_each(|n| recorder.record(run(round * 10 + n)));
        recorder.flush().await;
        assert_eq!(history.batches.lock().unwrap().len(), round as usize + 1);
    }
    assert_eq!(ids(&history).await.len(), 20);
    running.abort();
}

/// A history under load: while it appends, the next run comes.
#[derive(Debug, Default)]
struct Busy {
    recorder: std::sync::OnceLock<RunRecorder>,
    appends: AtomicU64,
}

impl History for Busy {
    fn append(&self, runs: Arc<[Run]>) -> BoxFuture<'_, alula_store::Result<()>> {
        self.appends.fetch_add(1, Ordering::Relaxed);
        self.recorder.get().unwrap().record(runs[0].clone());
        Box::pin(async { Ok(()) })
    }
    fn get(&self, _: &InvocationId) -> BoxFuture<'_, alula_store::Result<Vec<Run>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn list(&self, _: RunFilter) -> BoxFuture<'_, alula_store::Result<RunPage>> {
        Box::pin(async { Ok(RunPage::default()) })
    }
    fn prune(&self, _: Timestamp, _: u64) -> BoxFuture<'_, alula_store::Result<u64>> {
        Box::pin(async { Ok(0) })
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_during_an_append_gathers_for_the_next_one() {
    let history = Arc::new(Busy::default());
    let (service, recorder) =
        start(RunOptions::default(), Arc::clone(&history) as _, Arc::new(FixedClock(1_000)));
    history.recorder.set(recorder.clone()).unwrap();
    let running = tokio::spawn(service.run(CancellationToken::new()));
    recorder.record(run(1));
    sleep(GATHER * 10 + GATHER / 2).await;
    assert_eq!(history.appends.load(Ordering::Relaxed), 10);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_gets_everything() {
    let Started { history, recorder, service, cancel } = started(vec![unavailable(), Error::Full]);
    let running = tokio::spawn(service.run(cancel));
    recorder.record(run(1));
    recorder.flush().await;
    assert_eq!(ids(&history).await, ["r1"]);
    assert_eq!((history.batches.lock().unwrap().len(), recorder.dropped().get()), (3, 0));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn what_the_store_refuses_for_good_is_dropped_and_counted() {
    let Started { history, recorder, service, cancel } =
        started(vec![Error::Damaged { detail: String::new() }]);
    let running = tokio::spawn(service.run(cancel));
    recorder.record(run(1));
    recorder.flush().await;
    recorder.record(run(2));
    recorder.flush().await;
    assert_eq!((ids(&history).await, recorder.dropped().get()), (vec!["r2".to_owned()], 1));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn more_than_fits_is_dropped_and_counted() {
    let Started { history, recorder, service, cancel } = started(Vec::new());
    (0..WAITING_MAX as u64 + 7).for_each(|n| recorder.record(run(n)));
    assert_eq!(recorder.dropped().get(), 7);
    cancel.cancel();
    service.run(cancel).await;
    assert_eq!(history.batches.lock().unwrap().iter().sum::<usize>(), WAITING_MAX);
    assert!(history.batches.lock().unwrap().iter().all(|length| *length <= BATCH_LEN_MAX));
}

#[tokio::test(start_paused = true)]
async fn cancelling_appends_the_rest_and_gives_up_on_a_dead_store() {
    let Started { history, recorder, service, cancel } = started(Vec::new());
    recorder.record(run(1));
    cancel.cancel();
    service.run(cancel).await;
    assert_eq!(ids(&history).await, ["r1"]);

    let Started { recorder, service, cancel, .. } = started(vec![unavailable(); 100]);
    recorder.record(run(1));
    cancel.cancel();
    service.run(cancel).await;
    assert_eq!(recorder.dropped().get(), 1);
    recorder.flush().await;
}

#[tokio::test(start_paused = true)]
async fn old_runs_are_forgotten() {
    let Started { history, recorder, service, cancel } = started(Vec::new());
    let running = tokio::spawn(service.run(cancel));
    // The clock says 1000 and a hundred milliseconds are kept, three runs at the most.
    [899, 900, 950, 990, 999].into_iter().for_each(|n| recorder.record(run(n)));
    recorder.flush().await;
    assert_eq!(ids(&history).await.len(), 5);
    sleep(PRUNE_EVERY + Duration::from_secs(1)).await;
    assert_eq!(ids(&history).await, ["r999", "r990", "r950"]);
    running.abort();
}
