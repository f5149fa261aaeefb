//! What every implementation of `History` must do.

use std::sync::Arc;

use alula_model::{
    ErrorCode, InstanceId, InvocationId, Name, Phases, Run, RunStatus, Tier, Timestamp, TriggerKind,
    VersionKey,
};

use crate::history::PAGE_LEN_MAX;
use crate::{Error, History, RunFilter};

/// Runs the suite on an empty store.
pub async fn history(store: &dyn History) {
    attempts_of_one_invocation(store).await;
    filters(store).await;
    pages_continue_where_they_ended(store).await;
    pruning(store).await;
    every_kind_of_run_comes_back(store).await;
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A run of `default/<function>:1`.
fn run(id: &str, function: &str, started_at: i64) -> Run {
    Run {
        id: InvocationId::new(id).unwrap(),
        key: VersionKey { namespace: name("default"), function: name(function), version: 1 },
        qualifier: "latest".to_owned(),
        trigger: TriggerKind::Http,
        attempt: 1,
        status: RunStatus::Done,
        http_status: Some(200),
        error: None,
        message: None,
        started_at: Timestamp(started_at),
        phases: Phases { run_us: 5, total_us: 7, ..Phases::default() },
        tier: Tier::Warm,
        instance: Some(InstanceId::new("i-1")),
        request_bytes: 1,
        response_bytes: u64::MAX >> 1,
        parent: InvocationId::new("caller-1"),
        caller: Some("key:shop/ci".into()),
        degraded: None,
    }
}

async fn list(store: &dyn History, filter: RunFilter) -> Vec<String> {
    let page = store.list(RunFilter { limit: 100, ..filter }).await.unwrap();
    page.runs.iter().map(|run| run.id.to_string()).collect()
}

async fn every_kind_of_run_comes_back(store: &dyn History) {
    let tiers = [Tier::Warm, Tier::Zygote, Tier::Stem, Tier::Cold];
    let statuses =
        [RunStatus::Done, RunStatus::Failed, RunStatus::Timeout, RunStatus::Rejected, RunStatus::Cancelled];
    let triggers = [
        TriggerKind::Http,
        TriggerKind::Api,
        TriggerKind::Schedule,
        TriggerKind::Topic,
        TriggerKind::Webhook,
        TriggerKind::Broker,
        TriggerKind::Bucket,
        TriggerKind::Folder,
        TriggerKind::Destination,
    ];
    let mut runs = Vec::new();
    for (number, tier) in tiers.into_iter().enumerate() {
        let triggers = triggers.into_iter().cycle().skip(number * statuses.len());
        for (status, trigger) in statuses.into_iter().zip(triggers) {
            let id = format!("kind-{number}-{status:?}");
            runs.push(Run { tier, status, trigger, ..run(&id, "kinds", 1_000) });
        }
    }
    store.append(runs.clone().into()).await.unwrap();
    for run in runs {
        assert_eq!(store.get(&run.id).await.unwrap(), [run]);
    }
}

async fn attempts_of_one_invocation(store: &dyn History) {
    let first = Run {
        status: RunStatus::Failed,
        error: Some(ErrorCode::HandlerError),
        message: Some("a \"quoted\"\nline \u{1b}[31m \0".to_owned()),
        ..run("a", "attempts", 10)
    };
    let second = Run { attempt: 2, started_at: Timestamp(20), ..run("a", "attempts", 20) };
    store.append(vec![second.clone(), first.clone()].into()).await.unwrap();
    let id = InvocationId::new("a").unwrap();
    assert_eq!(store.get(&id).await.unwrap(), vec![first.clone(), second.clone()]);
    let replaced = Run { status: RunStatus::Timeout, started_at: Timestamp(25), ..second };
    store.append(vec![replaced.clone()].into()).await.unwrap();
    assert_eq!(store.get(&id).await.unwrap(), vec![first, replaced]);
    assert_eq!(store.get(&InvocationId::new("nobody").unwrap()).await, Ok(Vec::new()));
    store.append(Arc::default()).await.unwrap();
}

async fn filters(store: &dyn History) {
    let mut other = run("f4", "filters", 140);
    other.key.namespace = name("other");
    other.key.version = 7;
    let failed = Run { status: RunStatus::Failed, ..run("f2", "filters", 120) };
    let runs = vec![run("f1", "filters", 110), failed, run("f3", "filters-2", 130), other];
    store.append(runs.into()).await.unwrap();
    let since = Some(Timestamp(110));
    let all = RunFilter { since, ..RunFilter::default() };
    assert_eq!(list(store, all.clone()).await, ["f4", "f3", "f2", "f1"]);
    let function = Some(name("filters"));
    assert_eq!(
        list(store, RunFilter { function: function.clone(), ..all.clone() }).await,
        ["f4", "f2", "f1"]
    );
    let namespace = Some(name("default"));
    let both = RunFilter { function, namespace, ..all.clone() };
    assert_eq!(list(store, both.clone()).await, ["f2", "f1"]);
    let status = |status| RunFilter { status: Some(status), ..both.clone() };
    assert_eq!(list(store, status(RunStatus::Failed)).await, ["f2"]);
    assert_eq!(list(store, status(RunStatus::Done)).await, ["f1"]);
    assert_eq!(list(store, status(RunStatus::Cancelled)).await, [""; 0]);
    assert_eq!(list(store, RunFilter { version: Some(7), ..all.clone() }).await, ["f4"]);
    assert_eq!(list(store, RunFilter { until: Some(Timestamp(130)), ..all }).await, ["f2", "f1"]);
}

async fn pages_continue_where_they_ended(store: &dyn History) {
    let function = "pages";
    store.append((0..5).map(|n| run(&format!("p{n}"), function, 200)).collect()).await.unwrap();
    let filter = RunFilter { function: Some(name(function)), limit: 2, ..RunFilter::default() };
    let mut seen = Vec::new();
    let mut page = store.list(filter.clone()).await.unwrap();
    for late in 0.. {
        seen.extend(page.runs.iter().map(|run| run.id.to_string()));
        let Some(cursor) = page.next else { break };
        store.append(vec![run(&format!("late{late}"), function, 300)].into()).await.unwrap();
        page = store.list(RunFilter { cursor: Some(cursor), ..filter.clone() }).await.unwrap();
    }
    seen.sort();
    assert_eq!(seen, ["p0", "p1", "p2", "p3", "p4"], "each once, also where all started at the same moment");
    for cursor in ["", "x", "1-2-3", "-", "9999999999999999999999"] {
        let refused = store.list(RunFilter { cursor: Some(cursor.to_owned()), ..filter.clone() }).await;
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{cursor:?}: {refused:?}");
    }
    let nothing = store.list(RunFilter { limit: 0, ..filter }).await.unwrap();
    assert_eq!((nothing.runs.len(), nothing.next), (0, None));
}

async fn pruning(store: &dyn History) {
    store.prune(Timestamp(i64::MAX), 0).await.unwrap();
    let everything = RunFilter { limit: usize::MAX, ..RunFilter::default() };
    assert_eq!(store.list(everything.clone()).await.unwrap().runs, []);
    let count = PAGE_LEN_MAX as i64 * 3;
    store.append((0..count).map(|n| run(&format!("n{n}"), "prune", n)).collect()).await.unwrap();
    assert_eq!(store.list(everything.clone()).await.unwrap().runs.len(), PAGE_LEN_MAX);
    assert_eq!(store.prune(Timestamp(10), u64::MAX).await, Ok(10));
    assert_eq!(store.prune(Timestamp(12), 4).await, Ok(count as u64 - 14));
    assert_eq!(store.prune(Timestamp(0), 4).await, Ok(0));
    let left = list(store, everything).await;
    assert_eq!(left, (count - 4..count).rev().map(|n| format!("n{n}")).collect::<Vec<_>>());
}
