//! One value as it is stored: encrypted with a key of its own, which is encrypted with a master key.
//!
//! Both with AES-256-GCM (NIST SP 800-38D) and a random nonce of 96 bits. A data key encrypts one value once; a master key
//! encrypts data keys, far below the 2^32 that random nonces are good for. What is authenticated besides says where it
//! belongs (namespace, name and version), so that a sealed value that is put into another place does not open.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::keyring::{KEY_BYTES, Keyring, MasterKey};

/// A value that is encrypted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The name of the master key.
    master: String,
    /// The data key under the master key: nonce, ciphertext and tag as Base64.
    key: String,
    /// The value under the data key, in the same form.
    value: String,
}

/// Where a value belongs.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The secret.
    pub name: &'a str,
    /// Its version.
    pub version: u64,
}

/// A sealed value does not open, or none can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The master key is not there.
    #[error("the master key that it was sealed with is not there")]
    NoKey,
    /// It was changed, or belongs to another place.
    #[error("it was changed since it was sealed, or put in another's place")]
    Forged,
    /// The cipher fails.
    #[error("the cryptographic library fails")]
    Library,
}

impl Place<'_> {
    /// What is authenticated besides; `use_` tells data keys from values. No part may hold a NUL.
    fn authenticated(&self, use_: &str) -> Vec<u8> {
        format!("alula secret 1\0{use_}\0{}\0{}\0{}", self.namespace, self.name, self.version).into_bytes()
    }
}

impl Sealed {
    /// Encrypts `value`.
    pub fn seal(place: Place<'_>, value: &[u8], keys: &Keyring) -> Result<Self, SealError> {
        let master = keys.sealing().map_err(|_| SealError::NoKey)?;
        let mut data_key = Zeroizing::new([0; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut *data_key).map_err(|_| SealError::Library)?;
        let cipher = cipher(&*data_key)?;
        Ok(Self {
            master: master.id().to_owned(),
            key: wrap(place, &*data_key, master)?,
            value: encrypt(&cipher, &place.authenticated("value"), value)?,
        })
    }

    /// The value.
    pub fn open(&self, place: Place<'_>, keys: &Keyring) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let data_key = self.data_key(place, keys)?;
        decrypt(&cipher(&data_key)?, &place.authenticated("value"), &self.value)
    }

    /// The same with its data key under the master key that seals now.
    pub fn resealed(&self, place: Place<'_>, keys: &Keyring) -> Result<Self, SealError> {
        let master = keys.sealing().map_err(|_| SealError::NoKey)?;
        let data_key = self.data_key(place, keys)?;
        let key = wrap(place, &data_key, master)?;
        Ok(Self { master: master.id().to_owned(), key, value: self.value.clone() })
    }

    /// Whether it is under the master key that seals now.
    pub(crate) fn is_current(&self, keys: &Keyring) -> bool {
        keys.sealing().is_ok_and(|key| key.id() == self.master)
    }

    /// Whether both are the same sealing of a value, be it under different master keys.
    pub(crate) fn is_of_same_value(&self, other: &Self) -> bool {
        self.value == other.value
    }

    /// Bytes that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.master.len() + self.key.len() + self.value.len()
    }

    fn data_key(&self, place: Place<'_>, keys: &Keyring) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let master = keys.find(&self.master).ok_or(SealError::NoKey)?;
        let cipher = master.cipher().map_err(|_| SealError::Library)?;
        decrypt(&cipher, &place.authenticated("key"), &self.key)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(under {})", self.master)
    }
}

fn cipher(key: &[u8]) -> Result<RandomizedNonceKey, SealError> {
    RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealError::Library)
}

fn wrap(place: Place<'_>, data_key: &[u8], master: &MasterKey) -> Result<String, SealError> {
    let cipher = master.cipher().map_err(|_| SealError::Library)?;
    encrypt(&cipher, &place.authenticated("key"), data_key)
}

