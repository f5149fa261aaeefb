//! The administrator's token, a secret of the data directory.

use std::path::{Path, PathBuf};

use crate::secret::{Kind, Secret};

/// The file in the data directory.
pub const TOKEN_FILE: &str = "admin.token";
const ADMIN_TOKEN: Kind = Kind { file: TOKEN_FILE, prefix: "alula_admin_" };

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
        let Secret { text, path, is_new } = Secret::open(data_dir, ADMIN_TOKEN, random)?;
        Ok(Self { text, path, is_new })
    }

    /// Reads a token file.
    pub fn read(path: &Path) -> std::io::Result<String> {
        Secret::read(path)
    }
}
