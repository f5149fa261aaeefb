//! The handle that everybody works with, and the buckets themselves.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use alula_invoke::LineageSeal;
use alula_model::{AuditEntry, By, Clock, Name, Timestamp};
use alula_store::{AuditTrail, Batch, Expect, Packages, Records, SCAN_LEN_MAX};
use tokio::sync::RwLock;

use crate::announce::Announce;
use crate::contents::Contents;
use crate::key::{self, BucketKey};
use crate::ports::Observe;
use crate::record::{self, StoredBucket};
use crate::{Error, Options, Result};

/// Buckets of all namespaces. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Buckets {
    pub(crate) shared: Arc<Shared>,
}

/// What buckets are made from.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Settings.
    pub options: Options,
    /// The data directory: what is arriving lies below it, on the file system of the packages.
    pub data_dir: PathBuf,
    /// What is known of objects.
    pub records: Arc<dyn Records>,
    /// The contents of objects, and of nothing else.
    pub packages: Arc<dyn Packages>,
    /// Who is told of changes.
    pub announce: Arc<dyn Announce>,
    /// Keeps the record of who did what; it lies in the same store.
    pub audit: Arc<dyn AuditTrail>,
    /// Is told what happens.
    pub observe: Arc<dyn Observe>,
    /// Tells lineages that the platform signed from others.
    pub seal: LineageSeal,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// A hyphenated UUID that was never drawn before.
    pub draw_id: fn() -> String,
    /// 128 random bits that nobody can guess.
    pub draw_secret: fn() -> u128,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) parts: Parts,
    pub(crate) contents: Contents,
    /// Held for reading by whoever puts something into a bucket and for writing by whoever removes one, so that a bucket
    /// is empty at the moment in which it goes.
    pub(crate) existence: RwLock<()>,
    /// The highest sequence number that was given out.
    pub(crate) sequence: AtomicU64,
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketInfo {
    /// Its name.
    pub name: Name,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Buckets {
    /// Opens the buckets and clears away what a process that has ended left half-written.
    pub fn open(parts: Parts) -> Result<Self> {
        let contents = Contents::open(&parts)?;
        let shared = Shared { parts, contents, existence: RwLock::new(()), sequence: AtomicU64::new(0) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Makes a bucket for somebody, as the audit record is to name them.
    pub async fn create(&self, namespace: &Name, name: &str, by: &By) -> Result<BucketInfo> {
        let at = bucket_key(namespace, name)?;
        let limit = self.shared.parts.options.buckets_max;
        if self.list(namespace).await?.len() >= limit {
            let (value, limit) = (limit as u64 + 1, limit as u64);
            let remedy = "; bucket.buckets_max in the configuration";
            return Err(Error::TooLarge { what: "the number of buckets", value, limit, remedy });
        }
        let created_at = self.now();
        let record = at.record();
        let batch =
            Batch::default().put(record.clone(), record::write(&StoredBucket { created_at }), Expect::Absent);
        match self.commit_audited(batch, by, "bucket.create", (namespace, name)).await {
            Ok(_) => Ok(BucketInfo { name: at.bucket, created_at }),
            Err(alula_store::Error::Conflict { key }) if key == record => {
                Err(Error::BucketExists(name.to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The buckets of a namespace, ordered by name.
    pub async fn list(&self, namespace: &Name) -> Result<Vec<BucketInfo>> {
        let records = self.records().scan(&key::buckets(namespace), None, SCAN_LEN_MAX).await?;
        let info = |record: &alula_store::Record| {
            let name = Name::new(record.key.segments().last().unwrap_or_default()).ok()?;
            let stored: Result<StoredBucket> = record::read(record).map_err(Error::from);
            Some(stored.map(|stored| BucketInfo { name, created_at: stored.created_at }))
        };
        records.iter().filter_map(info).collect()
    }

    /// Removes an empty bucket for somebody, as the audit record is to name them.
    pub async fn delete(&self, namespace: &Name, name: &str, by: &By) -> Result<()> {
        let at = self.bucket(namespace, name).await?;
        let _alone = self.shared.existence.write().await;
        for held in [at.objects(), at.uploads()] {
            if !self.records().scan(&held, None, 1).await?.is_empty() {
                return Err(Error::BucketNotEmpty(name.to_owned()));
            }
        }
        let batch = Batch::default().delete(at.record(), Expect::Any);
        self.commit_audited(batch, by, "bucket.delete", (namespace, name)).await?;
        Ok(())
    }

    /// Commits `batch`, and that somebody did this to what has this name in the namespace.
    pub(crate) async fn commit_audited(
        &self,
        batch: Batch,
        by: &By,
        action: &str,
        of: (&Name, &str),
    ) -> alula_store::Result<alula_store::Committed> {
        let (action, subject) = (action.to_owned(), format!("{}/{}", of.0, of.1));
        let By { name: actor, from } = by.clone();
        let entry =
            AuditEntry { at: self.now(), actor, from, action, subject, detail: String::new(), change: None };
        self.shared.parts.audit.commit_audited(batch, vec![entry]).await
    }

    /// A bucket that exists.
    pub(crate) async fn bucket(&self, namespace: &Name, name: &str) -> Result<BucketKey> {
        let missing = || Error::NoSuchBucket(name.to_owned());
        let at = bucket_key(namespace, name).map_err(|_| missing())?;
        self.records().get(&at.record()).await?.ok_or_else(missing)?;
        Ok(at)
    }

    pub(crate) fn records(&self) -> &dyn Records {
        &*self.shared.parts.records
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.parts.clock.now()
    }

    pub(crate) fn draw_id(&self) -> String {
        (self.shared.parts.draw_id)()
    }
}

fn bucket_key(namespace: &Name, name: &str) -> Result<BucketKey> {
    let bucket = Name::new(name)
        .map_err(|error| Error::Invalid(format!("a bucket cannot have this name: {error}")))?;
    Ok(BucketKey { namespace: namespace.clone(), bucket })
}
