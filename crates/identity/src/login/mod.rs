//! People log in: by a password, and have a session then.
//!
//! ```text
//! name, password -> Tries: may they try now? -> Hasher: is it the one? -> a session, its token shown once
//! ```
//!
//! Whoever is refused is told the same, in the same time: that there is no such person, that the password is wrong, that they
//! are disabled, that they tried too often. Administrators see the last two in the log and in the list of users.

mod password;
mod session;
mod tries;

use std::net::IpAddr;

use alula_model::{ErrorCode, Fault, Name, Timestamp};

use crate::directory::{Change, Directory};
use crate::identity::{Doing, Identity};
use crate::members::missing;
use crate::principal::Principal;
use crate::record::UserRecord;

pub use password::Hashed;
pub(crate) use password::Hasher;
pub(crate) use session::SessionRecord;
pub use session::{LoginWay, SessionInfo, SessionToken};
pub(crate) use tries::Tries;

/// Sessions of one person; the oldest ends when there is one more.
const SESSIONS_PER_USER_MAX: usize = 20;
/// Characters of a password that is made for somebody: 120 bits.
const ONCE_CHARS: usize = 24;

/// A password as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PasswordRecord {
    /// Its hash.
    pub hash: Hashed,
    /// Whether somebody else made it, so that it opens nothing but its own change.
    #[serde(default)]
    pub is_for_once: bool,
    /// When it was set.
    pub set_at: Timestamp,
}

/// Somebody tries to log in.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// Who they say they are.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
    /// The address that they come from, where it is known.
    pub from: Option<IpAddr>,
}

impl std::fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("user", &self.user).field("from", &self.from).finish_non_exhaustive()
    }
}

impl Identity {
    /// Logs somebody in by their password.
    pub async fn log_in(&self, attempt: Attempt<'_>) -> Result<(SessionInfo, SessionToken), Fault> {
        let (user, password) = self.check_password(attempt).await?;
        if password.is_for_once {
            let message = "the password was made by somebody else and is good for one thing: `alula passwd` to choose your own";
            return Err(Fault::new(ErrorCode::Forbidden, message));
        }
        self.begin_session(&user.name, LoginWay::Password, attempt.from).await
    }

    /// Gives somebody the password that they chose. All their sessions end; they log in with it.
    pub async fn change_password(&self, attempt: Attempt<'_>, chosen: &str) -> Result<(), Fault> {
        let (user, _) = self.check_password(attempt).await?;
        if attempt.password == chosen {
            return Err(Fault::new(ErrorCode::InvalidRequest, "password: choose another one than before"));
        }
        let hash = self.hasher().hash(chosen, self.random()).await?;
        let by = Principal::member(&format!("user:{}", user.name), [].into());
        let by = match attempt.from {
            Some(from) => by.asking_from(&from.to_string()),
            None => by,
        };
        let record = PasswordRecord { hash, is_for_once: false, set_at: self.now() };
        self.set_password(&by, "user.password.change", &user.name, Some(record)).await
    }

    /// Makes a password for somebody. It is shown once, and opens nothing but its own change.
    pub async fn reset_password(&self, by: &Principal, name: &Name) -> Result<String, Fault> {
        let password = self.draw_password();
        let hash = self.hasher().hash(&password, self.random()).await?;
        let record = PasswordRecord { hash, is_for_once: true, set_at: self.now() };
        self.set_password(by, "user.password.reset", name, Some(record)).await?;
        Ok(password)
    }

    /// Takes a person's password away, and their sessions with it.
    pub async fn remove_password(&self, by: &Principal, name: &Name) -> Result<(), Fault> {
        self.set_password(by, "user.password.remove", name, None).await
    }

