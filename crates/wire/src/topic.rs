//! Topics: what is published, who listens, replays.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What became of the events of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishAnswer {
    /// Each event, in the order in which they were sent.
    pub events: Vec<PublishedEvent>,
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedEvent {
    /// Its id.
    pub id: String,
    /// Calls that it makes: one for every function that listens and whose filter matches.
    pub calls: u64,
    /// Whether it was published before, and nothing was done now.
    pub repeated: bool,
}

/// The topics of a namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopicList {
    /// Those that somebody has published to or listens to, in the order of their names.
    pub topics: Vec<TopicInfo>,
    /// How long events are kept to be replayed, in milliseconds.
    pub event_keep_ms: u64,
}

/// A topic and who listens to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Who listens, in the order of names.
    pub subscriptions: Vec<SubscriptionInfo>,
}

/// A function that listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionInfo {
    /// The function.
    pub function: String,
    /// The trigger.
    pub trigger: String,
    /// Which events, as a pattern; all, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<serde_json::Value>,
    /// Whether its owner lets it fire.
    pub enabled: bool,
}

/// Which events are to be handed out once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// Those that were published at this time or later, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// And not later than this; up to now where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// Only to this function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplayAnswer {
    /// Names the replay; its events tell it in the attribute `alulareplay`.
    pub id: String,
    /// Events that were found.
    pub events: u64,
    /// Calls that they make.
    pub calls: u64,
}
