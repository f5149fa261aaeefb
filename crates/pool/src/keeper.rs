//! What the pool remembers of every function: its history of calls, what was decided about it, and when an instance is
//! to be made ready ahead of a call.
//!
//! Histories are of functions, not of versions: a publish does not make the pool forget. Times are milliseconds since
//! the Unix epoch, counted on from the start by the monotonic clock, so that they survive a restart and never jump.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use alula_model::{Name, Timestamp, VersionKey};
use alula_runtime::VersionPlan;
use serde::{Deserialize, Serialize};

use crate::decision::{Decision, Decisions, What};
use crate::keep_alive::{History, HistoryRecord, KeepAlive, KeepAliveOptions, Windows};
use crate::version_pool::Forking;
use crate::view::VersionStanding;

/// Functions that are remembered: half a kilobyte each.
const FUNCTIONS_MAX: usize = 100_000;
/// How many are forgotten at once when there are more, those that were called longest ago.
const FORGOTTEN_AT_ONCE: usize = FUNCTIONS_MAX / 10;

/// Share of the memory from which on its price rises, and by how many doublings until all of it is taken.
const SCARCE_FROM: f32 = 0.6;
const SCARCE_DOUBLINGS: f32 = 10.0;

/// A function of a namespace.
pub(crate) type FunctionKey = (Name, Name);

/// What is remembered of all functions.
#[derive(Debug)]
pub(crate) struct Keeper {
    policy: KeepAlive,
    functions: HashMap<FunctionKey, Kept>,
    /// When a function is to have an instance again.
    due: BinaryHeap<Reverse<(Timestamp, FunctionKey)>>,
}

#[derive(Debug, Default)]
struct Kept {
    history: History,
    /// When its last call ended.
    last_end: Option<Timestamp>,
    windows: Windows,
    /// The newest moment that was put among the due ones.
    due: Option<Timestamp>,
    /// The version that was called last.
    plan: Option<Arc<VersionPlan>>,
    memory_bytes: u64,
    decisions: Decisions,
    forking: Forking,
}

/// What the instances of a version have been doing, as a sweep sees it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) plan: Arc<VersionPlan>,
    /// When a call came after a pause, if one did since the last look.
    pub(crate) woken_at: Option<Timestamp>,
    /// Since when nothing runs and nobody waits; `None` while something does.
    pub(crate) idle_since: Option<Timestamp>,
    /// Memory of one instance.
    pub(crate) memory_bytes: u64,
    /// Cores that its instances have used since the last look.
    pub(crate) cores: f32,
}

/// Why a function is kept as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Idle times that its history holds.
    pub remembered: u16,
    /// The period that it is called in, if there is one.
    pub period: Option<Duration>,
    /// The spans of its idle time during which an instance is held, in seconds since its last call.
    pub windows: Windows,
    /// When its last call ended.
    pub last_end: Option<Timestamp>,
    /// Its versions that have instances, or were to have some.
    pub versions: Vec<VersionStanding>,
    /// The last decisions, the oldest first.
    pub decisions: Vec<Decision>,
}

/// One function in the record that survives a restart.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    namespace: Name,
    function: Name,
    last_end_ms: Option<Timestamp>,
    history: HistoryRecord,
}

impl Keeper {
    pub(crate) fn new(options: KeepAliveOptions) -> Self {
        Self { policy: KeepAlive::new(options), functions: HashMap::new(), due: BinaryHeap::new() }
    }

    /// Remembers what a sweep has seen of one version.
    pub(crate) fn saw(&mut self, seen: Seen) {
        let Self { policy, functions, .. } = self;
        forget_the_oldest(functions);
        let kept = functions.entry(function_of(&seen.plan.key)).or_default();
        if let Some(woken_at) = seen.woken_at {
            match kept.last_end {
                None => policy.first_call(&kept.history),
                Some(end) if end < woken_at => {
                    let idle = Duration::from_millis(woken_at.millis_since(end));
                    policy.called_after(&mut kept.history, idle);
                }
                Some(_) => {}
            }
            kept.plan = Some(Arc::clone(&seen.plan));
        }
        if seen.memory_bytes > 0 {
            kept.memory_bytes = seen.memory_bytes;
        }
        kept.last_end = kept.last_end.max(seen.idle_since);
    }

