//! Sending out: one claimed delivery, from its content to its settlement.
//!
//! Web addresses and mail are the courier's. A record that a function or a topic could not take when its call ended goes
//! there when somebody runs it again; the call that it becomes is made in the commit that settles the delivery.

use alula_model::{Destination, Fault, FunctionRef, InvocationId, Lineage, Qualifier, TriggerKind};
use alula_store::{Batch, Settlement};
use bytes::Bytes;

use super::run::{Fit, Runner};
use super::settle::Job;
use crate::Failure;
use crate::cloudevents::CloudEvent;
use crate::later::envelope::Content;
use crate::later::trail::Trail;
use crate::later::verdict::{Hope, Miss};
use crate::later::{CourierError, Deferred, Delivery, DeliveryKind, Publication};

impl Runner {
    /// Sends out what `job` holds and settles it.
    pub(super) async fn run_delivery(
        &self,
        job: Job<'_>,
        delivery: &Delivery,
        content: &Content,
        mut trail: Trail,
    ) -> Fit {
        let sent = tokio::select! {
            sent = self.deliver(&job, delivery, content) => sent,
            () = self.renew(job.claim) => return Fit::Yes,
        };
        match sent {
            Ok(batch) => {
                if self.settle(job.claim, Settlement::Done, batch).await {
                    self.discard(content).await;
                }
            }
            Err(miss) => self.settle_undelivered(&job, &miss, &mut trail).await,
        }
        Fit::Yes
    }

    /// Sends it, or makes what is to be committed for it.
    async fn deliver(&self, job: &Job<'_>, delivery: &Delivery, content: &Content) -> Result<Batch, Miss> {
        let body = self.content(content).await?;
        match inner_destination(delivery) {
            Some(Destination::Function { name, qualifier }) => {
                let qualifier = qualifier.and_then(|text| text.parse().ok()).unwrap_or(Qualifier::Latest);
                let target = FunctionRef { namespace: job.lane.namespace.clone(), name, qualifier };
                self.call_with(job, target, body).await
            }
            Some(Destination::Topic(topic)) => {
                let event =
                    serde_json::from_slice(&body).ok().and_then(|value| CloudEvent::of_value(value).ok());
                let event = event.ok_or_else(|| Miss::hopeless("it is no event".to_owned()))?;
                let namespace = job.lane.namespace.clone();
                let publication = Publication { namespace, topic, event, lineage: Lineage::default() };
                self.parts.topics.publish(publication).await.map_err(refused)
            }
            _ => {
                let sent = self.parts.courier.send(delivery, body).await;
                sent.map(|()| Batch::default()).map_err(|error| match error {
                    CourierError::Final(message) => Miss::hopeless(message),
                    CourierError::Passing(message) => Miss { hope: Hope::Counts, ..Miss::hopeless(message) },
                })
            }
        }
    }

    async fn call_with(&self, job: &Job<'_>, target: FunctionRef, record: Bytes) -> Result<Batch, Miss> {
        let id = InvocationId::new(&format!("{}-again", job.claim.receipt.id.0));
        let id = id.ok_or_else(|| Miss::hopeless("its id is not one of an invocation".to_owned()))?;
        let deferred = Deferred::event(id, target, TriggerKind::Destination, record);
        Ok(self.acceptor().prepare(deferred).await.map_err(refused)?.batch)
    }
}

/// The function or topic that a record is for, where it is for one.
fn inner_destination(delivery: &Delivery) -> Option<Destination> {
    let destination = Destination::try_from(delivery.url.clone()).ok()?;
    let is_inner = delivery.kind == DeliveryKind::Destination && !matches!(destination, Destination::Url(_));
    is_inner.then_some(destination)
}

fn refused(fault: Fault) -> Miss {
    Miss::of_failure(&Failure { fault, key: None, retry_after_ms: None }, false)
}
