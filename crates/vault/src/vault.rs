//! The handle that everything else holds: sets, lists, rolls back, removes, opens.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alula_model::{AuditEntry, By, Clock, ErrorCode, Fault, Name, SecretName, SecretUses, SpecError};
use alula_store::{AuditTrail, Batch, Error as StoreError, Expect, Record, Records, Revision, SCAN_LEN_MAX};
use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::directory::{Changed, Directory, SecretInfo, info};
use crate::keyring::Keyring;
use crate::record::{self, SecretRecord, VersionRecord};
use crate::sealed::Sealed;

/// Largest value, in bytes: a certificate with its key and its chain.
const VALUE_BYTES_MAX: usize = 16 * 1024;
/// Versions of one secret that are kept.
const VERSIONS_MAX: usize = 10;
/// Secrets of one namespace.
const NAMESPACE_SECRETS_MAX: usize = 1_000;
/// Bytes of all sealed versions of one namespace: they lie in memory.
const NAMESPACE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often it is looked whether another process has changed something.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// The values of one start, by the variables that carry them. Gone from memory when they are dropped.
pub type OpenSecrets = Vec<(String, Zeroizing<String>)>;

/// What it is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where secrets are recorded.
    pub records: Arc<dyn Records>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Records who changed what.
    pub audit: Arc<dyn AuditTrail>,
    /// The master keys.
    pub keys: Keyring,
}

/// The secrets of all namespaces. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Vault {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) records: Arc<dyn Records>,
    clock: Arc<dyn Clock>,
    audit: Arc<dyn AuditTrail>,
    keys: RwLock<Arc<Keyring>>,
    directory: ArcSwap<Directory>,
    changed: watch::Sender<()>,
    /// One change at a time, with the revision of the epoch that the picture stands at.
    pub(crate) changing: tokio::sync::Mutex<Option<Revision>>,
    /// One rotation of the master key at a time: each replaces the whole file.
    pub(crate) rotating: tokio::sync::Mutex<()>,
}

/// What a change makes of one secret.
pub(crate) struct Change {
    pub(crate) namespace: Name,
    pub(crate) name: SecretName,
    pub(crate) record: Option<SecretRecord>,
}

/// What a change is recorded as.
pub(crate) struct Doing<'a> {
    pub(crate) by: &'a By,
    pub(crate) action: &'static str,
    pub(crate) subject: String,
    pub(crate) detail: String,
}

impl Vault {
    /// Loads all secrets, sealed as they are.
    pub async fn load(parts: Parts) -> Result<Self, Fault> {
        let Parts { records, clock, audit, keys } = parts;
        let (directory, epoch) = read_all(&*records).await?;
        let shared = Shared {
            records,
            clock,
            audit,
            keys: RwLock::new(Arc::new(keys)),
            directory: ArcSwap::from_pointee(directory),
            changed: watch::Sender::new(()),
            changing: tokio::sync::Mutex::new(epoch),
            rotating: tokio::sync::Mutex::default(),
        };
        let vault = Self { shared: Arc::new(shared) };
        vault.say_what_does_not_open();
        Ok(vault)
    }

    /// The secrets of a namespace, by name. Never a value.
    #[must_use]
    pub fn list(&self, namespace: &Name) -> Vec<SecretInfo> {
        self.directory().of(namespace).map(|record| info(record)).collect()
    }

    /// Sets a new version, which is in force when this returns. The oldest versions beyond what is kept go, but for those
    /// in `pinned`, which functions name by number.
    pub async fn set(
        &self,
        by: &By,
        (namespace, name): (&Name, &SecretName),
        value: Zeroizing<String>,
        pinned: &BTreeSet<u64>,
    ) -> Result<SecretInfo, Fault> {
        check_value(&value)?;
        let mut seen = self.shared.changing.lock().await;
        let directory = self.directory();
        let mut record = match directory.get(namespace, name) {
            Some(record) => SecretRecord::clone(record),
            None => SecretRecord {
                namespace: namespace.clone(),
                name: name.clone(),
                current: 0,
                newest: 0,
                versions: Vec::new(),
            },
        };
        let number = record.newest + 1;
        let sealed = Sealed::seal(record.place(number), value.as_bytes(), &self.keys());
        let sealed = sealed.map_err(|error| {
            tracing::error!(%error, "a secret cannot be encrypted");
            Fault::new(ErrorCode::SecretUnavailable, "the secret could not be encrypted; nothing was changed")
        })?;
        let set_by = by.name.clone();
        record.versions.push(VersionRecord { number, set_at: self.shared.clock.now(), set_by, sealed });
        (record.current, record.newest) = (number, number);
        drop_superfluous(&mut record, pinned)?;
        check_room(&directory, &record)?;
        let doing = Doing {
            by,
            action: "secret.set",
            subject: format!("{namespace}/{name}"),
            detail: format!("version {number}"),
        };
        let told = info(&record);
        self.commit(&mut seen, doing, namespace, name, Some(record)).await?;
        Ok(told)
    }

