//! The records of everything that is deployed: their keys, their values, and the only commits that change them.
//!
//! ```text
//! functions/<ns>/<name>              Function
//! versions/<ns>/<name>/<number>      Version and the build it came from; the number has 10 digits
//! removed/<ns>/<name>                the highest number a removed function had given
//! builds/<key>                       the result of a build
//! ```
//!
//! Every change writes its entry of the audit record in the same batch (`audit`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use alula_model::{AuditEntry, ErrorCode, Fault, Function, Name, Version};
use alula_store::{Batch, Error as StoreError, Expect, Key, Record, Records, Revision, SCAN_LEN_MAX};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::audit::AuditLog;
use crate::build::BuildRecord;
use crate::catalog::{EntryChange, FunctionEntry, Snapshot};
use crate::error;

/// A version and the build that made its package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredVersion {
    #[serde(flatten)]
    pub(crate) version: Version,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) build: Option<String>,
}

/// What is kept of a removed function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Removed {
    newest: u64,
}

/// Changes of functions that are committed together.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) changes: Vec<FunctionChange>,
    pub(crate) audit: Vec<AuditEntry>,
}

/// What becomes of one function.
#[derive(Debug)]
pub(crate) struct FunctionChange {
    pub(crate) namespace: Name,
    pub(crate) name: Name,
    /// The revision that the decision was based on; `None` where there was no function.
    pub(crate) before: Option<Revision>,
    pub(crate) after: After,
    /// Versions whose records go.
    pub(crate) dropped: Vec<u64>,
}

/// A function after a change.
#[derive(Debug)]
pub(crate) enum After {
    /// It is there; `added` is a version that the change publishes.
    Kept { entry: FunctionEntry, added: Option<u64> },
    /// It is gone; its numbers stay used.
    Removed { newest: u64 },
}

/// Reads and writes the records.
#[derive(Debug)]
pub(crate) struct Ledger {
    records: Arc<dyn Records>,
    code_dir: PathBuf,
    pub(crate) audit: AuditLog,
}

impl Ledger {
    /// `code_dir` is where plans will find the unpacked packages.
    pub(crate) fn new(records: Arc<dyn Records>, code_dir: PathBuf) -> Self {
        Self { audit: AuditLog::new(Arc::clone(&records)), records, code_dir }
    }

    /// Everything that is deployed, without the routes.
    pub(crate) async fn load(&self) -> Result<Snapshot, Fault> {
        let mut entries: BTreeMap<(Name, Name), FunctionEntry> = BTreeMap::new();
        for record in self.scan(&Key::new(&["functions"])).await? {
            let function: Function = decode(&record)?;
            let id = (function.namespace.clone(), function.name.clone());
            entries.insert(id, FunctionEntry::new(function, Some(record.revision)));
        }
        for record in self.scan(&Key::new(&["versions"])).await? {
            let stored: StoredVersion = decode(&record)?;
            let id = (stored.version.key.namespace.clone(), stored.version.key.function.clone());
            match entries.get_mut(&id) {
                Some(entry) => entry.insert(stored, &self.code_dir),
                None => tracing::warn!(key = %record.key, "a version without a function is passed over"),
            }
        }
        let mut snapshot = Snapshot::default();
        for record in self.scan(&Key::new(&["removed"])).await? {
            let Removed { newest } = decode(&record)?;
            let mut names = record.key.segments().skip(1).map(Name::new);
            if let (Some(Ok(namespace)), Some(Ok(name))) = (names.next(), names.next()) {
                snapshot.apply(&namespace, &name, EntryChange::Removed { newest });
            }
        }
        for ((namespace, name), entry) in entries {
            snapshot.apply(&namespace, &name, EntryChange::Set(Arc::new(entry)));
        }
        Ok(snapshot)
    }

    /// One function as it is recorded now.
    pub(crate) async fn reload(&self, namespace: &Name, name: &Name) -> Result<EntryChange, Fault> {
        let found = self.get(&function_key(namespace, name)).await?;
        let Some(record) = found else {
            let removed = self.get(&removed_key(namespace, name)).await?;
            let removed: Option<Removed> = removed.as_ref().map(decode).transpose()?;
            return Ok(removed.map_or(EntryChange::Absent, |r| EntryChange::Removed { newest: r.newest }));
        };
        let mut entry = FunctionEntry::new(decode(&record)?, Some(record.revision));
        for record in self.scan(&Key::new(&["versions", namespace.as_str(), name.as_str()])).await? {
            entry.insert(decode(&record)?, &self.code_dir);
        }
        Ok(EntryChange::Set(Arc::new(entry)))
    }

