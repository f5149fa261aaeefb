//! Requests that come out of sandboxes, by the door (`alula-runtime`).
//!
//! They are read and answered like those of the public listener, with four differences: a name without a namespace means
//! the caller's, and others are reached only where they let the caller in (`admission`); who made a request, and so its lineage, is known from where it comes out and
//! not from what it says; requests with a signature of S3 are for the buckets; and there are no routes and no webhooks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_invoke::{LINEAGE_HEADER, LineageSeal};
use alula_model::{ErrorCode, Fault, Lineage, Name};
use alula_runtime::{Body, Visitors, Waiters};
use http::header::{self, HeaderMap};
use http::{Request, Response};
use hyper::body::Incoming;

use crate::headers;
use crate::ports::{Asker, Objects};
use crate::target::{self, Target};

/// Connections of one namespace's functions at once, so that none takes all that there are.
const NAMESPACE_CONNECTIONS_MAX: usize = 1024;
/// What the signature of an S3 request begins with, in its header.
const SIGNATURE: &[u8] = b"AWS4-HMAC-SHA256";
/// What an address that is signed itself has in its query.
const SIGNED_QUERY: &str = "X-Amz-Algorithm=";

/// The functions at the other end of a connection, and what is theirs besides functions and topics.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) visitors: Arc<Visitors>,
    pub(crate) objects: Arc<dyn Objects>,
}

/// What led to a request.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) lineage: Lineage,
    pub(crate) waiters: Waiters,
    /// Whether results may be sent to an address that the request names.
    pub(crate) reach: Reach,
}

/// What a caller may have the platform reach for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Whatever the platform may.
    Outside,
    /// Nothing beyond the platform: the caller is a function without a network.
    Platform,
}

impl Source {
    /// Of a request from outside: what is signed in its headers.
    pub(crate) fn outside(seal: &LineageSeal, headers: &mut HeaderMap) -> Self {
        Self { lineage: seal.take(headers), waiters: Waiters::default(), reach: Reach::Outside }
    }
}

impl Guest {
    /// What led to a request with these headers, which go on without what was said about that.
    pub(crate) fn source(&self, seal: &LineageSeal, headers: &mut HeaderMap) -> Source {
        let origin = self.visitors.origin(headers);
        headers.remove(LINEAGE_HEADER);
        let has_network = origin.plans.iter().all(|plan| !plan.spec.network.is_none());
        let is_known = !origin.plans.is_empty();
        let reach = if is_known && has_network { Reach::Outside } else { Reach::Platform };
        let lineage = seal.behind(&origin);
        let [call] = &origin.calls[..] else {
            return Source { lineage, waiters: Waiters::default(), reach };
        };
        // A trace goes on although a function does not hand it on.
        if let Some(trace) = call.traceparent.as_ref().filter(|_| !headers.contains_key(headers::TRACEPARENT))
        {
            headers.insert(headers::TRACEPARENT, trace.clone());
        }
        Source { lineage, waiters: call.waiters.clone(), reach }
    }

    /// What a request is for.
    pub(crate) fn find(&self, request: &Request<Incoming>) -> Result<Target, Fault> {
        if request.uri().authority().is_some() {
            let message = "this is no proxy: the platform is asked for a path, without a host before it";
            return Err(Fault::new(ErrorCode::InvalidRequest, message));
        }
        let home = self.visitors.namespace();
        match target::find_within(home, request.uri())? {
            Target::Topic(name) if name.namespace != *home => Err(Fault::new(
                ErrorCode::NotFound,
                format!(
                    "topics of namespace {} are not reached from here: functions publish to those of {home}",
                    name.namespace
                ),
            )),
            target => Ok(target),
        }
    }

    /// Answers a request for the buckets.
    pub(crate) async fn answer_for_objects(
        &self,
        request: Request<Incoming>,
        lineage: Lineage,
    ) -> Response<Body> {
        let asker = Asker { namespace: self.visitors.namespace().clone(), lineage };
        self.objects.answer(request, asker).await
    }
}

/// Whether a request is one of an S3 client: all of theirs are signed.
pub(crate) fn is_for_objects(request: &Request<Incoming>) -> bool {
    let is_signature = |value: &header::HeaderValue| value.as_bytes().starts_with(SIGNATURE);
    let in_header = request.headers().get(header::AUTHORIZATION).is_some_and(is_signature);
    let is_signed = |query: &str| query.split('&').any(|pair| pair.starts_with(SIGNED_QUERY));
    in_header || request.uri().query().is_some_and(is_signed)
}

/// Connections that are open, by namespace.
#[derive(Debug, Default)]
pub(crate) struct Shares(Mutex<HashMap<Name, usize>>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    namespace: Name,
}

impl Shares {
    /// One more, where the namespace may have it.
    pub(crate) fn take(self: &Arc<Self>, namespace: &Name) -> Option<Share> {
        let mut counts = self.counts();
        let count = counts.entry(namespace.clone()).or_default();
        if *count >= NAMESPACE_CONNECTIONS_MAX {
            return None;
        }
        *count += 1;
        Some(Share { shares: Arc::clone(self), namespace: namespace.clone() })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Name, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.shares.counts();
        let left = counts.get_mut(&self.namespace).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            counts.remove(&self.namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_its_share_and_leaves_others_theirs() {
        let shares = Arc::new(Shares::default());
        let name = |text: &str| Name::new(text).unwrap();
        let taken: Vec<_> =
            (0..NAMESPACE_CONNECTIONS_MAX).map(|_| shares.take(&name("a")).unwrap()).collect();
        assert!(shares.take(&name("a")).is_none());
        assert!(shares.take(&name("b")).is_some());
        drop(taken);
        assert!(shares.counts().is_empty());
    }
}
