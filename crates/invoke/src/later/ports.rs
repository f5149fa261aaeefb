//! What the asynchronous part needs from others.

use alula_model::{ErrorCode, Fault, Lineage, Name, VersionKey};
use alula_store::Batch;
use bytes::Bytes;

use super::{Delivery, LaneClass};
use crate::cloudevents::CloudEvent;

/// A boxed future that may cross threads.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// Takes what leaves the platform: results to callbacks and destinations, notices to owners.
pub trait Courier: Send + Sync + std::fmt::Debug {
    /// Sends `body` where `delivery` says, once.
    fn send<'a>(&'a self, delivery: &'a Delivery, body: Bytes) -> BoxFuture<'a, Result<(), CourierError>>;
}

/// Turns an event of a topic into messages for its subscribers.
pub trait Topics: Send + Sync + std::fmt::Debug {
    /// What is to be committed to publish an event to a topic.
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<Batch, Fault>>;
}

/// One event for a topic.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The tenant.
    pub namespace: Name,
    /// The topic.
    pub topic: Name,
    /// The event.
    pub event: CloudEvent,
    /// The functions that led to it.
    pub lineage: Lineage,
}

/// A platform without topics.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTopics;

impl Topics for NoTopics {
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<Batch, Fault>> {
        let message = format!("there is no topic {}: topics are not served", publication.topic);
        let fault = Fault::new(ErrorCode::NotFound, message);
        Box::pin(async move { Err(fault) })
    }
}

/// Why something did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CourierError {
    /// It may arrive later.
    #[error("{0}")]
    Passing(String),
    /// It never will.
    #[error("{0}")]
    Final(String),
}

/// Is told what happens to calls. Must not block.
pub trait Observe: Send + Sync + std::fmt::Debug {
    /// A call was accepted.
    fn accepted(&self, _class: LaneClass) {}

    /// A call was refused before it was accepted.
    fn refused(&self) {}

    /// A call was claimed for the first time, `waited_ms` after it could have been.
    fn claimed(&self, _class: LaneClass, _waited_ms: u64) {}

    /// A call ended.
    fn ended(&self, _key: &VersionKey) {}

    /// A call is to be tried again.
    fn retried(&self, _class: LaneClass) {}

    /// A call was given up.
    fn died(&self, _key: &VersionKey) {}

    /// What waits or runs in all lanes of a class together, and the age of the oldest of it, looked at now and then.
    fn depth(&self, _class: LaneClass, _messages: u64, _oldest_ms: u64) {}

    /// The books of the queue were checked: accepted less what is there and what became of the rest. Zero, or there
    /// is a defect.
    fn imbalance(&self, _messages: i64) {}
}

/// Observes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observe for Unobserved {}
