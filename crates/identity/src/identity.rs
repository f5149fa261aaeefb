//! The handle that everything else holds: loads, changes and follows who is known.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alula_model::{AuditChange, AuditEntry, Clock, ErrorCode, Fault, Name, Timestamp};
use alula_store::{
    AuditTrail, Batch, Error as StoreError, Expect, Key, Record, Records, Revision, SCAN_LEN_MAX,
};
use arc_swap::{ArcSwap, Guard};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::calling::CallingRecord;
use crate::directory::{Change, Directory, Refusal};
use crate::last_use::LastUse;
use crate::login::{Hasher, SessionRecord, Tries};
use crate::principal::Principal;
use crate::record::{self, KeyRecord, NamespaceRecord, UserRecord};

/// How often it is looked whether another process has changed something: a revocation is in force everywhere within a
/// second.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// A store that takes longer for a look than this does not answer.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);
/// For so long it is good what was read last, while the store does not answer.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3_600);
/// After so many looks what was used is stored.
const LOOKS_PER_SAVING: u32 = 60;

/// What it is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where everybody is recorded.
    pub records: Arc<dyn Records>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Records who changed what.
    pub audit: Arc<dyn AuditTrail>,
    /// Gives 128 bits that nobody can guess.
    pub random: fn() -> u128,
}

/// Who is known. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Identity {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    parts: Parts,
    directory: ArcSwap<Directory>,
    /// One change at a time, with the revision of the epoch that the picture stands at.
    changing: tokio::sync::Mutex<Option<Revision>>,
    /// How the last look at the store went.
    look: Mutex<Look>,
    hasher: Hasher,
    tries: Tries,
}

/// What is known of the picture.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// When it was right.
    right_at: Instant,
    /// Whether the store has not answered since.
    has_failed: bool,
}

/// What a change is recorded as.
pub(crate) struct Doing<'a> {
    pub(crate) by: &'a Principal,
    pub(crate) action: &'static str,
    /// `namespace/what`.
    pub(crate) subject: String,
    pub(crate) detail: String,
}

