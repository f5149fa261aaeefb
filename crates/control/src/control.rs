//! The handle, its parts, and the one way in which functions are changed: decide, commit, swap.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};

use alula_model::trigger::Trigger;
use alula_model::{
    AccessSpec, AuditEntry, By, Clock, Digest, Fault, Name, Qualifier, SpecError, Version, VersionKey,
};
use alula_runtime::language::Languages;
use alula_runtime::{Backend, Launcher, VersionPlan};
use alula_store::{
    AuditTrail, Batch, BoxFuture, Committed, Error as StoreError, OpenPackage, Packages, Records,
};
use tokio::sync::{Mutex, RwLock, Semaphore};

use crate::audit::{AuditLink, AuditReport};
use crate::catalog::{Catalog, EntryChange, FunctionEntry, Snapshot};
use crate::code::CodeStore;
use crate::error;
use crate::keyed_lock::KeyedLock;
use crate::ledger::{After, FunctionChange, Ledger, Transaction};
use crate::options::Options;

/// Decisions that are made anew after somebody else has changed the same record.
const COMMIT_ATTEMPTS: usize = 4;
/// Audit entries that one answer holds.
const AUDIT_LEN_MAX: usize = 1_000;

/// What the control component works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Functions, versions, audit.
    pub records: Arc<dyn Records>,
    /// Sources, packages, build logs.
    pub packages: Arc<dyn Packages>,
    /// Checks at deploy time what could only fail at the first call.
    pub backend: Arc<dyn Backend>,
    /// Makes the cells in which builds run.
    pub launcher: Arc<dyn Launcher>,
    /// What can be run on this machine.
    pub languages: Arc<Languages>,
    /// Knows which triggers can be watched.
    pub triggers: Arc<dyn CheckTriggers>,
    /// Dates versions and audit entries.
    pub clock: Arc<dyn Clock>,
}

/// Checks at deploy time what could only fail when a trigger is watched or a caller is judged: patterns, zones, addresses,
/// keys.
pub trait CheckTriggers: Send + Sync + std::fmt::Debug {
    /// Names the first trigger of a function that is wrong, and the remedy. Addresses may name variables of `env`.
    fn check(&self, triggers: &[Trigger], env: &BTreeMap<String, String>) -> Result<(), SpecError>;

    /// Names what is wrong with the keys that callers would be judged by.
    fn check_access(&self, _access: &AccessSpec) -> Result<(), SpecError> {
        Ok(())
    }
}

/// Takes any trigger, where nobody watches them.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnyTriggers;

impl CheckTriggers for AnyTriggers {
    fn check(&self, _triggers: &[Trigger], _env: &BTreeMap<String, String>) -> Result<(), SpecError> {
        Ok(())
    }
}

/// Functions, versions, aliases. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Control {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) parts: Parts,
    pub(crate) catalog: Catalog,
    pub(crate) ledger: Ledger,
    pub(crate) code: CodeStore,
    /// Places for builds.
    pub(crate) builds: Semaphore,
    /// The same build runs once, however many functions ask for it.
    pub(crate) building: KeyedLock<String>,
    /// Deploys of one function run one after another.
    /// Deploys of one function run one after another.
    pub(crate) deploying: KeyedLock<(Name, Name)>,
    /// Held for reading from the first stored package to the commit that refers to it; collecting garbage writes.
    pub(crate) packages_in_flux: RwLock<()>,
    /// Plans that have left the catalog and may still be running.
    pub(crate) retired: StdMutex<Vec<RetiredPlan>>,
    /// One decision at a time, from the snapshot it is based on to the swap.
    changing: Mutex<()>,
}

/// A version that is no longer deployed but may still be running.
#[derive(Debug)]
pub(crate) struct RetiredPlan {
    pub(crate) key: VersionKey,
    pub(crate) package: Digest,
    plan: Weak<VersionPlan>,
}

impl RetiredPlan {
    /// Whether anybody still holds the plan, to run it or to start an instance of it.
    pub(crate) fn is_held(&self) -> bool {
        self.plan.strong_count() > 0
    }
}

