//! The settings of the control component, each with its default and the reason for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Largest uploaded archive: room for a vendored dependency tree, small enough to be sent in minutes.
const PACKAGE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Largest unpacked source, and largest result of a build.
const UNPACKED_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Files and folders in one package: a large `node_modules` has some 60 000.
const FILES_MAX: u64 = 200_000;
/// Builds at once: a build is limited by the CPU and by the network, not by waiting.
const BUILDS_AT_ONCE: usize = 2;

/// Settings of the control component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The data directory. `code/` and `tmp/` below it belong to this component; `tmp/` is emptied at every start.
    /// Uploads are files in `tmp/`.
    pub data_dir: PathBuf,
    /// Largest uploaded archive, in bytes.
    pub package_bytes_max: u64,
    /// Largest unpacked source and largest result of a build, in bytes.
    pub unpacked_bytes_max: u64,
    /// Most files and folders in one package.
    pub files_max: u64,
    /// Builds that run at once; more of them wait.
    pub builds_at_once: usize,
    /// Environment variables for every build: where packages come from, which certificates are trusted.
    pub build_env: BTreeMap<String, String>,
    /// Host folders with a `bin` folder in them (compilers, say) that builds see; their programs are found first.
    pub build_tools: Vec<PathBuf>,
    /// Whether owners can be told by mail.
    pub mail: Mail,
}

/// Whether the platform sends mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mail {
    /// It does.
    Sent,
    /// No mail server is configured: who wants to be told by mail is warned at the deploy.
    #[default]
    NotSent,
}

impl Options {
    /// The defaults, for this data directory.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            package_bytes_max: PACKAGE_BYTES_MAX,
            unpacked_bytes_max: UNPACKED_BYTES_MAX,
            files_max: FILES_MAX,
            builds_at_once: BUILDS_AT_ONCE,
            build_env: BTreeMap::new(),
            build_tools: Vec::new(),
            mail: Mail::default(),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new("data")
    }
}