    /// Puts an earlier version into force again; without a number the one before.
    pub async fn rollback(
        &self,
        by: &By,
        (namespace, name): (&Name, &SecretName),
        to: Option<u64>,
    ) -> Result<SecretInfo, Fault> {
        let mut seen = self.shared.changing.lock().await;
        let mut record =
            SecretRecord::clone(self.directory().get(namespace, name).ok_or_else(|| missing(name))?);
        let before = record.versions.iter().rev().map(|version| version.number);
        let number = to.or_else(|| before.into_iter().find(|number| *number < record.current));
        let number = number.filter(|number| record.version(*number).is_some()).ok_or_else(|| {
            let kept: Vec<_> = record.versions.iter().map(|version| version.number.to_string()).collect();
            let which = to.map_or("before the one in force".to_owned(), |number| number.to_string());
            let message = format!("secret {name} has no version {which}; kept are {}", kept.join(", "));
            Fault::new(ErrorCode::SecretNotFound, message)
        })?;
        let doing = Doing {
            by,
            action: "secret.rollback",
            subject: format!("{namespace}/{name}"),
            detail: format!("from version {} to {number}", record.current),
        };
        record.current = number;
        let told = info(&record);
        self.commit(&mut seen, doing, namespace, name, Some(record)).await?;
        Ok(told)
    }

    /// Removes a secret with all its versions.
    pub async fn remove(&self, by: &By, (namespace, name): (&Name, &SecretName)) -> Result<(), Fault> {
        let mut seen = self.shared.changing.lock().await;
        if self.directory().get(namespace, name).is_none() {
            return Err(missing(name));
        }
        let (subject, detail) = (format!("{namespace}/{name}"), String::new());
        let doing = Doing { by, action: "secret.remove", subject, detail };
        self.commit(&mut seen, doing, namespace, name, None).await
    }

    /// Refuses secrets that are not there, for who states them in `secrets`.
    pub fn check(&self, namespace: &Name, uses: &SecretUses) -> Result<(), SpecError> {
        let directory = self.directory();
        for (variable, used) in uses.iter() {
            let record = directory.get(namespace, &used.name);
            let is_there = record
                .is_some_and(|record| used.version.is_none_or(|number| record.version(number).is_some()));
            if !is_there {
                let reason = format!(
                    "namespace {namespace} has no secret {used}, which {variable} names; `alula secret set {}` makes it",
                    used.name
                );
                return Err(SpecError { field: "secrets", reason });
            }
        }
        Ok(())
    }

    /// The values of a function's secrets, for an instance of it.
    pub fn open(&self, namespace: &Name, uses: &SecretUses) -> Result<OpenSecrets, Fault> {
        let (directory, keys) = (self.directory(), self.keys());
        let open = |(variable, used): (&str, &alula_model::SecretUse)| {
            let unavailable = |why: &str| {
                let message = format!("secret {used} of namespace {namespace} {why}");
                Fault::new(ErrorCode::SecretUnavailable, message)
            };
            let record =
                directory.get(namespace, &used.name).ok_or_else(|| unavailable("is not there any more"))?;
            let number = used.version.unwrap_or(record.current);
            let version =
                record.version(number).ok_or_else(|| unavailable("has no such version any more"))?;
            let value = version.sealed.open(record.place(number), &keys).map_err(|error| {
                tracing::error!(%namespace, secret = %used, %error, "a secret cannot be decrypted");
                unavailable("cannot be decrypted; the operator finds why in the platform's log")
            })?;
            let value = std::str::from_utf8(&value).map_err(|_| unavailable("is not text"))?;
            Ok((variable.to_owned(), Zeroizing::new(value.to_owned())))
        };
        uses.iter().map(open).collect()
    }

