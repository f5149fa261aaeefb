//! The way to the outside: one policy, for cells and for whoever connects in a function's name.
//!
//! A cell has no route out at all. Its programs find on its loopback interface an HTTP proxy (`HTTP_PROXY`, `HTTPS_PROXY`)
//! and, for those that know no proxy, a name server: it answers names that the rules permit with addresses of the loopback
//! interface, on which the platform listens and hands on what comes. Everything that leaves goes through the `gate`, which
//! resolves names itself, checks every address and connects to a checked one. TLS is passed through unseen.
//!
//! `policy` says which addresses nobody reaches, `account` holds the limits, `metered` is a connection, `journal` the log;
//! `proxy` with `head`, and `inside` with `dns`, are what a cell finds.

mod account;
mod dns;
mod gate;
mod head;
mod inside;
mod journal;
mod metered;
mod policy;
mod proxy;
mod relay;

use std::net::SocketAddr;
use std::sync::Arc;

use alula_runtime::{Behalf, BoxFuture, Connection, Egress, EgressError};

pub use account::{EgressLimits, Observe, Unobserved};
pub use alula_model::{Subnet, SubnetError};
pub use gate::{EgressGate, EgressOptions};
pub(crate) use inside::{Inside, Sockets};
pub use policy::EgressPolicy;

/// The same way out for guests without a cell, and for what the platform does in the name of functions.
#[derive(Debug, Clone)]
pub struct CheckedEgress {
    gate: EgressGate,
    by: Behalf,
}

impl CheckedEgress {
    /// That of the platform itself, which no rules and no ceiling bind.
    #[must_use]
    pub fn new(gate: EgressGate) -> Self {
        Self { gate, by: Behalf::default() }
    }
}

impl Egress for CheckedEgress {
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, EgressError>> {
        Box::pin(
            async move { Ok(Box::new(self.gate.reach(&self.by, host, port).await?) as Box<dyn Connection>) },
        )
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, EgressError>> {
        Box::pin(self.gate.addresses(&self.by, host, port))
    }

    fn on_behalf(&self, by: Behalf) -> Option<Arc<dyn Egress>> {
        Some(Arc::new(Self { gate: self.gate.clone(), by }))
    }
}
