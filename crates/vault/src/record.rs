//! What is stored.
//!
//! ```text
//! secrets/of/<namespace>/<name>  SecretRecord, all its versions sealed
//! secrets/epoch                  changed with every change, so that other processes see that there was one
//! ```

use alula_model::{Name, SecretName, Timestamp};
use alula_store::Key;
use serde::{Deserialize, Serialize};

use crate::sealed::{Place, Sealed};

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretRecord {
    pub(crate) namespace: Name,
    pub(crate) name: SecretName,
    /// The version in force.
    pub(crate) current: u64,
    /// The highest number that was ever given.
    pub(crate) newest: u64,
    /// In the order of their numbers.
    pub(crate) versions: Vec<VersionRecord>,
}

/// One version of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    pub(crate) number: u64,
    pub(crate) set_at: Timestamp,
    pub(crate) set_by: String,
    pub(crate) sealed: Sealed,
}

impl SecretRecord {
    pub(crate) fn version(&self, number: u64) -> Option<&VersionRecord> {
        self.versions.iter().find(|version| version.number == number)
    }

    pub(crate) fn place(&self, version: u64) -> Place<'_> {
        Place { namespace: self.namespace.as_str(), name: self.name.as_str(), version }
    }

    /// Whether the same value is in force in both.
    pub(crate) fn in_force_as(&self, other: &Self) -> bool {
        let (own, others) = (self.version(self.current), other.version(other.current));
        self.current == other.current
            && own.zip(others).is_some_and(|(own, other)| own.sealed.is_of_same_value(&other.sealed))
    }

    /// Bytes that it takes in memory and in the store, about.
    pub(crate) fn bytes(&self) -> usize {
        self.versions.iter().map(|version| version.sealed.bytes()).sum()
    }
}

pub(crate) fn all() -> Key {
    Key::new(&["secrets", "of"])
}

pub(crate) fn one(namespace: &Name, name: &SecretName) -> Key {
    Key::new(&["secrets", "of", namespace.as_str(), name.as_str()])
}

pub(crate) fn epoch() -> Key {
    Key::new(&["secrets", "epoch"])
}
