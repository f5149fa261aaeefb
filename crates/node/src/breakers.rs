//! Breakers, adaptive limits and degraded answers, assembled: who is told of changes, and where files come from.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alula_alarm::{Subject, Told};
use alula_control::{Catalog, Control};
use alula_guard::FunctionGuard;
use alula_guard::breaker::{BreakerEvent, BreakerParts, BreakerWatch, Breakers, Scope, State};
use alula_invoke::Hands;
use alula_invoke::degraded::{Degrader, PackageFiles};
use alula_model::alarm::Signal;
use alula_model::{Clock, Name};
use alula_runtime::{BoxFuture, VersionPlan};
use alula_telemetry::metrics::BreakerMetrics;
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use crate::assembly::Core;
use crate::clock::random;
use crate::sources::Sources;
use crate::up::Error;

/// How far a breaker is open that lets some calls through, for the rules of alarms.
const HALF: f64 = 0.5;
/// How often breakers and limits that know nothing any more are let go.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Tells of changes of breakers: in the log, as metrics, and to the alarms.
#[derive(Debug, Clone)]
pub(crate) struct BreakerNews {
    metrics: BreakerMetrics,
    alarms: Told,
}

impl BreakerNews {
    pub(crate) const fn new(metrics: BreakerMetrics, alarms: Told) -> Self {
        Self { metrics, alarms }
    }
}

impl BreakerWatch for BreakerNews {
    fn changed(&self, event: &BreakerEvent) {
        let BreakerEvent { namespace, function, version, scope, to, .. } = event;
        let scope = scope.to_string();
        match to {
            State::Closed | State::HalfOpen => {
                tracing::info!(%namespace, %function, version, scope, "a breaker went from {event}");
            }
            State::Throttled | State::Open => {
                tracing::warn!(%namespace, %function, version, scope, "a breaker went from {event}");
            }
        }
        self.metrics.changed((namespace, function, *version), &scope, (to.level(), to.as_str()));
        let subject = subject(namespace, function, *version, &scope);
        match to {
            State::Closed => self.alarms.clear(Signal::BreakerOpen, &subject),
            State::Throttled | State::HalfOpen => {
                self.alarms.set(Signal::BreakerOpen, subject, HALF, &event.to_string());
            }
            State::Open => self.alarms.set(Signal::BreakerOpen, subject, 1.0, &event.to_string()),
        }
    }

    fn gone(&self, namespace: &Name, function: &Name, version: u64, scope: &Scope) {
        let scope = scope.to_string();
        self.metrics.gone((namespace, function, version), &scope);
        self.alarms.clear(Signal::BreakerOpen, &subject(namespace, function, version, &scope));
    }
}

/// What alarms about a breaker are about.
fn subject(namespace: &Name, function: &Name, version: u64, scope: &str) -> Subject {
    Subject::function(namespace, function).part(format!("version {version}, {scope}"))
}

/// The breakers of a node and its adaptive limits.
pub(crate) fn function_guard(clock: &Arc<dyn Clock>, news: BreakerNews) -> FunctionGuard {
    let parts = BreakerParts { clock: Arc::clone(clock), random: random_u64, watch: Arc::new(news) };
    FunctionGuard::new(Breakers::new(parts))
}

#[expect(clippy::cast_possible_truncation, reason = "half of the random bits are as random")]
fn random_u64() -> u64 {
    random() as u64
}

/// What operators hold by hand, in force and followed.
pub(crate) async fn hands(core: &Core, sources: &mut Sources) -> Result<Hands, Error> {
    let audit = Arc::new(core.control.clone());
    let breakers = core.functions.breakers().clone();
    let hands = Hands::new(core.store.clone(), audit, breakers, Arc::clone(&core.clock));
    hands.load().await.map_err(Error::component("what is held by hand cannot be read"))?;
    let is_shared = !core.config.store.url.is_empty();
    if is_shared {
        let followed = hands.clone();
        sources.add(|stop| followed.follow(stop));
    }
    Ok(hands)
}

/// Lets go of what nobody needs any more, now and then.
pub(crate) fn forget(core: &Core, sources: &mut Sources) {
    let (functions, degrader) = (core.functions.clone(), core.degrader.clone());
    let catalog = core.control.catalog().clone();
    sources.add(|stop| async move {
        let mut every = tokio::time::interval(FORGET_INTERVAL);
        while stop.run_until_cancelled(every.tick()).await.is_some() {
            functions.forget_idle(Instant::now());
            forget_removed(&degrader, &catalog);
        }
    });
}

fn forget_removed(degrader: &Degrader, catalog: &Catalog) {
    let snapshot = catalog.load();
    degrader.retain(|namespace, function| snapshot.function(namespace, function).is_some());
}

/// Reads files of unpacked code.
#[derive(Debug)]
pub(crate) struct CodeFiles(pub(crate) Control);

impl PackageFiles for CodeFiles {
    fn read<'a>(
        &'a self,
        plan: &'a Arc<VersionPlan>,
        path: &'a str,
        limit_bytes: u64,
    ) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move {
            self.0.ensure_code(plan).await.ok()?;
            read_within(&plan.code, path, limit_bytes).await.ok().flatten()
        })
    }
}

/// A file below `root`, whatever links lie on the way.
async fn read_within(root: &Path, path: &str, limit_bytes: u64) -> std::io::Result<Option<Bytes>> {
    let (root, file) =
        (tokio::fs::canonicalize(root).await?, tokio::fs::canonicalize(root.join(path)).await?);
    if !file.starts_with(&root) || !tokio::fs::metadata(&file).await?.is_file() {
        return Ok(None);
    }
    let mut content = Vec::new();
    let read = tokio::fs::File::open(&file).await?.take(limit_bytes + 1).read_to_end(&mut content).await?;
    Ok((read as u64 <= limit_bytes).then(|| Bytes::from(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_files_of_the_code_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let code = folder.path().join("code");
        std::fs::create_dir_all(code.join("sub")).unwrap();
        std::fs::write(code.join("sub/page.html"), "sorry").unwrap();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("../secret", code.join("link")).unwrap();
        let read = async |path: &str, limit| read_within(&code, path, limit).await.ok().flatten();
        assert_eq!(read("sub/page.html", 5).await.as_deref(), Some(&b"sorry"[..]));
        assert_eq!(read("sub/page.html", 4).await, None);
        for path in ["link", "../secret", "sub", "none", "/etc/passwd"] {
            assert_eq!(read(path, 100).await, None, "{path}");
        }
    }
}
