//! Who listens: the triggers of kind `topic` in force, by topic. Read from the catalog once for each of its states.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use alula_control::{Catalog, Snapshot};
use alula_model::trigger::{Source, TopicSource};
use alula_model::{FunctionRef, Name, Qualifier};

use super::pattern::Pattern;
use crate::TriggerKey;

/// One function that listens to a topic.
#[derive(Debug, Clone)]
pub(super) struct Subscription {
    pub(super) key: TriggerKey,
    pub(super) target: FunctionRef,
    pub(super) source: TopicSource,
    pub(super) is_enabled: bool,
    /// `None` where all events are meant.
    pub(super) filter: Option<Pattern>,
}

/// All subscriptions, for one state of the catalog.
#[derive(Debug)]
pub(super) struct Index {
    snapshot: Arc<Snapshot>,
    by_topic: HashMap<(Name, Name), Vec<Subscription>>,
}

/// Gives the index of what is deployed now.
#[derive(Debug)]
pub(super) struct Subscriptions {
    catalog: Catalog,
    latest: Mutex<Option<Arc<Index>>>,
}

impl Subscriptions {
    pub(super) fn new(catalog: Catalog) -> Self {
        Self { catalog, latest: Mutex::default() }
    }

    pub(super) fn now(&self) -> Arc<Index> {
        let snapshot = Arc::clone(&self.catalog.load());
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = latest.as_ref().filter(|index| Arc::ptr_eq(&index.snapshot, &snapshot)) {
            return Arc::clone(index);
        }
        let index = Arc::new(Index::of(snapshot));
        *latest = Some(Arc::clone(&index));
        index
    }
}

impl Index {
    fn of(snapshot: Arc<Snapshot>) -> Self {
        let mut by_topic: HashMap<_, Vec<_>> = HashMap::new();
        for entry in snapshot.entries() {
            let Ok(plan) = entry.plan(&Qualifier::Latest) else { continue };
            for trigger in &plan.spec.triggers {
                let Source::Topic(source) = &trigger.source else { continue };
                let (namespace, function) = (plan.key.namespace.clone(), plan.key.function.clone());
                let Ok(filter) = source.filter.as_ref().map(Pattern::read).transpose() else {
                    tracing::warn!(function = %plan.key, trigger = %trigger.name, "a filter cannot be read: nothing matches it");
                    continue;
                };
                let qualifier = trigger.qualifier.as_deref().and_then(|text| text.parse().ok());
                let target = FunctionRef {
                    namespace: namespace.clone(),
                    name: function.clone(),
                    qualifier: qualifier.unwrap_or(Qualifier::Latest),
                };
                let key =
                    TriggerKey { namespace: namespace.clone(), function, trigger: trigger.name.clone() };
                let place = by_topic.entry((namespace, source.topic.clone())).or_default();
                place.push(Subscription {
                    key,
                    target,
                    source: source.clone(),
                    is_enabled: trigger.enabled,
                    filter,
                });
            }
        }
        for subscriptions in by_topic.values_mut() {
            subscriptions.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        }
        Self { snapshot, by_topic }
    }

    /// Those of a topic, in the order of their names.
    pub(super) fn of_topic(&self, namespace: &Name, topic: &Name) -> &[Subscription] {
        self.by_topic.get(&(namespace.clone(), topic.clone())).map_or(&[], Vec::as_slice)
    }

    /// The topics of a namespace that somebody listens to.
    pub(super) fn topics(&self, namespace: &Name) -> impl Iterator<Item = &Name> {
        self.by_topic.keys().filter(move |(other, _)| other == namespace).map(|(_, topic)| topic)
    }
}
