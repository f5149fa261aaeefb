//! Where protections and limits are kept, changed and followed.
//!
//! What is changed here is durable and in force on this node when it returns; other nodes that share the store look every
//! half second whether there was a change, by a record that every change touches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alula_model::{AuditEntry, By, Clock, ErrorCode, Fault, Limit, Name, Timestamp};
use alula_store::{
    AuditTrail, Batch, Error as StoreError, Expect, Key, Record, Records, Revision, SCAN_LEN_MAX,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::record::{self, Action, Ceiling, Protection, Subject, Target};
use super::rules::Rules;
use crate::Guard;
use crate::limit::{Options, Policy};

/// How often it is looked whether another process has changed something.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// After so many looks what is over is removed, and what is not worth remembering forgotten.
const LOOKS_PER_SWEEP: u32 = 60;
/// Protections at once: operators read the list.
const PROTECTIONS_MAX: usize = 1_000;
/// Limits that are set at once: one for every namespace that there may be.
const LIMITS_MAX: usize = 10_000;
/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 500;

/// What it is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where everything is recorded.
    pub records: Arc<dyn Records>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Records who changed what.
    pub audit: Arc<dyn AuditTrail>,
    /// Gives 128 random bits.
    pub random: fn() -> u128,
    /// The limits of the configuration.
    pub options: Options,
    /// What enforces all of it.
    pub guard: Guard,
}

/// A protection to be put in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProtection {
    /// Against whom or what.
    pub subject: Subject,
    /// Only in calls of this namespace's functions.
    pub within: Option<Name>,
    /// What is done.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

/// Protections and limits. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Book {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    parts: Parts,
    /// One change at a time, with the revision of the epoch that the page stands at.
    changing: tokio::sync::Mutex<Option<Revision>>,
    page: watch::Sender<Arc<Page>>,
}

/// Everything that is set, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Protections, by their ids.
    pub protections: BTreeMap<String, Protection>,
    /// Limits.
    pub limits: BTreeMap<Target, Ceiling>,
}

impl Book {
    /// Reads everything and puts it in force.
    pub async fn load(parts: Parts) -> Result<Self, Fault> {
        let (page, epoch) = read_all(&*parts.records).await?;
        let shared = Shared {
            parts,
            changing: tokio::sync::Mutex::new(epoch),
            page: watch::Sender::new(Arc::default()),
        };
        let book = Self { shared: Arc::new(shared) };
        book.put_in_force(page);
        Ok(book)
    }

    /// Everything that is set now.
    #[must_use]
    pub fn page(&self) -> Arc<Page> {
        Arc::clone(&self.shared.page.borrow())
    }

    /// What the configuration says.
    #[must_use]
    pub fn stated(&self) -> Vec<(Target, Limit)> {
        self.shared.parts.options.targets().unwrap_or_default()
    }

