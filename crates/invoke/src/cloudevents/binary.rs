//! Binary mode: attributes in headers, content in the body.
//!
//! A header's value is percent-encoded UTF-8 and may be quoted (HTTP protocol binding, 3.1.3.2). It is decoded once: what
//! still looks encoded afterwards is meant so. The content's type is the header `Content-Type`; there is no
//! `ce-datacontenttype`.

use alula_model::Fault;
use bytes::Bytes;
use http::header::{self, HeaderMap};
use serde_json::{Map, Value};

use super::{CloudEvent, data_of, invalid};

/// What names of headers with attributes begin with.
pub(super) const PREFIX: &str = "ce-";
/// The header that every event in this mode has.
pub(super) const SPECVERSION: &str = "ce-specversion";

pub(super) fn read(headers: &HeaderMap, content: &Bytes) -> Result<CloudEvent, Fault> {
    let mut fields = Map::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else { continue };
        if matches!(attribute, "data" | "data_base64" | "datacontenttype") {
            return Err(invalid(format!("{name} cannot be a header: the content is the body's")));
        }
        let text = value.to_str().ok().and_then(decode);
        let text = text.ok_or_else(|| invalid(format!("{name} is not percent-encoded UTF-8")))?;
        if fields.insert(attribute.to_owned(), Value::String(text)).is_some() {
            return Err(invalid(format!("{name} is there twice")));
        }
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if let Some(content_type) = content_type {
        fields.insert("datacontenttype".to_owned(), Value::String(content_type.to_owned()));
    }
    if let Some((name, data)) = data_of(content_type, content)? {
        fields.insert(name.to_owned(), data);
    }
    CloudEvent::of_value(Value::Object(fields))
}

/// A header's value as text; `None` where it is not UTF-8. A percent sign without two digits stands for itself.
fn decode(value: &str) -> Option<String> {
    let unquoted = unquote(value.trim());
    let mut bytes = Vec::with_capacity(unquoted.len());
    let mut rest = unquoted.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high << 4 | low).ok()?);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// Takes quotes away, and the backslashes within them (RFC 9110 5.6.4).
fn unquote(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut text = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(char) = chars.next() {
        text.extend(if char == '\\' { chars.next() } else { Some(char) });
    }
    text
}
