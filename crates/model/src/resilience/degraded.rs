//! The table `degraded` of a function: what its callers get when it cannot answer.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::within;
use crate::spec::SpecError;
use crate::{ErrorCode, FunctionRef, Name};

/// Largest fixed answer, in bytes: it is part of the spec, and lies in memory with it.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Headers of a fixed answer, and headers or parameters that tell one kept answer from another.
const NAMES_MAX: usize = 32;
/// Longest header or parameter, in bytes.
const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Most kept answers of one function, and their size in bytes.
const ENTRIES_MAX: u64 = 10_000;
const KEPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why a degraded answer was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Degraded {
    /// There was no place for the call: a limit was reached.
    Limited,
    /// Its breaker refused the call, or the call failed.
    Broken,
    /// There was no answer in time.
    Overdue,
    /// An operator has switched it on.
    Switched,
}

impl Degraded {
    /// The reason as it stands in headers, records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Limited => "limited",
            Self::Broken => "broken",
            Self::Overdue => "overdue",
            Self::Switched => "switched",
        }
    }

    /// The reason that a failed call gives; `None` where it is the caller's own affair.
    #[must_use]
    pub const fn of_fault(code: ErrorCode) -> Option<Self> {
        match code {
            ErrorCode::ConcurrencyExceeded | ErrorCode::RateLimited | ErrorCode::BufferExhausted => {
                Some(Self::Limited)
            }
            ErrorCode::FunctionTimeout | ErrorCode::InitTimeout => Some(Self::Overdue),
            // A chain of calls that goes in circles must end, not be answered.
            ErrorCode::LoopDetected | ErrorCode::CallDeadlock => None,
            _ if code.http_status() >= 500 => Some(Self::Broken),
            _ => None,
        }
    }
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is answered instead, and when. One of `body`, `file` and `function` is stated, or `last_good`, or `last_good` and one
/// of them for what was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DegradedSpec {
    /// When it is answered: `limited`, `broken`, `overdue`.
    pub on: Vec<Degraded>,
    /// Time without an answer after which the call is given up and this is answered, in milliseconds; the function's
    /// timeout where it is not stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overdue_ms: Option<u64>,
    /// The status of a fixed answer or a file.
    pub status: u16,
    /// Its headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A fixed answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A file of the package, relative to the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Another function of the same namespace: `NAME[:QUALIFIER]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The last answer that was good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_good: Option<LastGoodSpec>,
}

/// Which good answers are kept, and what tells one from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LastGoodSpec {
    /// Methods whose answers are kept.
    pub methods: Vec<String>,
    /// Headers whose values are part of the key, besides method and path. A request with `authorization` or `cookie` is kept
    /// and served only where these are named here.
    pub key_headers: Vec<String>,
    /// Parameters of the query that are part of the key; all of them where it is not stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_query: Option<Vec<String>>,
    /// Age from which a kept answer is not given any more, in milliseconds.
    pub max_age_ms: u64,
    /// Answers that are kept on one node.
    pub entries_max: u32,
    /// Size of all of them, in bytes.
    pub bytes_max: u64,
}

impl Default for DegradedSpec {
    fn default() -> Self {
        Self {
            on: vec![Degraded::Limited, Degraded::Broken, Degraded::Overdue],
            overdue_ms: None,
            status: 200,
            headers: BTreeMap::new(),
            body: None,
            file: None,
            function: None,
            last_good: None,
        }
    }
}

impl Default for LastGoodSpec {
    fn default() -> Self {
        Self {
            methods: vec!["GET".to_owned(), "HEAD".to_owned()],
            key_headers: Vec::new(),
            key_query: None,
            max_age_ms: 3_600_000,
            entries_max: 100,
            bytes_max: 4 * 1024 * 1024,
        }
    }
}

impl DegradedSpec {
    /// Whether it is answered for this reason.
    #[must_use]
    pub fn serves(&self, reason: Degraded) -> bool {
        reason == Degraded::Switched || self.on.contains(&reason)
    }

    /// The function that answers instead, where there is one; `home` is the namespace of this one.
    #[must_use]
    pub fn fallback(&self, home: &Name) -> Option<FunctionRef> {
        let target = FunctionRef::parse_in(home, self.function.as_deref()?).ok()?;
        (target.namespace == *home).then_some(target)
    }

