//! Watches what is deployed: a task a trigger, begun and ended as the catalog changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alula_control::Catalog;
use alula_model::trigger::{FolderSource, Source};
use alula_model::{Clock, FunctionRef, Qualifier};
use alula_store::Records;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::watch::Watch;
use super::{Allowed, Deliver, seen};
use crate::TriggerKey;

/// Wait after what is known of triggers that are gone could not be forgotten.
const FORGET_RETRY: Duration = Duration::from_secs(5);

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
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Watches folders.
#[derive(Debug)]
pub struct Service {
    parts: Parts,
    watches: HashMap<TriggerKey, Running>,
}

/// A folder that is being watched.
#[derive(Debug)]
struct Running {
    declared: Declared,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A trigger in force.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    target: FunctionRef,
    source: FolderSource,
    enabled: bool,
}

impl Service {
    /// A service over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, watches: HashMap::new() }
    }

    /// Watches until `stop`. A call that is being handed in is then either stored with what was seen, or neither is.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changed = self.parts.catalog.changed();
        changed.mark_changed();
        loop {
            match stop.run_until_cancelled(changed.changed()).await {
                Some(Ok(())) => {}
                _ => break,
            }
            while let Err(error) = self.follow(&stop).await {
                tracing::warn!(%error, "what was seen of folders cannot be brought up to date");
                if stop.run_until_cancelled(tokio::time::sleep(FORGET_RETRY)).await.is_none() {
                    break;
                }
            }
        }
        for running in self.watches.into_values() {
            running.stop.cancel();
            drop(running.task.await);
        }
    }

    /// Ends what is not in force any more and begins what is.
    async fn follow(&mut self, stop: &CancellationToken) -> alula_store::Result<()> {
        let declared = self.declared();
        let ended: Vec<TriggerKey> = self
            .watches
            .iter()
            .filter(|(key, running)| declared.get(*key) != Some(&running.declared))
            .map(|(key, _)| key.clone())
            .collect();
        for key in ended {
            if let Some(running) = self.watches.remove(&key) {
                running.stop.cancel();
                drop(running.task.await);
            }
        }
        for gone in seen::known(&*self.parts.records).await? {
            if !declared.contains_key(&gone) {
                seen::forget(&*self.parts.records, &gone).await?;
            }
        }
        for (trigger, declared) in declared {
            if declared.enabled && !self.watches.contains_key(&trigger) {
                let running = self.begin(&trigger, declared, stop);
                self.watches.insert(trigger, running);
            }
        }
        Ok(())
    }

    fn begin(&self, trigger: &TriggerKey, declared: Declared, stop: &CancellationToken) -> Running {
        let Parts { allowed, records, deliver, clock, .. } = self.parts.clone();
        let Declared { target, source, .. } = declared.clone();
        let watch = Watch { trigger: trigger.clone(), target, source, allowed, records, deliver, clock };
        let stop = stop.child_token();
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
                let source = source.clone();
                declared.insert(key, Declared { target, source, enabled: trigger.enabled });
            }
        }
        declared
    }
}
