//! What is deployed, as schedules see it.

use std::fmt;
use std::sync::Arc;

use alula_control::Catalog;
use alula_model::trigger::{ScheduleSource, Source};
use alula_model::{FunctionRef, Qualifier, Timestamp};
use alula_runtime::VersionPlan;
use tokio::sync::watch;

use crate::TriggerKey;

/// One schedule of the version in force of a function.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Its name.
    pub key: TriggerKey,
    /// Since when this statement is in force, or earlier.
    pub since: Timestamp,
    /// The version that states it, and its place among the triggers there.
    stated: (Arc<VersionPlan>, usize),
    /// The version that it calls now; `None` where its qualifier leads nowhere.
    pub plan: Option<Arc<VersionPlan>>,
}

impl Declared {
    /// The schedule at `place` among the triggers of `stating`, if there is one; it calls `plan`.
    #[must_use]
    pub fn new(
        stating: &Arc<VersionPlan>,
        place: usize,
        plan: Option<Arc<VersionPlan>>,
        since: Timestamp,
    ) -> Option<Self> {
        let trigger = stating.spec.triggers.get(place)?;
        let Source::Schedule(_) = &trigger.source else { return None };
        let (namespace, function) = (stating.key.namespace.clone(), stating.key.function.clone());
        let key = TriggerKey { namespace, function, trigger: trigger.name.clone() };
        Some(Self { key, since, stated: (Arc::clone(stating), place), plan })
    }

    /// What is stated.
    #[must_use]
    pub fn source(&self) -> &ScheduleSource {
        match &self.stated.0.spec.triggers[self.stated.1].source {
            Source::Schedule(schedule) => schedule,
            _ => unreachable!("it was made of a schedule, and versions do not change"),
        }
    }

    /// Whether both are the same statement of the same version.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.stated.0, &other.stated.0) && self.stated.1 == other.stated.1
    }

    /// Whether the owner lets it fire.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.stated.0.spec.triggers[self.stated.1].enabled
    }

    /// The version that states it.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.stated.0.key.version
    }

    /// What it calls, as it is stated.
    #[must_use]
    pub fn target(&self) -> FunctionRef {
        let qualifier = self.stated.0.spec.triggers[self.stated.1].qualifier.as_deref();
        let qualifier = qualifier.and_then(|text| text.parse().ok()).unwrap_or(Qualifier::Latest);
        FunctionRef { namespace: self.key.namespace.clone(), name: self.key.function.clone(), qualifier }
    }
}

/// Knows what is deployed.
pub trait Deployed: Send + Sync + fmt::Debug {
    /// Tells of every change.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Every schedule in force.
    fn schedules(&self) -> Vec<Declared>;
}

impl Deployed for Catalog {
    fn changed(&self) -> watch::Receiver<u64> {
        Self::changed(self)
    }

    fn schedules(&self) -> Vec<Declared> {
        let snapshot = self.load();
        let mut schedules = Vec::new();
        for entry in snapshot.entries() {
            let Ok(latest) = entry.plan(&Qualifier::Latest) else { continue };
            for (place, trigger) in latest.spec.triggers.iter().enumerate() {
                let qualifier = trigger.qualifier.as_deref().and_then(|text| text.parse().ok());
                let plan = entry.plan(&qualifier.unwrap_or(Qualifier::Latest)).ok().cloned();
                schedules.extend(Declared::new(latest, place, plan, entry.function.updated_at));
            }
        }
        schedules
    }
}
