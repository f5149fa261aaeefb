//! From an upload to versions in force, in five stages.
//!
//! ```text
//! upload    unpack the archive, within limits                        intake
//! validate  read the manifest, check every function of the archive   intake, check
//! build     install dependencies, or take them from the cache        crate::build
//! publish   store packages, unpack code, commit one batch            publish
//! ready     the catalog is swapped: the next call reaches it
//! ```
//!
//! Nothing is published before every function of the archive has passed the first three stages, and then all of
//! them are in one batch. Deploys of one function run one after another; a rollback does not wait for them.

mod check;
mod intake;
mod publish;
mod reporter;
mod scratch;
mod syntax;

use std::collections::BTreeSet;
use std::path::PathBuf;

use alula_model::{By, Digest, ErrorCode, Fault, FunctionSpec, Name, Version, VersionKey};
use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) use reporter::Reporter;
pub(crate) use scratch::Scratch;

use crate::archive::Packed;
use crate::build::Recipe;
use crate::control::Control;
use crate::upload::{Deployed, DryRun, Progress, Reach, Stage, Upload};

/// Longest message of a publisher, in characters.
const MESSAGE_LEN_MAX: usize = 1_000;

/// Who publishes what with which words.
#[derive(Debug, Clone)]
struct Publisher {
    by: By,
    message: String,
}

/// A function of the archive that has passed every check before the build.
#[derive(Debug)]
struct Checked {
    name: Name,
    spec: FunctionSpec,
    /// The normalised archive of its source.
    source: Packed,
    source_file: PathBuf,
    /// How it is built, if it is.
    recipe: Option<Recipe>,
    /// The version in force, where it has the same spec and source.
    same_as: Option<Version>,
}

/// A function that is ready to be published.
#[derive(Debug)]
struct Prepared {
    name: Name,
    spec: FunctionSpec,
    source: Digest,
    source_file: PathBuf,
    package: Packed,
    /// `None` where the package is the source.
    package_file: Option<PathBuf>,
    build: Option<String>,
    build_cached: bool,
}

