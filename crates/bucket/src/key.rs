//! How buckets, objects and uploads are named in the records.
//!
//! Keys of objects hold anything, records' keys neither `/` within a segment nor the zero character. S3 lists by the bytes
//! of keys, and the records sort by bytes too, so the encoding keeps the order: every character that has to go becomes two
//! whose first is not above it and whose second decides.
//!
//! ```text
//! zero  ->  \x01 \x01       .  ->  . !
//! \x01  ->  \x01 \x02       /  ->  . ~
//! ```
//!
//! It works character by character, so that a prefix of a key is encoded to a prefix of its encoding.

use alula_model::Name;
use alula_store::Key;

pub(crate) const BUCKET: &str = "bucket";
const OBJECT: &str = "object";
const UPLOAD: &str = "upload";
const PART: &str = "part";
const PIECES: &str = "pieces";
const ACCESS: &str = "bucket-key";

/// A bucket of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct BucketKey {
    pub(crate) namespace: Name,
    pub(crate) bucket: Name,
}

impl BucketKey {
    pub(crate) fn record(&self) -> Key {
        self.within(BUCKET)
    }

    /// Where its objects lie.
    pub(crate) fn objects(&self) -> Key {
        self.within(OBJECT)
    }

    pub(crate) fn object(&self, key: &str) -> Key {
        Key::new(&[OBJECT, self.namespace.as_str(), self.bucket.as_str(), &encode(key)])
    }

    /// Where its open uploads lie.
    pub(crate) fn uploads(&self) -> Key {
        self.within(UPLOAD)
    }

    pub(crate) fn upload(&self, key: &str, id: &str) -> Key {
        Key::new(&[UPLOAD, self.namespace.as_str(), self.bucket.as_str(), &encode(key), id])
    }

    fn within(&self, kind: &str) -> Key {
        Key::new(&[kind, self.namespace.as_str(), self.bucket.as_str()])
    }
}

pub(crate) fn buckets(namespace: &Name) -> Key {
    Key::new(&[BUCKET, namespace.as_str()])
}

/// Every open upload.
pub(crate) fn all_uploads() -> Key {
    Key::new(&[UPLOAD])
}

pub(crate) fn parts(upload: &str) -> Key {
    Key::new(&[PART, upload])
}

pub(crate) fn part(upload: &str, number: u16) -> Key {
    Key::new(&[PART, upload, &format!("{number:05}")])
}

/// The list of what an object of several parts is made of.
pub(crate) fn pieces(id: &str) -> Key {
    Key::new(&[PIECES, id])
}

/// Every access key.
pub(crate) fn access_keys() -> Key {
    Key::new(&[ACCESS])
}

pub(crate) fn access_key(id: &str) -> Key {
    Key::new(&[ACCESS, id])
}

/// The key of an object as a segment.
pub(crate) fn encode(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len() + 8);
    for character in key.chars() {
        match character {
            '\0' => encoded.push_str("\x01\x01"),
            '\x01' => encoded.push_str("\x01\x02"),
            '.' => encoded.push_str(".!"),
            '/' => encoded.push_str(".~"),
            other => encoded.push(other),
        }
    }
    encoded
}

/// The key of an object that a segment stands for.
pub(crate) fn decode(segment: &str) -> String {
    let mut decoded = String::with_capacity(segment.len());
    let mut characters = segment.chars();
    while let Some(character) = characters.next() {
        decoded.push(match character {
            '\x01' if characters.next() == Some('\x01') => '\0',
            '.' if characters.next() == Some('~') => '/',
            other => other,
        });
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_back_and_keeps_its_place() {
        let mut keys: Vec<String> = Vec::new();
        for a in ["", "a", "\0", "\x01", "\x02", "-", ".", "/", "0", "..", "//", "é", "\u{10ffff}", "!", "~"]
        {
            for b in ["", "b", "\0", "\x01", "-", ".", "/", "0", "./", "/.", "日"] {
                keys.push(format!("{a}{b}"));
            }
        }
        for one in &keys {
            let encoded = encode(one);
            assert_eq!(&decode(&encoded), one);
            assert!(!encoded.contains(['/', '\0']), "{one:?}");
            for other in &keys {
                assert_eq!(one.cmp(other), encoded.cmp(&encode(other)), "{one:?} {other:?}");
                assert_eq!(one.starts_with(other.as_str()), encoded.starts_with(&encode(other)));
            }
        }
    }

    #[test]
    fn the_longest_key_fits_into_a_record() {
        let name = Name::new(&"n".repeat(63)).unwrap();
        let bucket = BucketKey { namespace: name.clone(), bucket: name };
        let upload = bucket.upload(&".".repeat(crate::options::KEY_BYTES_MAX), &"u".repeat(36));
        assert!(upload.as_str().len() <= alula_store::KEY_BYTES_MAX);
    }
}