    /// Checks every field against its bounds and names the first that is outside.
    pub fn validate(&self) -> Result<(), SpecError> {
        let refuse = |field, reason: &str| Err(SpecError { field, reason: reason.to_owned() });
        let stated = [&self.body, &self.file, &self.function].into_iter().flatten().count();
        if stated > 1 {
            return refuse("degraded", "state only one of body, file and function");
        }
        if stated == 0 && self.last_good.is_none() {
            return refuse("degraded", "state what is answered: body, file, function or last_good");
        }
        if self.on.contains(&Degraded::Switched) {
            return refuse("degraded.on", "allowed are limited, broken and overdue");
        }
        within("degraded.overdue_ms", self.overdue_ms.unwrap_or(1), 1, crate::limits::TIMEOUT_MS_MAX)?;
        within("degraded.status", self.status.into(), 200, 599)?;
        within("degraded.headers", self.headers.len() as u64, 0, NAMES_MAX as u64)?;
        if self.headers.iter().any(|(name, value)| !is_header(name) || !is_value(value)) {
            return refuse("degraded.headers", "a name or a value is none that HTTP allows");
        }
        let body_bytes = self.body.as_ref().map_or(0, String::len);
        within("degraded.body", body_bytes as u64, 0, BODY_BYTES_MAX as u64)?;
        if self.file.as_deref().is_some_and(|file| !is_inner_path(file)) {
            return refuse("degraded.file", "it must be a path within the code, without . and ..");
        }
        let home = Name::default_namespace();
        if self.function.is_some() && self.fallback(&home).is_none() {
            return refuse("degraded.function", "it must be NAME or NAME:QUALIFIER, of the same namespace");
        }
        self.last_good.as_ref().map_or(Ok(()), LastGoodSpec::validate)
    }
}

impl LastGoodSpec {
    fn validate(&self) -> Result<(), SpecError> {
        within("degraded.last_good.methods", self.methods.len() as u64, 1, NAMES_MAX as u64)?;
        let names = self.key_headers.len() + self.key_query.as_ref().map_or(0, Vec::len);
        within("degraded.last_good.key_headers", names as u64, 0, NAMES_MAX as u64)?;
        within("degraded.last_good.max_age_ms", self.max_age_ms, 1, 7 * 86_400_000)?;
        within("degraded.last_good.entries_max", self.entries_max.into(), 1, ENTRIES_MAX)?;
        within("degraded.last_good.bytes_max", self.bytes_max, 1, KEPT_BYTES_MAX)?;
        let is_wrong = |text: &&String| !is_header(text);
        if let Some(wrong) = self.methods.iter().chain(&self.key_headers).find(is_wrong) {
            let reason = format!("{wrong:?} is not the name of a method or header");
            return Err(SpecError { field: "degraded.last_good", reason });
        }
        Ok(())
    }
}

/// Whether a text is a token (RFC 9110 5.6.2), as names of headers and methods are.
fn is_header(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= TEXT_BYTES_MAX && text.bytes().all(is_token)
}

/// Whether a text can be the value of a header (RFC 9110 5.5).
fn is_value(text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX && text.bytes().all(|byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f))
}

fn is_inner_path(path: &str) -> bool {
    let is_plain = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    path.len() <= TEXT_BYTES_MAX && !path.contains('\0') && path.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<(), &'static str> {
        serde_json::from_str::<DegradedSpec>(json).unwrap().validate().map_err(|error| error.field)
    }

    #[test]
    fn something_must_be_answered_and_only_one_thing() {
        assert_eq!(check("{}"), Err("degraded"));
        assert_eq!(check(r#"{"body": "x", "file": "y"}"#), Err("degraded"));
        assert_eq!(check(r#"{"body": ""}"#), Ok(()));
        assert_eq!(check(r#"{"last_good": {}, "file": "a/b.html"}"#), Ok(()));
        assert_eq!(check(r#"{"last_good": {"entries_max": 0}}"#), Err("degraded.last_good.entries_max"));
    }

    #[test]
    fn what_is_hostile_is_refused() {
        for file in ["/etc/passwd", "../x", "a/../b", "a//b", "", "a/./b"] {
            assert_eq!(check(&format!(r#"{{"file": {file:?}}}"#)), Err("degraded.file"), "{file}");
        }
        assert_eq!(check(r#"{"body": "x", "headers": {"a b": "c"}}"#), Err("degraded.headers"));
        assert_eq!(check(r#"{"body": "x", "headers": {"a": "c\r\nd: e"}}"#), Err("degraded.headers"));
        assert_eq!(check(r#"{"body": "x", "on": ["switched"]}"#), Err("degraded.on"));
        for function in ["a.other", "A", "", "a:b:c"] {
            let json = format!(r#"{{"function": {function:?}}}"#);
            assert_eq!(check(&json), Err("degraded.function"), "{function}");
        }
    }

    #[test]
    fn a_fault_tells_the_reason() {
        let of = Degraded::of_fault;
        assert_eq!(of(ErrorCode::ConcurrencyExceeded), Some(Degraded::Limited));
        assert_eq!(of(ErrorCode::RateLimited), Some(Degraded::Limited));
        assert_eq!(of(ErrorCode::CircuitOpen), Some(Degraded::Broken));
        assert_eq!(of(ErrorCode::FunctionTimeout), Some(Degraded::Overdue));
        let none =
            [ErrorCode::Blocked, ErrorCode::RequestTooLarge, ErrorCode::CallerGone, ErrorCode::LoopDetected];
        assert!(none.into_iter().all(|code| of(code).is_none()));
    }
}