    /// The sessions of a person, the newest first; of everybody, without a name.
    #[must_use]
    pub fn sessions(&self, of: Option<&Name>) -> Vec<SessionInfo> {
        let (directory, now) = (self.directory(), self.now());
        let mut sessions: Vec<_> = directory
            .sessions
            .values()
            .filter(|entry| of.is_none_or(|of| entry.record.user == *of))
            .filter(|entry| !entry.record.is_over(entry.last_use.at(), now))
            .map(|entry| entry.info())
            .collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.created_at));
        sessions
    }

    /// Ends a session: from when this returns nobody is let in with it here, and within a second nowhere.
    pub async fn end_session(&self, by: &Principal, id: &crate::KeyId) -> Result<(), Fault> {
        let directory = self.directory();
        let gone = || Fault::new(ErrorCode::NotFound, format!("there is no session {id}"));
        let user = directory.sessions.get(id).ok_or_else(gone)?.record.user.clone();
        let doing = Doing { by, action: "session.end", subject: subject(&user, id), detail: String::new() };
        self.change(doing, |_| Ok(vec![Change::Session(id.clone(), None)])).await
    }

    /// Who may not try to log in for a while, from some address at least: for administrators to see.
    #[must_use]
    pub fn paused(&self) -> std::collections::HashMap<String, std::time::Duration> {
        self.tries().paused()
    }

    /// Begins a session of somebody who has shown who they are.
    pub(crate) async fn begin_session(
        &self,
        name: &Name,
        way: LoginWay,
        from: Option<IpAddr>,
    ) -> Result<(SessionInfo, SessionToken), Fault> {
        let token = SessionToken::generate(|| self.random());
        let from = from.map(|from| from.to_string());
        let record = SessionRecord {
            id: token.id().clone(),
            user: name.clone(),
            digest: token.digest(),
            way,
            created_at: self.now(),
            from: from.clone(),
        };
        let by = Principal::member(&format!("user:{name}"), [].into());
        let by = from.map_or(by.clone(), |from| by.asking_from(&from));
        let subject = subject(name, token.id());
        let doing = Doing { by: &by, action: "session.begin", subject, detail: String::new() };
        self.change(doing, |directory| {
            let known = directory.users.get(name).is_some_and(|user| !user.is_disabled);
            if !known {
                return Err(wrong());
            }
            let mut changes = oldest(directory, name);
            changes.push(Change::Session(record.id.clone(), Some(record)));
            Ok(changes)
        })
        .await?;
        let entry = self.directory().sessions.get(token.id()).cloned();
        entry.map(|entry| (entry.info(), token)).ok_or_else(wrong)
    }

    /// Who it is, if the password is right. Everybody else is told the same after the same time.
    async fn check_password(
        &self,
        attempt: Attempt<'_>,
    ) -> Result<(std::sync::Arc<UserRecord>, PasswordRecord), Fault> {
        let Attempt { user, password, from } = attempt;
        let pause = self.tries().pause(user, from);
        let known = Name::new(user).ok().and_then(|name| self.directory().users.get(&name).cloned());
        let kept = known.as_ref().and_then(|user| user.password.clone());
        let is_right = self.hasher().verify(password, kept.as_ref().map(|kept| &kept.hash)).await?;
        if let Some(pause) = pause {
            tracing::warn!(user, ?from, ?pause, "somebody who tried too often tries to log in");
            return Err(wrong());
        }
        match (known, kept) {
            (Some(user), Some(kept)) if is_right && !user.is_disabled => {
                self.tries().succeeded(user.name.as_ref(), from);
                Ok((user, kept))
            }
            (known, _) => {
                let is_disabled = known.is_some_and(|user| user.is_disabled);
                tracing::warn!(user, ?from, is_disabled, "somebody was not logged in");
                self.tries().failed(user, from);
                Err(wrong())
            }
        }
    }

    /// With the password the sessions change: whoever had stolen one does not keep it.
    async fn set_password(
        &self,
        by: &Principal,
        action: &'static str,
        name: &Name,
        password: Option<PasswordRecord>,
    ) -> Result<(), Fault> {
        let subject = format!("{}/user:{name}", Name::default_namespace());
        self.change(Doing { by, action, subject, detail: "their sessions end".to_owned() }, |directory| {
            let user = directory.users.get(name).ok_or_else(|| missing("user", name))?;
            let user = UserRecord { password, ..(**user).clone() };
            let mut changes = all_of(directory, name);
            changes.push(Change::User(name.clone(), Some(user)));
            Ok(changes)
        })
        .await
    }

    /// Letters and digits that are not taken for one another.
    fn draw_password(&self) -> String {
        const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let bits = self.random();
        let letter = |at: usize| char::from(LETTERS[(bits >> (5 * at)) as usize % LETTERS.len()]);
        (0..ONCE_CHARS).map(letter).collect()
    }
}

/// The ends of all sessions of a person.
pub(crate) fn all_of(directory: &Directory, name: &Name) -> Vec<Change> {
    let of_user = directory.sessions.values().filter(|entry| entry.record.user == *name);
    of_user.map(|entry| Change::Session(entry.record.id.clone(), None)).collect()
}

/// The ends of the oldest sessions of a person, so that one more fits.
fn oldest(directory: &Directory, name: &Name) -> Vec<Change> {
    let mut of_user: Vec<_> =
        directory.sessions.values().filter(|entry| entry.record.user == *name).collect();
    of_user.sort_by_key(|entry| std::cmp::Reverse(entry.record.created_at));
    let beyond = of_user.into_iter().skip(SESSIONS_PER_USER_MAX - 1);
    beyond.map(|entry| Change::Session(entry.record.id.clone(), None)).collect()
}

fn subject(user: &Name, id: &crate::KeyId) -> String {
    format!("{}/user:{user}/session:{id}", Name::default_namespace())
}

/// What everybody is told who is not let in.
fn wrong() -> Fault {
    Fault::new(ErrorCode::Unauthenticated, "the name or the password is wrong")
}
