//! Everybody who is known, in memory: one immutable picture that is swapped whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use alula_model::{Name, Timestamp};

use crate::calling::CallingRecord;
use crate::grant::Grant;
use crate::key::{KeyId, PlainKey, is_same};
use crate::last_use::LastUse;
use crate::login::{SessionInfo, SessionRecord, SessionToken};
use crate::principal::Principal;
use crate::record::{KeyOwner, KeyRecord, NamespaceRecord, UserRecord};

/// Everybody who is known.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    pub(crate) namespaces: BTreeMap<Name, Arc<NamespaceRecord>>,
    pub(crate) users: BTreeMap<Name, Arc<UserRecord>>,
    pub(crate) keys: HashMap<KeyId, Arc<KeyEntry>>,
    pub(crate) calling: HashMap<Name, Arc<CallingRecord>>,
    pub(crate) sessions: HashMap<KeyId, Arc<SessionEntry>>,
}

/// A key and what it may.
#[derive(Debug)]
pub(crate) struct KeyEntry {
    pub(crate) record: KeyRecord,
    /// `None` while its owner is disabled.
    pub(crate) principal: Option<Principal>,
    pub(crate) last_use: Arc<LastUse>,
}

/// A session and what it may.
#[derive(Debug)]
pub(crate) struct SessionEntry {
    pub(crate) record: SessionRecord,
    /// `None` while its owner is disabled.
    pub(crate) principal: Option<Principal>,
    pub(crate) last_use: Arc<LastUse>,
}

impl SessionEntry {
    /// What is told of it.
    pub(crate) fn info(&self) -> SessionInfo {
        let SessionRecord { id, user, way, created_at, from, .. } = self.record.clone();
        let (ends_at, last_used_at) = (self.record.ends_at(), self.last_use.at());
        SessionInfo { id, user, way, created_at, from, last_used_at, ends_at }
    }
}

/// Why a key is not taken. What a stranger is told is the same for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such key, or not its secret.
    #[error("the token is not known here")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its owner is disabled.
    #[error("the owner of the token is disabled")]
    Disabled,
    /// It is not among those that were known when the store was read last, and the store cannot be asked.
    #[error("the store does not answer, and this token was not known before; try again")]
    Unsure,
    /// The store has not been read for so long that nobody can be let in by what it said then.
    #[error("the store has not answered for a day, so it is not known who may do what")]
    Stale,
}

/// One change of the picture.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Namespace(Name, Option<NamespaceRecord>),
    User(Name, Option<UserRecord>),
    Key(KeyId, Option<KeyRecord>),
    Calling(Name, Option<CallingRecord>),
    Session(KeyId, Option<SessionRecord>),
}

impl Directory {
    /// Who comes with the key or session `text`. The use is noted.
    pub fn identify(&self, text: &str, now: Timestamp) -> Result<&Principal, Refusal> {
        if let Some(presented) = SessionToken::parse(text) {
            return self.identify_session(&presented, now);
        }
        let presented = PlainKey::parse(text).ok_or(Refusal::Unknown)?;
        let entry = self.keys.get(presented.id()).ok_or(Refusal::Unknown)?;
        let digest = presented.digest();
        let record = &entry.record;
        let is_previous =
            |previous: &crate::record::Previous| is_same(&previous.digest, &digest) && now < previous.until;
        if !is_same(&record.digest, &digest) && !record.previous.as_ref().is_some_and(is_previous) {
            return Err(Refusal::Unknown);
        }
        if record.expires_at.is_some_and(|at| now >= at) {
            return Err(Refusal::Expired);
        }
        let principal = entry.principal.as_ref().ok_or(Refusal::Disabled)?;
        entry.last_use.note(now);
        Ok(principal)
    }

    /// Whether `text` has the form of a key or a session.
    pub(crate) fn could_be(text: &str) -> bool {
        PlainKey::parse(text).is_some() || SessionToken::parse(text).is_some()
    }

    fn identify_session(&self, presented: &SessionToken, now: Timestamp) -> Result<&Principal, Refusal> {
        let entry = self.sessions.get(presented.id()).ok_or(Refusal::Unknown)?;
        if !is_same(&entry.record.digest, &presented.digest()) {
            return Err(Refusal::Unknown);
        }
        if entry.record.is_over(entry.last_use.at(), now) {
            return Err(Refusal::Expired);
        }
        let principal = entry.principal.as_ref().ok_or(Refusal::Disabled)?;
        entry.last_use.note(now);
        Ok(principal)
    }

