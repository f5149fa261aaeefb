//! The event that a function gets: S3's own, so that functions written for S3 run unchanged.
//!
//! Its shape is that of version 2.1 of S3's event notifications ("Event message structure" in its documentation). What the
//! platform does not have (regions, accounts) has a stable value.

use std::net::IpAddr;

use alula_model::trigger;
use alula_model::{By, Lineage, Name, Timestamp};
use bytes::Bytes;
use serde_json::json;

/// A change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    /// The tenant.
    pub namespace: Name,
    /// The bucket.
    pub bucket: Name,
    /// The object's key.
    pub key: String,
    /// What happened.
    pub action: Action,
    /// When.
    pub at: Timestamp,
    /// Grows with every change of the key.
    pub sequence: u64,
    /// Who did it.
    pub actor: Actor,
}

/// Who changes something.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The id of the access key, or the name that the control API knows them by.
    pub by: String,
    /// The address that they came from.
    pub remote: Option<IpAddr>,
    /// The functions that led to it; empty where none did, or where an outside client did not hand it on.
    pub lineage: Lineage,
}

impl Actor {
    /// As the audit record names them.
    pub(crate) fn as_by(&self) -> By {
        By { name: self.by.clone(), from: self.remote.map(|address| address.to_string()) }
    }
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It was written whole.
    Put {
        /// How.
        how: Written,
        /// Its size in bytes.
        bytes: u64,
        /// Its ETag, without quotes.
        etag: String,
    },
    /// It was removed.
    Delete,
}

/// How an object came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// In one request.
    Put,
    /// From another object.
    Copy,
    /// From parts.
    Complete,
}

impl Action {
    /// The kind of change that triggers name.
    #[must_use]
    pub const fn change(&self) -> trigger::Change {
        match self {
            Self::Put { .. } => trigger::Change::Put,
            Self::Delete => trigger::Change::Delete,
        }
    }

    /// The kind of change as triggers state it.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Put { .. } => "put",
            Self::Delete => "delete",
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Put { how: Written::Put, .. } => "ObjectCreated:Put",
            Self::Put { how: Written::Copy, .. } => "ObjectCreated:Copy",
            Self::Put { how: Written::Complete, .. } => "ObjectCreated:CompleteMultipartUpload",
            Self::Delete => "ObjectRemoved:Delete",
        }
    }
}

/// The event as JSON.
pub(crate) fn render(change: &Change, trigger: &str) -> Bytes {
    let mut object = json!({
        "key": form_encode(&change.key),
        "sequencer": format!("{:016X}", change.sequence),
    });
    if let (Action::Put { bytes, etag, .. }, Some(object)) = (&change.action, object.as_object_mut()) {
        object.insert("size".to_owned(), json!(bytes));
        object.insert("eTag".to_owned(), json!(etag));
    }
    let record = json!({
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": crate::s3::REGION,
        "eventTime": time(change.at),
        "eventName": change.action.name(),
        "userIdentity": {"principalId": change.actor.by},
        "requestParameters": {"sourceIPAddress": change.actor.remote},
        "responseElements": {},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": trigger,
            "bucket": {
                "name": change.bucket,
                "ownerIdentity": {"principalId": change.namespace},
                "arn": format!("arn:aws:s3:::{}", change.bucket),
            },
            "object": object,
        },
    });
    json!({"Records": [record]}).to_string().into()
}

/// RFC 3339 with milliseconds, in UTC.
fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis()).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// As forms encode: S3 writes keys in events so, with `+` for a space.
fn form_encode(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => {
                encoded.push(char::from(byte))
            }
            b' ' => encoded.push('+'),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_and_a_delete_read_as_those_of_s3() {
        let mut change = Change {
            namespace: Name::new("shop").unwrap(),
            bucket: Name::new("in").unwrap(),
            key: "a b/ü+.png".to_owned(),
            action: Action::Put { how: Written::Put, bytes: 3, etag: "e".to_owned() },
            at: Timestamp(1_700_000_000_123),
            sequence: 0x1F,
            actor: Actor { by: "AKIA".to_owned(), remote: None, lineage: Lineage::default() },
        };
        let event: serde_json::Value = serde_json::from_slice(&render(&change, "arrived")).unwrap();
        let record = &event["Records"][0];
        assert_eq!(record["eventName"], "ObjectCreated:Put");
        assert_eq!(record["eventTime"], "2023-11-14T22:13:20.123Z");
        assert_eq!(record["s3"]["configurationId"], "arrived");
        assert_eq!(record["s3"]["bucket"]["name"], "in");
        let object =
            json!({"key": "a+b/%C3%BC%2B.png", "size": 3, "eTag": "e", "sequencer": "000000000000001F"});
        assert_eq!(record["s3"]["object"], object);
        change.action = Action::Delete;
        let event: serde_json::Value = serde_json::from_slice(&render(&change, "arrived")).unwrap();
        let record = &event["Records"][0];
        assert_eq!(record["eventName"], "ObjectRemoved:Delete");
        assert_eq!(record["s3"]["object"].get("size"), None);
    }
}
