//! Keys are made, replaced and taken back.

use std::sync::Arc;

use alula_model::{ErrorCode, Fault, Name, Timestamp};

use crate::directory::{Change, Directory, KeyEntry};
use crate::grant::Grant;
use crate::identity::{Doing, Identity};
use crate::key::{KeyId, PlainKey};
use crate::principal::Principal;
use crate::record::{KeyOwner, KeyRecord, Previous};

/// Keys that one namespace or one person may have: with what goes along, all of them fit one commit.
const KEYS_PER_OWNER_MAX: usize = 900;
/// Grants of one key.
const GRANTS_MAX: usize = 100;
/// Longest time for which a replaced secret is still taken, in milliseconds: a month.
const KEEP_OLD_MS_MAX: i64 = 31 * 86_400_000;

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// What it is called in lists and in the audit record.
    pub name: Name,
    /// Whose it is.
    pub owner: KeyOwner,
    /// What it may; a person's key without any may what the person may.
    pub grants: Vec<Grant>,
    /// When it ends; never, without.
    pub expires_at: Option<Timestamp>,
}

/// What is told of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Which one.
    pub id: KeyId,
    /// What it is called.
    pub name: Name,
    /// Whose it is.
    pub owner: KeyOwner,
    /// What it may.
    pub grants: Vec<Grant>,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was used last, in this process or as was stored; a minute late at the most.
    pub last_used_at: Option<Timestamp>,
}

impl Identity {
    /// Makes a key. This is the only time that it is seen.
    pub async fn create_key(&self, by: &Principal, new: NewKey) -> Result<(KeyInfo, PlainKey), Fault> {
        let plain = PlainKey::generate(None, || self.random());
        let record = KeyRecord {
            id: plain.id().clone(),
            name: new.name,
            owner: new.owner,
            grants: new.grants,
            digest: plain.digest(),
            previous: None,
            created_at: self.now(),
            created_by: by.name.to_string(),
            expires_at: new.expires_at,
        };
        check(&record, by)?;
        let doing =
            Doing { by, action: "key.create", subject: subject(&record), detail: grants_in_words(&record) };
        let made = record.clone();
        self.change(doing, move |directory| {
            fits(directory, &made)?;
            Ok(vec![Change::Key(made.id.clone(), Some(made))])
        })
        .await?;
        Ok((self.key(&record.id)?, plain))
    }

    /// Gives a key another secret. The old one is taken for `keep_old_ms` more, so that who uses it has time to change.
    pub async fn rotate_key(
        &self,
        by: &Principal,
        id: &KeyId,
        keep_old_ms: i64,
    ) -> Result<(KeyInfo, PlainKey), Fault> {
        if !(0..=KEEP_OLD_MS_MAX).contains(&keep_old_ms) {
            let message =
                format!("keep_old_ms: {keep_old_ms} is out of bounds, allowed is 0 to {KEEP_OLD_MS_MAX}");
            return Err(Fault::new(ErrorCode::InvalidRequest, message));
        }
        let plain = PlainKey::generate(Some(id.clone()), || self.random());
        let (digest, until) = (plain.digest(), self.now().plus_millis(keep_old_ms));
        let subject = subject(&self.entry(id)?.record);
        let detail = format!("the old secret ends in {} s", keep_old_ms / 1_000);
        self.change(Doing { by, action: "key.rotate", subject, detail }, |directory| {
            let old = &found(directory, id)?.record;
            let previous = (keep_old_ms > 0).then_some(Previous { digest: old.digest, until });
            Ok(vec![Change::Key(id.clone(), Some(KeyRecord { digest, previous, ..old.clone() }))])
        })
        .await?;
        Ok((self.key(id)?, plain))
    }

    /// Takes a key back: from when this returns nobody is let in with it here, and within a second nowhere.
    pub async fn revoke_key(&self, by: &Principal, id: &KeyId) -> Result<(), Fault> {
        let subject = subject(&self.entry(id)?.record);
        self.change(Doing { by, action: "key.revoke", subject, detail: String::new() }, |directory| {
            found(directory, id)?;
            Ok(vec![Change::Key(id.clone(), None)])
        })
        .await
    }

