//! The spawner: a small process with one thread that makes every cell.
//!
//! A server with many threads cannot fork without stalling them all, and a child of it may do almost nothing
//! safely. So the first thing that `main` does is to fork this process, before any thread exists; afterwards
//! the server asks it for cells over a link. When the link ends, for whatever reason, it kills all cells,
//! removes their groups and ends. `template` is the root that cells share, `cells` makes and ends them,
//! `zygotes` has processes forked into them, `serve` is the loop.

mod cells;
mod etc;
mod serve;
mod slots;
mod template;
mod within;
mod zygotes;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::link;
use crate::sys::{self, Forked};

/// First user of the range from which cells get theirs: above what systemd gives to its containers, and with
/// room for [`CELLS_MAX`] times 65 536 users below 2^31, which old tools take for the end.
pub const UID_BASE_DEFAULT: u32 = 0x7000_0000;

/// Cells at once: what fits into the range of users; memory ends earlier.
pub const CELLS_MAX: usize = 4096;

/// How the spawner is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnerOptions {
    /// Name of the parent of our control groups, one for each data directory: letters, digits, `-`, `_`. What
    /// an earlier process with the same name left is killed and removed.
    pub group_name: String,
    /// First user of the range from which cells get theirs.
    pub uid_base: u32,
    /// Further host folders that are shown read-only at the same place in every cell.
    pub extra_readonly: Vec<PathBuf>,
}

impl SpawnerOptions {
    /// The defaults for one group name.
    #[must_use]
    pub fn new(group_name: impl Into<String>) -> Self {
        Self { group_name: group_name.into(), uid_base: UID_BASE_DEFAULT, extra_readonly: Vec::new() }
    }
}

/// Why there is no spawner.
#[derive(Debug, thiserror::Error)]
pub enum SpawnerError {
    /// The options are wrong.
    #[error("the group name `{0}` must be 1 to 64 letters, digits, `-` or `_`")]
    GroupName(String),
    /// It could not be started, or ended at once.
    #[error("the spawner cannot be started")]
    Start(#[source] io::Error),
}

/// The platform's end of the link to a spawner; goes into [`crate::Sandbox::connect`].
#[derive(Debug)]
pub struct SpawnerLink {
    pub(crate) link: OwnedFd,
}

/// Forks the spawner. Must be called first in `main`: it fails when the process has more than one thread.
pub fn fork_spawner(options: SpawnerOptions) -> Result<SpawnerLink, SpawnerError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name = &options.group_name;
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        return Err(SpawnerError::GroupName(name.clone()));
    }
    let (ours, theirs) = link::pair().map_err(SpawnerError::Start)?;
    match sys::fork_single_threaded().map_err(SpawnerError::Start)? {
        Forked::Parent => Ok(SpawnerLink { link: ours }),
        Forked::Child => serve::main(theirs, &options),
    }
}