impl Control {
    /// Deploys every function of an upload. What is returned is in force. Progress that does not fit into the
    /// channel is dropped: a slow listener never holds up a deploy.
    ///
    /// Faults: [`ErrorCode::InvalidPackage`], [`ErrorCode::InvalidSpec`], [`ErrorCode::RuntimeUnknown`],
    /// [`ErrorCode::RuntimeUnavailable`], [`ErrorCode::RouteConflict`], [`ErrorCode::BuildFailed`],
    /// [`ErrorCode::Conflict`], and the platform's own. After any of them nothing has been published.
    pub async fn deploy(
        &self,
        by: impl Into<By>,
        upload: Upload,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Vec<Deployed>, Fault> {
        self.deploy_within(Reach::Namespace, by, upload, progress).await
    }

    /// The same by somebody who may not deploy to all functions: [`ErrorCode::Forbidden`] where one is beyond `reach`, by
    /// the app that it is of or by the one that it is to be of.
    pub async fn deploy_within(
        &self,
        reach: Reach,
        by: impl Into<By>,
        upload: Upload,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Vec<Deployed>, Fault> {
        let began = Instant::now();
        let publisher = publisher(by.into(), &upload)?;
        let reporter = Reporter::new(progress);
        let work = Scratch::create(self.shared.scratch("deploy")).await?;
        let sources = self.intake(&upload, &work, &reporter).await?;

        let names: BTreeSet<Name> = sources.iter().map(|source| source.name.clone()).collect();
        let mut locks = Vec::new();
        for name in names {
            // In the order of the names, so that two deploys never wait for each other.
            locks.push(self.shared.deploying.lock((upload.namespace.clone(), name)).await);
        }
        self.check_reach(&reach, &upload.namespace, &sources)?;
        let checked = self.check_all(&upload.namespace, sources, &work, &reporter).await?;
        let mut deployed = Vec::new();
        let (same, new): (Vec<_>, Vec<_>) =
            checked.into_iter().partition(|checked| checked.same_as.is_some());
        let unchanged = same.into_iter().filter_map(|checked| checked.same_as);
        deployed.extend(unchanged.map(|version| (version, false, false)));
        if upload.dry_run == DryRun::Yes {
            deployed.extend(
                new.into_iter().map(|checked| (self.would_be(&upload, &publisher, checked), true, false)),
            );
        } else if !new.is_empty() {
            let prepared =
                try_join_all(new.into_iter().map(|c| self.prepare(&upload.namespace, c, &work, &reporter)));
            deployed.extend(self.publish(&upload.namespace, publisher, prepared.await?, &reporter).await?);
        }
        deployed.sort_by(|(a, ..), (b, ..)| a.key.cmp(&b.key));
        let took = began.elapsed();
        let finished = deployed.into_iter().map(|(version, is_new, build_cached)| {
            if upload.dry_run == DryRun::No {
                let detail = format!("version {} is in force", version.key.version);
                reporter.stage(Some(&version.key.function), Stage::Ready, detail);
            }
            Deployed { version, is_new, build_cached, took }
        });
        Ok(finished.collect())
    }

    /// Refuses functions that are beyond reach, before anything of them is looked at. They are locked, so they stay what they
    /// are meanwhile.
    fn check_reach(&self, reach: &Reach, namespace: &Name, sources: &[intake::Source]) -> Result<(), Fault> {
        let snapshot = self.shared.catalog.load();
        for source in sources {
            let entry = snapshot.function(namespace, &source.name);
            let latest = entry.and_then(|entry| entry.plan(&alula_model::Qualifier::Latest).ok());
            let stated = source.draft.fields.get("app").and_then(serde_json::Value::as_str);
            let after = stated.and_then(|app| Name::new(app).ok());
            reach.check(&source.name, latest.map(|plan| plan.spec.app.as_ref()), after.as_ref())?;
        }
        Ok(())
    }

    /// Builds a function where it needs that, packs the result and checks what could not be checked before.
    async fn prepare(
        &self,
        namespace: &Name,
        checked: Checked,
        work: &Scratch,
        reporter: &Reporter,
    ) -> Result<Prepared, Fault> {
        let Checked { name, spec, source, source_file, recipe, .. } = checked;
        let Some(recipe) = recipe else {
            let package = source;
            return Ok(Prepared {
                name,
                spec,
                source: source.digest,
                source_file,
                package,
                package_file: None,
                build: None,
                build_cached: false,
            });
        };
        let built = self.build((namespace, &name), &recipe, &source_file, work, reporter).await?;
        self.check_runs(namespace, &name, &spec, built.folder.clone()).await?;
        let (package, package_file) = self.pack(&built.folder, work).await?;
        Ok(Prepared {
            name,
            spec,
            source: source.digest,
            source_file,
            package,
            package_file: Some(package_file),
            build: Some(built.key),
            build_cached: built.cached,
        })
    }

    /// The version that a deploy without `dry_run` would have made, without its build.
    fn would_be(&self, upload: &Upload, publisher: &Publisher, checked: Checked) -> Version {
        let number = self.shared.catalog.load().newest(&upload.namespace, &checked.name) + 1;
        Version {
            key: VersionKey { namespace: upload.namespace.clone(), function: checked.name, version: number },
            spec: checked.spec,
            source: checked.source.digest,
            package: checked.source.digest,
            package_bytes: checked.source.bytes,
            published_at: self.shared.parts.clock.now(),
            published_by: publisher.by.name.clone(),
            message: publisher.message.clone(),
        }
    }

    /// Packs a folder into a file of `work`.
    async fn pack(&self, folder: &std::path::Path, work: &Scratch) -> Result<(Packed, PathBuf), Fault> {
        let (folder, file, limits) = (folder.to_owned(), work.fresh("package"), self.shared.code.limits());
        let into = file.clone();
        let packed = crate::code::blocking("pack the source", move || {
            Ok(crate::archive::walk(&folder)
                .and_then(|all| crate::archive::pack(&folder, &all, &into, limits)))
        });
        Ok((packed.await?.map_err(|error| error.fault())?, file))
    }
}

fn publisher(by: By, upload: &Upload) -> Result<Publisher, Fault> {
    let length = upload.message.chars().count();
    if length > MESSAGE_LEN_MAX {
        let message =
            format!("the message is {length} characters long, at most {MESSAGE_LEN_MAX} are allowed");
        return Err(Fault::new(ErrorCode::InvalidRequest, message));
    }
    Ok(Publisher { by, message: upload.message.clone() })
}
