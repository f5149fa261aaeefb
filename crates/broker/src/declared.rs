//! What is deployed, as whoever watches brokers sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use alula_control::Catalog;
use alula_model::trigger::Trigger;
use alula_model::{FunctionRef, Qualifier};
use alula_runtime::VersionPlan;
use tokio::sync::watch;

use alula_trigger::TriggerKey;

/// One trigger of the version in force of a function that watches a broker.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Its name.
    pub key: TriggerKey,
    /// The version that states it, and its place among the triggers there.
    stated: (Arc<VersionPlan>, usize),
}

/// Two are equal where whoever watches need not notice the difference.
impl PartialEq for Declared {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.trigger() == other.trigger() && self.env() == other.env()
    }
}

impl Declared {
    /// The trigger at `place` among those of `stating`, if it is there, enabled, and watches a broker.
    #[must_use]
    pub fn new(stating: &Arc<VersionPlan>, place: usize) -> Option<Self> {
        let trigger = stating.spec.triggers.get(place)?;
        trigger.source.batching().filter(|_| trigger.enabled)?;
        let (namespace, function) = (stating.key.namespace.clone(), stating.key.function.clone());
        let key = TriggerKey { namespace, function, trigger: trigger.name.clone() };
        Some(Self { key, stated: (Arc::clone(stating), place) })
    }

    /// What is stated.
    #[must_use]
    pub fn trigger(&self) -> &Trigger {
        &self.stated.0.spec.triggers[self.stated.1]
    }

    /// The variables that its address may name.
    #[must_use]
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.stated.0.spec.env
    }

    /// What it calls, as it is stated.
    #[must_use]
    pub fn target(&self) -> FunctionRef {
        let qualifier = self.trigger().qualifier.as_deref().and_then(|text| text.parse().ok());
        FunctionRef {
            namespace: self.key.namespace.clone(),
            name: self.key.function.clone(),
            qualifier: qualifier.unwrap_or(Qualifier::Latest),
        }
    }
}

/// Knows which brokers are to be watched.
pub trait Deployed: Send + Sync + fmt::Debug {
    /// Tells of every change.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Every trigger in force that watches a broker.
    fn brokers(&self) -> Vec<Declared>;
}

impl Deployed for Catalog {
    fn changed(&self) -> watch::Receiver<u64> {
        Self::changed(self)
    }

    fn brokers(&self) -> Vec<Declared> {
        let snapshot = self.load();
        let mut declared = Vec::new();
        for entry in snapshot.entries() {
            let Ok(latest) = entry.plan(&Qualifier::Latest) else { continue };
            declared.extend((0..latest.spec.triggers.len()).filter_map(|at| Declared::new(latest, at)));
        }
        declared
    }
}