    /// Whether an idle instance of this version is worth its memory now.
    pub(crate) fn is_worth_holding(&mut self, key: &VersionKey, now: Timestamp, memory_share: f32) -> bool {
        let function = function_of(key);
        let Some(kept) = self.functions.get_mut(&function) else { return false };
        // Without a call there is nothing that says that one comes.
        let Some(last_end) = kept.last_end else { return false };
        kept.windows = self.policy.windows(&kept.history, kept.memory_bytes, scarcity(memory_share));
        let idle = Duration::from_millis(now.millis_since(last_end));
        let is_current = kept.plan.as_ref().is_none_or(|plan| plan.key == *key);
        let is_held = is_current && kept.windows.is_held_at(idle);
        if !is_held && is_current {
            let next = kept.windows.spans().iter().find(|span| span.from() > idle);
            if let Some(span) = next {
                let due = last_end.plus_millis(i64::from(span.from_s) * 1_000);
                if kept.due != Some(due) {
                    kept.due = Some(due);
                    self.due.push(Reverse((due, function)));
                }
            }
        }
        is_held
    }

    /// The versions of which an instance is to be started now, ahead of a call, and how long each has been idle.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<(Arc<VersionPlan>, Duration)> {
        let mut due = Vec::new();
        while self.due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, function))) = self.due.pop() else { break };
            let Some(kept) = self.functions.get(&function) else { continue };
            let (Some(last_end), Some(plan)) = (kept.last_end, &kept.plan) else { continue };
            let idle = Duration::from_millis(now.millis_since(last_end));
            if kept.windows.is_held_at(idle) {
                due.push((Arc::clone(plan), idle));
            }
        }
        due
    }

    /// How long it is until the next call of a function with a period.
    pub(crate) fn next_call_in(&self, key: &VersionKey, now: Timestamp) -> Option<Duration> {
        let kept = self.functions.get(&function_of(key))?;
        let idle = Duration::from_millis(now.millis_since(kept.last_end?));
        Some(kept.history.period()?.saturating_sub(idle))
    }

    /// Forgets the plans of versions that cannot be reached any more.
    pub(crate) fn retire(&mut self, is_reachable: impl Fn(&VersionKey) -> bool) {
        for kept in self.functions.values_mut() {
            if kept.plan.as_ref().is_some_and(|plan| !is_reachable(&plan.key)) {
                kept.plan = None;
            }
        }
    }

    /// Remembers a decision.
    pub(crate) fn decided(&mut self, key: &VersionKey, at: Timestamp, what: What) {
        forget_the_oldest(&mut self.functions);
        self.functions.entry(function_of(key)).or_default().decisions.add(at, key.version, what);
    }

    /// What is known of the starts of a function's version.
    pub(crate) fn forking(&mut self, key: &VersionKey) -> &mut Forking {
        forget_the_oldest(&mut self.functions);
        &mut self.functions.entry(function_of(key)).or_default().forking
    }

    pub(crate) fn explain(&self, namespace: &Name, function: &Name) -> Option<Explanation> {
        let kept = self.functions.get(&(namespace.clone(), function.clone()))?;
        Some(Explanation {
            remembered: kept.history.remembered(),
            period: kept.history.period(),
            windows: kept.windows,
            last_end: kept.last_end,
            versions: Vec::new(),
            decisions: kept.decisions.list(),
        })
    }

    /// The histories as a record.
    pub(crate) fn save(&self) -> serde_json::Result<Vec<u8>> {
        let with_history = self.functions.iter().filter(|(_, kept)| kept.last_end.is_some());
        let records: Vec<Record> = with_history
            .map(|((namespace, function), kept)| Record {
                namespace: namespace.clone(),
                function: function.clone(),
                last_end_ms: kept.last_end,
                history: HistoryRecord::from(&kept.history),
            })
            .collect();
        serde_json::to_vec(&records)
    }

    /// Takes in the histories of a record; what is known already stays. Says how many there were.
    pub(crate) fn load(&mut self, record: &[u8]) -> serde_json::Result<usize> {
        let records: Vec<Record> = serde_json::from_slice(record)?;
        let count = records.len();
        for record in records.into_iter().take(FUNCTIONS_MAX) {
            let Record { namespace, function, last_end_ms, history } = record;
            let history = History::from(&history);
            self.policy.first_call(&history);
            let kept = Kept { history, last_end: last_end_ms, ..Kept::default() };
            self.functions.entry((namespace, function)).or_insert(kept);
        }
        Ok(count)
    }
}

