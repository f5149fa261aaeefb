//! What the gateway needs from the rest of the platform, as narrow ports.
//!
//! [`Invoke`] and [`Routes`] are generic, not boxed: they are on the path of every request. [`Observe`] is told
//! about connections only, so it may be an object.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use alula_control::{Catalog, RouteMatch};
use alula_identity::calling::Gate;
use alula_invoke::later::{Accepted, Acceptor, BoxFuture, Deferred};
use alula_invoke::{Failure, Invocation, Invoker, LineageSeal, Outcome};
use alula_model::{Caller, Clock, Fault, FunctionRef, Lineage, Name, Qualifier};
use alula_runtime::{Body, VersionPlan};
use alula_trigger::TriggerKey;
use alula_trigger::topic::{Publication, Published, Topics};
use alula_trigger::webhook::{Seen, Verified, Webhooks};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;

/// Runs invocations. Dropping the future cancels the invocation.
pub trait Invoke: Send + Sync + 'static {
    /// Runs `invocation` and returns once the head of its answer is there.
    fn invoke(&self, invocation: Invocation) -> impl Future<Output = Result<Outcome, Failure>> + Send;

    /// Whether a call of this caller would be refused whatever it is of; asked before work is done for it.
    fn peek(&self, caller: &Caller, source: Option<IpAddr>) -> Result<(), Failure> {
        let _ = (caller, source);
        Ok(())
    }

    /// Whether whoever comes from this address is blocked; asked before anything is read.
    fn peek_source(&self, source: IpAddr) -> Result<(), Failure> {
        let _ = source;
        Ok(())
    }

    /// Counts a request that is no call of one function, or refuses it.
    fn arrive(&self, caller: &Caller, source: Option<IpAddr>) -> Result<(), Failure> {
        self.peek(caller, source)
    }
}

impl Invoke for Invoker {
    fn invoke(&self, invocation: Invocation) -> impl Future<Output = Result<Outcome, Failure>> + Send {
        Self::invoke(self, invocation)
    }

    fn peek(&self, caller: &Caller, source: Option<IpAddr>) -> Result<(), Failure> {
        Self::peek(self, caller, source)
    }

    fn peek_source(&self, source: IpAddr) -> Result<(), Failure> {
        Self::peek_source(self, source)
    }

    fn arrive(&self, caller: &Caller, source: Option<IpAddr>) -> Result<(), Failure> {
        Self::arrive(self, caller, source)
    }
}

/// Accepts calls that nobody waits for. What it does takes a write to the disk, so a boxed future costs nothing.
pub trait Later: Send + Sync + std::fmt::Debug {
    /// Accepts `deferred`; it is durable when this returns.
    fn accept(&self, deferred: Deferred) -> BoxFuture<'_, Result<Accepted, Fault>>;

    /// Largest content that is accepted, in bytes.
    fn body_bytes_max(&self) -> u64;
}

impl Later for Acceptor {
    fn accept(&self, deferred: Deferred) -> BoxFuture<'_, Result<Accepted, Fault>> {
        Box::pin(Self::accept(self, deferred))
    }

    fn body_bytes_max(&self) -> u64 {
        Self::body_bytes_max(self)
    }
}

/// Takes what is not itself a call: events for topics, signed requests of outside services.
pub trait Events: Send + Sync + std::fmt::Debug {
    /// Publishes; durable when this returns.
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<Vec<Published>, Fault>>;

    /// Checks a signed request and says what it asks for.
    fn verify<'a>(
        &'a self,
        trigger: &'a TriggerKey,
        headers: &'a HeaderMap,
        body: &'a Bytes,
    ) -> BoxFuture<'a, Result<Verified, Fault>>;

    /// Forgets a request whose call failed, so that its sender can try again.
    fn forget<'a>(&'a self, seen: &'a Seen) -> BoxFuture<'a, ()>;
}

/// Topics and webhooks of the platform.
#[derive(Debug, Clone)]
pub struct PlatformEvents {
    /// The topics.
    pub topics: Topics,
    /// The webhooks.
    pub webhooks: Webhooks,
}