impl Identity {
    /// Loads everybody.
    pub async fn load(parts: Parts) -> Result<Self, Fault> {
        let (directory, epoch) = read_all(&*parts.records).await?;
        let shared = Shared {
            parts,
            directory: ArcSwap::from_pointee(directory),
            changing: tokio::sync::Mutex::new(epoch),
            look: Mutex::new(Look { right_at: Instant::now(), has_failed: false }),
            hasher: Hasher::default(),
            tries: Tries::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Everybody as of now.
    #[must_use]
    pub fn directory(&self) -> Guard<Arc<Directory>> {
        self.shared.directory.load()
    }

    /// Who comes with the key `text`, now. While the store does not answer, whoever was known lately is let in, and who was
    /// not is told that it cannot be known.
    pub fn identify(&self, text: &str) -> Result<Principal, Refusal> {
        let found = self.directory().identify(text, self.now()).cloned();
        let Look { right_at, has_failed } = *self.look();
        match found {
            _ if has_failed && right_at.elapsed() > GOOD_FOR => Err(Refusal::Stale),
            // What has not the form of a token is none, whatever the store would say.
            Err(Refusal::Unknown) if has_failed && Directory::could_be(text) => Err(Refusal::Unsure),
            found => found,
        }
    }

    fn look(&self) -> MutexGuard<'_, Look> {
        self.shared.look.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hasher(&self) -> &Hasher {
        &self.shared.hasher
    }

    pub(crate) fn tries(&self) -> &Tries {
        &self.shared.tries
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.parts.clock.now()
    }

    pub(crate) fn random(&self) -> u128 {
        (self.shared.parts.random)()
    }

    /// Follows what other processes change, and stores what was used, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut every = tokio::time::interval(FOLLOW_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for look in 1_u32.. {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = every.tick() => {}
            }
            match tokio::time::timeout(LOOK_PATIENCE, self.follow()).await {
                Ok(Ok(())) => *self.look() = Look { right_at: Instant::now(), has_failed: false },
                failed => {
                    self.look().has_failed = true;
                    let fault = failed.map(Result::err).ok().flatten();
                    tracing::warn!(
                        ?fault,
                        "it is not known whether users or keys were changed; those known stay"
                    );
                }
            }
            if look % LOOKS_PER_SAVING == 0 {
                self.save_uses().await;
                self.learn_uses().await;
                self.sweep().await;
            }
        }
        self.save_uses().await;
    }

    async fn follow(&self) -> Result<(), Fault> {
        let mut seen = self.shared.changing.lock().await;
        let records = &*self.shared.parts.records;
        if epoch(records).await? != *seen {
            let (directory, epoch) = read_all(records).await?;
            let known = self.directory();
            for (id, entry) in &directory.keys {
                if let Some(at) = known.keys.get(id).and_then(|known| known.last_use.at()) {
                    entry.last_use.note(at);
                }
            }
            for (id, entry) in &directory.sessions {
                if let Some(at) = known.sessions.get(id).and_then(|known| known.last_use.at()) {
                    entry.last_use.note(at);
                }
            }
            self.shared.directory.store(Arc::new(directory));
            *seen = epoch;
        }
        Ok(())
    }

    /// Stores when keys were used last. What cannot be stored now is stored the next time.
    async fn save_uses(&self) {
        let directory = self.directory().clone();
        let keys = directory.keys.iter().map(|(id, entry)| (id, &entry.last_use));
        let sessions = directory.sessions.iter().map(|(id, entry)| (id, &entry.last_use));
        let unsaved: Vec<_> = keys
            .chain(sessions)
            .filter_map(|(id, last_use)| Some((id, last_use, last_use.unsaved()?)))
            .collect();
        for some in unsaved.chunks(SCAN_LEN_MAX) {
            let batch = some.iter().fold(Batch::default(), |batch, (id, _, at)| {
                batch.put(record::one(record::USED, id.as_str()), at.0.to_string(), Expect::Any)
            });
            match self.shared.parts.records.commit(batch).await {
                Ok(_) => some.iter().for_each(|(_, last_use, at)| last_use.saved(*at)),
                Err(error) => return tracing::warn!(%error, "when keys were used last could not be stored"),
            }
        }
    }

    /// Learns when other processes let sessions in, so that none ends as idle that is used elsewhere.
    async fn learn_uses(&self) {
        let directory = self.directory().clone();
        for (id, entry) in &directory.sessions {
            let used = self.shared.parts.records.get(&record::one(record::USED, id.as_str())).await;
            let at =
                used.ok().flatten().and_then(|record| std::str::from_utf8(&record.value).ok()?.parse().ok());
            if let Some(at) = at {
                entry.last_use.note(Timestamp(at));
            }
        }
    }

    /// Removes sessions that have ended by themselves. Nobody has to be told: they are over everywhere.
    async fn sweep(&self) {
        let _changing = self.shared.changing.lock().await;
        let (directory, now) = (self.directory().clone(), self.now());
        let over = directory.sessions.values().filter(|entry| entry.record.is_over(entry.last_use.at(), now));
        let over: Vec<_> = over.map(|entry| entry.record.id.clone()).take(SCAN_LEN_MAX / 2).collect();
        if over.is_empty() {
            return;
        }
        let batch = over.iter().fold(Batch::default(), |batch, id| {
            let batch = batch.delete(record::one(record::SESSIONS, id.as_str()), Expect::Any);
            batch.delete(record::one(record::USED, id.as_str()), Expect::Any)
        });
        if let Err(error) = self.shared.parts.records.commit(batch).await {
            return tracing::warn!(%error, "sessions that have ended could not be removed");
        }
        let changes = over.into_iter().map(|id| Change::Session(id, None));
        let next = changes.fold(Directory::clone(&directory), |next, change| next.with(change));
        self.shared.directory.store(Arc::new(next));
    }

    /// Commits changes with their line of the audit record; they are in force when this returns.
    pub(crate) async fn change(
        &self,
        doing: Doing<'_>,
        decide: impl FnOnce(&Directory) -> Result<Vec<Change>, Fault>,
    ) -> Result<(), Fault> {
        let mut seen = self.shared.changing.lock().await;
        let audit = &self.shared.parts.audit;
        let directory = self.directory().clone();
        let changes = decide(&directory)?;
        let batch = changes.iter().fold(Batch::default(), write);
        let expect = seen.map_or(Expect::Absent, Expect::At);
        let batch = batch.put(record::epoch(), "", expect);
        let change = recorded(&directory, &changes);
        let Doing { by, action, subject, detail } = doing;
        let entry = AuditEntry {
            at: self.now(),
            actor: by.name.to_string(),
            from: by.from.as_deref().map(str::to_owned),
            action: action.to_owned(),
            subject,
            detail,
            change,
        };
        let committed = audit.commit_audited(batch, vec![entry]).await.map_err(|error| of_store(&error))?;
        *seen = Some(committed.revision);
        let next = changes.into_iter().fold(Directory::clone(&directory), |next, change| next.with(change));
        self.shared.directory.store(Arc::new(next));
        Ok(())
    }
}

