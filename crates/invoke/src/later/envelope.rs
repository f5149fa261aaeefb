//! What lies in a message: a head in JSON and the content as it is.
//!
//! ```text
//! version (1 byte) | length of the head (4 bytes, big endian) | head | content
//! ```
//!
//! A message that an earlier platform wrote must be read by a later one, so the head only ever grows fields that may be
//! left out. A content that is too large for a message lies in the blobs, and the head says where.

use std::net::IpAddr;

use alula_model::{Caller, Digest, FunctionRef, InvocationId, Lineage, Timestamp, TriggerKind};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::{Deserialize, Serialize};

use super::{Callback, Deferred};

const VERSION: u8 = 1;
const PREFIX_BYTES: usize = 5;

/// A message's content as it is written and read.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) head: Head,
    pub(crate) content: Content,
}

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub(crate) enum Head {
    /// A function is to be called.
    Call(CallHead),
    /// Something is to be sent out.
    Deliver(Dispatch),
}

/// What is to be sent out, and where its content lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dispatch {
    #[serde(flatten)]
    pub(crate) delivery: Delivery,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob: Option<Blob>,
}

/// How a function is to be called.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CallHead {
    /// `NAME.NAMESPACE:QUALIFIER`, as the caller said it.
    target: String,
    /// The version that the qualifier meant when the call was accepted.
    pub(crate) version: u64,
    pub(crate) trigger: TriggerKind,
    /// The functions that led to the call, as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    lineage: String,
    method: String,
    uri: String,
    /// Values as text in Latin 1, which every header value is.
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Caller::is_public")]
    caller: Caller,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remote: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) is_event: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) callback: Option<Callback>,
    /// When it may run first, where it was put off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) available_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob: Option<Blob>,
}

/// Something that is to be sent out: a result to who asked for it, or a notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// What kind of thing it is.
    pub kind: DeliveryKind,
    /// Where to: a web address, or `mailto:ADDRESS`.
    pub url: String,
    /// Headers that go with it.
    pub headers: Vec<(String, String)>,
    /// The call that it is about.
    pub about: InvocationId,
}

/// What kind of thing is sent out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryKind {
    /// The result of a call, to the address that its caller named.
    Callback,
    /// The record of a call, to a destination of its function.
    Destination,
    /// Word to a function's owner.
    Notice,
}

/// A content that lies in the blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// It is in the message.
    Inline(Bytes),
    /// It is in the blobs.
    Blob(Blob),
}

impl Content {
    fn blob(&self) -> Option<&Blob> {
        match self {
            Self::Blob(blob) => Some(blob),
            Self::Inline(_) => None,
        }
    }
}

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvelopeError {
    #[error("the message was written by a newer platform (format {0})")]
    Newer(u8),
    #[error("the message is damaged")]
    Damaged(#[source] Option<serde_json::Error>),
    #[error("the message holds a {0} that cannot be")]
    Impossible(&'static str),
}

/// A call as it was handed in.
pub(crate) struct Recalled {
    pub(crate) target: FunctionRef,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) caller: Caller,
    pub(crate) remote: Option<IpAddr>,
    pub(crate) parameters: Vec<(String, String)>,
}

impl Envelope {
    /// A call of `deferred`'s target, at `version`.
    pub(crate) fn call(deferred: &Deferred, version: u64, content: Content) -> Self {
        let text = |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
        let header = |(name, value): (&HeaderName, &HeaderValue)| (name.as_str().to_owned(), text(value));
        let blob = content.blob().cloned();
        let head = CallHead {
            target: deferred.target.to_string(),
            version,
            trigger: deferred.trigger,
            lineage: deferred.lineage.to_string(),
            method: deferred.method.to_string(),
            uri: deferred.uri.to_string(),
            headers: deferred.headers.iter().map(header).collect(),
            caller: deferred.caller.clone(),
            remote: deferred.remote,
            parameters: deferred.parameters.clone(),
            is_event: deferred.is_event,
            callback: deferred.callback.clone(),
            available_at: deferred.available_at,
            blob,
        };
        Self { head: Head::Call(head), content }
    }

    /// Something to send out.
    pub(crate) fn delivery(delivery: Delivery, content: Content) -> Self {
        let blob = content.blob().cloned();
        Self { head: Head::Deliver(Dispatch { delivery, blob }), content }
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        let head = serde_json::to_vec(&self.head).unwrap_or_default();
        let content: &[u8] = match &self.content {
            Content::Inline(content) => content,
            Content::Blob(_) => &[],
        };
        let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + head.len() + content.len());
        bytes.put_u8(VERSION);
        bytes.put_u32(u32::try_from(head.len()).unwrap_or(u32::MAX));
        bytes.put_slice(&head);
        bytes.put_slice(content);
        bytes.freeze()
    }

    pub(crate) fn read(bytes: &Bytes) -> Result<Self, EnvelopeError> {
        let prefix: [u8; PREFIX_BYTES] = bytes
            .get(..PREFIX_BYTES)
            .and_then(|prefix| prefix.try_into().ok())
            .ok_or(EnvelopeError::Damaged(None))?;
        if prefix[0] != VERSION {
            return Err(EnvelopeError::Newer(prefix[0]));
        }
        let head_bytes = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let head = bytes.get(PREFIX_BYTES..PREFIX_BYTES + head_bytes).ok_or(EnvelopeError::Damaged(None))?;
        let head: Head = serde_json::from_slice(head).map_err(|error| EnvelopeError::Damaged(Some(error)))?;
        let content = match &head {
            Head::Call(CallHead { blob: Some(blob), .. })
            | Head::Deliver(Dispatch { blob: Some(blob), .. }) => Content::Blob(blob.clone()),
            _ => Content::Inline(bytes.slice(PREFIX_BYTES + head_bytes..)),
        };
        Ok(Self { head, content })
    }
}

