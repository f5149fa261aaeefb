//! How a call ended: what can be looked up after its message has gone.

use alula_model::{ErrorCode, InvocationId, Name, Timestamp, TriggerKind};
use alula_store::Key;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::envelope::Blob;

/// The end of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The call.
    pub id: InvocationId,
    /// The tenant.
    pub namespace: Name,
    /// The function.
    pub function: Name,
    /// The version that ran; the one that was to run where it never did.
    pub version: u64,
    /// What caused it.
    pub trigger: TriggerKind,
    /// How it ended.
    pub status: OutcomeStatus,
    /// Attempts that it had.
    pub attempts: u32,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Until when this can be looked up.
    pub kept_until: Timestamp,
    /// The status of the function's answer, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The type of the result, where the function said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The fault's code, where it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorCode>,
    /// What went wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Bytes of the result.
    #[serde(default)]
    pub result_bytes: u64,
    /// Where the result lies, if it is not with this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) blob: Option<Blob>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeStatus {
    /// The function answered.
    Done,
    /// It was cancelled by somebody.
    Cancelled,
    /// It was given up.
    Dead,
}

impl Outcome {
    /// Where the end of a call is recorded.
    pub(crate) fn key(id: &InvocationId) -> Key {
        Key::new(&["outcome", id.as_str()])
    }

    /// The record, with a result that lies with it.
    pub(crate) fn to_bytes(&self, result: &[u8]) -> Bytes {
        let head = serde_json::to_vec(self).unwrap_or_default();
        let mut bytes = BytesMut::with_capacity(4 + head.len() + result.len());
        bytes.put_u32(u32::try_from(head.len()).unwrap_or(u32::MAX));
        bytes.put_slice(&head);
        bytes.put_slice(result);
        bytes.freeze()
    }

    /// The record and the result that lies with it; `None` where it is damaged.
    pub(crate) fn read(bytes: &Bytes) -> Option<(Self, Bytes)> {
        let length: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        let end = 4 + u32::from_be_bytes(length) as usize;
        let outcome = serde_json::from_slice(bytes.get(4..end)?).ok()?;
        Some((outcome, bytes.slice(end..)))
    }
}
