//! Triggers: what makes functions run besides callers, and where each stands.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One trigger of the version in force of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TriggerInfo {
    /// The namespace.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// Its name, unique in the function.
    pub name: String,
    /// What it watches: `schedule`, `topic`, `webhook`, `nats`, `mqtt`, `amqp`, `redis`, `postgres`, `kafka`, `bucket`
    /// or `folder`.
    pub kind: String,
    /// The same in words: `at 03:00, Europe/Berlin`.
    pub watches: String,
    /// The version that states it.
    pub version: u64,
    /// What it calls: a version's number, an alias, or `latest`.
    pub qualifier: String,
    /// Whether its owner lets it fire.
    pub enabled: bool,
    /// Who has paused it, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<TriggerPause>,
    /// Where it stands, for a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleState>,
    /// What keeps a folder from being watched as it should be at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Where it stands, for a broker that is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<BrokerState>,
}

/// Where a trigger stands that watches a broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BrokerState {
    /// Since when it is connected, in milliseconds since the Unix epoch; without one it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_ms: Option<i64>,
    /// When the last record came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_record_ms: Option<i64>,
    /// The last thing that went wrong, with the broker or with the function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<BrokerError>,
    /// Records that wait at the broker, where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Records that were delivered since this node watches the broker.
    pub delivered: u64,
    /// Records that were kept as dead letters since then.
    pub parked: u64,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BrokerError {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What, in words.
    pub message: String,
}

/// An operator's pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TriggerPause {
    /// Since when, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Who: the name of the token.
    pub by: String,
}

/// Where a schedule stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleState {
    /// Its next slot, in milliseconds since the Unix epoch; without one none is to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<i64>,
    /// The last slot that became a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<SlotRun>,
    /// The last slots that did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_skip: Option<SlotSkip>,
    /// Whether an instance is there for the next slot.
    pub readiness: SlotReadiness,
    /// Why none will be there in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// What keeps slots from being admitted at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A slot that became a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotRun {
    /// The slot, in milliseconds since the Unix epoch.
    pub slot_ms: i64,
    /// When it was admitted.
    pub admitted_ms: i64,
    /// The call.
    pub invocation_id: String,
}

/// Slots that did not become calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotSkip {
    /// The first of them, in milliseconds since the Unix epoch.
    pub first_ms: i64,
    /// The last of them.
    pub last_ms: i64,
    /// When that was decided.
    pub decided_ms: i64,
    /// `missed`: nobody was there for them. `overlap`: the run before had not ended. `refused`: the call cannot be made.
    pub reason: String,
    /// The reason in words.
    pub message: String,
}

/// Whether an instance is there for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlotReadiness {
    /// The pool has not been asked: the slot is far, or follows another one closely.
    Unknown,
    /// The pool has been asked.
    Asked,
    /// It is there.
    Ready,
    /// It is not, and will not be in time.
    NotReady,
}

/// A page of triggers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TriggerPage {
    /// The triggers, ordered by function and name.
    pub triggers: Vec<TriggerInfo>,
    /// The cursor of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A slot to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpcomingSlot {
    /// The slot, in milliseconds since the Unix epoch.
    pub slot_ms: i64,
    /// When the call may run: the slot and its jitter.
    pub available_ms: i64,
    /// The schedule; its readiness is about its next slot.
    pub trigger: TriggerInfo,
}

/// Slots to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpcomingSlots {
    /// The slots, the next one first.
    pub slots: Vec<UpcomingSlot>,
}
