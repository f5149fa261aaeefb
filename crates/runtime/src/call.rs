//! One call: what an instance is asked and what it answers.
//!
//! The vocabulary is HTTP's (method, target, headers, body), because every runtime speaks in those terms; a call
//! that did not come over HTTP is a `POST /` with its event as body. No HTTP server or client is involved here.

use std::net::IpAddr;
use std::sync::Arc;

use alula_model::{InvocationId, Timestamp, VersionKey};
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::Body;

/// The header in which the lineage of what a call leads to is told to the function, and in which functions may hand it on.
pub const LINEAGE_HEADER: HeaderName = HeaderName::from_static("x-alula-lineage");
/// Tells a function who calls it, where somebody is known. Nobody but the platform may say so.
pub const CALLER_HEADER: HeaderName = HeaderName::from_static("x-alula-caller");
/// Tells a function what the authority says that vouches for its caller: the claims of a token, as base64url of JSON.
pub const CLAIMS_HEADER: HeaderName = HeaderName::from_static("x-alula-claims");

/// What an instance is asked to do once.
#[derive(Debug)]
pub struct Call {
    /// The invocation that this is an attempt of.
    pub id: InvocationId,
    /// The method; `POST` where the call did not come over HTTP.
    pub method: Method,
    /// Path and query below the function's own prefix; begins with `/`.
    pub target: Uri,
    /// End-to-end headers: the gateway has removed what belongs to one hop.
    pub headers: HeaderMap,
    /// The content.
    pub body: Body,
    /// The peer's address, where there is a peer.
    pub remote: Option<IpAddr>,
    /// Values of the route's parameters, in the route's order.
    pub parameters: Vec<(String, String)>,
    /// Whether the body is an event of its own (JSON handed to the handler as it is) or an HTTP request.
    pub is_event: bool,
    /// When the attempt is over, by the monotonic clock.
    pub deadline: Instant,
    /// The same moment by the wall clock, as guests are told.
    pub deadline_at: Timestamp,
    /// Told what happens while the call runs.
    pub events: CallEvents,
    /// The functions that wait for it.
    pub waiters: Waiters,
}

/// The calls that cannot end before this one: each was made by the one above and is waited for by it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Waiters(Option<Arc<Waiter>>);

#[derive(Debug)]
struct Waiter {
    key: VersionKey,
    above: Waiters,
}

impl Waiters {
    /// These, and a call of `key`.
    #[must_use]
    pub fn with(&self, key: VersionKey) -> Self {
        Self(Some(Arc::new(Waiter { key, above: self.clone() })))
    }

    /// How many of them run in instances of `key`.
    #[must_use]
    pub fn of(&self, key: &VersionKey) -> usize {
        let all = std::iter::successors(self.0.as_deref(), |waiter| waiter.above.0.as_deref());
        all.filter(|waiter| waiter.key == *key).count()
    }
}

/// Lets the caller learn of things before the answer. Cheap to clone; the default ignores everything.
#[derive(Debug, Clone, Default)]
pub struct CallEvents {
    /// Set once user code has begun to run: from then on a retry may run something twice.
    pub started: Option<Arc<std::sync::atomic::AtomicBool>>,
}

/// What an instance answered. Its head is complete; the body may still be coming.
#[derive(Debug)]
pub struct Answer {
    /// The status; 200 for the result of an event.
    pub status: StatusCode,
    /// End-to-end headers.
    pub headers: HeaderMap,
    /// The content. The instance's slot is taken until it has ended or is dropped.
    pub body: Body,
    /// The raw connection, where the instance answered 101 to an upgrade.
    pub upgraded: Option<Upgraded>,
}

impl Answer {
    /// An answer with a whole body.
    #[must_use]
    pub fn new(status: StatusCode, headers: HeaderMap, body: Body) -> Self {
        Self { status, headers, body, upgraded: None }
    }
}

/// The instance's side of an upgraded connection; the slot is taken until it is dropped.
pub struct Upgraded(pub Box<dyn Duplex>);

/// A byte stream both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl std::fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upgraded")
    }
}