/// What the changes make another, without secrets and their digests. A change of several records is told by the last: it is
/// what the rest goes along with.
fn recorded(directory: &Directory, changes: &[Change]) -> Option<AuditChange> {
    let (before, after) = match changes.last()? {
        Change::Namespace(name, after) => {
            (shown(directory.namespaces.get(name).map(AsRef::as_ref)), shown(after.as_ref()))
        }
        Change::User(name, after) => {
            (shown(directory.users.get(name).map(AsRef::as_ref)), shown(after.as_ref()))
        }
        Change::Key(id, after) => {
            (shown(directory.keys.get(id).map(|entry| &entry.record)), shown(after.as_ref()))
        }
        Change::Calling(name, after) => {
            return Some(AuditChange::of_access(shown(directory.calling(name)), shown(after.as_ref())));
        }
        Change::Session(..) => return None,
    };
    Some(AuditChange::between(before, after))
}

/// A record as JSON without what lets somebody in, or is known of it.
fn shown(record: Option<&impl Serialize>) -> Value {
    const UNTOLD: [&str; 4] = ["digest", "previous", "url_keys", "password"];
    let mut shown = record.and_then(|record| serde_json::to_value(record).ok()).unwrap_or_default();
    for name in UNTOLD {
        if let Some(value) = shown.get_mut(name) {
            *value = Value::from("(not shown)");
        }
    }
    shown
}

fn write(batch: Batch, change: &Change) -> Batch {
    let (key, value) = match change {
        Change::Namespace(name, record) => {
            (record::one(record::NAMESPACES, name.as_str()), record.as_ref().map(json))
        }
        Change::User(name, record) => (record::one(record::USERS, name.as_str()), record.as_ref().map(json)),
        Change::Key(id, record) => (record::one(record::KEYS, id.as_str()), record.as_ref().map(json)),
        Change::Session(id, record) => {
            (record::one(record::SESSIONS, id.as_str()), record.as_ref().map(json))
        }
        Change::Calling(name, record) => {
            (record::one(record::CALLING, name.as_str()), record.as_ref().map(json))
        }
    };
    match value {
        Some(value) => batch.put(key, value, Expect::Any),
        None => batch.delete(key, Expect::Any),
    }
}

fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}

async fn epoch(records: &dyn Records) -> Result<Option<Revision>, Fault> {
    let record = records.get(&record::epoch()).await.map_err(|error| of_store(&error))?;
    Ok(record.map(|record| record.revision))
}

async fn read_all(records: &dyn Records) -> Result<(Directory, Option<Revision>), Fault> {
    // The epoch first: what changes meanwhile is read once more.
    let epoch = epoch(records).await?;
    let mut directory = Directory::default();
    for record in scan(records, &record::all(record::NAMESPACES)).await? {
        if let Some(namespace) = read::<NamespaceRecord>(&record) {
            directory.namespaces.insert(namespace.name.clone(), Arc::new(namespace));
        }
    }
    for record in scan(records, &record::all(record::USERS)).await? {
        if let Some(user) = read::<UserRecord>(&record) {
            directory.users.insert(user.name.clone(), Arc::new(user));
        }
    }
    for record in scan(records, &record::all(record::CALLING)).await? {
        let namespace = record.key.segments().last().and_then(|text| Name::new(text).ok());
        if let (Some(namespace), Some(calling)) = (namespace, read::<CallingRecord>(&record)) {
            directory.calling.insert(namespace, Arc::new(calling));
        }
    }
    let used = scan(records, &record::all(record::USED)).await?;
    let used_at = |record: &Record| {
        let at = std::str::from_utf8(&record.value).ok()?.parse().ok()?;
        Some((record.key.segments().last()?.to_owned(), Timestamp(at)))
    };
    let used: std::collections::HashMap<_, _> = used.iter().filter_map(used_at).collect();
    for record in scan(records, &record::all(record::KEYS)).await? {
        if let Some(key) = read::<KeyRecord>(&record) {
            let last_use = LastUse::stored(used.get(key.id.as_str()).copied());
            directory.insert_key(key, Arc::new(last_use));
        }
    }
    for record in scan(records, &record::all(record::SESSIONS)).await? {
        if let Some(session) = read::<SessionRecord>(&record) {
            let last_use = LastUse::stored(used.get(session.id.as_str()).copied());
            directory.insert_session(session, Arc::new(last_use));
        }
    }
    Ok((directory, epoch))
}

/// A record that cannot be read gives nobody a right; it is said and left out.
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
        StoreError::Conflict { .. } => {
            let message = "users or keys were changed by another process at the same time; try again";
            Fault::new(ErrorCode::Conflict, message)
        }
        error => {
            tracing::error!(%error, "users and keys cannot be read or changed");
            Fault::new(ErrorCode::StoreUnavailable, "the store does not answer; nothing was changed")
        }
    }
}
