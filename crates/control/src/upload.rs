//! What a deploy is given, what it reports on the way, and what it answers.

use std::path::PathBuf;
use std::time::Duration;

use alula_model::{ErrorCode, Fault, Name, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Source to deploy.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The tenant that the functions belong to.
    pub namespace: Name,
    /// A file below `data_dir/tmp`: a tar, tar.gz or zip archive (told by its content), or one source file. It is
    /// the caller's to remove afterwards.
    pub archive: PathBuf,
    /// How the file or folder was called where it came from: `hello.py`, `shop.tar.gz`. Names the function where
    /// nothing else does, and says the language of a single file.
    pub file_name: Option<String>,
    /// Values that win over those of `alula.toml`.
    pub overrides: Overrides,
    /// What the publisher says about it.
    pub message: String,
    /// Whether to stop before the build.
    pub dry_run: DryRun,
}

/// Values that win over those of `alula.toml`: a JSON object of spec fields and `name`.
///
/// `env` is merged with the manifest's variable by variable, every other field replaces. Where an archive holds
/// several functions, `name` picks the one to deploy and the other fields hold for each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overrides {
    /// The function's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Fields of the spec, as they would stand in `alula.toml`.
    #[serde(flatten)]
    pub spec: Map<String, Value>,
}

/// To which functions of the namespace somebody may deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// To all.
    Namespace,
    /// To those that are of one of these apps, and stay it.
    Apps(Vec<Name>),
}

impl Reach {
    /// Whether it holds for a function that is of `before` and is to be of `after`; `before` is none for a new one.
    pub(crate) fn check(
        &self,
        function: &Name,
        before: Option<Option<&Name>>,
        after: Option<&Name>,
    ) -> Result<(), Fault> {
        let Self::Apps(apps) = self else { return Ok(()) };
        let is_within = |app: Option<&Name>| app.is_some_and(|app| apps.contains(app));
        if before.is_none_or(is_within) && is_within(after) {
            return Ok(());
        }
        let told = |app: Option<&Name>| app.map_or("no app".to_owned(), |app| format!("app {app}"));
        let was = before
            .filter(|before| *before != after)
            .map(|before| format!(", and was of {} before", told(before)));
        let apps: Vec<_> = apps.iter().map(Name::as_str).collect();
        let message = format!(
            "function {function} is of {}{}; you may deploy to functions of {} only",
            told(after),
            was.unwrap_or_default(),
            apps.join(", ")
        );
        Err(Fault::new(ErrorCode::Forbidden, message))
    }
}

/// Whether a deploy changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DryRun {
    /// Validate only: nothing is built and nothing published.
    Yes,
    /// Build and publish.
    #[default]
    No,
}

/// What happens while a deploy runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A stage has begun.
    Stage {
        /// The function; `None` while the archive has not been read.
        function: Option<Name>,
        /// Which stage.
        stage: Stage,
        /// Details in words: sizes, the command, the version.
        detail: String,
    },
    /// Something will not work as the spec has it; the deploy goes on.
    Warning {
        /// The function.
        function: Name,
        /// What will not work, why, and what to do.
        text: String,
    },
    /// A build wrote a line.
    BuildLine {
        /// The function.
        function: Name,
        /// The line, without its end.
        text: String,
    },
}

/// The stages of a deploy, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The archive is unpacked.
    Upload,
    /// The manifest is read and every function checked.
    Validate,
    /// Dependencies are installed, or the user's build command runs.
    Build,
    /// Packages are stored and the new versions committed.
    Publish,
    /// The new version answers calls.
    Ready,
}

/// One function that was deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The version that is in force now; after a dry run the one that would be.
    pub version: Version,
    /// Whether it was made by this deploy: the same spec and source again make no new version.
    pub is_new: bool,
    /// Whether the build's result was taken from an earlier build.
    pub build_cached: bool,
    /// Time from the begin of the deploy.
    pub took: Duration,
}
