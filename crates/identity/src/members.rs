//! Namespaces and people: made known, given roles, let go.

use std::sync::Arc;

use alula_model::{ErrorCode, Fault, Name};

use crate::directory::{Change, Directory};
use crate::grant::Grant;
use crate::identity::{Doing, Identity};
use crate::login::all_of;
use crate::principal::Principal;
use crate::record::{KeyOwner, NamespaceRecord, UserRecord};

/// Namespaces of a platform.
const NAMESPACES_MAX: usize = 10_000;
/// People of a platform.
const USERS_MAX: usize = 100_000;
/// Roles that one person may have.
const GRANTS_MAX: usize = 1_000;
/// Changes that are committed together.
const CHANGES_MAX: usize = 900;
/// Longest description and address, in characters.
const TEXT_CHARS_MAX: usize = 500;

/// A person to be made known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// What they are called.
    pub name: Name,
    /// Where they are written to.
    pub email: Option<String>,
    /// Whether they administer the platform.
    pub is_administrator: bool,
}

impl Identity {
    /// Makes a namespace known. One that is not may be deployed to by administrators alone.
    pub async fn create_namespace(
        &self,
        by: &Principal,
        name: &Name,
        description: &str,
    ) -> Result<Arc<NamespaceRecord>, Fault> {
        check_text("description", description)?;
        let record = NamespaceRecord {
            name: name.clone(),
            description: description.to_owned(),
            created_at: self.now(),
            created_by: by.name.to_string(),
        };
        let made = record.clone();
        let subject = format!("{name}/");
        self.change(
            Doing { by, action: "namespace.create", subject, detail: description.to_owned() },
            move |directory| {
                if directory.namespaces.contains_key(&made.name) {
                    return Err(taken("namespace", &made.name));
                }
                bounded("namespaces_max", directory.namespaces.len(), NAMESPACES_MAX)?;
                Ok(vec![Change::Namespace(made.name.clone(), Some(made))])
            },
        )
        .await?;
        Ok(Arc::new(record))
    }

