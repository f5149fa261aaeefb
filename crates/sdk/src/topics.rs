//! Topics: publishing, the list, replays.

use alula_wire::{PublishAnswer, ReplayAnswer, ReplayRequest, TopicList};
use http::Method;
use http::header::CONTENT_TYPE;

use crate::{Body, Client, Result};

/// What is published as one event.
#[derive(Debug)]
pub struct NewEvent {
    /// Its content.
    pub body: Body,
    /// The content's type; a CloudEvent says its own.
    pub content_type: Option<String>,
    /// Its type; `message` where it is left out.
    pub kind: Option<String>,
    /// Its id: publishing it again is harmless.
    pub id: Option<String>,
    /// Events with the same key run one after another in each function.
    pub ordering_key: Option<String>,
}

impl Client {
    /// Publishes to a topic.
    pub async fn publish(&self, topic: &str, event: NewEvent) -> Result<PublishAnswer> {
        let mut request = self.request(Method::POST, &["v1", "topics", topic, "events"]).query(&self.here());
        let headers = [
            (CONTENT_TYPE.as_str(), event.content_type),
            ("x-alula-event-type", event.kind),
            ("idempotency-key", event.id),
            ("x-alula-ordering-key", event.ordering_key),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        self.fetch(request.body(event.body)).await
    }

    /// The topics, and who listens.
    pub async fn topics(&self) -> Result<TopicList> {
        self.get(&["v1", "topics"], &self.here()).await
    }

    /// Hands kept events out once more.
    pub async fn replay(&self, topic: &str, replay: &ReplayRequest) -> Result<ReplayAnswer> {
        let path = ["v1", "topics", topic, "replay"];
        // It hands out one event after the other, however many there are.
        self.fetch_unbounded(self.request(Method::POST, &path).query(&self.here()).json(replay)).await
    }
}
