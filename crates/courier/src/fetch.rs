//! Documents that are fetched by the network that functions have: the keys that issuers of tokens publish.

use std::sync::Arc;
use std::time::Duration;

use alula_invoke::later::CourierError;
use alula_runtime::Egress;

use crate::web;

/// Longest time for one document: callers wait for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fetches small documents. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KeyFetcher {
    egress: Arc<dyn Egress>,
}

impl KeyFetcher {
    /// A fetcher that reaches what `egress` lets it.
    #[must_use]
    pub fn new(egress: Arc<dyn Egress>) -> Self {
        Self { egress }
    }

    /// What lies at `url`, if it is no longer than `bytes_max`. The error is one line for the log.
    pub async fn fetch(&self, url: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
        let fetched = tokio::time::timeout(PATIENCE, web::fetch(&*self.egress, url, bytes_max)).await;
        let told = |error: CourierError| match error {
            CourierError::Passing(why) | CourierError::Final(why) => why,
        };
        fetched.map_err(|_| format!("it did not answer within {PATIENCE:?}"))?.map_err(told)
    }
}
