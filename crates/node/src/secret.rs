//! Secrets of a data directory: made at the first start, kept where only their owner can read them.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Longest file that is taken for a secret.
const SECRET_BYTES_MAX: u64 = 256;
/// Shortest text that is taken for one.
const SECRET_CHARS_MIN: usize = 32;

/// One kind of secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// The file in the data directory.
    pub(crate) file: &'static str,
    /// Marks a text as a secret of this platform, for people and for secret scanners.
    pub(crate) prefix: &'static str,
}

/// What everything is signed with that is sent out.
pub(crate) const SIGNING_KEY: Kind = Kind { file: "signing.key", prefix: "alula_sign_" };

/// What lineages are signed with. Who deletes it lets all chains of calls begin anew.
pub(crate) const LINEAGE_KEY: Kind = Kind { file: "lineage.key", prefix: "alula_lineage_" };

/// A secret.
#[derive(Clone)]
pub(crate) struct Secret {
    /// Its text.
    pub(crate) text: String,
    /// Where it is kept.
    pub(crate) path: PathBuf,
    /// Whether this start made it.
    pub(crate) is_new: bool,
}

impl Secret {
    /// Reads a secret of `data_dir`, or makes one of the 256 bits that two calls of `random` give.
    pub(crate) fn open(data_dir: &Path, kind: Kind, random: impl Fn() -> u128) -> std::io::Result<Self> {
        let path = data_dir.join(kind.file);
        match Self::read(&path) {
            Ok(text) => return Ok(Self { text, path, is_new: false }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let text = format!("{}{:032x}{:032x}", kind.prefix, random(), random());
        // Written aside and renamed, so that a crash leaves either no secret or a whole one.
        let aside = data_dir.join(format!("{}.new", kind.file));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)?;
        Ok(Self { text, path, is_new: true })
    }

    /// Reads the file of a secret.
    pub(crate) fn read(path: &Path) -> std::io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(path)?.take(SECRET_BYTES_MAX).read_to_string(&mut text)?;
        let text = text.trim();
        if text.len() < SECRET_CHARS_MIN {
            let reason =
                format!("{} holds no secret: delete it and start again to get a new one", path.display());
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
        let first = Secret::open(folder.path(), SIGNING_KEY, || 7).unwrap();
        let second = Secret::open(folder.path(), SIGNING_KEY, || 8).unwrap();
        assert!(first.is_new && !second.is_new);
        assert_eq!(first.text, second.text);
        assert!(first.text.starts_with("alula_sign_"));
        assert_eq!(std::fs::metadata(&first.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_empty_file_is_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SIGNING_KEY.file), "").unwrap();
        assert!(Secret::open(folder.path(), SIGNING_KEY, || 7).is_err());
    }
}
