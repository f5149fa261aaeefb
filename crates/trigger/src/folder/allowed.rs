//! Which folders the operator allows to be watched.

use std::path::{Component, Path, PathBuf};

use alula_model::SpecError;
use alula_model::trigger::{Source, Trigger};

/// The folders that may be watched, with everything below them. Without any, none may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(Vec<PathBuf>);

impl Allowed {
    /// These folders, absolute.
    #[must_use]
    pub fn new(folders: &[PathBuf]) -> Self {
        Self(folders.to_vec())
    }

    /// Refuses a trigger of a folder that is not allowed, naming those that are.
    pub fn check(&self, triggers: &[Trigger]) -> Result<(), SpecError> {
        triggers.iter().try_for_each(|trigger| match &trigger.source {
            Source::Folder(folder) if !self.names(Path::new(&folder.path)) => {
                let known: Vec<_> = self.0.iter().map(|folder| folder.display().to_string()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let reason = format!(
                    "{}: folder {} may not be watched; triggers.folders in the operator's configuration allows {known}",
                    trigger.name, folder.path
                );
                Err(SpecError { field: "triggers", reason })
            }
            _ => Ok(()),
        })
    }

    /// Whether a path is below an allowed one as it is written.
    fn names(&self, path: &Path) -> bool {
        let is_plain = !path.components().any(|part| matches!(part, Component::ParentDir));
        is_plain && self.0.iter().any(|allowed| path.starts_with(allowed))
    }

    /// The folder itself, with links followed, if it is still below an allowed one: a link that somebody has put in the
    /// way leads nowhere.
    pub(super) fn resolve(&self, path: &Path) -> std::io::Result<PathBuf> {
        let real = path.canonicalize()?;
        let allowed = self.0.iter().filter_map(|allowed| allowed.canonicalize().ok());
        match self.names(path) && allowed.into_iter().any(|allowed| real.starts_with(allowed)) {
            true => Ok(real),
            false => {
                Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, "the folder is not allowed"))
            }
        }
    }
}
