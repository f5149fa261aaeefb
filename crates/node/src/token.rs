//! The administrator's token: made at the first start, kept where only its owner can read it.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::secret;

/// The file in the data directory.
pub const TOKEN_FILE: &str = "admin.token";
/// Marks a text as a token of this platform, for people and for secret scanners.
const PREFIX: &str = "alula_admin_";
/// Longest file that is taken for a token.
const TOKEN_BYTES_MAX: u64 = 256;

/// The token of a data directory.
#[derive(Clone)]
pub struct AdminToken {
    /// The secret.
    pub text: String,
    /// Where it is kept.
    pub path: PathBuf,
    /// Whether this start made it.
    pub is_new: bool,
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminToken")
            .field("path", &self.path)
            .field("is_new", &self.is_new)
            .finish_non_exhaustive()
    }
}

impl AdminToken {
    /// Reads the token of `data_dir`, or makes one of the 256 bits that two calls of `random` give.
    pub fn open(data_dir: &Path, random: impl Fn() -> u128) -> std::io::Result<Self> {
        let path = data_dir.join(TOKEN_FILE);
        match Self::read(&path) {
            Ok(text) => return Ok(Self { text, path, is_new: false }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let text = format!("{PREFIX}{:032x}{:032x}", random(), random());
        secret::write_whole(&path, format!("{text}\n").as_bytes())?;
        Ok(Self { text, path, is_new: true })
    }

    /// Reads a token file.
    pub fn read(path: &Path) -> std::io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(path)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
        let text = text.trim();
        if text.len() < 32 {
            let reason =
                format!("{} holds no token: delete it and start again to get a new one", path.display());
            return Err(std::io::Error::new(ErrorKind::InvalidData, reason));
        }
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = AdminToken::open(folder.path(), || 7).unwrap();
        let second = AdminToken::open(folder.path(), || 8).unwrap();
        assert!(first.is_new && !second.is_new);
        assert_eq!(first.text, second.text);
        assert_eq!(std::fs::metadata(&first.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_empty_file_is_no_token() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TOKEN_FILE), "").unwrap();
        assert!(AdminToken::open(folder.path(), || 7).is_err());
    }
}
