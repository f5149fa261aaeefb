//! What is handed in to be run later, and what the caller gets for it.

use std::net::IpAddr;

use alula_model::{Caller, FunctionRef, InvocationId, Lineage, Timestamp, TriggerKind};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Uri};
use serde::{Deserialize, Serialize};

use super::{LaneClass, Trail};

/// One call to be made later.
#[derive(Debug, Clone)]
pub struct Deferred {
    /// Its id, stable over its attempts.
    pub id: InvocationId,
    /// What is called. Its qualifier is resolved when it is accepted, so that a call keeps its version.
    pub target: FunctionRef,
    /// What caused it.
    pub trigger: TriggerKind,
    /// The functions that led to it.
    pub lineage: Lineage,
    /// The method; `POST` where the call did not come over HTTP.
    pub method: Method,
    /// Path and query below the function's own prefix; begins with `/`.
    pub uri: Uri,
    /// End-to-end headers.
    pub headers: HeaderMap,
    /// The content.
    pub body: Bytes,
    /// Who handed it in.
    pub caller: Caller,
    /// The peer, where there is one.
    pub remote: Option<IpAddr>,
    /// Values of the route's parameters.
    pub parameters: Vec<(String, String)>,
    /// Whether the body is an event of its own rather than an HTTP request.
    pub is_event: bool,
    /// Which kind of work it is.
    pub class: LaneClass,
    /// When it may run first; at once where nothing is said.
    pub available_at: Option<Timestamp>,
    /// Calls of a function with the same ordering key run one after another.
    pub ordering_key: Option<String>,
    /// Makes handing in the same call again harmless.
    pub idempotency_key: Option<String>,
    /// Who is sent the result.
    pub callback: Option<Callback>,
}

impl Deferred {
    /// A call with an event in JSON, now, with nothing else asked for.
    #[must_use]
    pub fn event(id: InvocationId, target: FunctionRef, trigger: TriggerKind, event: Bytes) -> Self {
        let content_type = HeaderValue::from_static("application/json");
        Self {
            id,
            target,
            trigger,
            lineage: Lineage::default(),
            method: Method::POST,
            uri: Uri::from_static("/"),
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
            body: event,
            caller: Caller::Platform,
            remote: None,
            parameters: Vec::new(),
            is_event: true,
            class: LaneClass::General,
            available_at: None,
            ordering_key: None,
            idempotency_key: None,
            callback: None,
        }
    }
}

/// A call that was tried by somebody other than the queue's worker, and given up.
#[derive(Debug, Clone)]
pub struct GivenUp {
    /// The call, as it is made again where somebody has it redriven.
    pub deferred: Deferred,
    /// Attempts that it had.
    pub attempts: u32,
    /// Why it was given up; what is too long is cut off.
    pub reason: String,
    /// What became of each attempt.
    pub trail: Trail,
}

/// Who is sent the result of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// Where to.
    pub url: String,
}

/// A call that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id: that of the first call, where this one repeats it.
    pub id: InvocationId,
    /// Whether it repeats one that was accepted before.
    pub repeat: Repeat,
}

/// Whether a call was accepted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It is new.
    First,
    /// Its idempotency key was used for the same call before.
    Repeated,
}