impl CallHead {
    /// What is called, as the caller said it.
    pub(crate) fn target(&self) -> Result<FunctionRef, EnvelopeError> {
        self.target.parse().map_err(|_| EnvelopeError::Impossible("target"))
    }

    /// The functions that led to the call. What cannot be read began nowhere: only this platform writes it.
    pub(crate) fn lineage(&self) -> Lineage {
        self.lineage.parse().unwrap_or_default()
    }

    /// The request as it was handed in.
    pub(crate) fn recall(&self) -> Result<Recalled, EnvelopeError> {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).map_err(|_| EnvelopeError::Impossible("header"))?;
            let bytes: Vec<u8> = value.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
            let value = HeaderValue::from_bytes(&bytes).map_err(|_| EnvelopeError::Impossible("header"))?;
            headers.append(name, value);
        }
        Ok(Recalled {
            target: self.target()?,
            method: self.method.parse().map_err(|_| EnvelopeError::Impossible("method"))?,
            uri: self.uri.parse().map_err(|_| EnvelopeError::Impossible("path"))?,
            headers,
            caller: self.caller.clone(),
            remote: self.remote,
            parameters: self.parameters.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deferred() -> Deferred {
        let target = "pay.shop:live".parse().unwrap();
        let id = InvocationId::new("call-1").unwrap();
        let mut deferred = Deferred::event(id, target, TriggerKind::Http, Bytes::from_static(b"\x00\xff"));
        deferred.headers.append("x-odd", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        deferred.headers.append("x-odd", HeaderValue::from_static("again"));
        deferred.lineage = "a.default*3".parse().unwrap();
        deferred.uri = Uri::from_static("/a%2Fb?c=d");
        deferred.caller = Caller::Known("key:shop/ci".into());
        deferred.parameters = vec![("id".to_owned(), "7".to_owned())];
        deferred
    }

    #[test]
    fn a_call_comes_back_as_it_was_handed_in() {
        let deferred = deferred();
        let written = Envelope::call(&deferred, 7, Content::Inline(deferred.body.clone())).to_bytes();
        let read = Envelope::read(&written).unwrap();
        assert_eq!(read.content, Content::Inline(deferred.body.clone()));
        let Head::Call(head) = read.head else { panic!("no call") };
        let recalled = head.recall().unwrap();
        assert_eq!(head.lineage(), deferred.lineage);
        assert_eq!((head.version, recalled.target, recalled.headers), (7, deferred.target, deferred.headers));
        assert_eq!((recalled.uri, recalled.parameters), (deferred.uri, deferred.parameters));
    }

    #[test]
    fn whatever_lies_in_a_message_is_read_or_refused() {
        let deferred = deferred();
        let written = Envelope::call(&deferred, 7, Content::Inline(deferred.body.clone())).to_bytes();
        for length in 0..written.len() - deferred.body.len() {
            assert!(Envelope::read(&written.slice(..length)).is_err(), "{length}");
        }
        let mut newer = written.to_vec();
        newer[0] = 9;
        assert!(matches!(Envelope::read(&newer.into()), Err(EnvelopeError::Newer(9))));
        assert!(Envelope::read(&Bytes::from_static(b"\x01\xff\xff\xff\xff{}")).is_err());
    }
}
