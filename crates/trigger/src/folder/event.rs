//! The event that a function gets for a file.

use alula_model::Timestamp;
use base64::Engine as _;
use bytes::Bytes;
use serde_json::json;

use super::look::Found;
use crate::TriggerKey;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// It was written whole.
    Put(&'a Found),
    /// It went.
    Delete,
}

impl Change<'_> {
    /// As triggers state it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Put(_) => "put",
            Self::Delete => "delete",
        }
    }
}

/// The event as JSON: `{"Records": [{"eventSource": "alula:folder", "eventName", "eventTime", "folder", "file"}]}`.
pub(super) fn render(
    trigger: &TriggerKey,
    folder: &str,
    name: &[u8],
    change: Change<'_>,
    at: Timestamp,
) -> Bytes {
    let mut file = json!({"name": String::from_utf8_lossy(name)});
    if let Some(fields) = file.as_object_mut() {
        if std::str::from_utf8(name).is_err() {
            let exact = base64::engine::general_purpose::STANDARD.encode(name);
            fields.insert("nameBase64".to_owned(), json!(exact));
        }
        if let Change::Put(found) = change {
            fields.insert("size".to_owned(), json!(found.mark.bytes));
            fields.insert("sha256".to_owned(), json!(found.digest));
        }
    }
    let name = match change {
        Change::Put(_) => "FileCreated",
        Change::Delete => "FileRemoved",
    };
    let at = jiff::Timestamp::from_millisecond(at.as_millis())
        .map_or_else(|_| String::new(), |at| format!("{at:.3}"));
    let record = json!({
        "eventVersion": "1.0",
        "eventSource": "alula:folder",
        "eventName": name,
        "eventTime": at,
        "trigger": trigger.trigger,
        "folder": {"path": folder},
        "file": file,
    });
    json!({"Records": [record]}).to_string().into()
}
