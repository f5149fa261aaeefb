//! Accepting: everything that can be refused is refused here, and what is accepted is durable.

use std::sync::Arc;

use alula_control::Catalog;
use alula_guard::{Ask, Guard, Origin};
use alula_model::{Caller, Clock, ErrorCode, Fault, FunctionSpec, InvocationId, Timestamp};
use alula_runtime::VersionPlan;
use alula_store::{
    Batch, Expect, Key, MessageId, NewDeadLetter, NewMessage, Packages, REASON_BYTES_MAX, Records,
};

use tokio::time::Instant;

use super::blobs::{BlobKind, Blobs};
use super::envelope::{Content, Envelope};
use super::flow::{Flow, Flows};
use super::options::{DELAY_MS_MAX, HEAD_BYTES_MAX, INLINE_BYTES_MAX, KEY_BYTES_MAX};
use super::worker::Bell;
use super::{Accepted, Deferred, Delivery, GivenUp, Lane, LaneClass, Observe, Options, Repeat, error};

/// Accepts calls. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Acceptor {
    shared: Arc<Shared>,
}

/// What accepting needs.
#[derive(Debug, Clone)]
pub struct AcceptorParts {
    /// What is deployed.
    pub catalog: Catalog,
    /// Records and messages.
    pub records: Arc<dyn Records>,
    /// Contents that are too large for a message.
    pub blobs: Arc<dyn Packages>,
    /// Is asked before a call is accepted for somebody.
    pub guard: Guard,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Is told what happens.
    pub observe: Arc<dyn Observe>,
}

#[derive(Debug)]
struct Shared {
    parts: AcceptorParts,
    options: Options,
    blobs: Blobs,
    flows: Flows,
    bell: Bell,
}

/// A call that has been checked and is to be committed, perhaps with records of whoever made it.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The call's id.
    pub id: InvocationId,
    /// The message and what belongs to it; more may be added.
    pub batch: Batch,
    lane: Lane,
    available_at: Timestamp,
}

/// What is remembered of an idempotency key.
#[derive(serde::Serialize, serde::Deserialize)]
struct Once {
    id: InvocationId,
    /// The request's digest: the same key for another request is a mistake.
    request: String,
}

