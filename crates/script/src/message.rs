//! Requests and responses as the engine takes and gives them.
//!
//! Headers are one text, `name NUL value NUL ...` in order, each character one byte: no HTTP header can hold a NUL, so
//! nothing is escaped, and a script that looks at no header costs nothing for them.

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::stream::LocalBoxStream;
use tokio::time::Instant;

use crate::ScriptError;
use crate::isolate::CallGuard;

/// A body that comes in pieces; an error's text is what the script sees.
pub type Pieces = LocalBoxStream<'static, Result<Bytes, String>>;

/// What a script is asked.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// An absolute URL.
    pub url: String,
    /// See the module.
    pub headers: String,
    /// The content.
    pub body: RequestBody,
    /// When the head of the answer must be there; a script that computes is interrupted then.
    pub deadline: Option<Instant>,
    /// The number under which messages of this call are logged.
    pub log_id: u32,
    /// What a script with an event handler is told besides.
    pub call: CallInfo,
}

/// What an event handler is told of a call, in its event or its context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallInfo {
    /// What names the call in logs.
    pub id: String,
    /// The caller's address; empty where it is not known.
    pub remote: String,
    /// Parameters of the path.
    pub parameters: Vec<(String, String)>,
    /// Whether the body is the event itself, in JSON, and the answer the handler's value.
    pub is_event: bool,
}

impl Request {
    /// A request without headers, deadline and number.
    #[must_use]
    pub fn new(method: &str, url: &str, body: RequestBody) -> Self {
        let (method, url) = (method.to_owned(), url.to_owned());
        Self {
            method,
            url,
            headers: String::new(),
            body,
            deadline: None,
            log_id: 0,
            call: CallInfo::default(),
        }
    }
}

/// The content of a request.
#[derive(Default)]
pub enum RequestBody {
    /// None.
    #[default]
    Empty,
    /// All of it.
    Whole(Bytes),
    /// Asked for as the script reads it.
    Stream(Pieces),
}

/// What a script answered.
#[derive(Debug)]
pub struct Response {
    /// From 200 to 599.
    pub status: u16,
    /// See the module; names are in small letters.
    pub headers: String,
    /// The content.
    pub body: ResponseBody,
}

/// The content of a response.
#[derive(Debug)]
pub enum ResponseBody {
    /// All of it.
    Whole(Bytes),
    /// Made while it is read.
    Stream(BodyStream),
}

/// The pieces of a response, as the script makes them. Dropping it tells the script that nobody reads on.
pub struct BodyStream {
    pub(crate) call: Rc<CallGuard>,
}

impl BodyStream {
    /// The next piece; `None` at the end. The script is held back while enough pieces wait to be read.
    pub async fn next(&mut self) -> Option<Result<Bytes, ScriptError>> {
        self.call.next_piece().await
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyStream")
    }
}
