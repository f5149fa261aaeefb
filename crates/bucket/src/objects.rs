//! Objects: what is known of them, their change, their removal.

use std::ops::Range;
use std::sync::atomic::Ordering;

use alula_store::{Batch, Expect, Record};
use alula_trigger::Pauses;
use bytes::Bytes;
use futures_util::Stream;
use s3s::dto::ETagCondition;

use crate::announce::with_calls;
use crate::contents::Arrived;
use crate::event::{Action, Actor, Change, Written};
use crate::key::BucketKey;
use crate::options::{COMMITS_MAX, CONTENT_BYTES_MAX, KEY_BYTES_MAX, METADATA_BYTES_MAX};
use crate::record::{self, Content, Headers, StoredObject};
use crate::{Buckets, Error, Result};

/// What a change requires of the object that is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
}

/// An object that is to be.
#[derive(Debug, Clone)]
pub(crate) struct NewObject {
    pub(crate) how: Written,
    pub(crate) bytes: u64,
    pub(crate) etag: String,
    pub(crate) headers: Headers,
    pub(crate) content: Content,
}

/// Where an object is, and who asks.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) at: BucketKey,
    pub(crate) key: String,
    pub(crate) actor: Actor,
}

impl Conditions {
    fn check(&self, present: Option<&StoredObject>, key: &str) -> Result<()> {
        if let Some(wanted) = &self.if_match {
            let object = present.ok_or_else(|| Error::NoSuchKey(key.to_owned()))?;
            if !matches(wanted, object) {
                return Err(Error::Precondition("If-Match"));
            }
        }
        match (&self.if_none_match, present) {
            (Some(unwanted), Some(object)) if matches(unwanted, object) => {
                Err(Error::Precondition("If-None-Match"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a condition names this object.
pub(crate) fn matches(condition: &ETagCondition, object: &StoredObject) -> bool {
    condition.as_etag().is_none_or(|etag| etag.value() == object.etag)
}

impl Buckets {
    /// What is known of an object.
    pub(crate) async fn object(&self, at: &BucketKey, key: &str) -> Result<StoredObject> {
        let found = self.records().get(&at.object(key)).await?;
        let record = found.ok_or_else(|| Error::NoSuchKey(key.to_owned()))?;
        Ok(record::read(&record)?)
    }

    /// The bytes of `range` of an object.
    pub(crate) async fn read(
        &self,
        object: &StoredObject,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + Unpin + use<>> {
        let contents = &self.shared.contents;
        let pieces = contents.pieces(&object.content, object.bytes).await?;
        Ok(Box::pin(contents.read(&pieces, range).await?))
    }

    /// Takes in the content of a put or a part.
    pub(crate) async fn take<S, E>(&self, body: S) -> Result<Arrived>
    where
        S: Stream<Item = std::result::Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.shared.contents.take(body, self.content_bytes_max()).await
    }

    /// What one put or one part may bring, in bytes.
    pub(crate) fn content_bytes_max(&self) -> u64 {
        CONTENT_BYTES_MAX.min(self.shared.parts.options.object_bytes_max)
    }

    /// Makes a content that has arrived an object.
    pub(crate) async fn put(
        &self,
        place: &Place,
        arrived: Arrived,
        (how, headers): (Written, Headers),
        conditions: &Conditions,
    ) -> Result<StoredObject> {
        let content = Content::Whole(arrived.piece.0);
        let new = NewObject { how, bytes: arrived.piece.1, etag: arrived.etag(), headers, content };
        let replaced = self.replace(place, &new, conditions, &|batch| arrived.named(batch)).await;
        if let Err(error) = &replaced
            && !matches!(error, Error::Store(_))
        {
            self.shared.contents.discard(arrived).await;
        }
        replaced
    }

    /// Puts `new` in place of whatever is there; `with` adds what belongs to it to the commit.
    pub(crate) async fn replace(
        &self,
        place: &Place,
        new: &NewObject,
        conditions: &Conditions,
        with: &(dyn Fn(Batch) -> Batch + Sync),
    ) -> Result<StoredObject> {
        check(&place.key, &new.headers)?;
        let _stays = self.shared.existence.read().await;
        self.bucket(&place.at.namespace, place.at.bucket.as_str()).await?;
        let record_key = place.at.object(&place.key);
        for _ in 0..COMMITS_MAX {
            let (old, present) = self.present(place).await?;
            conditions.check(old.as_ref(), &place.key)?;
            let change = self.change(place, old.as_ref(), new.action());
            let object = StoredObject {
                bytes: new.bytes,
                etag: new.etag.clone(),
                modified_at: change.at,
                sequence: change.sequence,
                headers: new.headers.clone(),
                content: new.content.clone(),
            };
            let expect = present.map_or(Expect::Absent, |record| Expect::At(record.revision));
            let batch = with(Batch::default().put(record_key.clone(), record::write(&object), expect));
            match self.commit(&change, batch, old.as_ref()).await {
                Err(Error::Store(alula_store::Error::Conflict { key }))
                    if key == record_key || Pauses::is_one(&key) => {}
                outcome => return outcome.map(|()| object),
            }
        }
        Err(Error::Contended)
    }

    /// Removes an object, if it is there.
    pub(crate) async fn remove(&self, place: &Place) -> Result<()> {
        check(&place.key, &Headers::default())?;
        let record_key = place.at.object(&place.key);
        for _ in 0..COMMITS_MAX {
            let (Some(old), Some(present)) = self.present(place).await? else { return Ok(()) };
            let change = self.change(place, Some(&old), Action::Delete);
            let batch = Batch::default().delete(record_key.clone(), Expect::At(present.revision));
            match self.commit(&change, batch, Some(&old)).await {
                Err(Error::Store(alula_store::Error::Conflict { key }))
                    if key == record_key || Pauses::is_one(&key) => {}
                outcome => return outcome,
            }
        }
        Err(Error::Contended)
    }

    async fn present(&self, place: &Place) -> Result<(Option<StoredObject>, Option<Record>)> {
        let record = self.records().get(&place.at.object(&place.key)).await?;
        let object = record.as_ref().map(record::read).transpose()?;
        Ok((object, record))
    }

    fn change(&self, place: &Place, old: Option<&StoredObject>, action: Action) -> Change {
        let at = self.now();
        Change {
            namespace: place.at.namespace.clone(),
            bucket: place.at.bucket.clone(),
            key: place.key.clone(),
            action,
            at,
            sequence: self.next_sequence(old, at),
            actor: place.actor.clone(),
        }
    }

    /// Microseconds, so that a removed object that comes again has a higher number; never one that was given before.
    fn next_sequence(&self, old: Option<&StoredObject>, at: alula_model::Timestamp) -> u64 {
        let by_clock = u64::try_from(at.as_millis()).unwrap_or(0).saturating_mul(1_000);
        let least = by_clock.max(old.map_or(0, |old| old.sequence + 1));
        let next = |last: u64| Some(least.max(last + 1));
        let last = self.shared.sequence.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.map_or(least, |last| least.max(last + 1))
    }

    /// Commits a change with the calls that it makes.
    async fn commit(&self, change: &Change, batch: Batch, old: Option<&StoredObject>) -> Result<()> {
        let announce = &self.shared.parts.announce;
        let calls = announce.prepare(change).await.map_err(Error::Refused)?;
        let batch = match old {
            Some(old) => self.shared.contents.released(batch, &old.content),
            None => batch,
        };
        self.records().commit(with_calls(batch, &calls)).await?;
        announce.committed(&calls);
        self.shared.parts.observe.told(change.action.kind(), calls.len());
        Ok(())
    }
}

impl NewObject {
    fn action(&self) -> Action {
        Action::Put { how: self.how, bytes: self.bytes, etag: self.etag.clone() }
    }
}

/// Refuses what is over a limit of keys and metadata.
pub(crate) fn check(key: &str, headers: &Headers) -> Result<()> {
    let user = headers.user.iter().map(|(name, value)| name.len() + value.len()).sum();
    for (what, value, limit) in [
        ("the length of the key", key.len(), KEY_BYTES_MAX),
        ("the size of the metadata", user, METADATA_BYTES_MAX),
    ] {
        if value > limit {
            let (value, limit) = (value as u64, limit as u64);
            return Err(Error::TooLarge { what, value, limit, remedy: "" });
        }
    }
    match key.is_empty() {
        true => Err(Error::Invalid("a key must not be empty".to_owned())),
        false => Ok(()),
    }
}