    /// Tells of every change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<Page>> {
        self.shared.page.subscribe()
    }

    /// How many calls each protection has refused on this node since it was put in force here, by its id.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<String, u64> {
        let policy = self.shared.parts.guard.limits.policy().load();
        policy.rules.all().map(|rule| (rule.protection.id.clone(), rule.refused())).collect()
    }

    /// Puts a protection in force.
    pub async fn protect(&self, by: &By, new: NewProtection) -> Result<Protection, Fault> {
        let NewProtection { subject, within, action, reason, until } = new;
        check_reason(&reason)?;
        if let Action::Throttle(limit) = &action {
            check_limit(limit)?;
        }
        let now = self.shared.parts.clock.now();
        if until.is_some_and(|until| until <= now) {
            return Err(invalid("its end lies in the past"));
        }
        let id = format!("{:016x}", (self.shared.parts.random)() as u64);
        let by_name = by.name.clone();
        let protection =
            Protection { id, subject, within, action, reason, by: by_name, created_at: now, until };
        let verb = match action {
            Action::Block => "protection.block",
            Action::Throttle(_) => "protection.throttle",
        };
        let until = until.map_or_else(|| "lifted".to_owned(), |until| format!("{} ms", until.as_millis()));
        let detail = format!("{} until {until}: {}", protection.subject, protection.reason);
        let entry = self.entry(by, verb, &protection, detail);
        let made = protection.clone();
        self.change(entry, |page, batch| {
            bounded("protections_max", page.protections.len(), PROTECTIONS_MAX)?;
            page.protections.insert(made.id.clone(), made.clone());
            Ok(batch.put(record::rule(&made.id), json(&made), Expect::Any))
        })
        .await?;
        Ok(protection)
    }

    /// Ends a protection.
    pub async fn lift(&self, by: &By, id: &str) -> Result<Protection, Fault> {
        let no_such = || Fault::new(ErrorCode::NotFound, format!("there is no protection {id:?}"));
        let known = self.page().protections.get(id).cloned().ok_or_else(no_such)?;
        let entry = self.entry(by, "protection.lift", &known, known.subject.to_string());
        self.change(entry, |page, batch| {
            page.protections.remove(id).ok_or_else(no_such)?;
            Ok(batch.delete(record::rule(id), Expect::Any))
        })
        .await?;
        Ok(known)
    }

    /// Sets a limit, which stands in for that of the configuration.
    pub async fn set_limit(&self, by: &By, target: Target, ceiling: Ceiling) -> Result<(), Fault> {
        check_limit(&ceiling.limit)?;
        let has_instances = matches!(target, Target::Node | Target::Namespace(_) | Target::App(..));
        if !has_instances && (ceiling.instances_max.is_some() || ceiling.memory_mb_max.is_some()) {
            return Err(invalid("only the node, namespaces and apps have ceilings of instances and memory"));
        }
        let detail = String::from_utf8(json(&ceiling)).unwrap_or_default();
        let entry = self.limit_entry(by, "limit.set", &target, detail);
        self.change(entry, |page, batch| {
            if !page.limits.contains_key(&target) {
                bounded("limits_max", page.limits.len(), LIMITS_MAX)?;
            }
            page.limits.insert(target.clone(), ceiling);
            Ok(batch.put(record::limit(&target), json(&ceiling), Expect::Any))
        })
        .await
    }

    /// Takes a limit back: that of the configuration is in force again.
    pub async fn unset_limit(&self, by: &By, target: &Target) -> Result<(), Fault> {
        let entry = self.limit_entry(by, "limit.unset", target, String::new());
        self.change(entry, |page, batch| {
            let no_such = || Fault::new(ErrorCode::NotFound, format!("no limit is set for {target}"));
            page.limits.remove(target).ok_or_else(no_such)?;
            Ok(batch.delete(record::limit(target), Expect::Any))
        })
        .await
    }

    /// Follows what other processes change, and forgets what is over, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut every = tokio::time::interval(FOLLOW_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for look in 1_u32.. {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = every.tick() => {}
            }
            if let Err(fault) = self.follow().await {
                tracing::warn!(%fault, "it is not known whether limits were changed; those known stay");
            }
            if look % LOOKS_PER_SWEEP == 0 {
                self.shared.parts.guard.limits.forget_idle(Instant::now());
                if let Err(fault) = self.remove_what_is_over().await {
                    tracing::warn!(%fault, "protections that are over could not be removed");
                }
            }
        }
    }

    async fn follow(&self) -> Result<(), Fault> {
        let mut seen = self.shared.changing.lock().await;
        let records = &*self.shared.parts.records;
        if epoch(records).await? != *seen {
            let (page, epoch) = read_all(records).await?;
            self.put_in_force(page);
            *seen = epoch;
        }
        Ok(())
    }

    /// Nobody did it, so it is not audited; that they were to end then is, with what put them in force.
    async fn remove_what_is_over(&self) -> Result<(), Fault> {
        let mut seen = self.shared.changing.lock().await;
        let now = self.shared.parts.clock.now();
        let mut page = Page::clone(&self.page());
        let over: Vec<_> = page.protections.values().filter(|it| !it.is_in_force(now)).cloned().collect();
        if over.is_empty() {
            return Ok(());
        }
        // One place of the batch is the epoch's.
        let over = &over[..over.len().min(SCAN_LEN_MAX - 1)];
        let batch =
            over.iter().fold(Batch::default(), |batch, it| batch.delete(record::rule(&it.id), Expect::Any));
        let batch = batch.put(record::epoch(), "", seen.map_or(Expect::Absent, Expect::At));
        let committed = self.shared.parts.records.commit(batch).await.map_err(|error| of_store(&error))?;
        *seen = Some(committed.revision);
        over.iter().for_each(|it| drop(page.protections.remove(&it.id)));
        self.put_in_force(page);
        Ok(())
    }

    /// Commits a change with its line of the audit record; it is in force when this returns.
    async fn change(
        &self,
        entry: AuditEntry,
        decide: impl FnOnce(&mut Page, Batch) -> Result<Batch, Fault>,
    ) -> Result<(), Fault> {
        let mut seen = self.shared.changing.lock().await;
        let mut page = Page::clone(&self.page());
        let batch = decide(&mut page, Batch::default())?;
        let batch = batch.put(record::epoch(), "", seen.map_or(Expect::Absent, Expect::At));
        let commit = self.shared.parts.audit.commit_audited(batch, vec![entry]);
        let committed = commit.await.map_err(|error| of_store(&error))?;
        *seen = Some(committed.revision);
        self.put_in_force(page);
        Ok(())
    }

    fn put_in_force(&self, page: Page) {
        let Parts { guard, options, .. } = &self.shared.parts;
        let policy = guard.limits.policy();
        let rules = Rules::new(page.protections.values().cloned(), &policy.load().rules);
        match Policy::new(options, &page.limits, rules) {
            Ok(next) => policy.store(Arc::new(next)),
            Err(error) => tracing::error!(%error, "a limit cannot be put in force; those before stay"),
        }
        self.shared.page.send_replace(Arc::new(page));
    }

    fn entry(&self, by: &By, action: &str, protection: &Protection, detail: String) -> AuditEntry {
        let namespace = match (&protection.within, &protection.subject) {
            (Some(namespace), _)
            | (None, Subject::Namespace(namespace) | Subject::Function(namespace, _)) => namespace.clone(),
            (None, _) => Name::default_namespace(),
        };
        self.audited(by, action, format!("{namespace}/protection:{}", protection.id), detail)
    }

    fn limit_entry(&self, by: &By, action: &str, target: &Target, detail: String) -> AuditEntry {
        let namespace = target.namespace().cloned().unwrap_or_else(Name::default_namespace);
        self.audited(by, action, format!("{namespace}/limit:{target}"), detail)
    }

    fn audited(&self, by: &By, action: &str, subject: String, detail: String) -> AuditEntry {
        AuditEntry {
            at: self.shared.parts.clock.now(),
            actor: by.name.clone(),
            from: by.from.clone(),
            action: action.to_owned(),
            subject,
            change: None,
            detail,
        }
    }
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, message)
}