    /// One key.
    pub fn key(&self, id: &KeyId) -> Result<KeyInfo, Fault> {
        Ok(info(&*self.entry(id)?))
    }

    /// The keys of an owner, by name.
    #[must_use]
    pub fn keys(&self, owner: &KeyOwner) -> Vec<KeyInfo> {
        let directory = self.directory();
        let of_owner = directory.keys.values().filter(|entry| entry.record.owner == *owner);
        let mut keys: Vec<_> = of_owner.map(|entry| info(entry)).collect();
        keys.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        keys
    }

    fn entry(&self, id: &KeyId) -> Result<Arc<KeyEntry>, Fault> {
        found(&self.directory(), id).map(Arc::clone)
    }
}

fn found<'a>(directory: &'a Directory, id: &KeyId) -> Result<&'a Arc<KeyEntry>, Fault> {
    directory.keys.get(id).ok_or_else(|| Fault::new(ErrorCode::NotFound, format!("there is no key {id}")))
}

/// What can be told without knowing who else there is.
fn check(key: &KeyRecord, by: &Principal) -> Result<(), Fault> {
    let refuse = |code, message: String| Err(Fault::new(code, message));
    if key.grants.len() > GRANTS_MAX {
        return refuse(ErrorCode::InvalidRequest, format!("grants: at most {GRANTS_MAX} are allowed"));
    }
    if key.expires_at.is_some_and(|at| at <= key.created_at) {
        return refuse(ErrorCode::InvalidRequest, "expires_at: it is in the past".to_owned());
    }
    if let KeyOwner::Namespace(namespace) = &key.owner {
        if key.grants.is_empty() {
            return refuse(
                ErrorCode::InvalidRequest,
                "grants: a key of a namespace needs at least one role".to_owned(),
            );
        }
        if let Some(other) = key.grants.iter().find(|grant| grant.namespace != *namespace) {
            let message =
                format!("grants: {other} is not in namespace {namespace}, which the key belongs to");
            return refuse(ErrorCode::InvalidRequest, message);
        }
    }
    // A person's key has of these only what the person has.
    let is_own = matches!(&key.owner, KeyOwner::User(user) if *by.name == *format!("user:{user}"));
    match key.grants.iter().find(|grant| !is_own && !by.may_give(grant)) {
        Some(grant) => refuse(ErrorCode::Forbidden, format!("you may not give the role {grant}")),
        None => Ok(()),
    }
}

fn fits(directory: &Directory, key: &KeyRecord) -> Result<(), Fault> {
    if let KeyOwner::User(user) = &key.owner
        && !directory.users.contains_key(user)
    {
        return Err(Fault::new(ErrorCode::NotFound, format!("there is no user {user}")));
    }
    let of_owner = || directory.keys.values().filter(|entry| entry.record.owner == key.owner);
    if of_owner().any(|entry| entry.record.name == key.name) {
        return Err(Fault::new(ErrorCode::Conflict, format!("there is a key {} already", key.name)));
    }
    if of_owner().count() >= KEYS_PER_OWNER_MAX {
        let message = format!("there are {KEYS_PER_OWNER_MAX} keys already; revoke some");
        let (limit, setting) = (KEYS_PER_OWNER_MAX as u64, "fixed in this version");
        return Err(Fault::limit(ErrorCode::InvalidRequest, message, "keys_per_owner_max", limit, setting));
    }
    Ok(())
}

fn subject(key: &KeyRecord) -> String {
    match &key.owner {
        KeyOwner::Namespace(namespace) => format!("{namespace}/key:{}", key.name),
        KeyOwner::User(user) => format!("{}/user:{user}/key:{}", Name::default_namespace(), key.name),
    }
}

fn grants_in_words(key: &KeyRecord) -> String {
    let grants: Vec<_> = key.grants.iter().map(Grant::to_string).collect();
    if grants.is_empty() { "all that its owner may".to_owned() } else { grants.join(", ") }
}

fn info(entry: &KeyEntry) -> KeyInfo {
    let KeyRecord { id, name, owner, grants, created_at, created_by, expires_at, .. } = entry.record.clone();
    KeyInfo { id, name, owner, grants, created_at, created_by, expires_at, last_used_at: entry.last_use.at() }
}
