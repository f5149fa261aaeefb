//! What leaves the platform on behalf of functions: results to callbacks and destinations, notices to owners.
//!
//! ```text
//! Delivery -> by its address: http(s) -> sign -> web  -> one request
//!                             mailto  ->         mail -> one message to the operator's mail server
//! ```
//!
//! Addresses come from callers and from owners, so every web request goes through [`Egress`], which keeps to the policy that
//! functions are under: nobody reaches the host's own network by naming it in a callback. One delivery is one try; when it
//! is tried again is the queue's affair.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic"))]

mod fetch;
mod mail;
mod options;
mod signature;
pub mod tls;
mod web;

use std::sync::Arc;
use std::time::Duration;

use alula_invoke::later::{BoxFuture, Courier, CourierError, Delivery};
use alula_model::Clock;
use alula_runtime::Egress;
use bytes::Bytes;

pub use fetch::KeyFetcher;
pub use mail::MailError;
use mail::Mailer;
pub use options::{MailOptions, Options};
pub use signature::SigningKey;

/// What a courier is made of.
#[derive(Debug)]
pub struct Parts {
    /// Opens connections to web addresses.
    pub egress: Arc<dyn Egress>,
    /// Signs what goes to web addresses.
    pub key: SigningKey,
    /// Tells the time that is signed.
    pub clock: Arc<dyn Clock>,
    /// How mail is sent.
    pub mail: MailOptions,
}

/// Sends over the network. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NetworkCourier {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    egress: Arc<dyn Egress>,
    key: SigningKey,
    clock: Arc<dyn Clock>,
    mailer: Option<Mailer>,
    patience: Duration,
}

impl NetworkCourier {
    /// A courier; fails where mail is configured in a way that cannot work.
    pub fn new(parts: Parts, options: &Options) -> Result<Self, MailError> {
        let Parts { egress, key, clock, mail } = parts;
        let patience = Duration::from_millis(options.timeout_ms);
        let mailer = Mailer::open(&mail, patience)?;
        Ok(Self { shared: Arc::new(Shared { egress, key, clock, mailer, patience }) })
    }

    async fn deliver(&self, delivery: &Delivery, body: Bytes) -> Result<(), CourierError> {
        let Shared { egress, key, clock, mailer, patience } = &*self.shared;
        let sending = async {
            let Some(address) = delivery.url.strip_prefix("mailto:") else {
                let signature = key.sign(&body, clock.now());
                return web::send(&**egress, delivery, &signature, body).await;
            };
            match mailer {
                Some(mailer) => mailer.send(address, delivery, &body).await,
                None => {
                    Err(CourierError::Final("this platform sends no mail: mail.url is not set".to_owned()))
                }
            }
        };
        let sent = tokio::time::timeout(*patience, sending).await;
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
