//! The master keys: one that seals, and older ones that only open what a rotation has not come to yet.
//!
//! A key is 256 random bits, written as `alula_master_` and 64 hexadecimal digits. A file holds one key a line, the one
//! that seals first. A file is replaced by renaming, so that a crash leaves one of the two.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use aws_lc_rs::digest;
use zeroize::{Zeroize as _, Zeroizing};

/// Marks a text as a master key of this platform, for people and for secret scanners.
const PREFIX: &str = "alula_master_";
/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 32;
/// Longest file: more keys than a rotation that was broken off a few times leaves.
const FILE_BYTES_MAX: u64 = 4 * 1024;
/// Digits of a key's name.
const ID_DIGITS: usize = 16;

/// The master keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file cannot be read or written.
    #[error("the master keys in {path} cannot be read or written", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What is given is no key.
    #[error("line {line} of the master keys is none: `{PREFIX}` and 64 hexadecimal digits are one")]
    Malformed {
        /// Which line.
        line: usize,
    },
    /// There is none.
    #[error("there is no master key")]
    Empty,
    /// They are given by the configuration, which the platform does not write.
    #[error(
        "the master keys are given by secrets.master_key, so the operator puts the new one before them there"
    )]
    Given,
    /// The system gives no randomness, or the cipher refuses the key.
    #[error("the cryptographic library fails")]
    Library,
}

/// One key. Never shown; gone from memory when it is dropped.
pub struct MasterKey {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    id: String,
}

