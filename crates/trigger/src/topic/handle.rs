//! What others hold of topics: publishing, the list, replays.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_invoke::later::{self, Acceptor, BoxFuture};
use alula_model::{Clock, ErrorCode, Fault, Name};
use alula_store::{Batch, Key, Records, SCAN_LEN_MAX};
use serde_json::Value;

use super::publish::Fanned;
use super::subscriptions::Subscriptions;
use super::{NamedBy, Options, Parts, Publication, Published, kept};
use crate::{Pauses, TriggerKey};

/// Topics that are remembered as known; beyond, their records are written again.
const KNOWN_MAX: usize = 100_000;

/// Publishes to topics. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Topics {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) records: Arc<dyn Records>,
    pub(super) acceptor: Acceptor,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pauses: Pauses,
    pub(super) subscriptions: Subscriptions,
    /// Topics whose record is there.
    known: Mutex<HashSet<(Name, Name)>>,
}

/// A topic and who listens to it.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicView {
    /// Its name.
    pub name: Name,
    /// Who listens, in the order of names.
    pub subscriptions: Vec<SubscriptionView>,
}

/// One function that listens.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionView {
    /// Its trigger.
    pub key: TriggerKey,
    /// Which events; all, where it is left out.
    pub filter: Option<Value>,
    /// Whether its spec lets it fire.
    pub is_enabled: bool,
}

impl Topics {
    /// Topics over `parts`.
    #[must_use]
    pub fn new(options: Options, parts: Parts) -> Self {
        let Parts { catalog, records, acceptor, clock } = parts;
        let (pauses, subscriptions) = (Pauses::new(Arc::clone(&records)), Subscriptions::new(catalog));
        let known = Mutex::default();
        Self { shared: Arc::new(Shared { options, records, acceptor, clock, pauses, subscriptions, known }) }
    }

    /// Publishes; the events and the calls that they make are durable when this returns, all of them or none.
    pub async fn publish(&self, publication: &Publication) -> Result<Vec<Published>, Fault> {
        self.shared.publish(publication).await
    }

    /// How long events are kept, in milliseconds.
    #[must_use]
    pub fn event_keep_ms(&self) -> u64 {
        self.shared.options.event_keep_ms
    }

    /// The topics of a namespace that somebody has published to or listens to, in the order of their names.
    pub async fn list(&self, namespace: &Name) -> Result<Vec<TopicView>, Fault> {
        let index = self.shared.subscriptions.now();
        let mut names: BTreeSet<Name> = index.topics(namespace).cloned().collect();
        let mut after: Option<Key> = None;
        loop {
            let scanned = self.shared.records.scan(&kept::topics_of(namespace), after.as_ref(), SCAN_LEN_MAX);
            let page = scanned.await.map_err(|error| store_fault(&error))?;
            names.extend(page.iter().filter_map(|record| Name::new(record.key.segments().nth(2)?).ok()));
            match page.into_iter().last() {
                Some(last) => after = Some(last.key),
                None => break,
            }
        }
        let view = |name: Name| {
            let subscriptions =
                index.of_topic(namespace, &name).iter().map(|subscription| SubscriptionView {
                    key: subscription.key.clone(),
                    filter: subscription.source.filter.clone(),
                    is_enabled: subscription.is_enabled,
                });
            TopicView { subscriptions: subscriptions.collect(), name }
        };
        Ok(names.into_iter().map(view).collect())
    }
}

impl later::Topics for Topics {
    fn publish(&self, publication: later::Publication) -> BoxFuture<'_, Result<Batch, Fault>> {
        Box::pin(async move {
            let later::Publication { namespace, topic, event, lineage } = publication;
            // It is committed with the end of a call, which happens once.
            let (events, named_by) = (vec![event], NamedBy::Platform);
            let publication = Publication { namespace, topic, events, named_by, lineage };
            let (Fanned { mut batch, .. }, _) = self.shared.prepare(&publication).await?;
            // A pause that comes at this very moment must not keep a call from ending.
            batch.writes.retain(|write| write.value.is_some());
            Ok(batch)
        })
    }
}

impl Shared {
    fn names(&self) -> MutexGuard<'_, HashSet<(Name, Name)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_known(&self, publication: &Publication) -> bool {
        self.names().contains(&(publication.namespace.clone(), publication.topic.clone()))
    }

    /// The record of the topic is there.
    pub(super) fn known(&self, publication: &Publication) {
        let mut known = self.names();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert((publication.namespace.clone(), publication.topic.clone()));
    }
}

pub(super) fn store_fault(error: &alula_store::Error) -> Fault {
    Fault::new(ErrorCode::StoreUnavailable, format!("the store did not take it: {error}"))
}
