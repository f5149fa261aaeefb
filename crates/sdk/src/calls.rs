//! Calls that nobody waits for: handed in, followed, and what was given up; the queue that they wait in.

use std::time::Duration;

use alula_wire::query::{ListDeadLetters, Queue, WAIT_MS_MAX, Wait};
use alula_wire::{
    AcceptedCall, Call, DeadLetterCount, DeadLetterDetail, DeadLetterFilter, DeadLetterPage, PurgeRequest,
    QueueFlow, QueueInfo, RedriveRequest, SigningKey, headers,
};
use http::Method;

use crate::invoke::{Invocation, When};
use crate::{Answer, Client, Result};

/// Time that an answer may take beyond the wait that it was asked for.
const WAIT_GRACE: Duration = Duration::from_secs(30);

/// What is asked for besides a call that is to be made later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Later {
    /// It does not run before.
    pub not_before: Option<NotBefore>,
    /// Handing in the same call again under this key is harmless.
    pub idempotency_key: Option<String>,
    /// Calls of the function with this key run one after another.
    pub ordering_key: Option<String>,
    /// The address that the result is sent to.
    pub callback: Option<String>,
}

/// When a call may run first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotBefore {
    /// So long after it was accepted, to the millisecond.
    Delay(Duration),
    /// At this moment, as RFC 3339 writes it.
    At(String),
}

impl Client {
    /// Hands in a call that is made later; it is durable when this returns.
    pub async fn accept(&self, invocation: Invocation, later: Later) -> Result<AcceptedCall> {
        let mut request = self.invocation(invocation, When::Later);
        let Later { not_before, idempotency_key, ordering_key, callback } = later;
        let (delay, at) = match not_before {
            None => (None, None),
            Some(NotBefore::Delay(delay)) => (Some(delay.as_millis().to_string()), None),
            Some(NotBefore::At(at)) => (None, Some(at)),
        };
        for (name, value) in [
            (headers::DELAY_MS, delay),
            (headers::AT, at),
            (headers::IDEMPOTENCY_KEY, idempotency_key),
            (headers::ORDERING_KEY, ordering_key),
            (headers::CALLBACK_URL, callback),
        ] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        self.fetch(request).await
    }

    /// Where a call stands.
    pub async fn call_state(&self, id: &str) -> Result<Call> {
        self.get(&["v1", "invocations", id], &()).await
    }

    /// Waits until a call has ended, for `patience` at the most, and tells where it stands then.
    pub async fn wait_for(&self, id: &str, patience: Duration) -> Result<Call> {
        let timeout_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).min(WAIT_MS_MAX);
        let request = self.request(Method::GET, &["v1", "invocations", id, "wait"]);
        let request = request.query(&Wait { timeout_ms: Some(timeout_ms) });
        self.fetch_within(request, Duration::from_millis(timeout_ms) + WAIT_GRACE).await
    }

    /// What a call that has ended answered.
    pub async fn call_result(&self, id: &str) -> Result<Answer> {
        let response = self.send(self.request(Method::GET, &["v1", "invocations", id, "result"])).await?;
        Ok(Answer { response })
    }

    /// What a call was made with that has not ended, or was given up.
    pub async fn call_content(&self, id: &str) -> Result<Answer> {
        let response = self.send(self.request(Method::GET, &["v1", "invocations", id, "content"])).await?;
        Ok(Answer { response })
    }

    /// Cancels a call that waits, or stops one that runs.
    pub async fn cancel(&self, id: &str) -> Result<Call> {
        self.fetch(self.request(Method::DELETE, &["v1", "invocations", id])).await
    }

    /// A page of the dead letters.
    pub async fn dead_letters(&self, query: ListDeadLetters) -> Result<DeadLetterPage> {
        let query = ListDeadLetters { namespace: Some(self.namespace().to_owned()), ..query };
        self.get(&["v1", "dead-letters"], &query).await
    }

    /// One dead letter with its attempts and what they logged.
    pub async fn dead_letter(&self, id: &str) -> Result<DeadLetterDetail> {
        self.get(&["v1", "dead-letters", id], &()).await
    }

    /// Makes a dead letter run again.
    pub async fn redrive(&self, id: &str) -> Result<()> {
        self.done(self.request(Method::POST, &["v1", "dead-letters", id, "redrive"])).await
    }

    /// Makes all dead letters of the namespace run again that `which` means, `per_second` of them in a second.
    pub async fn redrive_all(
        &self,
        which: DeadLetterFilter,
        per_second: Option<u32>,
    ) -> Result<DeadLetterCount> {
        let request = self.request(Method::POST, &["v1", "dead-letters", "redrive"]).query(&self.here());
        self.fetch_unbounded(request.json(&RedriveRequest { which, per_second })).await
    }

    /// Forgets a dead letter.
    pub async fn purge(&self, id: &str) -> Result<()> {
        self.done(self.request(Method::DELETE, &["v1", "dead-letters", id])).await
    }

    /// Forgets all dead letters of the namespace that `which` means.
    pub async fn purge_all(&self, which: DeadLetterFilter) -> Result<DeadLetterCount> {
        let request = self.request(Method::POST, &["v1", "dead-letters", "purge"]).query(&self.here());
        self.fetch_unbounded(request.json(&PurgeRequest { which })).await
    }

    /// What is in the queue, of every namespace or of one.
    pub async fn queue(&self, namespace: Option<String>, function: Option<String>) -> Result<QueueInfo> {
        self.get(&["v1", "queue"], &Queue { namespace, function }).await
    }

    /// The key that receivers check the platform's requests with.
    pub async fn signing_key(&self) -> Result<SigningKey> {
        self.get(&["v1", "signing-key"], &()).await
    }

    /// Pauses, drains or opens a function, a namespace or everything.
    pub async fn set_flow(&self, flow: &QueueFlow) -> Result<QueueFlow> {
        self.fetch(self.request(Method::POST, &["v1", "queue", "flow"]).json(flow)).await
    }
}
