//! From events to one commit: the events, and a call for every function that listens.

use alula_invoke::cloudevents::{CloudEvent, STRUCTURED};
use alula_invoke::later::{Deferred, Prepared};
use alula_model::{ErrorCode, Fault, InvocationId, Lineage, Timestamp, TriggerKind};
use alula_store::{Batch, Expect};
use http::header::{self, HeaderValue};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Builder;

use super::handle::{Shared, store_fault};
use super::kept::{self, Kept};
use super::subscriptions::Subscription;
use super::{EVENT_BYTES_MAX, NamedBy, ONCE_KEEP_MS, Publication, Published, SUBSCRIBERS_MAX};
use crate::Pauses;

/// How often a commit is tried anew that something else was in the way of: a pause, or the same event at the same moment.
const TRIES_MAX: usize = 3;

/// What is to be committed for some events.
#[derive(Debug, Default)]
pub(super) struct Fanned {
    pub(super) batch: Batch,
    pub(super) prepared: Vec<Prepared>,
}

/// One event on its way to its subscribers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passage<'a> {
    pub(super) event: &'a CloudEvent,
    pub(super) lineage: &'a Lineage,
    /// When it is passed on.
    pub(super) at: Timestamp,
    /// Tells this passage from another one of the same event.
    pub(super) name: &'a str,
}

impl Shared {
    pub(super) async fn publish(&self, publication: &Publication) -> Result<Vec<Published>, Fault> {
        publication.events.iter().try_for_each(check_size)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let (fanned, published) = self.prepare(publication).await?;
            if fanned.batch == Batch::default() {
                return Ok(published);
            }
            match self.records.commit(fanned.batch).await {
                Ok(_) => {
                    self.known(publication);
                    fanned.prepared.iter().for_each(|prepared| self.acceptor.committed(prepared));
                    return Ok(published);
                }
                Err(alula_store::Error::Conflict { .. }) if tries < TRIES_MAX => {}
                Err(error) => return Err(store_fault(&error)),
            }
        }
    }

    /// What is to be committed for a publication.
    pub(super) async fn prepare(&self, publication: &Publication) -> Result<(Fanned, Vec<Published>), Fault> {
        let Publication { namespace, topic, events, named_by, lineage } = publication;
        let at = self.clock.now();
        let mut fanned = Fanned::default();
        let mut published = Vec::with_capacity(events.len());
        for event in events {
            let id = event.attribute("id").unwrap_or_default().to_owned();
            let once = kept::once(namespace, topic, event);
            if *named_by == NamedBy::Publisher {
                if self.records.get(&once).await.map_err(|error| store_fault(&error))?.is_some() {
                    published.push(Published { id, calls: 0, is_repeat: true });
                    continue;
                }
                let until = at.plus_millis(ONCE_KEEP_MS);
                fanned.batch = fanned.batch.put_until(once, id.clone(), Expect::Absent, until);
            }
            let calls = self.fan_out(publication, event, lineage, at, &mut fanned).await?;
            published.push(Published { id, calls, is_repeat: false });
        }
        let length = fanned.batch.writes.len() + fanned.batch.messages.len();
        if length > alula_store::BATCH_LEN_MAX {
            let message = format!(
                "these events make {length} changes, at most {} go in one request: send fewer events at once",
                alula_store::BATCH_LEN_MAX
            );
            return Err(Fault::new(ErrorCode::RequestTooLarge, message));
        }
        if !self.is_known(publication) && fanned.batch != Batch::default() {
            fanned.batch = fanned.batch.put(kept::topic(namespace, topic), Vec::new(), Expect::Any);
        }
        Ok((fanned, published))
    }

    /// Adds one event, with its calls; answers how many those are.
    async fn fan_out(
        &self,
        publication: &Publication,
        event: &CloudEvent,
        lineage: &Lineage,
        at: Timestamp,
        fanned: &mut Fanned,
    ) -> Result<usize, Fault> {
        let Publication { namespace, topic, .. } = publication;
        let key = kept::key(namespace, topic, at, event);
        let passage = Passage { event, lineage, at, name: key.as_str() };
        let index = self.subscriptions.now();
        let before = fanned.prepared.len();
        let value = event.clone().into_value();
        for subscription in
            index.of_topic(namespace, topic).iter().filter(|subscription| subscription.takes(&value))
        {
            if self.pauses.get(&subscription.key).await.map_err(|error| store_fault(&error))?.is_some() {
                continue;
            }
            self.pass(passage, subscription, fanned).await?;
            fanned.batch = Pauses::unless_paused(&subscription.key, std::mem::take(&mut fanned.batch));
        }
        let calls = fanned.prepared.len() - before;
        if calls > SUBSCRIBERS_MAX {
            let message = format!(
                "topic {topic} has {calls} functions that listen to this event, at most {SUBSCRIBERS_MAX} are called"
            );
            let limit = SUBSCRIBERS_MAX as u64;
            return Err(Fault::limit(ErrorCode::RequestTooLarge, message, "SUBSCRIBERS_MAX", limit, "fixed"));
        }
        let kept = Kept::new(at, lineage, event).to_bytes();
        let until = at.plus_millis(i64::try_from(self.options.event_keep_ms).unwrap_or(i64::MAX));
        fanned.batch = std::mem::take(&mut fanned.batch).put_until(key, kept, Expect::Any, until);
        Ok(calls)
    }

    /// Adds the call of one subscription. One that takes no calls now is left out: the event is kept, and its function is
    /// its owner's to resume.
    pub(super) async fn pass(
        &self,
        passage: Passage<'_>,
        subscription: &Subscription,
        fanned: &mut Fanned,
    ) -> Result<(), Fault> {
        let mut prepared = match self.acceptor.prepare(passage.call_of(subscription)).await {
            Ok(prepared) => prepared,
            Err(fault) if fault.code == ErrorCode::StoreUnavailable => return Err(fault),
            Err(fault) => {
                tracing::warn!(trigger = %subscription.key, %fault, "an event is not handed to a function that listens");
                return Ok(());
            }
        };
        let Batch { messages, writes, .. } = std::mem::take(&mut prepared.batch);
        fanned.batch.messages.extend(messages);
        fanned.batch.writes.extend(writes);
        fanned.prepared.push(prepared);
        Ok(())
    }
}

