//! What the functions of the namespace may reach.

use alula_wire::{CeilingRequest, NetworkInfo};
use http::Method;

use crate::{Client, Result};

impl Client {
    /// The ceiling of the namespace, and what is open.
    pub async fn network(&self) -> Result<NetworkInfo> {
        self.get(&["v1", "network"], &self.here()).await
    }

    /// Sets the ceiling of the namespace. What it does not permit any more ends at once.
    pub async fn set_network_ceiling(&self, request: &CeilingRequest) -> Result<NetworkInfo> {
        self.fetch(self.request(Method::PUT, &["v1", "network"]).query(&self.here()).json(request)).await
    }
}
