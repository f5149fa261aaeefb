//! Instances: what runs on this node now.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Tier;

/// One sandbox with one version loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceInfo {
    /// Its id.
    pub id: String,
    /// The namespace.
    pub namespace: String,
    /// The function.
    pub function: String,
    /// The version.
    pub version: u64,
    /// What it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// What it is doing.
    pub state: InstanceState,
    /// Calls that run in it now.
    pub in_flight: u64,
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// CPU time so far, in microseconds.
    pub cpu_us: u64,
    /// Calls that it has been given so far.
    pub calls: u64,
    /// Time since its last call ended; zero while one runs.
    pub idle_ms: u64,
    /// Time since it became ready.
    pub age_ms: u64,
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// No call runs in it.
    Idle,
    /// At least one call runs in it.
    Busy,
    /// It serves no calls: instances are forked from it.
    Zygote,
}

/// The instances on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceList {
    /// The instances, ordered by function and id.
    pub instances: Vec<InstanceInfo>,
    /// What this node, the namespace and its apps take of what they may take.
    #[serde(default)]
    pub ceilings: Vec<CeilingInfo>,
}

/// What some instances take together, and what they may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CeilingInfo {
    /// Which instances: `this node`, `namespace NAME`, `app NAMESPACE/NAME`.
    pub scope: String,
    /// How many there are, those that start included.
    pub instances: u64,
    /// How many there may be; without it as many as you like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances_max: Option<u64>,
    /// The memory that they take, in bytes.
    pub memory_bytes: u64,
    /// The memory that they may take; without it as much as you like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<u64>,
}