impl Subscription {
    /// Whether an event is for it.
    pub(super) fn takes(&self, event: &Value) -> bool {
        self.is_enabled && self.filter.as_ref().is_none_or(|filter| filter.matches(event))
    }
}

impl Passage<'_> {
    fn call_of(&self, subscription: &Subscription) -> Deferred {
        let event = self.event.to_bytes();
        let id = self.call_id(subscription);
        let mut call = Deferred::event(id, subscription.target.clone(), TriggerKind::Topic, event);
        call.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
        call.lineage = self.lineage.clone();
        call.ordering_key =
            self.event.attribute("partitionkey").filter(|key| !key.is_empty()).map(str::to_owned);
        call
    }

    /// An id that tells the moment, as all ids of the platform tell theirs (UUID version 7), and is the same however often
    /// the same passage is tried.
    #[expect(clippy::expect_used, reason = "a hyphenated UUID is letters, digits and hyphens")]
    fn call_id(&self, subscription: &Subscription) -> InvocationId {
        let digest = Sha256::digest(format!("{} {}", self.name, subscription.key));
        let mut random = [0; 10];
        random.copy_from_slice(&digest[..10]);
        let millis = u64::try_from(self.at.as_millis()).unwrap_or_default();
        let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        InvocationId::new(&id.to_string()).expect("a UUID is an invocation id")
    }
}

fn check_size(event: &CloudEvent) -> Result<(), Fault> {
    let bytes = event.to_bytes().len();
    if bytes <= EVENT_BYTES_MAX {
        return Ok(());
    }
    let message = format!("the event has {bytes} bytes, a topic takes {EVENT_BYTES_MAX} at the most");
    let limit = EVENT_BYTES_MAX as u64;
    Err(Fault::limit(ErrorCode::RequestTooLarge, message, "EVENT_BYTES_MAX", limit, "fixed"))
}
