//! Builds: dependencies and user commands, run once in a sandbox and remembered.
//!
//! A [`Recipe`] says what is run and what decides whether an earlier result can be used again. What a build with a
//! list of key files made is kept as the files it added, and laid over the source: a change of the code alone
//! builds nothing. A user's command without such a list depends on the whole source, and its whole result is kept.
//! Either way the package is put together from the source and the kept result, so it does not matter whether the
//! result was made just now or found.
//!
//! Deliberately absent: what a language's build does; that is data of the language.

mod log;
mod recipe;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use alula_model::{Digest, ErrorCode, Fault, Name, Timestamp};
use alula_store::OpenPackage;
use serde::{Deserialize, Serialize};

pub(crate) use recipe::{Recipe, Scope};
pub(crate) use run::CODE_DIR;

use crate::archive::{self, ArchiveError, Limits};
use crate::code::blocking;
use crate::control::Control;
use crate::deploy::{Reporter, Scratch};
use crate::error;
use crate::upload::Stage;
use log::BuildLog;

/// The result of a build, as it is remembered under its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BuildRecord {
    /// What the build added, or its whole result.
    pub(crate) package: Digest,
    /// What it wrote.
    pub(crate) log: Digest,
    /// When it was built.
    pub(crate) built_at: Timestamp,
}

/// A function's source with what its build made.
#[derive(Debug)]
pub(crate) struct Built {
    /// Where it is.
    pub(crate) folder: PathBuf,
    /// The key of the build.
    pub(crate) key: String,
    /// Whether it was built earlier.
    pub(crate) cached: bool,
}

impl Control {
    /// Builds a function, or finds the result of an earlier build. `source` is the packed source.
    pub(crate) async fn build(
        &self,
        (namespace, name): (&Name, &Name),
        recipe: &Recipe,
        source: &Path,
        work: &Scratch,
        reporter: &Reporter,
    ) -> Result<Built, Fault> {
        let _same_build_once = self.shared.building.lock(recipe.key.clone()).await;
        let found = self.find_build(&recipe.key).await?;
        let cached = found.is_some();
        let result = match found {
            Some(result) => {
                reporter.stage(Some(name), Stage::Build, "an earlier build of the same dependencies is used");
                result
            }
            None => {
                reporter.stage(Some(name), Stage::Build, recipe.told.clone());
                self.run_build((namespace, name), recipe, source, work, reporter).await?
            }
        };
        let folder = work.fresh("built");
        let (into, source, limits) = (folder.clone(), source.to_owned(), self.shared.code.limits());
        let scope = recipe.scope;
        let assembled =
            blocking("put the package together", move || Ok(assemble(&source, result, scope, &into, limits)));
        assembled.await?.map_err(|error| error.fault())?;
        Ok(Built { folder, key: recipe.key.clone(), cached })
    }

