//! CloudEvents 1.0: how events come in over HTTP, and the one form in which functions see them.
//!
//! An event comes in *binary* mode (attributes in `ce-` headers, the content as it is), in *structured* mode (one JSON
//! object) or as a *batch* (a list of those). Inside the platform it always has the structured form, so a function reads
//! one kind of event however it was sent:
//!
//! ```json
//! {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed", "datacontenttype": "application/json",
//!  "data": {"total": 7}}
//! ```
//!
//! The source of the rules is the CloudEvents specification with its JSON format and its HTTP protocol binding, each 1.0.2.
//! Deliberately absent: the other formats (Avro, Protobuf, XML), which are refused by name.

mod binary;
#[cfg(test)]
mod tests;

use alula_model::{ErrorCode, Fault, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use serde_json::{Map, Value};

/// The media type of an event in structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";
/// The media type of a batch.
pub const BATCH: &str = "application/cloudevents-batch+json";
/// Events of one batch.
pub const BATCH_LEN_MAX: usize = 100;

const STRUCTURED_PREFIX: &str = "application/cloudevents";
const BATCH_PREFIX: &str = "application/cloudevents-batch";
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// How an event is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Attributes in headers, the content as it is.
    Binary,
    /// One JSON object.
    Structured,
    /// A list of JSON objects.
    Batch,
}

/// One event, complete and well-formed, in the structured form.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudEvent {
    fields: Map<String, Value>,
}

/// What an event is made of that does not come as one.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a> {
    /// Unique in its source.
    pub id: &'a str,
    /// Where it comes from, as a URI reference.
    pub source: &'a str,
    /// What has happened.
    pub kind: &'a str,
    /// When.
    pub time: Timestamp,
    /// The type of the content.
    pub content_type: Option<&'a str>,
    /// The content.
    pub content: &'a Bytes,
}

impl Mode {
    /// How the event in a request is sent; `None` where it is none. The media type decides, and where that says nothing
    /// the header `ce-specversion` does.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let has_prefix = |prefix: &str| {
            let start = media_type.and_then(|media_type| media_type.trim_start().get(..prefix.len()));
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if has_prefix(BATCH_PREFIX) {
            Some(Self::Batch)
        } else if has_prefix(STRUCTURED_PREFIX) {
            Some(Self::Structured)
        } else {
            headers.contains_key(binary::SPECVERSION).then_some(Self::Binary)
        }
    }
}

impl CloudEvent {
    /// Reads what a request holds: one event, or those of a batch.
    pub fn read(mode: Mode, headers: &HeaderMap, content: &Bytes) -> Result<Vec<Self>, Fault> {
        match mode {
            Mode::Binary => Ok(vec![binary::read(headers, content)?]),
            Mode::Structured => {
                check_format(headers)?;
                Ok(vec![Self::of_value(json(content)?)?])
            }
            Mode::Batch => {
                check_format(headers)?;
                let Value::Array(events) = json(content)? else {
                    return Err(invalid("a batch is a list of events"));
                };
                if events.len() > BATCH_LEN_MAX {
                    let message =
                        format!("a batch has {} events, at most {BATCH_LEN_MAX} are taken", events.len());
                    let limit = BATCH_LEN_MAX as u64;
                    return Err(Fault::limit(
                        ErrorCode::RequestTooLarge,
                        message,
                        "BATCH_LEN_MAX",
                        limit,
                        "fixed",
                    ));
                }
                events.into_iter().map(Self::of_value).collect()
            }
        }
    }

    /// An event in the structured form.
    pub fn of_value(value: Value) -> Result<Self, Fault> {
        let Value::Object(mut fields) = value else { return Err(invalid("an event is an object")) };
        // An attribute that is null is one that is not there; content may be null.
        fields.retain(|name, value| name == "data" || !value.is_null());
        for name in REQUIRED {
            match fields.get(name) {
                Some(Value::String(text)) if !text.is_empty() => {}
                Some(_) => return Err(invalid(format!("{name} must be a text that is not empty"))),
                None => return Err(invalid(format!("the event has no {name}"))),
            }
        }
        if fields.get("specversion").and_then(Value::as_str) != Some("1.0") {
            return Err(invalid(format!("specversion {} is not known, 1.0 is", fields["specversion"])));
        }
        if fields.contains_key("data") && fields.contains_key("data_base64") {
            return Err(invalid("an event has data or data_base64, not both"));
        }
        fields.iter().try_for_each(|(name, value)| check_field(name, value))?;
        Ok(Self { fields })
    }

