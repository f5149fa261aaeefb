//! What the layout in blocks must not change: agreement with the memory back end under random operations, strays,
//! indexes that are kept, and files from before there were blocks.

use alula_model::{InvocationId, Name, Phases, RunStatus, Tier, TriggerKind, VersionKey};
use proptest::prelude::*;

use super::*;
use crate::{DataDir, Error, MemoryStore, open_sqlite};

/// An id as the platform makes them for a run that started `at`.
fn id_of(at: i64, number: u64) -> InvocationId {
    let uuid = uuid::Uuid::from_u128((at as u128) << 80 | 7 << 76 | 2 << 62 | u128::from(number));
    InvocationId::new(&uuid.to_string()).unwrap()
}

fn run(id: InvocationId, function: &str, started_at: i64) -> Run {
    let name = |text| Name::new(text).unwrap();
    Run {
        id,
        key: VersionKey { namespace: name("default"), function: name(function), version: 1 },
        qualifier: "latest".to_owned(),
        trigger: TriggerKind::Http,
        attempt: 1,
        status: RunStatus::Done,
        http_status: Some(200),
        error: None,
        message: None,
        started_at: Timestamp(started_at),
        phases: Phases::default(),
        tier: Tier::Warm,
        instance: None,
        request_bytes: 0,
        response_bytes: 0,
        parent: None,
        caller: None,
        degraded: None,
    }
}

struct Opened {
    store: SqliteStore,
    root: tempfile::TempDir,
}

fn opened() -> Opened {
    let root = tempfile::tempdir().unwrap();
    Opened { store: open_at(&root).unwrap(), root }
}

fn open_at(root: &tempfile::TempDir) -> Result<SqliteStore> {
    open_sqlite(&DataDir::open(&root.path().join("data"))?, &SqliteOptions::default())
}

/// Rows of each table: blocks, their functions, strays, and the total.
fn sizes(root: &tempfile::TempDir) -> [u64; 4] {
    let connection = Connection::open(root.path().join("data/history.db")).unwrap();
    ["count(*) FROM blocks", "count(*) FROM block_functions", "count(*) FROM strays", "runs FROM total"]
        .map(|what| connection.query_row(&format!("SELECT {what}"), [], |row| row.get(0)).unwrap())
}

#[tokio::test]
async fn what_gathered_is_one_row_and_is_found_by_its_ids() {
    let Opened { store, root } = opened();
    let at = 1_700_000_000_000;
    let runs: Arc<[Run]> = (0..200).map(|n| run(id_of(at, n), "f", at)).collect();
    store.append(Arc::clone(&runs)).await.unwrap();
    assert_eq!(sizes(&root), [1, 1, 0, 200]);
    assert_eq!(store.get(&runs[137].id).await.unwrap(), [runs[137].clone()]);
    assert_eq!(store.get(&id_of(at, 200)).await, Ok(Vec::new()));
    store.append(Arc::clone(&runs)).await.unwrap();
    assert_eq!(sizes(&root), [1, 1, 0, 200], "the same again is no more than before");
}

#[tokio::test]
async fn a_later_attempt_is_found_although_its_id_tells_an_earlier_time() {
    let Opened { store, root } = opened();
    let id = id_of(1_700_000_000_000, 1);
    let first = run(id.clone(), "f", 1_700_000_000_000);
    let second = Run { attempt: 2, ..run(id.clone(), "f", 1_700_000_060_000) };
    store.append([first.clone()].into()).await.unwrap();
    store.append([second.clone()].into()).await.unwrap();
    assert_eq!(store.get(&id).await.unwrap(), [first.clone(), second]);
    let moved = Run { attempt: 2, ..run(id.clone(), "g", 1_700_000_120_000) };
    store.append([moved.clone()].into()).await.unwrap();
    assert_eq!(store.get(&id).await.unwrap(), [first, moved]);
    assert_eq!(sizes(&root), [2, 2, 1, 2]);
    store.prune(Timestamp(i64::MAX), 0).await.unwrap();
    assert_eq!(sizes(&root), [0; 4], "nothing is left over");
}

