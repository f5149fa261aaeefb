//! Which folders the operator allows to be watched.

use std::io;
use std::path::{Component, Path, PathBuf};

use alula_model::SpecError;
use alula_model::trigger::{Source, Trigger};

use super::opened::Opened;

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
        is_plain && path.is_absolute() && self.0.iter().any(|allowed| path.starts_with(allowed))
    }

    /// Opens a folder. What counts is where it is found to lie once it is open: a link that leads out of the allowed
    /// folders is not followed.
    pub(super) fn open(&self, path: &Path) -> io::Result<Opened> {
        let opened = Opened::open(path)?;
        let real = opened.real_path()?;
        let mut allowed = self.0.iter().filter_map(|allowed| allowed.canonicalize().ok());
        match self.names(path) && allowed.any(|allowed| real.starts_with(allowed)) {
            true => Ok(opened),
            false => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it does not lie in a folder that triggers.folders in the operator's configuration allows",
            )),
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn folder(path: &str) -> Vec<Trigger> {
        let trigger = serde_json::json!({"name": "in", "kind": "folder", "path": path});
        vec![serde_json::from_value(trigger).unwrap()]
    }

    #[test]
    fn only_what_lies_in_an_allowed_folder_is_deployed() {
        let allowed = Allowed::new(&["/srv/in".into(), "/data".into()]);
        for path in ["/srv/in", "/srv/in/", "/srv/in/a/b", "/data/x"] {
            assert_eq!(allowed.check(&folder(path)), Ok(()), "{path}");
        }
        for path in ["/srv", "/srv/inner", "/srv/in/../out", "/", "/etc"] {
            let refused = allowed.check(&folder(path)).unwrap_err().to_string();
            assert!(refused.contains("allows /srv/in, /data"), "{refused}");
        }
        let refused = Allowed::default().check(&folder("/srv/in")).unwrap_err().to_string();
        assert!(refused.ends_with("allows none"), "{refused}");
    }

    #[test]
    fn a_link_out_of_the_allowed_folders_is_not_opened() {
        let root = tempfile::tempdir().unwrap();
        let (allowed, outside) = (root.path().join("allowed"), root.path().join("outside"));
        std::fs::create_dir_all(allowed.join("in")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, allowed.join("out")).unwrap();
        std::os::unix::fs::symlink("in", allowed.join("within")).unwrap();
        let folders = Allowed::new(std::slice::from_ref(&allowed));
        assert!(folders.open(&allowed.join("in")).is_ok());
        assert!(folders.open(&allowed.join("within")).is_ok(), "a link that stays inside is one name more");
        let refused = folders.open(&allowed.join("out")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(folders.open(&outside).is_err());
        std::fs::write(allowed.join("file"), "").unwrap();
        assert!(folders.open(&allowed.join("file")).is_err(), "no folder");
    }
}
