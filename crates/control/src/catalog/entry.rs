//! One function in the catalog: its record and a plan for each of its versions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use alula_model::{Digest, Fault, Function, Name, Qualifier, Route, Timestamp, Version, VersionKey};
use alula_runtime::VersionPlan;
use alula_store::Revision;

use crate::error;
use crate::ledger::StoredVersion;

/// A function with everything that is needed to call it.
#[derive(Debug, Clone)]
pub struct FunctionEntry {
    /// The mutable part.
    pub function: Function,
    /// Every kept version, ready to be started.
    pub versions: BTreeMap<u64, Arc<VersionPlan>>,
    /// Where each of them came from, under the same numbers.
    pub published: BTreeMap<u64, PublishedVersion>,
    /// The function record's revision, which the next change requires.
    pub(crate) revision: Option<Revision>,
}

/// Where a version came from: what a [`Version`] holds besides its key and spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedVersion {
    /// The uploaded source.
    pub source: Digest,
    /// What runs.
    pub package: Digest,
    /// Size of the package in bytes.
    pub package_bytes: u64,
    /// When it was published.
    pub published_at: Timestamp,
    /// Who published it.
    pub published_by: String,
    /// What the publisher said about it.
    pub message: String,
    /// The build that made the package, where there was one.
    pub(crate) build: Option<String>,
}

impl FunctionEntry {
    /// An entry without versions.
    pub(crate) fn new(function: Function, revision: Option<Revision>) -> Self {
        Self { function, versions: BTreeMap::new(), published: BTreeMap::new(), revision }
    }

    /// The version as it is recorded, if it is kept.
    #[must_use]
    pub fn version(&self, number: u64) -> Option<Version> {
        let plan = self.versions.get(&number)?;
        let published = self.published.get(&number)?;
        Some(Version {
            key: plan.key.clone(),
            spec: plan.spec.clone(),
            source: published.source,
            package: published.package,
            package_bytes: published.package_bytes,
            published_at: published.published_at,
            published_by: published.published_by.clone(),
            message: published.message.clone(),
        })
    }

    /// The number that `qualifier` means now.
    pub fn number(&self, qualifier: &Qualifier) -> Result<u64, Fault> {
        match qualifier {
            Qualifier::Latest => Ok(self.function.latest),
            Qualifier::Version(number) => Ok(*number),
            Qualifier::Alias(alias) => {
                let found = self.function.aliases.get(alias);
                found.copied().ok_or_else(|| error::alias_not_found(&self.function, alias))
            }
        }
    }

    /// The plan that `qualifier` means now.
    pub fn plan(&self, qualifier: &Qualifier) -> Result<&Arc<VersionPlan>, Fault> {
        let number = self.number(qualifier)?;
        self.versions.get(&number).ok_or_else(|| error::version_not_found(&self.function, number))
    }

    /// The plans of what is called by a name: `latest`, and every version that an alias points to.
    pub fn named_plans(&self) -> impl Iterator<Item = &Arc<VersionPlan>> {
        let numbers: BTreeSet<u64> =
            self.function.aliases.values().copied().chain([self.function.latest]).collect();
        numbers.into_iter().filter_map(|number| self.versions.get(&number))
    }

    /// The routes in force: those of `latest`.
    pub(crate) fn routes(&self) -> &[Route] {
        self.versions.get(&self.function.latest).map_or(&[], |plan| plan.spec.routes.as_slice())
    }

    /// The names of aliases that point to `number`.
    pub(crate) fn aliases_of(&self, number: u64) -> impl Iterator<Item = &Name> {
        self.function.aliases.iter().filter(move |(_, target)| **target == number).map(|(alias, _)| alias)
    }

    /// Adds a version; its code lies (or will lie) in a folder of `code_dir` named by the package's digest.
    pub(crate) fn insert(&mut self, stored: StoredVersion, code_dir: &Path) {
        let StoredVersion { version, build } = stored;
        let Version { key, spec, source, package, package_bytes, published_at, published_by, message } =
            version;
        let VersionKey { version: number, .. } = key;
        let code = code_dir.join(package.to_string());
        self.versions.insert(number, Arc::new(VersionPlan::new(key, spec, code)));
        let published =
            PublishedVersion { source, package, package_bytes, published_at, published_by, message, build };
        self.published.insert(number, published);
    }

    /// Forgets a version.
    pub(crate) fn drop_version(&mut self, number: u64) {
        self.versions.remove(&number);
        self.published.remove(&number);
    }
}