    /// What the build of a version wrote.
    ///
    /// Faults: [`ErrorCode::NotFound`] where the version was not built.
    pub async fn build_log(&self, namespace: &Name, name: &Name, version: u64) -> Result<String, Fault> {
        let entry = self.entry(namespace, name)?;
        let published = entry.published.get(&version);
        let published = published.ok_or_else(|| error::version_not_found(&entry.function, version))?;
        let record = match &published.build {
            Some(key) => self.shared.ledger.build(key).await?,
            None => None,
        };
        let Some(record) = record else {
            let message = format!("version {version} of function {name} needed no build");
            return Err(Fault::new(ErrorCode::NotFound, message));
        };
        let mut log = self.package(&record.log).await?;
        blocking("read the log of a build", move || {
            let mut text = Vec::new();
            log.read_to_end(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        })
        .await
    }

    async fn find_build(&self, key: &str) -> Result<Option<OpenPackage>, Fault> {
        let Some(record) = self.shared.ledger.build(key).await? else { return Ok(None) };
        match self.shared.parts.packages.open(&record.package).await {
            Ok(result) => Ok(Some(result)),
            Err(alula_store::Error::NotFound { .. }) => Ok(None),
            Err(failed) => Err(error::store(&failed)),
        }
    }

    /// Runs a build, keeps its result and its log, and returns the result.
    async fn run_build(
        &self,
        (namespace, name): (&Name, &Name),
        recipe: &Recipe,
        source: &Path,
        work: &Scratch,
        reporter: &Reporter,
    ) -> Result<OpenPackage, Fault> {
        let _place = self.shared.builds.acquire().await.map_err(|_| error::defect("builds are closed"))?;
        let folder = work.fresh("build");
        let (into, source, limits) = (folder.clone(), source.to_owned(), self.shared.code.limits());
        let before =
            blocking("copy the source for the build", move || Ok(copy_for_build(&source, &into, limits)));
        let before = before.await?.map_err(|error| error.fault())?;

        let mut log = BuildLog::new(|line: &str| reporter.build_line(name, line));
        let tools = &self.shared.options.build_tools;
        let cell =
            run::Cell { launcher: &*self.shared.parts.launcher, namespace, folder: &folder, tools, limits };
        let ended = cell.run(recipe, &self.build_env(recipe), &mut log).await?;
        if let Err(reason) = ended {
            let message = format!("the build of function {name} failed: {reason}");
            return Err(Fault::new(ErrorCode::BuildFailed, message).with_log_tail(log.tail()));
        }

        let (packed, file) = (work.fresh("result"), recipe.scope);
        let into = packed.clone();
        let added = blocking("pack the build's result", move || {
            Ok(pack_result(&folder, &before, file, &into, limits))
        });
        added.await?.map_err(|error| error.fault())?;
        let _no_garbage_is_collected = self.shared.packages_in_flux.read().await;
        let packages = &self.shared.parts.packages;
        let package = packages.put_file(packed).await.map_err(|error| error::store(&error))?.digest;
        let log = packages.put(log.into_bytes()).await.map_err(|error| error::store(&error))?.digest;
        let record = BuildRecord { package, log, built_at: self.shared.parts.clock.now() };
        self.shared.ledger.put_build(&recipe.key, &record).await?;
        self.package(&package).await
    }

    fn build_env(&self, recipe: &Recipe) -> BTreeMap<String, String> {
        let tools = 0..self.shared.options.build_tools.len();
        let mut env = recipe.env(tools.map(|index| run::tools_dir(index).join("bin")));
        env.extend(self.shared.options.build_env.clone());
        env
    }
}

/// Unpacks the source for the build, and returns the paths that are in it. The launcher gives the folder to the
/// outside user of the cell.
fn copy_for_build(source: &Path, into: &Path, limits: Limits) -> Result<BTreeSet<PathBuf>, ArchiveError> {
    archive::unpack_package(std::io::BufReader::new(fs::File::open(source)?), into, limits)?;
    Ok(archive::walk(into)?.into_iter().map(|entry| entry.path).collect())
}

/// Packs what is kept of a build.
fn pack_result(
    folder: &Path,
    before: &BTreeSet<PathBuf>,
    scope: Scope,
    into: &Path,
    limits: Limits,
) -> Result<(), ArchiveError> {
    let mut entries = archive::walk(folder)?;
    if scope == Scope::Added {
        entries.retain(|entry| !before.contains(&entry.path));
    }
    archive::pack(folder, &entries, into, limits).map(|_| ())
}

/// Makes the content of the package.
fn assemble(
    source: &Path,
    result: OpenPackage,
    scope: Scope,
    into: &Path,
    limits: Limits,
) -> Result<(), ArchiveError> {
    match scope {
        Scope::Whole => archive::unpack_package(result, into, limits),
        Scope::Added => {
            archive::unpack_package(std::io::BufReader::new(fs::File::open(source)?), into, limits)?;
            archive::lay_over(result, into, limits)
        }
    }
}
