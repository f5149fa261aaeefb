//! Topics: what is published once reaches every function that listens, and stays for a while to be sent again.
//!
//! ```text
//! publish -> event in the structured form of CloudEvents
//!         -> subscriptions: triggers of kind `topic` of the versions in force, whose filter matches
//!         -> one commit: the event, and one call for every subscription
//! replay  -> kept events from a moment on -> calls again
//! ```
//!
//! A topic is a name in a namespace; it need not be made. Each call is an asynchronous one of its own, with its own retries
//! and dead letter, so a subscriber that fails delays nobody else. Events with the same `partitionkey` (the attribute of
//! CloudEvents' partitioning extension) run one after another in each function.
//!
//! An event that its publisher named itself (`source` and `id`) is accepted once within [`ONCE_KEEP_MS`]. A subscription
//! that is paused gets nothing; what came meanwhile can be replayed to it.

mod handle;
mod kept;
pub mod pattern;
mod publish;
mod replay;
mod request;
mod subscriptions;

use std::sync::Arc;

use alula_control::Catalog;
use alula_invoke::cloudevents::CloudEvent;
use alula_invoke::later::Acceptor;
use alula_model::{Clock, Lineage, Name};
use alula_store::Records;

pub use handle::{SubscriptionView, TopicView, Topics};
pub use replay::{Replay, Replayed};
pub use request::Request;

/// Largest event in its structured form, in bytes: what EventBridge takes.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;
/// Functions that one event reaches: each takes a message and a write of one batch.
pub const SUBSCRIBERS_MAX: usize = 400;
/// How long events are kept to be replayed where nothing else is said, in milliseconds: a week.
pub const EVENT_KEEP_MS_DEFAULT: u64 = 7 * 86_400_000;
/// How long an event that its publisher named is known, in milliseconds: a day.
pub const ONCE_KEEP_MS: i64 = 86_400_000;

/// What an operator may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long events are kept, in milliseconds.
    pub event_keep_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { event_keep_ms: EVENT_KEEP_MS_DEFAULT }
    }
}

/// What topics work with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Knows who listens.
    pub catalog: Catalog,
    /// Keeps the events; the messages of calls go into the same store.
    pub records: Arc<dyn Records>,
    /// Makes the calls.
    pub acceptor: Acceptor,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// Events for one topic.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The tenant.
    pub namespace: Name,
    /// The topic.
    pub topic: Name,
    /// The events.
    pub events: Vec<CloudEvent>,
    /// Who gave the events their ids.
    pub named_by: NamedBy,
    /// The functions that led to it.
    pub lineage: Lineage,
}

/// Who gave an event its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// Its publisher: publishing it again is harmless.
    Publisher,
    /// The platform.
    Platform,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: String,
    /// Calls that it makes.
    pub calls: usize,
    /// Whether it was published before, and nothing was done now.
    pub is_repeat: bool,
}