impl Control {
    /// Reads everything that is deployed and makes the catalog. Empties `data_dir/tmp`. Code is unpacked later, by
    /// [`Control::ensure_code`].
    pub async fn open(options: Options, parts: Parts) -> Result<Self, Fault> {
        let code = CodeStore::open(&options, Arc::clone(&parts.packages)).await?;
        let ledger = Ledger::new(Arc::clone(&parts.records), code.dir().to_owned());
        let mut snapshot = ledger.load().await?;
        for taken in snapshot.rebuild_routes() {
            tracing::warn!(route = %taken.route, function = %taken.name, owner = %taken.owner, "route is taken");
        }
        let shared = Shared {
            catalog: Catalog::new(snapshot),
            ledger,
            code,
            builds: Semaphore::new(options.builds_at_once.max(1)),
            building: KeyedLock::default(),
            deploying: KeyedLock::default(),
            packages_in_flux: RwLock::default(),
            retired: StdMutex::default(),
            changing: Mutex::default(),
            options,
            parts,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The present state of everything that is deployed.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// Makes sure that the code of a version is unpacked in its folder. To be called before the first start of a
    /// version: where the folder is there it costs one look at the file system, otherwise the package is unpacked
    /// (once, however many ask).
    pub async fn ensure_code(&self, plan: &VersionPlan) -> Result<(), Fault> {
        self.shared.code.ensure(&plan.code).await
    }

    /// Every kept version of a function, the newest first.
    pub async fn versions(&self, namespace: &Name, name: &Name) -> Result<Vec<Version>, Fault> {
        let entry = self.entry(namespace, name)?;
        Ok(entry.versions.keys().rev().filter_map(|number| entry.version(*number)).collect())
    }

    /// One version of a function.
    pub async fn version(&self, namespace: &Name, name: &Name, which: &Qualifier) -> Result<Version, Fault> {
        let entry = self.entry(namespace, name)?;
        let number = entry.number(which)?;
        entry.version(number).ok_or_else(|| error::version_not_found(&entry.function, number))
    }

    /// The package of a version: a tar archive of what runs, dependencies included.
    pub async fn package(&self, digest: &Digest) -> Result<OpenPackage, Fault> {
        self.shared.parts.packages.open(digest).await.map_err(|error| error::store(&error))
    }

    /// Adds an entry to the audit record: `by` did `action` to `subject`, which begins with the namespace. For what
    /// people do that changes nothing that is deployed.
    pub async fn note(
        &self,
        by: impl Into<By>,
        action: &str,
        subject: &str,
        detail: String,
    ) -> Result<(), Fault> {
        let By { name: actor, from } = by.into();
        let (action, subject) = (action.to_owned(), subject.to_owned());
        let entry = AuditEntry {
            at: self.shared.parts.clock.now(),
            actor,
            from,
            action,
            subject,
            detail,
            change: None,
        };
        let committed = self.shared.ledger.audit.commit(Batch::default(), &[entry]).await;
        committed.map(drop).map_err(|error| error::store(&error))
    }

    /// Who changed what, the newest first, from the one before number `before` on. `subject` narrows it to a function
    /// (`hello`, its versions included) or to one version (`hello:3`); `limit` is cut to a thousand.
    pub async fn audit(
        &self,
        namespace: &Name,
        subject: Option<&str>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AuditLink>, Fault> {
        self.shared.ledger.audit.newest(namespace, subject, before, limit.min(AUDIT_LEN_MAX)).await
    }

    /// Looks whether the audit record of a namespace is whole.
    pub async fn verify_audit(&self, namespace: &Name) -> Result<AuditReport, Fault> {
        self.shared.ledger.audit.verify(namespace).await
    }

    pub(crate) fn entry(&self, namespace: &Name, name: &Name) -> Result<Arc<FunctionEntry>, Fault> {
        let snapshot = self.shared.catalog.load();
        let entry = snapshot.function(namespace, name);
        entry.cloned().ok_or_else(|| error::function_not_found(namespace, name))
    }

    /// Applies what `decide` makes of the present state; `decide` is asked again where somebody else was faster.
    /// The change is in force when this returns. A caller who goes away in the middle does not stop it halfway.
    pub(crate) async fn transact<F>(&self, decide: F) -> Result<Transaction, Fault>
    where
        F: Fn(&Snapshot) -> Result<Transaction, Fault> + Send + Sync + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let change = tokio::spawn(async move { shared.transact(&decide).await });
        change.await.unwrap_or_else(|_| Err(error::defect("a change of functions was broken off")))
    }
}

/// Changes of other components, in the same record.
impl AuditTrail for Control {
    fn commit_audited(
        &self,
        batch: Batch,
        entries: Vec<AuditEntry>,
    ) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move { self.shared.ledger.audit.commit(batch, &entries).await })
    }
}

