//! Clearing away what nothing refers to any more: packages, unpacked code, old builds, old audit entries.
//!
//! What is in use is decided by the catalog, by the plans that have left it but are still held by somebody, and by
//! the caller. Nothing is deleted between a package's arrival and the commit that refers to it.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use alula_model::{Digest, Fault, VersionKey};
use alula_store::BATCH_LEN_MAX;

use crate::build::BuildRecord;
use crate::control::Control;
use crate::error;

/// Time for which a build's result is kept that no version refers to: branches come and go within days.
const BUILD_KEPT_MS: u64 = 7 * 24 * 3_600_000;
/// Audit entries of one namespace that are kept.
const AUDIT_KEPT: usize = 100_000;

/// What was cleared away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Packages, sources and build logs.
    pub packages: usize,
    /// Bytes of them.
    pub package_bytes: u64,
    /// Unpacked packages.
    pub code_folders: usize,
    /// Results of builds.
    pub builds: usize,
    /// Audit entries.
    pub audit_entries: usize,
}

impl Control {
    /// Deletes what nothing refers to. `in_use` says whether instances of a version still run that is no longer
    /// deployed; publishing waits for the length of this call.
    pub async fn collect_garbage(
        &self,
        in_use: &(dyn Fn(&VersionKey) -> bool + Sync),
    ) -> Result<Collected, Fault> {
        let mut collected = Collected::default();
        let namespaces: Vec<_> = self.shared.catalog.load().namespaces().cloned().collect();
        for namespace in &namespaces {
            collected.audit_entries += self.shared.ledger.audit.trim(namespace, AUDIT_KEPT).await?;
        }
        let _nothing_is_published = self.shared.packages_in_flux.write().await;
        let builds = self.collect_builds(&mut collected).await?;
        let (packages, code) = self.referred(&builds, in_use);
        let stored = self.shared.parts.packages.list().await.map_err(|error| error::store(&error))?;
        for package in stored.iter().filter(|package| !packages.contains(&package.digest)) {
            let removed = self.shared.parts.packages.remove(&package.digest).await;
            removed.map_err(|error| error::store(&error))?;
            collected.packages += 1;
            collected.package_bytes += package.bytes;
        }
        for digest in self.shared.code.list().await?.difference(&code) {
            self.shared.code.remove(*digest).await?;
            collected.code_folders += 1;
        }
        Ok(collected)
    }

    /// Forgets builds that no version came from and that are old. Returns those that stay.
    async fn collect_builds(&self, collected: &mut Collected) -> Result<Vec<BuildRecord>, Fault> {
        let snapshot = self.shared.catalog.load_full();
        let published = snapshot.entries().flat_map(|entry| entry.published.values());
        let used: BTreeSet<_> = published.filter_map(|published| published.build.as_deref()).collect();
        let now = self.shared.parts.clock.now();
        let is_kept = |key: &str, build: &BuildRecord| {
            used.contains(key) || now.millis_since(build.built_at) < BUILD_KEPT_MS
        };
        let builds = self.shared.ledger.builds().await?;
        let (kept, old): (Vec<_>, Vec<_>) = builds.into_iter().partition(|(key, build)| is_kept(key, build));
        let old: Vec<String> = old.into_iter().map(|(key, _)| key).collect();
        for keys in old.chunks(BATCH_LEN_MAX) {
            self.shared.ledger.delete_builds(keys).await?;
        }
        collected.builds = old.len();
        Ok(kept.into_iter().map(|(_, build)| build).collect())
    }

    /// The packages and the code folders that are still needed.
    fn referred(
        &self,
        builds: &[BuildRecord],
        in_use: &(dyn Fn(&VersionKey) -> bool + Sync),
    ) -> (BTreeSet<Digest>, BTreeSet<Digest>) {
        let mut packages: BTreeSet<Digest> =
            builds.iter().flat_map(|build| [build.package, build.log]).collect();
        let mut code = BTreeSet::new();
        let snapshot = self.shared.catalog.load_full();
        for published in snapshot.entries().flat_map(|entry| entry.published.values()) {
            packages.extend([published.source, published.package]);
            code.insert(published.package);
        }
        let mut retired = self.shared.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|plan| plan.is_held() || in_use(&plan.key));
        for plan in retired.iter() {
            packages.insert(plan.package);
            code.insert(plan.package);
        }
        (packages, code)
    }
}
