//! Changes of what is published already: rollback, aliases, removal.

use std::sync::Arc;

use alula_model::{AuditChange, AuditEntry, By, ErrorCode, Fault, Function, Name, Timestamp};
use serde_json::{Value, json};

use crate::catalog::FunctionEntry;
use crate::control::Control;
use crate::error;
use crate::ledger::{After, FunctionChange, Transaction};

/// Aliases of one function.
const ALIASES_MAX: usize = 100;

/// What a change of one function says in the audit record.
struct Verb {
    action: &'static str,
    detail: String,
}

impl Control {
    /// Moves `latest` to version `to`, or to the newest kept version before the present one. Calls that run finish
    /// where they began; every later call reaches the version that `latest` names now.
    pub async fn rollback(
        &self,
        by: impl Into<By>,
        namespace: &Name,
        name: &Name,
        to: Option<u64>,
    ) -> Result<Function, Fault> {
        self.change(by.into(), namespace, name, move |entry, function| {
            let from = function.latest;
            let to = match to {
                Some(number) => number,
                None => version_before(entry, from)?,
            };
            require_version(entry, to)?;
            function.latest = to;
            Ok(Verb { action: "function.rollback", detail: format!("from version {from} to version {to}") })
        })
        .await
    }

    /// Lets `alias` name `version`, whether it named another one before or is new.
    pub async fn set_alias(
        &self,
        by: impl Into<By>,
        namespace: &Name,
        name: &Name,
        alias: Name,
        version: u64,
    ) -> Result<Function, Fault> {
        check_alias(&alias)?;
        self.change(by.into(), namespace, name, move |entry, function| {
            require_version(entry, version)?;
            let before = function.aliases.insert(alias.clone(), version);
            if function.aliases.len() > ALIASES_MAX {
                return Err(too_many_aliases());
            }
            let before = before.map(|number| format!(", before {number}")).unwrap_or_default();
            Ok(Verb { action: "alias.set", detail: format!("{alias} names version {version}{before}") })
        })
        .await
    }

    /// Removes an alias; the version that it named stays.
    pub async fn remove_alias(
        &self,
        by: impl Into<By>,
        namespace: &Name,
        name: &Name,
        alias: Name,
    ) -> Result<Function, Fault> {
        self.change(by.into(), namespace, name, move |entry, function| {
            let version = function.aliases.remove(&alias);
            let version = version.ok_or_else(|| error::alias_not_found(&entry.function, &alias))?;
            Ok(Verb { action: "alias.remove", detail: format!("{alias} named version {version}") })
        })
        .await
    }

    /// Removes a function with all its versions, aliases and routes. Its version numbers stay used: should it come
    /// back, its first version is a new number.
    pub async fn remove(&self, by: impl Into<By>, namespace: &Name, name: &Name) -> Result<(), Fault> {
        let (by, namespace, name) = (by.into(), namespace.clone(), name.clone());
        let clock = Arc::clone(&self.shared.parts.clock);
        let decide = move |snapshot: &crate::Snapshot| {
            let entry = snapshot.function(&namespace, &name);
            let entry = entry.ok_or_else(|| error::function_not_found(&namespace, &name))?;
            let newest = entry.function.newest;
            let verb = Verb { action: "function.remove", detail: format!("newest version was {newest}") };
            let change = FunctionChange {
                namespace: namespace.clone(),
                name: name.clone(),
                before: entry.revision,
                after: After::Removed { newest },
                dropped: entry.versions.keys().copied().collect(),
            };
            let change_of = AuditChange::between(pointers(&entry.function), Value::Null);
            let audit = vec![audit(&by, clock.now(), &entry.function, verb, change_of)];
            Ok(Transaction { changes: vec![change], audit })
        };
        self.transact(decide).await.map(|_| ())
    }

    /// Changes the record of one function; a change that changes nothing is neither written nor audited.
    async fn change<F>(&self, by: By, namespace: &Name, name: &Name, edit: F) -> Result<Function, Fault>
    where
        F: Fn(&FunctionEntry, &mut Function) -> Result<Verb, Fault> + Send + Sync + 'static,
    {
        let clock = Arc::clone(&self.shared.parts.clock);
        let id = (namespace.clone(), name.clone());
        let decide = move |snapshot: &crate::Snapshot| {
            let entry = snapshot.function(&id.0, &id.1);
            let entry = entry.ok_or_else(|| error::function_not_found(&id.0, &id.1))?;
            let mut function = entry.function.clone();
            let verb = edit(entry, &mut function)?;
            if function == entry.function {
                return Ok(Transaction::default());
            }
            let now = clock.now();
            function.updated_at = now;
            let change_of = AuditChange::between(pointers(&entry.function), pointers(&function));
            let audit = vec![audit(&by, now, &function, verb, change_of)];
            let change = FunctionChange {
                namespace: id.0.clone(),
                name: id.1.clone(),
                before: entry.revision,
                after: After::Kept { entry: FunctionEntry { function, ..(**entry).clone() }, added: None },
                dropped: Vec::new(),
            };
            Ok(Transaction { changes: vec![change], audit })
        };
        let applied = self.transact(decide).await?;
        match applied.changes.into_iter().next() {
            Some(FunctionChange { after: After::Kept { entry, .. }, .. }) => Ok(entry.function),
            _ => self.entry(namespace, name).map(|entry| entry.function.clone()),
        }
    }
}

/// What names mean.
fn pointers(function: &Function) -> Value {
    json!({ "latest": function.latest, "aliases": function.aliases })
}

fn audit(by: &By, at: Timestamp, function: &Function, verb: Verb, change: AuditChange) -> AuditEntry {
    AuditEntry {
        at,
        actor: by.name.clone(),
        from: by.from.clone(),
        action: verb.action.to_owned(),
        subject: format!("{}/{}", function.namespace, function.name),
        detail: verb.detail,
        change: Some(change),
    }
}

fn version_before(entry: &FunctionEntry, number: u64) -> Result<u64, Fault> {
    let before = entry.versions.range(..number).next_back().map(|(number, _)| *number);
    before.ok_or_else(|| {
        let message = format!("function {} has no version before {number}", entry.function.name);
        Fault::new(ErrorCode::VersionNotFound, message)
    })
}

fn require_version(entry: &FunctionEntry, number: u64) -> Result<(), Fault> {
    let found = entry.versions.contains_key(&number);
    found.then_some(()).ok_or_else(|| error::version_not_found(&entry.function, number))
}

/// An alias that reads as a number or as `latest` could never be reached.
fn check_alias(alias: &Name) -> Result<(), Fault> {
    if alias.as_str() != "latest" && alias.as_str().parse::<u64>().is_err() {
        return Ok(());
    }
    let message = format!("{alias} cannot be the name of an alias: it means a version already");
    Err(Fault::new(ErrorCode::InvalidRequest, message))
}

fn too_many_aliases() -> Fault {
    let message = format!("a function has at most {ALIASES_MAX} aliases: remove one first");
    Fault::limit(ErrorCode::InvalidRequest, message, "aliases_max", ALIASES_MAX as u64, "fixed")
}