impl Shared {
    async fn transact<F>(&self, decide: &F) -> Result<Transaction, Fault>
    where
        F: Fn(&Snapshot) -> Result<Transaction, Fault> + Sync,
    {
        let _one_at_a_time = self.changing.lock().await;
        for _ in 0..COMMIT_ATTEMPTS {
            let before = self.catalog.load_full();
            let mut transaction = decide(&before)?;
            if transaction.changes.is_empty() {
                return Ok(transaction);
            }
            let mut after = Snapshot::clone(&before);
            apply(&mut after, &transaction);
            self.renew_routes(&before, &mut after, &transaction)?;
            match self.ledger.commit(&transaction).await {
                Ok(revision) => {
                    for change in &mut transaction.changes {
                        if let After::Kept { entry, .. } = &mut change.after {
                            entry.revision = Some(revision);
                        }
                    }
                    apply(&mut after, &transaction);
                    self.retire(&before, &transaction);
                    self.catalog.swap(after);
                    return Ok(transaction);
                }
                Err(StoreError::Conflict { .. }) => self.refresh(&transaction).await?,
                Err(failed) => {
                    // The outcome may be unknown: what is recorded decides, as soon as it can be read.
                    if let Err(fault) = self.refresh(&transaction).await {
                        tracing::warn!(%fault, "cannot read back the functions of a failed commit");
                    }
                    return Err(error::store(&failed));
                }
            }
        }
        Err(error::conflict())
    }

    /// Makes the routes of `after` where the change touches any, and refuses a route that another function has.
    fn renew_routes(&self, before: &Snapshot, after: &mut Snapshot, made: &Transaction) -> Result<(), Fault> {
        let routes = |snapshot: &Snapshot, change: &FunctionChange| {
            let entry = snapshot.function(&change.namespace, &change.name);
            entry.map(|entry| entry.routes().to_vec()).unwrap_or_default()
        };
        if made.changes.iter().all(|change| routes(before, change) == routes(after, change)) {
            return Ok(());
        }
        let changed: BTreeSet<_> =
            made.changes.iter().map(|change| (&change.namespace, &change.name)).collect();
        for taken in after.rebuild_routes() {
            if changed.contains(&(&taken.namespace, &taken.name)) {
                return Err(error::route_taken(&taken));
            }
            if changed.contains(&(&taken.owner_namespace, &taken.owner)) {
                return Err(error::route_taken(&taken.seen_from_the_owner()));
            }
        }
        Ok(())
    }

    /// Reads the functions of a transaction back from the records.
    async fn refresh(&self, transaction: &Transaction) -> Result<(), Fault> {
        let mut snapshot = Snapshot::clone(&self.catalog.load());
        for FunctionChange { namespace, name, .. } in &transaction.changes {
            let change = self.ledger.reload(namespace, name).await?;
            snapshot.apply(namespace, name, change);
        }
        snapshot.rebuild_routes();
        self.catalog.swap(snapshot);
        Ok(())
    }

    /// Remembers the plans that a change takes out of the catalog: instances of them may still run.
    fn retire(&self, before: &Snapshot, transaction: &Transaction) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        for change in &transaction.changes {
            let Some(entry) = before.function(&change.namespace, &change.name) else { continue };
            for number in &change.dropped {
                let (plan, published) = (entry.versions.get(number), entry.published.get(number));
                if let (Some(plan), Some(published)) = (plan, published) {
                    let (key, package) = (plan.key.clone(), published.package);
                    retired.push(RetiredPlan { key, package, plan: Arc::downgrade(plan) });
                }
            }
        }
    }

    /// A new folder or file below `data_dir/tmp`.
    pub(crate) fn scratch(&self, purpose: &str) -> PathBuf {
        self.code.scratch(purpose)
    }
}

fn apply(snapshot: &mut Snapshot, transaction: &Transaction) {
    for change in &transaction.changes {
        let after = match &change.after {
            After::Kept { entry, .. } => EntryChange::Set(Arc::new(entry.clone())),
            After::Removed { newest } => EntryChange::Removed { newest: *newest },
        };
        snapshot.apply(&change.namespace, &change.name, after);
    }
}
