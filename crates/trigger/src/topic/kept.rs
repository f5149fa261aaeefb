//! Events as they are kept: in the order in which they came, until their time is over.

use alula_invoke::cloudevents::CloudEvent;
use alula_model::{Lineage, Name, Timestamp};
use alula_store::Key;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const KIND: &str = "topic-event";
const TOPIC_KIND: &str = "topic";
const ONCE_KIND: &str = "topic-once";
/// Digits of a moment in a key: milliseconds until the year 33658.
const MILLIS_DIGITS: usize = 15;
/// Characters of a digest in a key: 128 bits.
const DIGEST_CHARS: usize = 32;

/// One kept event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    /// When it was published.
    pub(super) at: Timestamp,
    /// The functions that led to it, as text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    lineage: String,
    /// The event.
    event: Value,
}

impl Kept {
    pub(super) fn new(at: Timestamp, lineage: &Lineage, event: &CloudEvent) -> Self {
        Self { at, lineage: lineage.to_string(), event: event.clone().into_value() }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a record; `None` where it is damaged.
    pub(super) fn read(bytes: &[u8]) -> Option<(Timestamp, Lineage, CloudEvent)> {
        let Self { at, lineage, event } = serde_json::from_slice(bytes).ok()?;
        Some((at, lineage.parse().unwrap_or_default(), CloudEvent::of_value(event).ok()?))
    }
}

/// All events of a topic.
pub(super) fn all_of(namespace: &Name, topic: &Name) -> Key {
    Key::new(&[KIND, namespace.as_str(), topic.as_str()])
}

/// Before every event of a topic that came at `since` or later.
pub(super) fn before(namespace: &Name, topic: &Name, since: Timestamp) -> Key {
    let millis = since.as_millis().max(0);
    Key::new(&[KIND, namespace.as_str(), topic.as_str(), &format!("{millis:0MILLIS_DIGITS$}")])
}

/// Where an event is kept.
pub(super) fn key(namespace: &Name, topic: &Name, at: Timestamp, event: &CloudEvent) -> Key {
    let millis = at.as_millis().max(0);
    let place = format!("{millis:0MILLIS_DIGITS$}-{}", digest(event));
    Key::new(&[KIND, namespace.as_str(), topic.as_str(), &place])
}

/// The record that there is such a topic.
pub(super) fn topic(namespace: &Name, topic: &Name) -> Key {
    Key::new(&[TOPIC_KIND, namespace.as_str(), topic.as_str()])
}

/// All topics of a namespace that something was published to.
pub(super) fn topics_of(namespace: &Name) -> Key {
    Key::new(&[TOPIC_KIND, namespace.as_str()])
}

/// The record that an event was published.
pub(super) fn once(namespace: &Name, topic: &Name, event: &CloudEvent) -> Key {
    Key::new(&[ONCE_KIND, namespace.as_str(), topic.as_str(), &digest(event)])
}

fn digest(event: &CloudEvent) -> String {
    event.digest()[..DIGEST_CHARS].to_owned()
}