    /// What changes from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        // In this order, so that nothing is missed between the two.
        let told = self.shared.changed.subscribe();
        Changes { seen: self.directory(), vault: self.clone(), told }
    }

    /// Follows what other processes change, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut every = tokio::time::interval(FOLLOW_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = every.tick() => {}
            }
            if let Err(fault) = self.follow_now().await {
                tracing::warn!(%fault, "it is not known whether secrets were changed; those known stay");
            }
        }
    }

    /// Takes in what other processes have changed.
    pub(crate) async fn follow_now(&self) -> Result<(), Fault> {
        let mut seen = self.shared.changing.lock().await;
        let records = &*self.shared.records;
        if epoch(records).await? != *seen {
            let (directory, epoch) = read_all(records).await?;
            *seen = epoch;
            self.show(directory);
        }
        Ok(())
    }

    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.shared.directory.load_full()
    }

    pub(crate) fn keys(&self) -> Arc<Keyring> {
        Arc::clone(&self.shared.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn use_keys(&self, keys: Keyring) {
        *self.shared.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    async fn commit(
        &self,
        seen: &mut Option<Revision>,
        doing: Doing<'_>,
        namespace: &Name,
        name: &SecretName,
        record: Option<SecretRecord>,
    ) -> Result<(), Fault> {
        let change = Change { namespace: namespace.clone(), name: name.clone(), record };
        self.commit_all(seen, doing, vec![change]).await
    }

    /// Commits changes with their line of the audit record; they are in force when this returns.
    pub(crate) async fn commit_all(
        &self,
        seen: &mut Option<Revision>,
        doing: Doing<'_>,
        changes: Vec<Change>,
    ) -> Result<(), Fault> {
        let batch = changes.iter().try_fold(Batch::default(), |batch, change| {
            let key = record::one(&change.namespace, &change.name);
            Ok::<_, Fault>(match &change.record {
                Some(record) => batch.put(key, json(record)?, Expect::Any),
                None => batch.delete(key, Expect::Any),
            })
        })?;
        let batch = batch.put(record::epoch(), "", seen.map_or(Expect::Absent, Expect::At));
        let Doing { by, action, subject, detail } = doing;
        let entry = AuditEntry {
            at: self.shared.clock.now(),
            actor: by.name.clone(),
            from: by.from.clone(),
            action: action.to_owned(),
            subject,
            change: None,
            detail,
        };
        let committed = self.shared.audit.commit_audited(batch, vec![entry]).await;
        *seen = Some(committed.map_err(|error| of_store(&error))?.revision);
        let next = changes.into_iter().fold(Directory::clone(&self.directory()), |next, change| {
            next.with((change.namespace, change.name), change.record)
        });
        self.show(next);
        Ok(())
    }

    fn show(&self, next: Directory) {
        self.shared.directory.store(Arc::new(next));
        self.shared.changed.send_replace(());
    }

    /// An operator who lost the key must hear of it at the start and not from a function.
    fn say_what_does_not_open(&self) {
        let (directory, keys) = (self.directory(), self.keys());
        let opens = |record: &SecretRecord| {
            let current = record.version(record.current);
            current.is_some_and(|version| version.sealed.open(record.place(record.current), &keys).is_ok())
        };
        let closed = directory.0.values().filter(|record| !opens(record)).count();
        if closed > 0 {
            tracing::error!(
                closed,
                "secrets cannot be decrypted with the master keys that are there; functions that use them do not start"
            );
        }
    }
}

/// Tells which secrets change.
#[derive(Debug)]
pub struct Changes {
    vault: Vault,
    seen: Arc<Directory>,
    told: watch::Receiver<()>,
}

impl Changes {
    /// Waits until secrets have changed since this was asked last; says which, all of them.
    pub async fn next(&mut self) -> Changed {
        loop {
            // The sender is in the vault that is held here, so it never ends.
            let _ = self.told.changed().await;
            let now = self.vault.directory();
            let changed = self.seen.changed_to(&now);
            self.seen = now;
            if !changed.is_empty() {
                return changed;
            }
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("secrets", &self.directory().0.len()).finish_non_exhaustive()
    }
}

fn check_value(value: &str) -> Result<(), Fault> {
    if value.is_empty() || value.contains('\0') {
        let message = "the value is empty or has a NUL byte, which no environment variable can have";
        return Err(Fault::new(ErrorCode::InvalidRequest, message));
    }
    if value.len() > VALUE_BYTES_MAX {
        let message =
            format!("the value is {} bytes long, at most {VALUE_BYTES_MAX} are allowed", value.len());
        let (name, limit) = ("secret_bytes_max", VALUE_BYTES_MAX as u64);
        return Err(Fault::limit(ErrorCode::RequestTooLarge, message, name, limit, "fixed in this version"));
    }
    Ok(())
}

/// Drops the oldest versions beyond what is kept, but for the one in force and those in `pinned`.
fn drop_superfluous(record: &mut SecretRecord, pinned: &BTreeSet<u64>) -> Result<(), Fault> {
    while record.versions.len() > VERSIONS_MAX {
        let is_free =
            |version: &VersionRecord| version.number != record.current && !pinned.contains(&version.number);
        let Some(oldest) = record.versions.iter().position(is_free) else {
            let message =
                format!("{VERSIONS_MAX} versions are kept, and functions name all of them by number");
            let (name, limit) = ("secret_versions_max", VERSIONS_MAX as u64);
            return Err(Fault::limit(ErrorCode::Conflict, message, name, limit, "secrets in alula.toml"));
        };
        record.versions.remove(oldest);
    }
    Ok(())
}

fn check_room(directory: &Directory, record: &SecretRecord) -> Result<(), Fault> {
    let others = || directory.of(&record.namespace).filter(|other| other.name != record.name);
    let (count, bytes) =
        (others().count() + 1, others().map(|other| other.bytes()).sum::<usize>() + record.bytes());
    let over = |name: &str, limit: usize| {
        let message = format!("namespace {} has as many secrets as it may have", record.namespace);
        Fault::limit(ErrorCode::RequestTooLarge, message, name, limit as u64, "fixed in this version")
    };
    if count > NAMESPACE_SECRETS_MAX {
        return Err(over("namespace_secrets_max", NAMESPACE_SECRETS_MAX));
    }
    if bytes > NAMESPACE_BYTES_MAX {
        return Err(over("namespace_secret_bytes_max", NAMESPACE_BYTES_MAX));
    }
    Ok(())
}

fn missing(name: &SecretName) -> Fault {
    Fault::new(ErrorCode::SecretNotFound, format!("there is no secret {name}"))
}

fn json(record: &SecretRecord) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(record).map_err(|error| {
        tracing::error!(%error, "a secret's record cannot be written");
        Fault::new(ErrorCode::Internal, "the secret could not be stored")
    })
}

async fn epoch(records: &dyn Records) -> Result<Option<Revision>, Fault> {
    let record = records.get(&record::epoch()).await.map_err(|error| of_store(&error))?;
    Ok(record.map(|record| record.revision))
}

async fn read_all(records: &dyn Records) -> Result<(Directory, Option<Revision>), Fault> {
    // The epoch first: what changes meanwhile is read once more.
    let epoch = epoch(records).await?;
    let mut directory = Directory::default();
    let mut after = None;
    loop {
        let page = records.scan(&record::all(), after.as_ref(), SCAN_LEN_MAX).await;
        let page = page.map_err(|error| of_store(&error))?;
        after = page.last().map(|record| record.key.clone());
        directory.0.extend(
            page.iter().filter_map(read).map(|r| ((r.namespace.clone(), r.name.clone()), Arc::new(r))),
        );
        if page.len() < SCAN_LEN_MAX {
            return Ok((directory, epoch));
        }
    }
}

/// A record that cannot be read is no secret; it is said and left out.
fn read(record: &Record) -> Option<SecretRecord> {
    let read = serde_json::from_slice(&record.value);
    read.inspect_err(|error| tracing::error!(key = %record.key, %error, "a record cannot be read")).ok()
}

fn of_store(error: &StoreError) -> Fault {
    match error {
        StoreError::Conflict { .. } => {
            let message = "secrets were changed by another process at the same time; try again";
            Fault::new(ErrorCode::Conflict, message)
        }
        error => {
            tracing::error!(%error, "secrets cannot be read or changed");
            Fault::new(ErrorCode::StoreUnavailable, "the store does not answer; nothing was changed")
        }
    }
}