    /// Makes an event of something that is none.
    #[must_use]
    pub fn wrap(plain: Plain<'_>) -> Self {
        let mut fields = Map::new();
        let mut put = |name: &str, text: String| fields.insert(name.to_owned(), Value::String(text));
        put("specversion", "1.0".to_owned());
        put("id", plain.id.to_owned());
        put("source", plain.source.to_owned());
        put("type", plain.kind.to_owned());
        if let Ok(time) = jiff::Timestamp::from_millisecond(plain.time.as_millis()) {
            put("time", format!("{time:.3}"));
        }
        let (content_type, data) = match (plain.content_type, serde_json::from_slice(plain.content)) {
            (None, Ok(value)) => (Some("application/json"), Some(("data", value))),
            (content_type, _) => (content_type, data_of(content_type, plain.content).ok().flatten()),
        };
        if let Some(content_type) = content_type {
            put("datacontenttype", content_type.to_owned());
        }
        // What calls itself JSON and is not is kept as the bytes that it is.
        let bytes = || (!plain.content.is_empty()).then(|| ("data_base64", base64_of(plain.content)));
        if let Some((name, value)) = data.or_else(bytes) {
            fields.insert(name.to_owned(), value);
        }
        Self { fields }
    }

    /// A text attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }

    /// Tells events apart: by the specification those with the same `source` and `id` are one.
    #[must_use]
    pub fn digest(&self) -> String {
        let named = |name| self.attribute(name).unwrap_or_default();
        alula_store::digest_of(format!("{}\n{}", named("source"), named("id")).as_bytes()).to_string()
    }

    /// Sets an attribute of the platform's own.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    /// The event as a value, which patterns are matched with.
    #[must_use]
    pub fn into_value(self) -> Value {
        Value::Object(self.fields)
    }

    /// The event in the structured form.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(&self.fields).unwrap_or_default().into()
    }

    /// Sets the headers of a request that holds one event in the structured form; those of the mode in which it was sent
    /// go.
    pub fn set_headers(headers: &mut HeaderMap) {
        let doomed: Vec<_> =
            headers.keys().filter(|name| name.as_str().starts_with(binary::PREFIX)).cloned().collect();
        for name in doomed {
            headers.remove(name);
        }
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
    }
}

fn check_format(headers: &HeaderMap) -> Result<(), Fault> {
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let format = media_type.rsplit_once('+').map(|(_, format)| format);
    match format {
        None => Ok(()),
        Some(format) if format.eq_ignore_ascii_case("json") => Ok(()),
        Some(_) => Err(invalid(format!("events in the format {media_type} are not read; send {STRUCTURED}"))),
    }
}

fn check_field(name: &str, value: &Value) -> Result<(), Fault> {
    if name == "data" {
        return Ok(());
    }
    if name == "data_base64" {
        let is_base64 = value.as_str().is_some_and(|text| STANDARD.decode(text).is_ok());
        return if is_base64 { Ok(()) } else { Err(invalid("data_base64 is not base64")) };
    }
    if !is_attribute_name(name) {
        return Err(invalid(format!(
            "{name:?} is no name of an attribute: lower-case letters and digits are"
        )));
    }
    match value {
        Value::String(_) | Value::Bool(_) => Ok(()),
        Value::Number(number) if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => {
            Ok(())
        }
        _ => Err(invalid(format!("attribute {name} must be a text, a truth value or an integer of 32 bits"))),
    }
}

fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// The content of an event as a field: JSON as it is, text as text, anything else in base64.
fn data_of(content_type: Option<&str>, content: &Bytes) -> Result<Option<(&'static str, Value)>, Fault> {
    if content.is_empty() {
        return Ok(None);
    }
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let media_type = media_type.to_ascii_lowercase();
    if media_type.ends_with("/json") || media_type.ends_with("+json") {
        return Ok(Some(("data", json(content)?)));
    }
    match std::str::from_utf8(content) {
        Ok(text) if media_type.starts_with("text/") => Ok(Some(("data", Value::String(text.to_owned())))),
        _ => Ok(Some(("data_base64", base64_of(content)))),
    }
}

fn base64_of(content: &Bytes) -> Value {
    Value::String(STANDARD.encode(content))
}

fn json(content: &Bytes) -> Result<Value, Fault> {
    serde_json::from_slice(content).map_err(|error| invalid(format!("the content is not JSON: {error}")))
}

fn invalid(reason: impl Into<String>) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, format!("not a CloudEvent: {}", reason.into()))
}