impl Events for PlatformEvents {
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<Vec<Published>, Fault>> {
        Box::pin(async move { self.topics.publish(&publication).await })
    }

    fn verify<'a>(
        &'a self,
        trigger: &'a TriggerKey,
        headers: &'a HeaderMap,
        body: &'a Bytes,
    ) -> BoxFuture<'a, Result<Verified, Fault>> {
        Box::pin(self.webhooks.verify(trigger, headers, body))
    }

    fn forget<'a>(&'a self, seen: &'a Seen) -> BoxFuture<'a, ()> {
        Box::pin(self.webhooks.forget(seen))
    }
}

/// Answers requests of S3 clients that come out of sandboxes.
pub trait Objects: Send + Sync + std::fmt::Debug {
    /// Answers `request`, whose signature is not checked yet.
    fn answer(&self, request: Request<Incoming>, asker: Asker) -> BoxFuture<'_, Response<Body>>;
}

/// The function that asks for objects.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Its namespace, whose buckets it may reach with a key that it has.
    pub namespace: Name,
    /// The functions that led to the request, itself the last.
    pub lineage: Lineage,
}

/// Finds the function that a path outside `/function/` leads to.
pub trait Routes: Send + Sync + 'static {
    /// The most specific route for `method`, `host` and `path` (both as sent: the host with its port, the path not decoded
    /// and without the query).
    fn route(&self, method: &str, host: Option<&str>, path: &str) -> Option<RouteMatch>;

    /// The versions that must all let a caller of `target` in: the one that it means, and for one that is called by its
    /// number also the latest, so that a restriction cannot be got round by an older number.
    fn versions(&self, target: &FunctionRef) -> [Option<Arc<VersionPlan>>; 2];
}

impl Routes for Catalog {
    fn route(&self, method: &str, host: Option<&str>, path: &str) -> Option<RouteMatch> {
        self.load().route(method, host, path)
    }

    fn versions(&self, target: &FunctionRef) -> [Option<Arc<VersionPlan>>; 2] {
        let snapshot = self.load();
        let Some(entry) = snapshot.function(&target.namespace, &target.name) else { return [None, None] };
        let plan = |qualifier| entry.plan(qualifier).ok().map(Arc::clone);
        let latest = matches!(target.qualifier, Qualifier::Version(_)).then_some(&Qualifier::Latest);
        [plan(&target.qualifier), latest.and_then(plan)]
    }
}

/// Is told what happens to connections. Every method is called on the accept path and must not block.
pub trait Observe: Send + Sync + std::fmt::Debug {
    /// A connection was accepted.
    fn connection_opened(&self) {}

    /// A connection is gone, with everything that ran on it.
    fn connection_closed(&self) {}

    /// A connection was turned away because there were too many.
    fn connection_rejected(&self) {}

    /// The operating system refused to hand out a connection, usually for want of file descriptors.
    fn accept_failed(&self) {}

    /// A defect was caught while a request was handled.
    fn request_panicked(&self) {}
}

/// Observes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observe for Unobserved {}

/// Gives 128 random bits at each call; must be cheap and safe to call from every thread.
pub type RandomSource = Arc<dyn Fn() -> u128 + Send + Sync>;

/// Everything a gateway is built from.
#[derive(Clone)]
pub struct Parts<I, R> {
    /// Runs the invocations.
    pub invoke: I,
    /// Accepts calls that nobody waits for.
    pub later: Arc<dyn Later>,
    /// Takes events and webhooks.
    pub events: Arc<dyn Events>,
    /// Tells lineages that the platform signed from others.
    pub seal: LineageSeal,
    /// Judges who is let in.
    pub gate: Gate,
    /// Knows the routes.
    pub routes: R,
    /// Tells when requests arrived.
    pub clock: Arc<dyn Clock>,
    /// Where invocation ids and trace ids come from.
    pub random: RandomSource,
    /// Is told about connections.
    pub observe: Arc<dyn Observe>,
}

impl<I, R> std::fmt::Debug for Parts<I, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("clock", &self.clock)
            .field("observe", &self.observe)
            .finish_non_exhaustive()
    }
}
