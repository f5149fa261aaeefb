//! What a finished call leads to: its callback and its destinations, as messages of the commit that ends it.

use alula_model::{Destination, ErrorCode, Fault, FunctionRef, InvocationId, Qualifier, TriggerKind};
use alula_store::{Batch, NewDeadLetter, NewMessage};
use bytes::Bytes;

use super::run::Runner;
use super::settle::{Call, PAUSE_FIRST, PAUSE_MAX};
use crate::LINEAGE_HEADER;
use crate::later::acceptor::BLOB_KEEP_MS;
use crate::later::blobs::BlobKind;
use crate::later::envelope::Content;
use crate::later::options::INLINE_BYTES_MAX;
use crate::later::record::{Callback as CallbackRecord, Finished, Verdict};
use crate::later::{Acceptor, Deferred, Delivery, DeliveryKind, Outcome, Publication, verdict};

impl Runner {
    /// Adds what a finished call leads to: its destinations and its callback.
    pub(super) async fn follow_ups(&self, finished: &Finished<'_>, content: &Content, batch: Batch) -> Batch {
        let Call { id, head, plan, .. } = *finished.call;
        let asynchronous = &plan.spec.asynchronous;
        let destinations = match finished.verdict {
            Verdict::Success { .. } => &asynchronous.on_success,
            Verdict::Failure { .. } => &asynchronous.on_failure,
        };
        let mut batch = batch;
        if let Some(callback) = &head.callback {
            let CallbackRecord { mut headers, body } = finished.callback();
            headers.push(self.lineage_header(finished));
            let delivery = Delivery {
                kind: DeliveryKind::Callback,
                url: callback.url.clone(),
                headers,
                about: id.clone(),
            };
            let name = follow_up_id(finished, CALLBACK_NUMBER);
            batch = batch.enqueue(self.delivery(finished, &name, delivery, body).await);
        }
        // A chain that was stopped ends here, or its failures would go in the same circle.
        let is_stopped = finished.outcome.error == Some(ErrorCode::LoopDetected);
        if destinations.is_empty() || is_stopped {
            return batch;
        }
        let payload = self.content(content).await.unwrap_or_default();
        let record = finished.destination(&payload);
        for (number, destination) in destinations.iter().enumerate() {
            let name = follow_up_id(finished, number);
            batch = self.to_destination(finished, destination, &name, record.clone(), batch).await;
        }
        batch
    }

    async fn to_destination(
        &self,
        finished: &Finished<'_>,
        destination: &Destination,
        name: &str,
        record: Bytes,
        mut batch: Batch,
    ) -> Batch {
        let (lane, about) = (finished.job.lane, finished.call.id.clone());
        match destination {
            Destination::Url(url) => {
                let headers = vec![
                    ("content-type".to_owned(), "application/json".to_owned()),
                    self.lineage_header(finished),
                ];
                let url = url.clone();
                let delivery = Delivery { kind: DeliveryKind::Destination, url, headers, about };
                batch.enqueue(self.delivery(finished, name, delivery, record).await)
            }
            Destination::Function { name: function, qualifier } => {
                let qualifier =
                    qualifier.as_deref().and_then(|text| text.parse().ok()).unwrap_or(Qualifier::Latest);
                let target =
                    FunctionRef { namespace: lane.namespace.clone(), name: function.clone(), qualifier };
                let Some(id) = InvocationId::new(name) else { return batch };
                let deferred = Deferred {
                    lineage: finished.call.lineage_of_follow_ups(),
                    ..Deferred::event(id, target, TriggerKind::Destination, record.clone())
                };
                match self.acceptor().prepare(deferred).await {
                    Ok(prepared) => {
                        batch.messages.extend(prepared.batch.messages.iter().cloned());
                        batch.writes.extend(prepared.batch.writes.iter().cloned());
                    }
                    Err(fault) => {
                        tracing::warn!(%fault, %destination, invocation = %about, "a destination cannot be called");
                        batch = self.bury_record(finished, destination, (name, record), &fault, batch).await;
                    }
                }
                batch
            }
            Destination::Topic(topic) => {
                let event = finished.event(name, &record);
                let event_bytes = event.to_bytes();
                let publication = Publication {
                    namespace: lane.namespace.clone(),
                    topic: topic.clone(),
                    event,
                    lineage: finished.call.lineage_of_follow_ups(),
                };
                match self.parts.topics.publish(publication).await {
                    Ok(more) => {
                        batch.messages.extend(more.messages);
                        batch.writes.extend(more.writes);
                    }
                    Err(fault) => {
                        tracing::warn!(%fault, %destination, invocation = %about, "a destination cannot be published to");
                        batch =
                            self.bury_record(finished, destination, (name, event_bytes), &fault, batch).await;
                    }
                }
                batch
            }
        }
    }

    /// What is sent out says where it comes from, since it may come back.
    fn lineage_header(&self, finished: &Finished<'_>) -> (String, String) {
        let header = self.parts.invoker.seal().sign(&finished.call.lineage_of_follow_ups());
        (LINEAGE_HEADER.to_string(), header.to_str().unwrap_or_default().to_owned())
    }

    /// Keeps the record of a call that its destination cannot take: as a dead letter with the name and the reason.
    async fn bury_record(
        &self,
        finished: &Finished<'_>,
        destination: &Destination,
        (name, record): (&str, Bytes),
        fault: &Fault,
        batch: Batch,
    ) -> Batch {
        let delivery = Delivery {
            kind: DeliveryKind::Destination,
            url: destination.to_string(),
            headers: Vec::new(),
            about: finished.call.id.clone(),
        };
        let message = self.delivery(finished, name, delivery, record).await;
        let reason = verdict::shortened(fault.message.clone());
        batch.bury(NewDeadLetter { message, attempts: 0, reason, trail: Bytes::new() })
    }

    /// The message that sends `body` out as `name`; a large one is put into the blobs first, however long the store takes.
    async fn delivery(
        &self,
        finished: &Finished<'_>,
        name: &str,
        delivery: Delivery,
        body: Bytes,
    ) -> NewMessage {
        let (lane, at) = (finished.job.lane, finished.outcome.finished_at);
        let message = |content| Acceptor::delivery(lane, name.to_owned(), delivery.clone(), content, at);
        if body.len() <= INLINE_BYTES_MAX {
            return message(Content::Inline(body));
        }
        let until = at.plus_millis(i64::try_from(BLOB_KEEP_MS).unwrap_or(i64::MAX));
        let mut pause = PAUSE_FIRST;
        loop {
            match self.acceptor().blobs().put(name, BlobKind::Delivery, &body, until).await {
                Ok(blob) => return message(Content::Blob(blob)),
                Err(error) => tracing::warn!(%error, message = name, "what is to be sent cannot be kept yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// The id of what is sent to a destination: the same however often the commit is tried, and never one that was used for
/// an earlier end of the same call.
fn follow_up_id(finished: &Finished<'_>, number: usize) -> String {
    let Outcome { id, finished_at, .. } = finished.outcome;
    let name = format!("{id} {} {} {number}", finished.verdict.as_str(), finished_at.0);
    let digest = alula_store::digest_of(name.as_bytes()).to_string();
    format!("to-{}", &digest[..FOLLOW_UP_ID_CHARS])
}

/// The number of the callback among what follows from a call: behind every destination.
const CALLBACK_NUMBER: usize = usize::MAX;
/// Characters of a digest in such an id: 128 bits.
const FOLLOW_UP_ID_CHARS: usize = 32;
