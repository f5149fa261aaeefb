//! The user's own settings: named platforms with their address, token and namespace.
//!
//! One TOML file, readable by its owner only because it holds tokens. It says nothing about the platform's own
//! configuration, which belongs to `alula up`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

/// Largest file that is read; a thousand profiles fit.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profiles {
    /// The profile that is used where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// All of them by name.
    #[serde(default)]
    pub(crate) profiles: BTreeMap<String, Profile>,
}

/// One platform.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// The control API's address.
    pub(crate) url: String,
    /// The token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
}

impl Profiles {
    /// Reads the file; one that does not exist is empty.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let length = match std::fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::file("read", path, &error)),
        };
        if length > FILE_BYTES_MAX {
            return Err(Failure::usage(format!("{} is larger than {FILE_BYTES_MAX} bytes", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
        toml::from_str(&text).map_err(|error| {
            let reason = error.message().to_owned();
            Failure::usage(format!("{} is not a file of profiles: {reason}", path.display()))
                .remedy("correct it, or remove it and add the profiles again")
        })
    }

    /// Writes the file whole or not at all, readable by its owner only.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let text = toml::to_string(self).map_err(|error| Failure::failed("config", error))?;
        let write = || -> io::Result<()> {
            std::fs::create_dir_all(folder)?;
            // Temporary files are made with mode 0600, which the rename keeps.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|error| Failure::file("write", path, &error))
    }

    /// The profile called `name`, or the current one; `None` where neither is.
    pub(crate) fn pick(&self, name: Option<&str>) -> Result<Option<&Profile>> {
        let Some(name) = name.or(self.current.as_deref()) else { return Ok(None) };
        let known = || match self.profiles.keys().cloned().collect::<Vec<_>>() {
            names if names.is_empty() => "`alula config profile add NAME --url URL` makes one".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        let missing = || Failure::usage(format!("there is no profile {name:?}")).remedy(known());
        self.profiles.get(name).map(Some).ok_or_else(missing)
    }
}

/// Where the file is: below `XDG_CONFIG_HOME`, or `~/.config`. `None` where there is no home.
pub(crate) fn path(xdg_config_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let folder = xdg_config_home.filter(|path| path.is_absolute()).or_else(|| Some(home?.join(".config")))?;
    Some(folder.join("alula").join("config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Profiles::load(&folder.path().join("none")).unwrap(), Profiles::default());
    }

    #[test]
    fn what_is_saved_is_loaded_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.toml");
        let profile = Profile { url: "http://x".to_owned(), token: Some("t".to_owned()), namespace: None };
        let saved =
            Profiles { current: Some("a".to_owned()), profiles: BTreeMap::from([("a".to_owned(), profile)]) };
        saved.save(&path).unwrap();
        assert_eq!(Profiles::load(&path).unwrap(), saved);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn unknown_keys_and_unknown_profiles_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "curent = 'a'").unwrap();
        assert!(Profiles::load(&path).is_err());
        assert!(Profiles::default().pick(Some("a")).is_err());
        assert_eq!(Profiles::default().pick(None).unwrap(), None);
    }

    #[test]
    fn the_file_has_a_place() {
        let home = Some(PathBuf::from("/home/u"));
        assert_eq!(path(None, home.clone()), Some(PathBuf::from("/home/u/.config/alula/config.toml")));
        assert_eq!(path(Some("/x".into()), home.clone()), Some(PathBuf::from("/x/alula/config.toml")));
        assert_eq!(
            path(Some("relative".into()), home),
            Some(PathBuf::from("/home/u/.config/alula/config.toml"))
        );
        assert_eq!(path(None, None), None);
    }
}
