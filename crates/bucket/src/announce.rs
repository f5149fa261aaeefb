//! Who is told of a change: functions whose `latest` has a trigger of kind `bucket`.
//!
//! The calls are prepared before the change is committed and committed with it. What cannot be called because it is not
//! there (an alias that was deleted) gets nothing, and a warning says so; what takes no calls at the moment (it is being
//! drained) keeps the change from being made, for its event would be lost. A trigger that an operator has paused misses
//! what happens meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use alula_control::{Catalog, Snapshot};
use alula_invoke::later::{Acceptor, Deferred, Prepared};
use alula_model::trigger::{BucketSource, Source, Trigger};
use alula_model::{ErrorCode, Fault, FunctionRef, InvocationId, Name, Qualifier, TriggerKind};
use alula_store::{Batch, Records};
use alula_trigger::{Pauses, TriggerKey};

use crate::BoxFuture;
use crate::event;
use crate::options::SUBSCRIBERS_MAX;

pub use crate::event::Change;

/// Makes the messages that tell of a change.
pub trait Announce: Send + Sync + std::fmt::Debug {
    /// The messages, to be committed with the change.
    fn prepare<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<Vec<Prepared>, Fault>>;

    /// They were committed.
    fn committed(&self, prepared: &[Prepared]);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Announce for Silent {
    fn prepare<'a>(&'a self, _change: &'a Change) -> BoxFuture<'a, Result<Vec<Prepared>, Fault>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn committed(&self, _prepared: &[Prepared]) {}
}

/// Adds what `prepared` calls need to `batch`.
pub(crate) fn with_calls(mut batch: Batch, prepared: &[Prepared]) -> Batch {
    for call in prepared {
        batch.writes.extend(call.batch.writes.iter().cloned());
        batch.messages.extend(call.batch.messages.iter().cloned());
    }
    batch
}

/// Tells the functions that have subscribed.
#[derive(Debug)]
pub struct Subscribers {
    catalog: Catalog,
    acceptor: Acceptor,
    pauses: Pauses,
    draw_id: fn() -> InvocationId,
    index: Mutex<Index>,
}

/// The subscriptions of one state of the catalog, by bucket.
#[derive(Debug, Default)]
struct Index {
    of: Option<Arc<Snapshot>>,
    subscriptions: Arc<HashMap<(Name, Name), Vec<Subscription>>>,
}

/// A trigger of a function.
#[derive(Debug, Clone)]
struct Subscription {
    target: FunctionRef,
    trigger: Name,
    source: BucketSource,
}

impl Subscribers {
    /// The subscribers in `catalog`, who are called by `acceptor`.
    #[must_use]
    pub fn new(
        catalog: Catalog,
        acceptor: Acceptor,
        records: Arc<dyn Records>,
        draw_id: fn() -> InvocationId,
    ) -> Self {
        Self { catalog, acceptor, pauses: Pauses::new(records), draw_id, index: Mutex::default() }
    }

    fn subscriptions(&self) -> Arc<HashMap<(Name, Name), Vec<Subscription>>> {
        let snapshot = Arc::clone(&self.catalog.load());
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if !index.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &snapshot)) {
            *index = Index { subscriptions: Arc::new(subscriptions(&snapshot)), of: Some(snapshot) };
        }
        Arc::clone(&index.subscriptions)
    }

    async fn prepare_calls(&self, change: &Change) -> Result<Vec<Prepared>, Fault> {
        let subscriptions = self.subscriptions();
        let of_bucket = subscriptions.get(&(change.namespace.clone(), change.bucket.clone()));
        let wanted =
            of_bucket.into_iter().flatten().filter(|subscription| wants(&subscription.source, change));
        let mut prepared = Vec::new();
        for subscription in wanted {
            let key = subscription.key();
            if self.pauses.get(&key).await.map_err(of_store)?.is_some() {
                continue;
            }
            let event = event::render(change, subscription.trigger.as_str());
            let target = subscription.target.clone();
            let lineage = change.actor.lineage.clone();
            let call = Deferred::event((self.draw_id)(), target, TriggerKind::Bucket, event);
            let call = Deferred { lineage, ..call };
            match self.acceptor.prepare(call).await {
                Ok(_) if prepared.len() == SUBSCRIBERS_MAX => return Err(too_many(change)),
                Ok(mut call) => {
                    call.batch = Pauses::unless_paused(&key, call.batch);
                    prepared.push(call);
                }
                Err(fault) if is_gone(fault.code) => {
                    let (target, trigger) = (&subscription.target, &subscription.trigger);
                    tracing::warn!(%target, %trigger, "a trigger of a bucket calls what is not there: {fault}");
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(prepared)
    }
}

impl Announce for Subscribers {
    fn prepare<'a>(&'a self, change: &'a Change) -> BoxFuture<'a, Result<Vec<Prepared>, Fault>> {
        Box::pin(self.prepare_calls(change))
    }

    fn committed(&self, prepared: &[Prepared]) {
        prepared.iter().for_each(|call| self.acceptor.committed(call));
    }
}

impl Subscription {
    fn key(&self) -> TriggerKey {
        TriggerKey {
            namespace: self.target.namespace.clone(),
            function: self.target.name.clone(),
            trigger: self.trigger.clone(),
        }
    }
}

fn too_many(change: &Change) -> Fault {
    let message = format!(
        "over {SUBSCRIBERS_MAX} triggers want to know of {:?} in bucket {}: give them narrower prefixes",
        change.key, change.bucket
    );
    let limit = SUBSCRIBERS_MAX as u64;
    Fault::limit(ErrorCode::RequestTooLarge, message, "SUBSCRIBERS_MAX", limit, "fixed")
}

fn of_store(error: alula_store::Error) -> Fault {
    tracing::error!(%error, "the pauses of triggers cannot be read");
    Fault::new(ErrorCode::StoreUnavailable, "the store does not answer")
}

fn is_gone(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::FunctionNotFound | ErrorCode::VersionNotFound | ErrorCode::AliasNotFound)
}

fn subscriptions(snapshot: &Snapshot) -> HashMap<(Name, Name), Vec<Subscription>> {
    let mut by_bucket: HashMap<_, Vec<_>> = HashMap::new();
    for entry in snapshot.entries() {
        let Ok(plan) = entry.plan(&Qualifier::Latest) else { continue };
        let enabled = plan.spec.triggers.iter().filter(|trigger| trigger.enabled);
        for (subscription, bucket) in enabled.filter_map(|trigger| subscription(&plan.key, trigger)) {
            by_bucket.entry((plan.key.namespace.clone(), bucket)).or_default().push(subscription);
        }
    }
    by_bucket
}

fn subscription(key: &alula_model::VersionKey, trigger: &Trigger) -> Option<(Subscription, Name)> {
    let Source::Bucket(source) = &trigger.source else { return None };
    // A trigger's qualifier was checked when it was deployed.
    let qualifier = trigger.qualifier.as_deref().map_or(Ok(Qualifier::Latest), str::parse).ok()?;
    let target = FunctionRef { namespace: key.namespace.clone(), name: key.function.clone(), qualifier };
    let subscription = Subscription { target, trigger: trigger.name.clone(), source: source.clone() };
    Some((subscription, source.bucket.clone()))
}

fn wants(source: &BucketSource, change: &Change) -> bool {
    let key = &change.key;
    source.on.contains(&change.action.change())
        && key.starts_with(&source.prefix)
        && key.ends_with(&source.suffix)
}