impl Acceptor {
    /// An acceptor of calls for what is deployed.
    #[must_use]
    pub fn new(options: Options, parts: AcceptorParts) -> Self {
        let blobs = Blobs::new(Arc::clone(&parts.blobs), Arc::clone(&parts.records));
        let flows = Flows::new(Arc::clone(&parts.records));
        Self { shared: Arc::new(Shared { parts, options, blobs, flows, bell: Bell::default() }) }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    pub(crate) fn parts(&self) -> &AcceptorParts {
        &self.shared.parts
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.shared.blobs
    }

    pub(crate) fn flows(&self) -> &Flows {
        &self.shared.flows
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.shared.bell
    }

    /// Largest content of a call, in bytes.
    #[must_use]
    pub fn body_bytes_max(&self) -> u64 {
        self.shared.options.body_bytes_max
    }

    /// Accepts a call: durable when this returns.
    pub async fn accept(&self, deferred: Deferred) -> Result<Accepted, Fault> {
        let accepted = self.try_accept(deferred).await;
        if accepted.is_err() {
            self.shared.parts.observe.refused();
        }
        accepted
    }

    async fn try_accept(&self, deferred: Deferred) -> Result<Accepted, Fault> {
        let Some(once_key) = deferred.idempotency_key.as_deref().map(|key| once_key(&deferred, key)) else {
            return self.commit(self.prepare(deferred).await?).await;
        };
        let request = request_digest(&deferred);
        if let Some(earlier) = self.earlier(&once_key, &request).await? {
            return Ok(earlier);
        }
        let mut prepared = self.prepare(deferred).await?;
        let once = Once { id: prepared.id.clone(), request: request.clone() };
        let value = serde_json::to_vec(&once).unwrap_or_default();
        let keep_ms = i64::try_from(self.shared.options.idempotency_keep_ms).unwrap_or(i64::MAX);
        let until = self.shared.parts.clock.now().plus_millis(keep_ms);
        prepared.batch = prepared.batch.put_until(once_key.clone(), value, Expect::Absent, until);
        match self.commit(prepared).await {
            // Somebody else used the key at the same moment: theirs is the call.
            Err(fault) if fault.code == ErrorCode::Conflict => {
                self.earlier(&once_key, &request).await?.ok_or(fault)
            }
            outcome => outcome,
        }
    }

    async fn earlier(&self, key: &Key, request: &str) -> Result<Option<Accepted>, Fault> {
        let found = self.shared.parts.records.get(key).await.map_err(|error| error::of_store(&error))?;
        let Some(once) = found.and_then(|record| serde_json::from_slice::<Once>(&record.value).ok()) else {
            return Ok(None);
        };
        if once.request == request {
            return Ok(Some(Accepted { id: once.id, repeat: Repeat::Repeated }));
        }
        let message = format!(
            "this Idempotency-Key was used for another request (invocation {}); use a new key for a new request",
            once.id
        );
        Err(Fault::new(ErrorCode::InvalidRequest, message))
    }

    /// Checks a call and makes what is to be committed for it.
    pub async fn prepare(&self, deferred: Deferred) -> Result<Prepared, Fault> {
        let parts = &self.shared.parts;
        let plan = parts.catalog.load().resolve(&deferred.target)?;
        let now = parts.clock.now();
        self.check(&deferred, &plan, now)?;
        self.ask_guard(&deferred, &plan, now)?;
        let (lane, message) = self.message(&deferred, &plan, now).await?;
        let available_at = message.available_at;
        Ok(Prepared { id: deferred.id, batch: Batch::default().enqueue(message), lane, available_at })
    }

    /// Whether the caller may have this run later. What the platform makes itself is asked for when it runs.
    fn ask_guard(&self, deferred: &Deferred, plan: &VersionPlan, at: Timestamp) -> Result<(), Fault> {
        if deferred.caller == Caller::Platform {
            return Ok(());
        }
        let origin = Origin { caller: &deferred.caller, source: deferred.remote };
        let (key, qualifier) = (&plan.key, &deferred.target.qualifier);
        let ask = Ask { origin, key, qualifier, spec: &plan.spec, now: Instant::now(), at };
        self.shared.parts.guard.accept(&ask).map_err(|refusal| refusal.fault)
    }

    /// Makes what is to be committed for a call that was tried elsewhere and given up: a dead letter, which is listed and
    /// redriven like one of the queue. Nothing is refused for its size: it is here already, and must not be lost.
    pub async fn prepare_dead(&self, given_up: GivenUp) -> Result<NewDeadLetter, Fault> {
        let GivenUp { deferred, attempts, mut reason, trail } = given_up;
        let plan = self.shared.parts.catalog.load().resolve(&deferred.target)?;
        let (_, message) = self.message(&deferred, &plan, self.shared.parts.clock.now()).await?;
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Ok(NewDeadLetter { message, attempts, reason, trail: trail.to_bytes() })
    }

    /// Keeps calls that were tried elsewhere and given up as dead letters: durable when this returns, all or none.
    pub async fn bury(&self, given_up: Vec<GivenUp>) -> Result<(), Fault> {
        let mut batch = Batch::default();
        for given_up in given_up {
            batch = batch.bury(self.prepare_dead(given_up).await?);
        }
        let committed = self.shared.parts.records.commit(batch).await;
        committed.map(drop).map_err(|error| error::of_store(&error))
    }

    /// The message of a call, its content put where it fits.
    async fn message(
        &self,
        deferred: &Deferred,
        plan: &VersionPlan,
        now: Timestamp,
    ) -> Result<(Lane, NewMessage), Fault> {
        let content = match deferred.body.len() {
            ..=INLINE_BYTES_MAX => Content::Inline(deferred.body.clone()),
            _ => Content::Blob(self.spill(deferred, &plan.spec, now).await?),
        };
        let class = if plan.spec.asynchronous.dedicated { LaneClass::Dedicated } else { deferred.class };
        let (namespace, function) = (plan.key.namespace.clone(), plan.key.function.clone());
        let lane = Lane { namespace, function, class };
        let message = NewMessage {
            id: MessageId(deferred.id.as_str().to_owned()),
            lane: lane.to_string(),
            ordering_key: deferred.ordering_key.clone(),
            enqueued_at: now,
            available_at: deferred.available_at.map_or(now, |at| at.max(now)),
            body: Envelope::call(deferred, plan.key.version, content).to_bytes(),
        };
        Ok((lane, message))
    }

    /// Makes a prepared call durable.
    pub async fn commit(&self, prepared: Prepared) -> Result<Accepted, Fault> {
        let Prepared { id, batch, lane, available_at } = prepared;
        let committed = self.shared.parts.records.commit(batch).await;
        committed.map_err(|error| error::of_store(&error))?;
        self.shared.parts.observe.accepted(lane.class);
        self.shared.bell.ring(lane, available_at);
        Ok(Accepted { id, repeat: Repeat::First })
    }

    /// Tells the worker of prepared calls that were committed with something else.
    pub fn committed(&self, prepared: &Prepared) {
        self.shared.parts.observe.accepted(prepared.lane.class);
        self.shared.bell.ring(prepared.lane.clone(), prepared.available_at);
    }

    /// The message that sends something out on behalf of a function.
    pub(crate) fn delivery(
        lane: &Lane,
        id: String,
        delivery: Delivery,
        content: Content,
        now: Timestamp,
    ) -> NewMessage {
        NewMessage {
            id: MessageId(id),
            lane: Lane { class: LaneClass::Delivery, ..lane.clone() }.to_string(),
            ordering_key: None,
            enqueued_at: now,
            available_at: now,
            body: Envelope::delivery(delivery, content).to_bytes(),
        }
    }

    fn check(&self, deferred: &Deferred, plan: &VersionPlan, now: Timestamp) -> Result<(), Fault> {
        if self.shared.flows.of(&plan.key.namespace, &plan.key.function) == Flow::Draining {
            let message =
                format!("{} is being drained: no asynchronous calls are accepted", plan.key.function);
            return Err(Fault::new(ErrorCode::Draining, message));
        }
        let content_bytes = deferred.body.len() as u64;
        let limit = self.shared.options.body_bytes_max;
        if content_bytes > limit {
            let message =
                format!("the content has {content_bytes} bytes, at most {limit} are taken asynchronously");
            let setting = "async.body_bytes_max in the configuration";
            return Err(Fault::limit(ErrorCode::RequestTooLarge, message, "body_bytes_max", limit, setting));
        }
        let head_bytes: usize =
            deferred.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if head_bytes + deferred.uri.path().len() > HEAD_BYTES_MAX {
            let message = format!("path and headers have over {HEAD_BYTES_MAX} bytes");
            return Err(Fault::new(ErrorCode::HeadersTooLarge, message));
        }
        for (what, key) in
            [("the ordering key", &deferred.ordering_key), ("Idempotency-Key", &deferred.idempotency_key)]
        {
            let length = key.as_ref().map_or(0, String::len);
            if length > KEY_BYTES_MAX || key.as_ref().is_some_and(String::is_empty) {
                let message = format!("{what} has {length} bytes, allowed is 1 to {KEY_BYTES_MAX}");
                return Err(Fault::new(ErrorCode::InvalidRequest, message));
            }
        }
        if deferred.available_at.is_some_and(|at| at > now.plus_millis(DELAY_MS_MAX)) {
            return Err(Fault::new(ErrorCode::InvalidRequest, "a call can be put off by a year at the most"));
        }
        Ok(())
    }

    async fn spill(
        &self,
        deferred: &Deferred,
        spec: &FunctionSpec,
        now: Timestamp,
    ) -> Result<super::envelope::Blob, Fault> {
        // It waits, is tried, and then lies with its dead letter: longer than anything but a dead letter that nobody
        // looks at for months.
        let keep_ms = spec.asynchronous.retry.policy().max_age_ms.saturating_add(BLOB_KEEP_MS);
        let from = deferred.available_at.map_or(now, |at| at.max(now));
        let until = from.plus_millis(i64::try_from(keep_ms).unwrap_or(i64::MAX));
        let stored =
            self.shared.blobs.put(deferred.id.as_str(), BlobKind::Request, &deferred.body, until).await;
        stored.map_err(|error| error::of_store(&error))
    }
}

/// How long the content of a call lies in the blobs after the call has ended in any way: half a year.
pub(crate) const BLOB_KEEP_MS: u64 = 183 * 86_400_000;

fn once_key(deferred: &Deferred, key: &str) -> Key {
    // The caller's key may hold anything; its digest may stand in a key.
    let digest = alula_store::digest_of(key.as_bytes()).to_string();
    Key::new(&["once", deferred.target.namespace.as_str(), deferred.target.name.as_str(), &digest])
}

fn request_digest(deferred: &Deferred) -> String {
    let mut request = format!("{} {} {}\n", deferred.target, deferred.method, deferred.uri).into_bytes();
    request.extend_from_slice(&deferred.body);
    alula_store::digest_of(&request).to_string()
}