    /// What a namespace says about calls from outside.
    pub(crate) fn calling(&self, namespace: &Name) -> Option<&CallingRecord> {
        // Most installations have none.
        if self.calling.is_empty() { None } else { self.calling.get(namespace).map(AsRef::as_ref) }
    }

    /// The picture after a change.
    pub(crate) fn with(&self, change: Change) -> Self {
        let mut next = self.clone();
        match change {
            Change::Namespace(name, record) => put(&mut next.namespaces, name, record),
            Change::User(name, record) => {
                put(&mut next.users, name.clone(), record);
                next.refresh_keys_of(&name);
            }
            Change::Key(id, None) => drop(next.keys.remove(&id)),
            Change::Key(id, Some(record)) => {
                let last_use = next.keys.get(&id).map(|entry| Arc::clone(&entry.last_use));
                next.insert_key(record, last_use.unwrap_or_else(|| Arc::new(LastUse::stored(None))));
            }
            Change::Session(id, None) => drop(next.sessions.remove(&id)),
            Change::Session(_, Some(record)) => next.insert_session(record, Arc::new(LastUse::stored(None))),
            Change::Calling(namespace, None) => drop(next.calling.remove(&namespace)),
            Change::Calling(namespace, Some(record)) => {
                next.calling.insert(namespace, Arc::new(record));
            }
        }
        next
    }

    pub(crate) fn insert_key(&mut self, record: KeyRecord, last_use: Arc<LastUse>) {
        let principal = self.principal(&record);
        self.keys.insert(record.id.clone(), Arc::new(KeyEntry { record, principal, last_use }));
    }

    pub(crate) fn insert_session(&mut self, record: SessionRecord, last_use: Arc<LastUse>) {
        let user = self.users.get(&record.user).filter(|user| !user.is_disabled);
        let principal = user.map(|user| of_user(user));
        self.sessions.insert(record.id.clone(), Arc::new(SessionEntry { record, principal, last_use }));
    }

    /// What a key or a session may depends on its owner.
    fn refresh_keys_of(&mut self, user: &Name) {
        let of_user =
            |entry: &&Arc<KeyEntry>| matches!(&entry.record.owner, KeyOwner::User(of) if of == user);
        let changed: Vec<_> = self.keys.values().filter(of_user).cloned().collect();
        for entry in changed {
            self.insert_key(entry.record.clone(), Arc::clone(&entry.last_use));
        }
        let changed: Vec<_> =
            self.sessions.values().filter(|entry| entry.record.user == *user).cloned().collect();
        for entry in changed {
            self.insert_session(entry.record.clone(), Arc::clone(&entry.last_use));
        }
    }

    fn principal(&self, key: &KeyRecord) -> Option<Principal> {
        match &key.owner {
            KeyOwner::Namespace(namespace) => {
                Some(Principal::key(namespace, &key.name, key.grants.clone().into()))
            }
            KeyOwner::User(name) => {
                let user = self.users.get(name).filter(|user| !user.is_disabled)?;
                if key.grants.is_empty() {
                    return Some(of_user(user));
                }
                Some(Principal::member(&format!("user:{name}"), common(user, &key.grants).into()))
            }
        }
    }
}

/// A person with all that they may.
fn of_user(user: &UserRecord) -> Principal {
    let called = format!("user:{}", user.name);
    match user.is_administrator {
        true => Principal::administrator(&called),
        false => Principal::member(&called, user.grants.clone().into()),
    }
}

/// Of the grants of a key those that its owner still has.
fn common(user: &UserRecord, wanted: &[Grant]) -> Vec<Grant> {
    let has = |wanted: &Grant| {
        user.is_administrator
            || user.grants.iter().any(|has| has.role == wanted.role && has.covers(&wanted.place()))
    };
    wanted.iter().filter(|grant| has(grant)).cloned().collect()
}

fn put<T>(of: &mut BTreeMap<Name, Arc<T>>, name: Name, record: Option<T>) {
    match record {
        Some(record) => drop(of.insert(name, Arc::new(record))),
        None => drop(of.remove(&name)),
    }
}