    /// The namespaces that are known, by name.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Arc<NamespaceRecord>> {
        self.directory().namespaces.values().cloned().collect()
    }

    /// The people who are known, by name.
    #[must_use]
    pub fn users(&self) -> Vec<Arc<UserRecord>> {
        self.directory().users.values().cloned().collect()
    }

    /// Those of them who have a role in a namespace or an app of it.
    #[must_use]
    pub fn members(&self, namespace: &Name) -> Vec<Arc<UserRecord>> {
        let is_member =
            |user: &&Arc<UserRecord>| user.grants.iter().any(|grant| grant.namespace == *namespace);
        self.directory().users.values().filter(is_member).cloned().collect()
    }

    /// Forgets a namespace, its keys and everybody's roles in it. What is deployed there is for the caller to look at first.
    pub async fn remove_namespace(&self, by: &Principal, name: &Name) -> Result<(), Fault> {
        loop {
            let doing =
                Doing { by, action: "namespace.remove", subject: format!("{name}/"), detail: String::new() };
            self.change(doing, |directory| {
                directory.namespaces.get(name).ok_or_else(|| missing("namespace", name))?;
                let mut changes = without_namespace(directory, name);
                // The namespace itself is the last, so that what breaks off before can be gone on with.
                changes.truncate(CHANGES_MAX);
                Ok(changes)
            })
            .await?;
            if !self.directory().namespaces.contains_key(name) {
                return Ok(());
            }
        }
    }

    /// Makes a person known.
    pub async fn create_user(&self, by: &Principal, new: NewUser) -> Result<Arc<UserRecord>, Fault> {
        check_text("email", new.email.as_deref().unwrap_or_default())?;
        let NewUser { name, email, is_administrator } = new;
        let record = UserRecord {
            name,
            email,
            is_administrator,
            is_disabled: false,
            grants: Vec::new(),
            password: None,
            created_at: self.now(),
            created_by: by.name.to_string(),
        };
        let made = record.clone();
        let detail = if is_administrator { "administrator" } else { "" }.to_owned();
        self.change(
            Doing { by, action: "user.create", subject: subject_of(&record.name), detail },
            move |directory| {
                if directory.users.contains_key(&made.name) {
                    return Err(taken("user", &made.name));
                }
                bounded("users_max", directory.users.len(), USERS_MAX)?;
                Ok(vec![Change::User(made.name.clone(), Some(made))])
            },
        )
        .await?;
        Ok(Arc::new(record))
    }

    /// Refuses a person's keys until they are enabled again, and ends their sessions.
    pub async fn disable_user(&self, by: &Principal, name: &Name) -> Result<(), Fault> {
        self.change(doing(by, "user.disable", name), |directory| {
            let user = directory.users.get(name).ok_or_else(|| missing("user", name))?;
            let user = UserRecord { is_disabled: true, ..(**user).clone() };
            let mut changes = all_of(directory, name);
            changes.push(Change::User(name.clone(), Some(user)));
            Ok(changes)
        })
        .await
    }

    /// Takes a person's keys again.
    pub async fn enable_user(&self, by: &Principal, name: &Name) -> Result<(), Fault> {
        self.change_user(doing(by, "user.enable", name), name, |user| {
            user.is_disabled = false;
            Ok(())
        })
        .await
    }

    /// Forgets a person, their keys and sessions with them.
    pub async fn remove_user(&self, by: &Principal, name: &Name) -> Result<(), Fault> {
        self.change(doing(by, "user.remove", name), |directory| {
            directory.users.get(name).ok_or_else(|| missing("user", name))?;
            let owner = KeyOwner::User(name.clone());
            let keys = directory.keys.values().filter(|entry| entry.record.owner == owner);
            let changes = keys.map(|entry| Change::Key(entry.record.id.clone(), None));
            let sessions = all_of(directory, name);
            Ok(changes.chain(sessions).chain([Change::User(name.clone(), None)]).collect())
        })
        .await
    }

    /// Gives a person a role.
    pub async fn give(&self, by: &Principal, name: &Name, grant: Grant) -> Result<(), Fault> {
        if !by.may_give(&grant) {
            return Err(Fault::new(ErrorCode::Forbidden, format!("you may not give the role {grant}")));
        }
        let subject = format!("{}/user:{name}", grant.namespace);
        let doing = Doing { by, action: "member.give", subject, detail: grant.to_string() };
        self.change_user(doing, name, |user| {
            if !user.grants.contains(&grant) {
                bounded("grants_max", user.grants.len(), GRANTS_MAX)?;
                user.grants.push(grant);
                user.grants.sort();
            }
            Ok(())
        })
        .await
    }

    /// Takes a role back.
    pub async fn take(&self, by: &Principal, name: &Name, grant: &Grant) -> Result<(), Fault> {
        if !by.may_give(grant) {
            return Err(Fault::new(ErrorCode::Forbidden, format!("you may not take the role {grant}")));
        }
        let subject = format!("{}/user:{name}", grant.namespace);
        let doing = Doing { by, action: "member.take", subject, detail: grant.to_string() };
        self.change_user(doing, name, |user| {
            let before = user.grants.len();
            user.grants.retain(|has| has != grant);
            if user.grants.len() == before {
                return Err(Fault::new(ErrorCode::NotFound, format!("user {} is not {grant}", user.name)));
            }
            Ok(())
        })
        .await
    }

    async fn change_user(
        &self,
        doing: Doing<'_>,
        name: &Name,
        change: impl FnOnce(&mut UserRecord) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.change(doing, |directory| {
            let mut user = (**directory.users.get(name).ok_or_else(|| missing("user", name))?).clone();
            change(&mut user)?;
            Ok(vec![Change::User(name.clone(), Some(user))])
        })
        .await
    }
}

fn without_namespace(directory: &Directory, name: &Name) -> Vec<Change> {
    let owner = KeyOwner::Namespace(name.clone());
    let keys = directory.keys.values().filter(|entry| entry.record.owner == owner);
    let keys = keys.map(|entry| Change::Key(entry.record.id.clone(), None));
    let has_role = |user: &&Arc<UserRecord>| user.grants.iter().any(|grant| grant.namespace == *name);
    let users = directory.users.values().filter(has_role).map(|user| {
        let mut user = (**user).clone();
        user.grants.retain(|grant| grant.namespace != *name);
        Change::User(user.name.clone(), Some(user))
    });
    keys.chain(users).chain([Change::Namespace(name.clone(), None)]).collect()
}

fn doing<'a>(by: &'a Principal, action: &'static str, user: &Name) -> Doing<'a> {
    Doing { by, action, subject: subject_of(user), detail: String::new() }
}

fn subject_of(user: &Name) -> String {
    format!("{}/user:{user}", Name::default_namespace())
}

fn taken(what: &str, name: &Name) -> Fault {
    Fault::new(ErrorCode::Conflict, format!("there is a {what} {name} already"))
}

pub(crate) fn missing(what: &str, name: &Name) -> Fault {
    Fault::new(ErrorCode::NotFound, format!("there is no {what} {name}"))
}

fn check_text(field: &str, text: &str) -> Result<(), Fault> {
    if text.chars().count() > TEXT_CHARS_MAX || text.chars().any(char::is_control) {
        let message =
            format!("{field}: at most {TEXT_CHARS_MAX} characters, none of them a control character");
        return Err(Fault::new(ErrorCode::InvalidRequest, message));
    }
    Ok(())
}

fn bounded(limit: &'static str, count: usize, max: usize) -> Result<(), Fault> {
    if count < max {
        return Ok(());
    }
    let message = format!("there are {max} already");
    Err(Fault::limit(ErrorCode::InvalidRequest, message, limit, max as u64, "fixed in this version"))
}
