//! What a deploy is given, what it reports on the way, and what it answers.

use std::path::PathBuf;
use std::time::Duration;

use alula_model::{Name, Version};
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
