//! Brokers: records that others put into NATS, MQTT, AMQP, Redis, PostgreSQL or Kafka become calls of functions.
//!
//! ```text
//! declared   what is deployed: which triggers watch a broker
//! service    one watch a trigger, started and stopped as deploys and pauses come
//! shares     which node watches a trigger, where several share a store
//! watch      connects, gathers records, has them delivered, tells the broker, connects again
//! gather     how many records make an event
//! delivery   one event from its first call until every record has ended: done, dead letter, or given back
//! event      events in the shapes that Lambda's event sources have
//! network    the way there: the network policy, and TLS
//! source     the port towards a broker, and a module for each kind
//! platform   calls through the invocation core; dead letters into the queue
//! ```
//!
//! A record is delivered at least once: its broker is told only when the function has taken it or when it is durable as a
//! dead letter. Where the broker itself keeps nothing (plain NATS, MQTT with QoS 0, PostgreSQL), a record is delivered at
//! most once from the broker, and from here on like any other.
//!
//! Deliberately absent: publishing, and everything about calls but their events (`alula-invoke`). Nothing here is on the
//! path of other calls.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod address;
mod check;
mod declared;
mod delivery;
mod event;
mod gather;
mod network;
mod place;
mod platform;
mod ports;
mod service;
mod shares;
mod source;
#[cfg(test)]
mod tests;
mod watch;

pub use check::check;
pub use declared::{Declared, Deployed};
pub use network::Network;
pub use place::{Parts, Problem, State};
pub use platform::Platform;
pub use ports::{Call, Gate, Keep, Letter, Observe, Unobserved};
pub use service::{Handle, Service};
pub use shares::Shares;

/// A boxed future that may cross threads: what the object-safe ports return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
