//! Watches what is deployed: a task a trigger, begun and ended as the catalog changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use alula_control::Catalog;
use alula_model::trigger::{FolderSource, Source};
use alula_model::{Clock, FunctionRef, Qualifier, Timestamp};
use alula_store::Records;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::seen::{Memory, known_triggers};
use super::watch::Watch;
use super::{Allowed, Deliver, Observe, RETRY};
use crate::TriggerKey;

/// What watched folders work with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// What is deployed.
    pub catalog: Catalog,
    /// Which folders may be watched.
    pub allowed: Allowed,
    /// Where it is recorded what was seen; the messages of calls go into the same store.
    pub records: Arc<dyn Records>,
    /// Takes the calls.
    pub deliver: Arc<dyn Deliver>,
    /// Is told what happens.
    pub observe: Arc<dyn Observe>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Watches folders.
#[derive(Debug)]
pub struct Service {
    parts: Parts,
    problems: Problems,
    watches: HashMap<TriggerKey, Running>,
}

/// What others hold of the watched folders.
#[derive(Debug, Clone, Default)]
pub struct Handle(Problems);

/// What keeps triggers from seeing their folders whole, in words.
#[derive(Debug, Clone, Default)]
pub(super) struct Problems(Arc<Mutex<HashMap<TriggerKey, String>>>);

/// A folder that is being watched.
#[derive(Debug)]
struct Running {
    declared: Declared,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A trigger in force.
#[derive(Debug, Clone)]
struct Declared {
    target: FunctionRef,
    source: FolderSource,
    enabled: bool,
    /// When it came into force, or later.
    since: Timestamp,
}

impl Handle {
    /// What keeps a trigger from seeing its folder whole.
    #[must_use]
    pub fn problem(&self, trigger: &TriggerKey) -> Option<String> {
        self.0.all().get(trigger).cloned()
    }
}

impl Problems {
    pub(super) fn all(&self) -> std::sync::MutexGuard<'_, HashMap<TriggerKey, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of how a trigger stands; what is new is logged.
    pub(super) fn set(&self, trigger: &TriggerKey, problem: Option<String>) {
        let mut all = self.all();
        if all.get(trigger) == problem.as_ref() {
            return;
        }
        match problem {
            Some(problem) => {
                tracing::warn!(%trigger, problem, "a folder is not watched as it should be");
                all.insert(trigger.clone(), problem);
            }
            None => {
                tracing::info!(%trigger, "a folder is watched as it should be again");
                all.remove(trigger);
            }
        }
    }
}

impl Service {
    /// The service and what others hold of it.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, Handle) {
        let problems = Problems::default();
        let handle = Handle(problems.clone());
        (Self { parts, problems, watches: HashMap::new() }, handle)
    }

    /// Watches until `stop`. A call that is being handed in is then either stored with what was seen, or neither is.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changed = self.parts.catalog.changed();
        while !stop.is_cancelled() {
            changed.mark_unchanged();
            match self.follow().await {
                // It fails where the catalog is gone, which this service holds.
                Ok(()) => {
                    stop.run_until_cancelled(changed.changed()).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "what was seen of folders cannot be brought up to date");
                    stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
                }
            }
        }
        let keys: Vec<_> = self.watches.keys().cloned().collect();
        for key in keys {
            self.end(&key).await;
        }
    }

    /// Ends what is not in force any more and begins what is.
    async fn follow(&mut self) -> alula_store::Result<()> {
        let declared = self.declared();
        let is_over = |(key, running): &(&TriggerKey, &Running)| {
            !declared.get(*key).is_some_and(|declared| declared.is_same_as(&running.declared))
        };
        let over: Vec<TriggerKey> = self.watches.iter().filter(is_over).map(|(key, _)| key.clone()).collect();
        for key in over {
            self.end(&key).await;
        }
        let records = &self.parts.records;
        for trigger in known_triggers(&**records).await? {
            if !declared.contains_key(&trigger) {
                Memory { records: Arc::clone(records), trigger }.forget().await?;
            }
        }
        for (trigger, declared) in declared {
            if declared.enabled && !self.watches.contains_key(&trigger) {
                let running = self.begin(&trigger, declared);
                self.watches.insert(trigger, running);
            }
        }
        self.parts.observe.in_force(self.watches.len());
        Ok(())
    }

    async fn end(&mut self, key: &TriggerKey) {
        if let Some(running) = self.watches.remove(key) {
            running.stop.cancel();
            drop(running.task.await);
            self.problems.all().remove(key);
        }
    }

    fn begin(&self, trigger: &TriggerKey, declared: Declared) -> Running {
        let Parts { allowed, records, deliver, observe, clock, .. } = self.parts.clone();
        let Declared { target, source, since, .. } = declared.clone();
        let memory = Memory { records, trigger: trigger.clone() };
        let problems = self.problems.clone();
        let watch = Watch { memory, target, source, since, allowed, deliver, observe, clock, problems };
        let stop = CancellationToken::new();
        Running { declared, task: tokio::spawn(watch.run(stop.clone())), stop }
    }

    fn declared(&self) -> HashMap<TriggerKey, Declared> {
        let snapshot = Arc::clone(&self.parts.catalog.load());
        let mut declared = HashMap::new();
        for entry in snapshot.entries() {
            let Ok(plan) = entry.plan(&Qualifier::Latest) else { continue };
            for trigger in &plan.spec.triggers {
                let Source::Folder(source) = &trigger.source else { continue };
                // A trigger's qualifier was checked when it was deployed.
                let qualifier = trigger.qualifier.as_deref().map_or(Ok(Qualifier::Latest), str::parse);
                let Ok(qualifier) = qualifier else { continue };
                let (namespace, name) = (plan.key.namespace.clone(), plan.key.function.clone());
                let target = FunctionRef { namespace: namespace.clone(), name: name.clone(), qualifier };
                let key = TriggerKey { namespace, function: name, trigger: trigger.name.clone() };
                let (source, since) = (source.clone(), entry.function.updated_at);
                declared.insert(key, Declared { target, source, enabled: trigger.enabled, since });
            }
        }
        declared
    }
}

impl Declared {
    fn is_same_as(&self, other: &Self) -> bool {
        (&self.target, &self.source, self.enabled) == (&other.target, &other.source, other.enabled)
    }
}
