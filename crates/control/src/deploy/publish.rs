//! The fourth stage: packages are stored, code is unpacked, and one batch makes the new versions.

use std::path::PathBuf;
use std::sync::Arc;

use alula_model::limits::VERSIONS_KEPT;
use alula_model::{
    AuditChange, AuditEntry, Digest, Fault, Function, FunctionSpec, Name, Timestamp, Version, VersionKey,
};

use super::{Prepared, Publisher, Reporter};
use crate::catalog::{FunctionEntry, Snapshot};
use crate::control::Control;
use crate::error;
use crate::ledger::{After, FunctionChange, StoredVersion, Transaction};
use crate::upload::Stage;

/// Old versions that one publish drops: a hundred functions of an archive must fit into one batch of the store.
const DROPPED_MAX: usize = 5;

impl Control {
    /// Publishes all functions at once. Returns each version, that it is new, and whether its build was cached.
    pub(super) async fn publish(
        &self,
        namespace: &Name,
        publisher: Publisher,
        prepared: Vec<Prepared>,
        reporter: &Reporter,
    ) -> Result<Vec<(Version, bool, bool)>, Fault> {
        // What is stored from here on has nobody who refers to it until the commit.
        let _no_garbage_is_collected = self.shared.packages_in_flux.read().await;
        for function in &prepared {
            let detail = format!("{} bytes", function.package.bytes);
            reporter.stage(Some(&function.name), Stage::Publish, detail);
            self.store(function).await?;
        }
        let (namespace, now) = (namespace.clone(), self.shared.parts.clock.now());
        let code_dir = self.shared.code.dir().to_owned();
        let prepared = Arc::new(prepared);
        let to_publish = Arc::clone(&prepared);
        let decide = move |snapshot: &Snapshot| {
            let mut transaction = Transaction::default();
            for function in to_publish.iter() {
                let at = Moment { now, publisher: &publisher, code_dir: &code_dir };
                let change = at.publish(snapshot, &namespace, function);
                transaction.audit.push(at.audit(&change, function));
                transaction.changes.push(change);
            }
            Ok(transaction)
        };
        let applied = self.transact(decide).await?;
        let published = applied.changes.iter().zip(prepared.iter()).filter_map(|(change, function)| {
            let After::Kept { entry, added } = &change.after else { return None };
            Some((entry.version((*added)?)?, true, function.build_cached))
        });
        Ok(published.collect())
    }

    /// Stores the source and the package, and unpacks the package to where instances run it.
    async fn store(&self, function: &Prepared) -> Result<(), Fault> {
        let package_file = function.package_file.as_ref().unwrap_or(&function.source_file);
        self.shared.code.install(function.package.digest, package_file).await?;
        self.put(&function.source_file, function.source).await?;
        if let Some(file) = &function.package_file {
            self.put(file, function.package.digest).await?;
        }
        Ok(())
    }

    async fn put(&self, file: &std::path::Path, digest: Digest) -> Result<(), Fault> {
        let stored = self.shared.parts.packages.put_file(file.to_owned()).await;
        let stored = stored.map_err(|error| error::store(&error))?;
        if stored.digest == digest {
            Ok(())
        } else {
            Err(error::defect("a package changed while it was stored"))
        }
    }
}

/// What is the same for every function of one publish.
struct Moment<'a> {
    now: Timestamp,
    publisher: &'a Publisher,
    code_dir: &'a PathBuf,
}

impl Moment<'_> {
    fn publish(&self, snapshot: &Snapshot, namespace: &Name, function: &Prepared) -> FunctionChange {
        let name = &function.name;
        let existing = snapshot.function(namespace, name);
        let number = snapshot.newest(namespace, name) + 1;
        let mut entry = match existing {
            Some(entry) => FunctionEntry::clone(entry),
            None => FunctionEntry::new(self.first(namespace, name), None),
        };
        entry.function.latest = number;
        entry.function.newest = number;
        entry.function.updated_at = self.now;
        let version = Version {
            key: VersionKey { namespace: namespace.clone(), function: name.clone(), version: number },
            spec: function.spec.clone(),
            source: function.source,
            package: function.package.digest,
            package_bytes: function.package.bytes,
            published_at: self.now,
            published_by: self.publisher.by.name.clone(),
            message: self.publisher.message.clone(),
        };
        entry.insert(StoredVersion { version, build: function.build.clone() }, self.code_dir);
        let dropped = superfluous(&entry);
        dropped.iter().for_each(|number| entry.drop_version(*number));
        FunctionChange {
            namespace: namespace.clone(),
            name: name.clone(),
            before: existing.and_then(|entry| entry.revision),
            after: After::Kept { entry, added: Some(number) },
            dropped,
        }
    }

    /// The spec of the version that was the latest until this change.
    fn spec_before<'b>(&self, change: &'b FunctionChange) -> Option<&'b FunctionSpec> {
        let After::Kept { entry, added: Some(added) } = &change.after else { return None };
        entry.versions.range(..added).next_back().map(|(_, plan)| &plan.spec)
    }

    fn first(&self, namespace: &Name, name: &Name) -> Function {
        Function {
            namespace: namespace.clone(),
            name: name.clone(),
            latest: 0,
            newest: 0,
            aliases: std::collections::BTreeMap::new(),
            created_at: self.now,
            updated_at: self.now,
        }
    }

    fn audit(&self, change: &FunctionChange, function: &Prepared) -> AuditEntry {
        let number = match &change.after {
            After::Kept { entry, .. } => entry.function.latest,
            After::Removed { newest } => *newest,
        };
        let package = function.package.digest.to_string();
        let mut detail = format!("package {}", &package[..12]);
        if !self.publisher.message.is_empty() {
            detail = format!("{detail}: {}", self.publisher.message);
        }
        AuditEntry {
            at: self.now,
            actor: self.publisher.by.name.clone(),
            from: self.publisher.by.from.clone(),
            action: "function.publish".to_owned(),
            subject: format!("{}/{}:{number}", change.namespace, change.name),
            detail,
            change: Some(AuditChange::of_specs(self.spec_before(change), &function.spec)),
        }
    }
}

/// The oldest versions beyond those that are kept; one that `latest` or an alias names is always kept.
fn superfluous(entry: &FunctionEntry) -> Vec<u64> {
    let latest = entry.function.latest;
    let is_named = |number: u64| number == latest || entry.aliases_of(number).next().is_some();
    let unnamed: Vec<u64> = entry.versions.keys().copied().filter(|number| !is_named(*number)).collect();
    let count = unnamed.len().saturating_sub(VERSIONS_KEPT).min(DROPPED_MAX);
    unnamed[..count].to_vec()
}
