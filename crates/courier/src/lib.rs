//! What leaves the platform on behalf of functions: results to callbacks and destinations, notices to owners.
//!
//! ```text
//! Delivery -> by its address: http(s) -> web -> one request
//! ```
//!
//! Addresses come from callers and from owners, so every connection goes through [`Egress`], which keeps to the policy that
//! functions are under: nobody reaches the host's own network by naming it in a callback. One delivery is one try; when it
//! is tried again is the queue's affair.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod options;
mod tls;
mod web;

use std::sync::Arc;

use alula_invoke::later::{BoxFuture, Courier, CourierError, Delivery};
use alula_runtime::Egress;
use bytes::Bytes;

pub use options::Options;

/// Sends over the network. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NetworkCourier {
    egress: Arc<dyn Egress>,
    options: Arc<Options>,
}

impl NetworkCourier {
    /// A courier whose connections are opened by `egress`.
    #[must_use]
    pub fn new(egress: Arc<dyn Egress>, options: Options) -> Self {
        Self { egress, options: Arc::new(options) }
    }

    async fn deliver(&self, delivery: &Delivery, body: Bytes) -> Result<(), CourierError> {
        let patience = std::time::Duration::from_millis(self.options.timeout_ms);
        let sending = web::send(&*self.egress, delivery, body);
        let sent = tokio::time::timeout(patience, sending).await;
        sent.unwrap_or_else(|_| {
            Err(CourierError::Passing(format!("{} did not answer within {patience:?}", delivery.url)))
        })
    }
}

impl Courier for NetworkCourier {
    fn send<'a>(&'a self, delivery: &'a Delivery, body: Bytes) -> BoxFuture<'a, Result<(), CourierError>> {
        Box::pin(self.deliver(delivery, body))
    }
}
