//! Webhooks: signed requests of outside services become calls.
//!
//! ```text
//! /webhook/NAMESPACE/FUNCTION/TRIGGER -> the trigger of the version in force -> signature over the raw body
//!                                     -> seen before? -> an asynchronous call, or one that the sender waits for
//! ```
//!
//! The secret is a variable of the function's `env`; of several lines each is a secret, so that it can be changed while both
//! sides use both. A request that was seen is not run again: its signature is remembered for a day, and where the service
//! signs a time (Slack, Stripe) what is older than five minutes is refused before that.
//!
//! `verify` is pure and knows the services' rules. HTTP itself is the gateway's.

#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;

use alula_control::Catalog;
use alula_model::trigger::{Source, WebhookSource};
use alula_model::{Clock, ErrorCode, Fault, FunctionRef, Qualifier};
use alula_runtime::VersionPlan;
use alula_store::{Batch, Expect, Key, Records, digest_of};
use bytes::Bytes;
use http::HeaderMap;

use crate::{Pauses, TriggerKey};

/// How long a request that was waited for is remembered, in milliseconds: a day, as idempotency keys of calls are.
const SEEN_MS: i64 = 86_400_000;

/// What webhooks work with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Knows the triggers and their secrets.
    pub catalog: Catalog,
    /// Remembers what was seen.
    pub records: Arc<dyn Records>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Checks requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhooks {
    parts: Parts,
    pauses: Pauses,
}

/// A request whose signature is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// The sender only wants to see this text: it asks whether somebody is there who has the secret.
    Challenge(String),
    /// A call that is to be durable before the sender is answered.
    Later {
        /// What is called.
        target: FunctionRef,
        /// The same for the same request.
        idempotency_key: String,
    },
    /// A call whose answer the sender waits for.
    Now {
        /// What is called.
        target: FunctionRef,
        /// Where it is remembered; to be forgotten if the call fails, so that the sender can try again.
        seen: Seen,
    },
}

/// Where a request is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen(Key);

impl Webhooks {
    /// Webhooks over `parts`.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let pauses = Pauses::new(Arc::clone(&parts.records));
        Self { parts, pauses }
    }

    /// Checks a request for a trigger. Who has no secret learns nothing but that it is wrong.
    pub async fn verify(
        &self,
        trigger: &TriggerKey,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Verified, Fault> {
        let (plan, source, target) = self.find(trigger)?;
        let Some(secrets) = plan.spec.env.get(&source.secret_env) else {
            let message = format!(
                "the secret of {trigger} is missing: set {} in the function's env",
                source.secret_env
            );
            return Err(Fault::new(ErrorCode::Unauthenticated, message));
        };
        let now_s = self.parts.clock.now().as_millis() / 1_000;
        let signed = verify::verify(&source, secrets, headers, body, now_s)
            .map_err(|reason| Fault::new(ErrorCode::Unauthenticated, reason.to_string()))?;
        if let Some(text) = verify::challenge(source.signature, body) {
            return Ok(Verified::Challenge(text));
        }
        if self.pauses.get(trigger).await.map_err(|error| store_fault(&error))?.is_some() {
            return Err(Fault::new(ErrorCode::Draining, format!("{trigger} is paused: send it again later")));
        }
        let digest = digest_of(format!("{trigger} {signed}").as_bytes()).to_string();
        if !source.wait {
            return Ok(Verified::Later { target, idempotency_key: format!("webhook-{digest}") });
        }
        let seen = self.remember(trigger, &digest).await?;
        Ok(Verified::Now { target, seen })
    }

    /// Forgets a request, so that its sender can try again.
    pub async fn forget(&self, seen: &Seen) {
        let batch = Batch::default().delete(seen.0.clone(), Expect::Any);
        if let Err(error) = self.parts.records.commit(batch).await {
            tracing::warn!(%error, "a webhook's request that failed is remembered, so it cannot be sent again");
        }
    }

    fn find(&self, trigger: &TriggerKey) -> Result<(Arc<VersionPlan>, WebhookSource, FunctionRef), Fault> {
        let nothing = || Fault::new(ErrorCode::NotFound, format!("there is no webhook {trigger}"));
        let snapshot = self.parts.catalog.load();
        let entry = snapshot.function(&trigger.namespace, &trigger.function).ok_or_else(nothing)?;
        let plan = entry.plan(&Qualifier::Latest).map_err(|_| nothing())?;
        let mut stated = plan.spec.triggers.iter().filter(|stated| stated.name == trigger.trigger);
        let stated = stated.find(|stated| stated.enabled).ok_or_else(nothing)?;
        let Source::Webhook(source) = &stated.source else { return Err(nothing()) };
        let qualifier = stated.qualifier.as_deref().and_then(|text| text.parse().ok());
        let target = FunctionRef {
            namespace: trigger.namespace.clone(),
            name: trigger.function.clone(),
            qualifier: qualifier.unwrap_or(Qualifier::Latest),
        };
        Ok((Arc::clone(plan), source.clone(), target))
    }

    async fn remember(&self, trigger: &TriggerKey, digest: &str) -> Result<Seen, Fault> {
        let TriggerKey { namespace, function, .. } = trigger;
        let key = Key::new(&["webhook", namespace.as_str(), function.as_str(), digest]);
        let until = self.parts.clock.now().plus_millis(SEEN_MS);
        let batch = Batch::default().put_until(key.clone(), Bytes::new(), Expect::Absent, until);
        match self.parts.records.commit(batch).await {
            Ok(_) => Ok(Seen(key)),
            Err(alula_store::Error::Conflict { .. }) => {
                let message = "this request was handled before, or is being handled: it is not run again";
                Err(Fault::new(ErrorCode::InvalidRequest, message))
            }
            Err(error) => Err(store_fault(&error)),
        }
    }
}

fn store_fault(error: &alula_store::Error) -> Fault {
    Fault::new(ErrorCode::StoreUnavailable, format!("the store did not take it: {error}"))
}