fn function_of(key: &VersionKey) -> FunctionKey {
    (key.namespace.clone(), key.function.clone())
}

fn forget_the_oldest(functions: &mut HashMap<FunctionKey, Kept>) {
    if functions.len() < FUNCTIONS_MAX {
        return;
    }
    let mut ends: Vec<_> = functions.values().map(|kept| kept.last_end).collect();
    let (_, limit, _) = ends.select_nth_unstable(FORGOTTEN_AT_ONCE);
    let limit = *limit;
    functions.retain(|_, kept| kept.last_end > limit);
}

/// By how much memory is dearer than usual where this share of it is taken.
fn scarcity(memory_share: f32) -> f32 {
    let over = ((memory_share - SCARCE_FROM) / (1.0 - SCARCE_FROM)).clamp(0.0, 1.5);
    (over * SCARCE_DOUBLINGS).exp2()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use alula_model::FunctionSpec;

    use super::*;

    fn seen(version: u64, woken_s: i64, idle_since_s: i64) -> Seen {
        let key =
            VersionKey { namespace: Name::default_namespace(), function: Name::new("f").unwrap(), version };
        let plan = VersionPlan::new(key, FunctionSpec::new("fake"), PathBuf::new());
        Seen {
            plan: Arc::new(plan),
            woken_at: Some(Timestamp(woken_s * 1_000)),
            idle_since: Some(Timestamp(idle_since_s * 1_000)),
            memory_bytes: 256 << 20,
            cores: 0.0,
        }
    }

    fn hourly() -> Keeper {
        let mut keeper = Keeper::new(KeepAliveOptions::default());
        (0..8).for_each(|hour| keeper.saw(seen(1, hour * 3_600, hour * 3_600 + 1)));
        keeper
    }

    #[test]
    fn a_timer_is_let_go_and_due_again_and_a_publish_changes_nothing_about_that() {
        let mut keeper = hourly();
        let last = seen(2, 8 * 3_600, 8 * 3_600 + 1);
        keeper.saw(last.clone());
        let end = 8 * 3_600 + 1;
        let at = |seconds: i64| Timestamp((end + seconds) * 1_000);
        assert!(keeper.is_worth_holding(&last.plan.key, at(5), 0.0));
        assert!(!keeper.is_worth_holding(&last.plan.key, at(1_800), 0.0));
        assert!(keeper.due(at(1_800)).is_empty());
        let due = keeper.due(at(3_590));
        assert_eq!(due.iter().map(|(plan, _)| plan.key.version).collect::<Vec<_>>(), [2]);
        assert!(keeper.due(at(3_590)).is_empty(), "it is due once");
    }

    #[test]
    fn histories_survive_and_garbage_is_refused() {
        let keeper = hourly();
        let mut next = Keeper::new(KeepAliveOptions::default());
        assert_eq!(next.load(&keeper.save().unwrap()).unwrap(), 1);
        let explain =
            |keeper: &Keeper| keeper.explain(&Name::default_namespace(), &Name::new("f").unwrap()).unwrap();
        assert_eq!(explain(&next).period, explain(&keeper).period);
        assert_eq!(explain(&next).last_end, explain(&keeper).last_end);
        for garbage in [&b""[..], b"{}", b"[1]", b"[{\"namespace\":\"UPPER\"}]", &[0xff, 0]] {
            assert!(next.load(garbage).is_err());
        }
    }

    #[test]
    fn where_memory_is_short_less_is_worth_holding() {
        let mut keeper = Keeper::new(KeepAliveOptions::default());
        let mut at = 0;
        for idle in [200, 300, 150, 400, 250, 350] {
            at += idle;
            keeper.saw(seen(1, at, at));
        }
        let key = seen(1, 0, 0).plan.key.clone();
        let now = Timestamp((at + 100) * 1_000);
        assert!(keeper.is_worth_holding(&key, now, 0.1));
        assert!(!keeper.is_worth_holding(&key, now, 1.2));
    }
}
