//! What the functions of a namespace may reach.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Network;

/// What the functions of a namespace may reach at the most, and what is open now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkInfo {
    /// The namespace.
    pub namespace: String,
    /// No function reaches what this does not permit, whatever its own rules say.
    pub ceiling: Network,
    /// Who set it: `set` by an administrator, `configured` for this namespace, or `usual` for all that have none.
    pub source: String,
    /// Connections to the outside that are open on this node.
    pub connections: u64,
}

/// A ceiling to be set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CeilingRequest {
    /// The ceiling; without it, that of the configuration holds again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Network>,
}