fn check_reason(reason: &str) -> Result<(), Fault> {
    let length = reason.chars().count();
    if (1..=REASON_CHARS_MAX).contains(&length) && !reason.contains(char::is_control) {
        return Ok(());
    }
    Err(invalid(format!(
        "reason: one line of 1 to {REASON_CHARS_MAX} characters is needed, callers are told it"
    )))
}

fn check_limit(limit: &Limit) -> Result<(), Fault> {
    limit.validate("limit").map_err(|error| invalid(error.to_string()))
}

fn bounded(limit: &'static str, count: usize, max: usize) -> Result<(), Fault> {
    if count < max {
        return Ok(());
    }
    let message = format!("there are {max} already");
    Err(Fault::limit(ErrorCode::InvalidRequest, message, limit, max as u64, "fixed in this version"))
}

fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}

async fn epoch(records: &dyn Records) -> Result<Option<Revision>, Fault> {
    let record = records.get(&record::epoch()).await.map_err(|error| of_store(&error))?;
    Ok(record.map(|record| record.revision))
}

async fn read_all(records: &dyn Records) -> Result<(Page, Option<Revision>), Fault> {
    // The epoch first: what changes meanwhile is read once more.
    let epoch = epoch(records).await?;
    let mut page = Page::default();
    for record in scan(records, &record::rules()).await? {
        if let Some(protection) = read::<Protection>(&record) {
            page.protections.insert(protection.id.clone(), protection);
        }
    }
    for record in scan(records, &record::limits()).await? {
        if let (Some(target), Some(ceiling)) = (record::target_of(&record.key), read::<Ceiling>(&record)) {
            page.limits.insert(target, ceiling);
        }
    }
    Ok((page, epoch))
}

/// A record that cannot be read is said and left out.
fn read<T: DeserializeOwned>(record: &Record) -> Option<T> {
    let read = serde_json::from_slice(&record.value);
    read.inspect_err(|error| tracing::error!(key = %record.key, %error, "a record cannot be read")).ok()
}

async fn scan(records: &dyn Records, prefix: &Key) -> Result<Vec<Record>, Fault> {
    let mut found: Vec<Record> = Vec::new();
    loop {
        let after = found.last().map(|record| record.key.clone());
        let page =
            records.scan(prefix, after.as_ref(), SCAN_LEN_MAX).await.map_err(|error| of_store(&error))?;
        let is_last = page.len() < SCAN_LEN_MAX;
        found.extend(page);
        if is_last {
            return Ok(found);
        }
    }
}

fn of_store(error: &StoreError) -> Fault {
    match error {
        StoreError::Conflict { .. } => Fault::new(
            ErrorCode::Conflict,
            "limits were changed by another process at the same time; try again",
        ),
        error => {
            tracing::error!(%error, "limits and protections cannot be read or changed");
            Fault::new(ErrorCode::StoreUnavailable, "the store does not answer; nothing was changed")
        }
    }
}