impl MasterKey {
    /// A new one.
    pub fn generate() -> Result<Self, KeyringError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| KeyringError::Library)?;
        Ok(Self::of(bytes))
    }

    fn of(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let digest = digest::digest(&digest::SHA256, &*bytes);
        let mut id: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        id.truncate(ID_DIGITS);
        Self { bytes, id }
    }

    fn parse(text: &str, line: usize) -> Result<Self, KeyringError> {
        let digits = text.strip_prefix(PREFIX).map(str::as_bytes).unwrap_or_default();
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if digits.len() != 2 * KEY_BYTES {
            return Err(KeyringError::Malformed { line });
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| (pair[at] as char).to_digit(16).map(|digit| digit as u8);
            let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                return Err(KeyringError::Malformed { line });
            };
            *byte = high << 4 | low;
        }
        Ok(Self::of(bytes))
    }

    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 2 * KEY_BYTES));
        text.push_str(PREFIX);
        for byte in self.bytes.iter() {
            for digit in [byte >> 4, byte & 0xf] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        text
    }

    /// Its name, which tells nothing of it: the beginning of its SHA-256.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The cipher with this key.
    pub(crate) fn cipher(&self) -> Result<RandomizedNonceKey, KeyringError> {
        RandomizedNonceKey::new(&AES_256_GCM, &*self.bytes).map_err(|_| KeyringError::Library)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

/// All keys of a platform.
#[derive(Debug)]
pub struct Keyring {
    /// The first one seals.
    keys: Vec<MasterKey>,
    /// Where they are kept; `None` where the configuration has them.
    path: Option<PathBuf>,
}

impl Keyring {
    /// Reads the keys of a file; makes a file with one where there is none.
    pub fn open(path: &Path) -> Result<Self, KeyringError> {
        match read(path) {
            Ok(text) => Ok(Self { keys: parse(&text)?, path: Some(path.to_owned()) }),
            Err(source) if source.kind() == ErrorKind::NotFound => {
                let made = Self { keys: vec![MasterKey::generate()?], path: Some(path.to_owned()) };
                made.write()?;
                Ok(made)
            }
            Err(source) => Err(KeyringError::File { path: path.to_owned(), source }),
        }
    }

    /// Takes keys that the operator gives as text, separated by spaces, commas or lines.
    pub fn given(text: &str) -> Result<Self, KeyringError> {
        Ok(Self { keys: parse(text)?, path: None })
    }

    /// The key that seals.
    pub(crate) fn sealing(&self) -> Result<&MasterKey, KeyringError> {
        self.keys.first().ok_or(KeyringError::Empty)
    }

    /// The key of that name.
    pub(crate) fn find(&self, id: &str) -> Option<&MasterKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// Whether there are keys that only open.
    pub(crate) fn has_older(&self) -> bool {
        self.keys.len() > 1
    }

    /// The same keys with another one that seals from now on. It is in the file before anything is sealed with it.
    pub(crate) fn with_new(&self) -> Result<Self, KeyringError> {
        let path = self.path.clone().ok_or(KeyringError::Given)?;
        let mut keys = vec![MasterKey::generate()?];
        keys.extend(self.keys.iter().map(copy));
        let next = Self { keys, path: Some(path) };
        next.write()?;
        Ok(next)
    }

    /// Only the key that seals; all of them where the operator gives them. To be called when nothing is sealed with
    /// another one.
    pub(crate) fn without_older(&self) -> Result<Self, KeyringError> {
        let Some(path) = &self.path else {
            return Ok(Self { keys: self.keys.iter().map(copy).collect(), path: None });
        };
        let next = Self { keys: vec![copy(self.sealing()?)], path: Some(path.clone()) };
        next.write()?;
        Ok(next)
    }

    fn write(&self) -> Result<(), KeyringError> {
        let Some(path) = &self.path else { return Err(KeyringError::Given) };
        let mut text = Zeroizing::new(String::new());
        for key in &self.keys {
            text.push_str(&key.text());
            text.push('\n');
        }
        write(path, &text).map_err(|source| KeyringError::File { path: path.clone(), source })
    }
}

fn copy(key: &MasterKey) -> MasterKey {
    MasterKey { bytes: key.bytes.clone(), id: key.id.clone() }
}

fn parse(text: &str) -> Result<Vec<MasterKey>, KeyringError> {
    let words = text.split([' ', ',', '\n', '\r', '\t']).filter(|word| !word.is_empty());
    let keys = words.enumerate().map(|(index, word)| MasterKey::parse(word, index + 1));
    let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
    if keys.is_empty() { Err(KeyringError::Empty) } else { Ok(keys) }
}

fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    // With room for all of it from the start: a text that grows leaves copies of itself behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize));
    std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    match String::from_utf8(std::mem::take(&mut bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            Err(std::io::Error::new(ErrorKind::InvalidData, "it is not text"))
        }
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    // The name too must be there after a loss of power, before anything is sealed with a key in it.
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_made_once_for_its_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let made = Keyring::open(&path).unwrap();
        let read = Keyring::open(&path).unwrap();
        assert_eq!(made.sealing().unwrap().id(), read.sealing().unwrap().id());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_new_key_seals_and_the_older_ones_open_until_they_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let first = Keyring::open(&path).unwrap();
        let second = first.with_new().unwrap();
        let read = Keyring::open(&path).unwrap();
        let old = first.sealing().unwrap().id();
        assert_ne!(second.sealing().unwrap().id(), old);
        assert_eq!(read.sealing().unwrap().id(), second.sealing().unwrap().id());
        assert!(read.find(old).is_some() && read.has_older());
        read.without_older().unwrap();
        let last = Keyring::open(&path).unwrap();
        assert!(last.find(old).is_none() && !last.has_older());
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_place_and_never_shown() {
        let good = MasterKey::generate().unwrap().text().to_string();
        for (text, line) in [("secret", 1), (&*format!("{good}\n{good}x"), 2), (&good[..good.len() - 1], 1)] {
            let error = Keyring::given(text).unwrap_err();
            assert!(matches!(error, KeyringError::Malformed { line: at } if at == line), "{error}");
            assert!(!error.to_string().contains(&text[..6]) || text.starts_with(PREFIX));
        }
        assert!(matches!(Keyring::given(" \n"), Err(KeyringError::Empty)));
        let given = Keyring::given(&good).unwrap();
        assert!(!format!("{given:?}").contains(&good[PREFIX.len()..]));
        assert!(matches!(given.with_new(), Err(KeyringError::Given)));
    }
}