fn encrypt(cipher: &RandomizedNonceKey, authenticated: &[u8], plain: &[u8]) -> Result<String, SealError> {
    // With room for the tag: a buffer that grows leaves a copy behind.
    let mut buffer = Zeroizing::new(Vec::with_capacity(plain.len() + AES_256_GCM.tag_len()));
    buffer.extend_from_slice(plain);
    let nonce = cipher.seal_in_place_append_tag(Aad::from(authenticated), &mut *buffer);
    let nonce = nonce.map_err(|_| SealError::Library)?;
    let whole: Vec<u8> = nonce.as_ref().iter().chain(buffer.iter()).copied().collect();
    Ok(BASE64.encode(whole))
}

fn decrypt(
    cipher: &RandomizedNonceKey,
    authenticated: &[u8],
    text: &str,
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let mut whole = Zeroizing::new(BASE64.decode(text).map_err(|_| SealError::Forged)?);
    let (nonce, sealed) = whole.split_at_mut_checked(NONCE_LEN).ok_or(SealError::Forged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Forged)?;
    let opened = cipher.open_in_place(nonce, Aad::from(authenticated), sealed);
    Ok(Zeroizing::new(opened.map_err(|_| SealError::Forged)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { namespace: "shop", name: "db", version: 3 };

    fn keys() -> (tempfile::TempDir, Keyring) {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keyring::open(&folder.path().join("master.key")).unwrap();
        (folder, keys)
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let (_folder, keys) = keys();
        let sealed = Sealed::seal(PLACE, b"hunter2", &keys).unwrap();
        assert_eq!(&**sealed.open(PLACE, &keys).unwrap(), b"hunter2");
        for other in [
            Place { namespace: "shop2", ..PLACE },
            Place { name: "d", ..PLACE },
            Place { version: 4, ..PLACE },
        ] {
            assert_eq!(sealed.open(other, &keys).unwrap_err(), SealError::Forged, "{other:?}");
        }
        assert_eq!(sealed.open(PLACE, &self::keys().1).unwrap_err(), SealError::NoKey);
    }

    #[test]
    fn the_same_value_never_looks_the_same_and_shows_nothing() {
        let (_folder, keys) = keys();
        let [one, other] = [(); 2].map(|()| Sealed::seal(PLACE, b"hunter2-hunter2", &keys).unwrap());
        assert_ne!(one, other);
        let stored = serde_json::to_string(&one).unwrap() + &format!("{one:?}");
        assert!(!stored.contains("hunter2") && !stored.contains(&BASE64.encode("hunter2")));
    }

    #[test]
    fn a_bit_that_is_changed_anywhere_is_seen() {
        let (_folder, keys) = keys();
        let sealed = Sealed::seal(PLACE, b"x", &keys).unwrap();
        let flip = |text: &str, at: usize| {
            let mut bytes = BASE64.decode(text).unwrap();
            bytes[at] ^= 1;
            BASE64.encode(bytes)
        };
        for at in 0..BASE64.decode(&sealed.key).unwrap().len() {
            let forged = Sealed { key: flip(&sealed.key, at), ..sealed.clone() };
            assert_eq!(forged.open(PLACE, &keys).unwrap_err(), SealError::Forged, "key {at}");
        }
        for at in 0..BASE64.decode(&sealed.value).unwrap().len() {
            let forged = Sealed { value: flip(&sealed.value, at), ..sealed.clone() };
            assert_eq!(forged.open(PLACE, &keys).unwrap_err(), SealError::Forged, "value {at}");
        }
        for cut in ["", "AAAA", "not base64"] {
            let forged = Sealed { value: cut.to_owned(), ..sealed.clone() };
            assert_eq!(forged.open(PLACE, &keys).unwrap_err(), SealError::Forged, "{cut:?}");
        }
    }

    #[test]
    fn what_is_sealed_again_opens_with_the_new_key_alone() {
        let (_folder, old) = keys();
        let sealed = Sealed::seal(PLACE, b"hunter2", &old).unwrap();
        let both = old.with_new().unwrap();
        assert!(!sealed.is_current(&both));
        let again = sealed.resealed(PLACE, &both).unwrap();
        let new = both.without_older().unwrap();
        assert!(again.is_current(&new));
        assert_eq!(&**again.open(PLACE, &new).unwrap(), b"hunter2");
        assert_eq!(sealed.open(PLACE, &new).unwrap_err(), SealError::NoKey);
    }
}