    /// Writes a transaction: all of it or nothing.
    pub(crate) async fn commit(&self, transaction: &Transaction) -> Result<Revision, StoreError> {
        let mut batch = Batch::default();
        for change in &transaction.changes {
            batch = write_change(batch, change);
        }
        Ok(self.audit.commit(batch, &transaction.audit).await?.revision)
    }

    /// The result of an earlier build.
    pub(crate) async fn build(&self, key: &str) -> Result<Option<BuildRecord>, Fault> {
        self.get(&build_key(key)).await?.as_ref().map(decode).transpose()
    }

    /// Every build's result with its key.
    pub(crate) async fn builds(&self) -> Result<Vec<(String, BuildRecord)>, Fault> {
        let records = self.scan(&Key::new(&["builds"])).await?;
        let keyed = records.iter().map(|record| {
            let key = record.key.segments().nth(1).unwrap_or_default().to_owned();
            decode(record).map(|build| (key, build))
        });
        keyed.collect()
    }

    /// Records the result of a build.
    pub(crate) async fn put_build(&self, key: &str, build: &BuildRecord) -> Result<(), Fault> {
        let batch = Batch::default().put(build_key(key), encode(build), Expect::Any);
        self.records.commit(batch).await.map_err(|error| error::store(&error))?;
        Ok(())
    }

    /// Forgets builds, at most [`BATCH_LEN_MAX`] at once.
    pub(crate) async fn delete_builds(&self, keys: &[String]) -> Result<(), Fault> {
        let keys: Vec<_> = keys.iter().map(|key| build_key(key)).collect();
        self.delete(&keys).await
    }

    async fn delete(&self, keys: &[Key]) -> Result<(), Fault> {
        let batch = keys.iter().fold(Batch::default(), |batch, key| batch.delete(key.clone(), Expect::Any));
        self.records.commit(batch).await.map_err(|error| error::store(&error))?;
        Ok(())
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Fault> {
        self.records.get(key).await.map_err(|error| error::store(&error))
    }

    async fn page(&self, prefix: &Key, after: Option<&Key>) -> Result<Vec<Record>, Fault> {
        self.records.scan(prefix, after, SCAN_LEN_MAX).await.map_err(|error| error::store(&error))
    }

    async fn scan(&self, prefix: &Key) -> Result<Vec<Record>, Fault> {
        let mut all = Vec::new();
        loop {
            let after = all.last().map(|record: &Record| record.key.clone());
            let page = self.page(prefix, after.as_ref()).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }
}

fn write_change(mut batch: Batch, change: &FunctionChange) -> Batch {
    let FunctionChange { namespace, name, before, after, dropped } = change;
    let expect = before.map_or(Expect::Absent, Expect::At);
    for number in dropped {
        batch = batch.delete(version_key(namespace, name, *number), Expect::Any);
    }
    match after {
        After::Kept { entry, added } => {
            if before.is_none() {
                batch = batch.delete(removed_key(namespace, name), Expect::Any);
            }
            if let Some(version) = added.and_then(|number| entry.version(number)) {
                let number = version.key.version;
                let build = entry.published.get(&number).and_then(|published| published.build.clone());
                let stored = StoredVersion { version, build };
                batch = batch.put(version_key(namespace, name, number), encode(&stored), Expect::Absent);
            }
            batch.put(function_key(namespace, name), encode(&entry.function), expect)
        }
        After::Removed { newest } => batch
            .put(removed_key(namespace, name), encode(&Removed { newest: *newest }), Expect::Any)
            .delete(function_key(namespace, name), expect),
    }
}

fn function_key(namespace: &Name, name: &Name) -> Key {
    Key::new(&["functions", namespace.as_str(), name.as_str()])
}

fn version_key(namespace: &Name, name: &Name, number: u64) -> Key {
    Key::new(&["versions", namespace.as_str(), name.as_str(), &format!("{number:010}")])
}

fn removed_key(namespace: &Name, name: &Name) -> Key {
    Key::new(&["removed", namespace.as_str(), name.as_str()])
}

fn build_key(key: &str) -> Key {
    Key::new(&["builds", key])
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "records are structs with string keys, which JSON can always hold"
    )]
    serde_json::to_vec(value).expect("a record is valid JSON")
}

fn decode<T: DeserializeOwned>(record: &Record) -> Result<T, Fault> {
    serde_json::from_slice(&record.value).map_err(|error| {
        tracing::error!(key = %record.key, %error, "a record cannot be read");
        Fault::new(ErrorCode::Internal, "a record of the store cannot be read; the platform's log names it")
    })
}
