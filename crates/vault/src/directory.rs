//! All secrets as of one moment, still sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alula_model::{Name, SecretName, Timestamp};

use crate::record::SecretRecord;

/// What is told of a secret: everything but its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// The version in force.
    pub current: u64,
    /// The versions that are kept, the newest first.
    pub versions: Vec<VersionInfo>,
}

/// What is told of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInfo {
    /// Its number.
    pub number: u64,
    /// When it was set.
    pub set_at: Timestamp,
    /// By whom.
    pub set_by: String,
}

/// A secret by its place.
pub(crate) type Key = (Name, SecretName);

/// The secrets by namespace and name. Cheap to clone: records are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Directory(pub(crate) BTreeMap<Key, Arc<SecretRecord>>);

/// Secrets whose version in force is another one than before, or which are gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changed(BTreeSet<Key>);

impl Changed {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this secret is among them.
    #[must_use]
    pub fn has(&self, namespace: &Name, name: &SecretName) -> bool {
        self.0.contains(&(namespace.clone(), name.clone()))
    }
}

impl Directory {
    pub(crate) fn get(&self, namespace: &Name, name: &SecretName) -> Option<&Arc<SecretRecord>> {
        self.0.get(&(namespace.clone(), name.clone()))
    }

    /// The secrets of a namespace, by name.
    pub(crate) fn of<'a>(&'a self, namespace: &'a Name) -> impl Iterator<Item = &'a Arc<SecretRecord>> {
        self.0.iter().filter(move |((of, _), _)| of == namespace).map(|(_, record)| record)
    }

    /// The same with a secret changed, or without it.
    pub(crate) fn with(&self, key: Key, record: Option<SecretRecord>) -> Self {
        let mut next = self.clone();
        match record {
            Some(record) => next.0.insert(key, Arc::new(record)),
            None => next.0.remove(&key),
        };
        next
    }

    /// What is in force there and was not here.
    pub(crate) fn changed_to(&self, next: &Self) -> Changed {
        let is_same = |key: &&Key| match (self.0.get(*key), next.0.get(*key)) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one.in_force_as(other),
            _ => false,
        };
        let keys = self.0.keys().chain(next.0.keys());
        Changed(keys.filter(|key| !is_same(key)).cloned().collect())
    }
}

/// What is told of a secret.
pub(crate) fn info(record: &SecretRecord) -> SecretInfo {
    let version = |version: &crate::record::VersionRecord| VersionInfo {
        number: version.number,
        set_at: version.set_at,
        set_by: version.set_by.clone(),
    };
    SecretInfo {
        name: record.name.clone(),
        current: record.current,
        versions: record.versions.iter().rev().map(version).collect(),
    }
}
