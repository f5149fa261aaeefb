//! What the records hold about buckets, as JSON. Fields are only ever added, so that a later platform reads it.

use std::collections::BTreeMap;

use alula_model::{Digest, Name, Timestamp};
use alula_store::{Key, Record};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredBucket {
    pub(crate) created_at: Timestamp,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredObject {
    pub(crate) bytes: u64,
    /// Without quotes: the MD5 of the content, or of the MD5s of its parts with their number.
    pub(crate) etag: String,
    pub(crate) modified_at: Timestamp,
    /// Grows with every change of the key: readers of events tell by it which came later.
    pub(crate) sequence: u64,
    pub(crate) headers: Headers,
    pub(crate) content: Content,
}

/// What the client wants to be given back with the content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Headers {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_language: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) user: BTreeMap<String, String>,
}

/// Where bytes lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    /// In one package.
    Whole(Digest),
    /// In several, which the record of this id lists.
    Pieces(String),
    /// The parts of an upload that are no object's.
    Parts(String),
}

/// One package of a content of several, and the bytes in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece(pub(crate) Digest, pub(crate) u64);

/// An upload in parts that is not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredUpload {
    pub(crate) begun_at: Timestamp,
    pub(crate) headers: Headers,
}

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredPart {
    pub(crate) piece: Piece,
    pub(crate) etag: String,
    pub(crate) modified_at: Timestamp,
}

/// An access key. Signatures are made with the secret itself, so it is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredAccessKey {
    pub(crate) namespace: Name,
    pub(crate) secret: String,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: String,
}

pub(crate) fn write(value: &impl Serialize) -> Bytes {
    // Plain data with text keys: this cannot fail.
    serde_json::to_vec(value).unwrap_or_default().into()
}

pub(crate) fn read<T: DeserializeOwned>(record: &Record) -> alula_store::Result<T> {
    serde_json::from_slice(&record.value).map_err(|error| damaged(&record.key, &error))
}

fn damaged(key: &Key, error: &serde_json::Error) -> alula_store::Error {
    alula_store::Error::Damaged { detail: format!("record {key} cannot be read: {error}") }
}
