//! CGI (RFC 3875): the head of a request as environment variables, and the head of an answer as a block of lines
//! before the body.
//!
//! Only the names are CGI's; the program is run by the caller.

use std::collections::BTreeMap;

use alula_model::SpecError;
use bytes::{Buf, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;

use crate::process::one_hop;
use crate::{Answer, Body, Call};

/// Largest header block of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The variable that chooses the form of the output.
const OUTPUT_CHOICE: &str = "ALULA_OUTPUT";

/// How the output of a program is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputForm {
    /// The body, as it is.
    Plain,
    /// A CGI header block, an empty line, the body.
    Cgi,
}

/// The form that the function's environment chooses.
pub(super) fn output_form(env: &BTreeMap<String, String>) -> Result<OutputForm, SpecError> {
    match env.get(OUTPUT_CHOICE).map(String::as_str) {
        None | Some("plain") => Ok(OutputForm::Plain),
        Some("cgi") => Ok(OutputForm::Cgi),
        Some(other) => {
            let reason = format!("{OUTPUT_CHOICE} is {other:?}, allowed are \"plain\" and \"cgi\"");
            Err(SpecError { field: "env", reason })
        }
    }
}

/// Adds the meta-variables of `call` to `env`.
pub(super) fn describe_call(call: &Call, env: &mut BTreeMap<String, String>) {
    let mut set = |name: &str, value: String| drop(env.insert(name.to_owned(), value));
    let host = call.headers.get(HOST).map_or_else(|| "localhost".to_owned(), text);
    let (name, port) = host.rsplit_once(':').unwrap_or((&host, "80"));
    set("GATEWAY_INTERFACE", "CGI/1.1".to_owned());
    set("SERVER_PROTOCOL", "HTTP/1.1".to_owned());
    set("SERVER_SOFTWARE", "alula".to_owned());
    set("SERVER_NAME", name.to_owned());
    set("SERVER_PORT", port.to_owned());
    set("REQUEST_METHOD", call.method.to_string());
    set("REQUEST_URI", call.target.to_string());
    set("SCRIPT_NAME", String::new());
    set("PATH_INFO", call.target.path().to_owned());
    set("QUERY_STRING", call.target.query().unwrap_or_default().to_owned());
    set("REMOTE_ADDR", call.remote.map(|address| address.to_string()).unwrap_or_default());
    set("ALULA_INVOCATION_ID", call.id.to_string());
    set("ALULA_DEADLINE_MS", call.deadline_at.as_millis().to_string());
    if let Some(length) = call.body.size_hint().exact() {
        set("CONTENT_LENGTH", length.to_string());
    } else if let Some(length) = call.headers.get(CONTENT_LENGTH) {
        set("CONTENT_LENGTH", text(length));
    }
    if let Some(content_type) = call.headers.get(CONTENT_TYPE) {
        set("CONTENT_TYPE", text(content_type));
    }
    for name in call.headers.keys().filter(|name| is_passed_on(name)) {
        set(&format!("HTTP_{}", variable_name(name.as_str())), joined(&call.headers, name));
    }
    for (name, value) in &call.parameters {
        set(&format!("ALULA_PARAM_{}", variable_name(name)), value.clone());
    }
}

/// `HTTP_PROXY` would send the program's own requests through a proxy of the caller's choice, and a header with
/// an underscore would pass for the one with a hyphen.
fn is_passed_on(name: &HeaderName) -> bool {
    let elsewhere = *name == CONTENT_TYPE || *name == CONTENT_LENGTH;
    !elsewhere && name.as_str() != "proxy" && !name.as_str().contains('_')
}

fn variable_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let separator = if name == http::header::COOKIE { "; " } else { ", " };
    headers.get_all(name).iter().map(text).collect::<Vec<_>>().join(separator)
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    status: StatusCode,
    headers: HeaderMap,
}

impl Head {
    /// The answer with this head.
    pub(super) fn answer(self, body: Body) -> Answer {
        Answer::new(self.status, self.headers, body)
    }
}

/// Takes the head off an output that comes in pieces.
#[derive(Debug)]
pub(super) enum HeadParser {
    /// The head is not complete yet.
    Reading,
    /// It is.
    Done(Head),
}

impl OutputForm {
    /// A parser for one answer.
    pub(super) fn parser(self) -> HeadParser {
        match self {
            Self::Plain => HeadParser::Done(Head { status: StatusCode::OK, headers: plain_headers() }),
            Self::Cgi => HeadParser::Reading,
        }
    }
}

impl HeadParser {
    /// Whether the head is complete.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// Takes the head off `held` if it is complete there. The error says what is wrong with it.
    pub(super) fn look_at(&mut self, held: &mut BytesMut) -> Result<(), String> {
        if self.is_done() {
            return Ok(());
        }
        let Some((length, body_at)) = end_of_head(held) else {
            let too_long = held.len() > HEAD_BYTES_MAX;
            return if too_long { Err(format!("it is longer than {HEAD_BYTES_MAX} bytes")) } else { Ok(()) };
        };
        *self = Self::Done(parse(&held[..length])?);
        held.advance(body_at);
        Ok(())
    }

    /// The head, where the output is over or no more of it is waited for.
    pub(super) fn finish(self) -> Result<Head, String> {
        match self {
            Self::Done(head) => Ok(head),
            Self::Reading => Err("the output ended before the empty line".to_owned()),
        }
    }
}

fn plain_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))])
}

/// The length of the head and where the body begins.
fn end_of_head(held: &[u8]) -> Option<(usize, usize)> {
    let mut line_at = 0;
    let window = &held[..held.len().min(HEAD_BYTES_MAX + 2)];
    while let Some(length) = memchr::memchr(b'\n', &window[line_at..]) {
        let line = &window[line_at..line_at + length];
        let next = line_at + length + 1;
        if line.is_empty() || line == b"\r" {
            return Some((line_at, next));
        }
        line_at = next;
    }
    None
}

fn parse(head: &[u8]) -> Result<Head, String> {
    let mut parsed = Head { status: StatusCode::OK, headers: HeaderMap::new() };
    let mut has_status = false;
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let wrong = || format!("{:?} is not a header", String::from_utf8_lossy(&line[..line.len().min(80)]));
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"status") {
            parsed.status =
                value.get(..3).and_then(|code| StatusCode::from_bytes(code).ok()).ok_or_else(wrong)?;
            has_status = true;
            continue;
        }
        let name = HeaderName::from_bytes(name).map_err(|_| wrong())?;
        parsed.headers.append(name, HeaderValue::from_bytes(value).map_err(|_| wrong())?);
    }
    if !has_status && parsed.headers.contains_key(LOCATION) {
        parsed.status = StatusCode::FOUND;
    }
    one_hop::remove_made_up(&mut parsed.headers);
    Ok(parsed)
}