#[tokio::test]
async fn a_file_from_before_there_were_blocks_is_upgraded() {
    let root = tempfile::tempdir().unwrap();
    drop(open_at(&root).unwrap());
    let file = root.path().join("data/history.db");
    let failed = Run { status: RunStatus::Failed, ..run(InvocationId::new("b").unwrap(), "g", 2_000) };
    let runs: Vec<_> = (0..5_000).map(|n| run(id_of(n, n as u64), "f", n)).chain([failed.clone()]).collect();
    std::fs::remove_file(&file).unwrap();
    let connection = Connection::open(&file).unwrap();
    connection.execute_batch("CREATE TABLE schema_version (version INTEGER NOT NULL) STRICT").unwrap();
    connection.execute_batch(include_str!("../migrations/history/0001.sql")).unwrap();
    connection.execute("INSERT INTO schema_version VALUES (1)", []).unwrap();
    connection.execute_batch("BEGIN").unwrap();
    for (number, run) in runs.iter().enumerate() {
        let place = run.started_at.0 << 20 | number as i64;
        let (key, text) = (&run.key, serde_json::to_string(run).unwrap());
        connection
            .prepare_cached("INSERT INTO runs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
            .unwrap()
            .execute(params![
                place,
                run.id.as_str(),
                run.attempt,
                key.namespace.as_str(),
                key.function.as_str(),
                key.version,
                run.status.as_str(),
                text
            ])
            .unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    drop(connection);
    let store = open_at(&root).unwrap();
    assert_eq!(store.get(&runs[4_321].id).await.unwrap(), [runs[4_321].clone()]);
    assert_eq!(store.get(&failed.id).await.unwrap(), std::slice::from_ref(&failed));
    let status = Some(RunStatus::Failed);
    let listed = store.list(RunFilter { status, limit: 10, ..RunFilter::default() }).await.unwrap();
    assert_eq!(listed.runs, [failed]);
    assert_eq!(store.prune(Timestamp(0), 1_000).await, Ok(4_001));
    drop(store);
    assert_eq!(open_at(&root).unwrap().prune(Timestamp(0), 999).await, Ok(1), "the upgrade was done once");
}

#[tokio::test]
async fn a_damaged_block_is_told_and_not_a_defect() {
    let Opened { store, root } = opened();
    store.append([run(id_of(5, 5), "f", 5)].into()).await.unwrap();
    let connection = Connection::open(root.path().join("data/history.db")).unwrap();
    for content in [&b""[..], b"\x02", b"\x01\xff", &[1, 0, 200, 1]] {
        connection.execute("UPDATE blocks SET runs = ?1", [content]).unwrap();
        let listed = store.list(RunFilter { limit: 1, ..RunFilter::default() }).await;
        assert!(matches!(listed, Err(Error::Damaged { .. })), "{content:?}: {listed:?}");
    }
}

#[derive(Debug, Clone)]
enum Operation {
    /// Runs by the number of their id, their attempt, the place of their function, and when they started; the id's own
    /// time may be another one.
    Append(Vec<(u64, u32, usize, i64, i64)>),
    Prune {
        before: i64,
        keep_max: u64,
    },
    Get(u64, i64),
    List(RunFilter),
}

fn operation() -> impl Strategy<Value = Operation> {
    // Times of a few buckets, so that runs meet in them.
    let at = || 0..1_500i64;
    let runs =
        proptest::collection::vec((0..6u64, 1..3u32, 0..3usize, at(), prop_oneof![Just(0), at()]), 0..8);
    let filter = (proptest::option::of(0..3usize), any::<[bool; 2]>(), proptest::option::of(at()), 1..6usize);
    prop_oneof![
        4 => runs.prop_map(Operation::Append),
        1 => (at(), 0..20u64).prop_map(|(before, keep_max)| Operation::Prune { before, keep_max }),
        2 => (0..6u64, at()).prop_map(|(number, at)| Operation::Get(number, at)),
        3 => filter.prop_map(|(function, [by_namespace, by_failure], since, limit)| {
            Operation::List(RunFilter {
                namespace: by_namespace.then(|| Name::new("default").unwrap()),
                function: function.map(|place| Name::new(FUNCTIONS[place]).unwrap()),
                status: by_failure.then_some(RunStatus::Failed),
                since: since.map(Timestamp),
                limit,
                ..RunFilter::default()
            })
        }),
    ]
}

const FUNCTIONS: [&str; 3] = ["f", "g", "h"];

fn made((number, attempt, function, started_at, id_at): (u64, u32, usize, i64, i64)) -> Run {
    let id_at = if id_at == 0 { started_at } else { id_at };
    let status = if number.is_multiple_of(3) { RunStatus::Failed } else { RunStatus::Done };
    Run { attempt, status, ..run(id_of(id_at, number), FUNCTIONS[function], started_at) }
}

/// Everything that a filter lists, over all pages; runs that started at the same moment in any order.
async fn listed(store: &dyn History, mut filter: RunFilter) -> Vec<Run> {
    let mut runs = Vec::new();
    loop {
        let page = store.list(filter.clone()).await.unwrap();
        runs.extend(page.runs);
        if page.next.is_none() {
            break;
        }
        filter.cursor = page.next;
    }
    assert!(runs.is_sorted_by_key(|run| std::cmp::Reverse(run.started_at)));
    runs.sort_by_key(|run| (run.started_at, run.id.clone(), run.attempt));
    runs
}

async fn agree(operations: Vec<Operation>) {
    let Opened { store, root } = opened();
    let model = MemoryStore::new();
    for operation in operations {
        match operation.clone() {
            Operation::Append(runs) => {
                let runs: Arc<[Run]> = runs.into_iter().map(made).collect();
                store.append(Arc::clone(&runs)).await.unwrap();
                model.append(runs).await.unwrap();
            }
            Operation::Prune { before, keep_max } => {
                // Which of those that started together goes first is not said.
                let keep_max = if keep_max < 10 { 0 } else { u64::MAX };
                let gone = store.prune(Timestamp(before), keep_max).await;
                assert_eq!(gone, model.prune(Timestamp(before), keep_max).await, "{operation:?}");
            }
            Operation::Get(number, at) => {
                let id = id_of(at, number);
                assert_eq!(store.get(&id).await, model.get(&id).await, "{operation:?}");
            }
            Operation::List(filter) => {
                let found = listed(&store, filter.clone()).await;
                assert_eq!(found, listed(&model, filter).await, "{operation:?}");
            }
        }
    }
    for run in listed(&model, RunFilter { limit: 100, ..RunFilter::default() }).await {
        assert_eq!(store.get(&run.id).await, model.get(&run.id).await);
    }
    store.prune(Timestamp(i64::MAX), 0).await.unwrap();
    assert_eq!(sizes(&root), [0; 4], "nothing is left over");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_memory_back_end(operations in proptest::collection::vec(operation(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(agree(operations));
    }
}
