//! Outbound traffic of cells with `Network::Internet`: an HTTP proxy on the cell's loopback interface.
//!
//! The cell has no route out at all. Its programs ask this proxy (`HTTP_PROXY`, `HTTPS_PROXY`), which runs in
//! the platform, resolves the name itself, checks every address against the `policy` and connects to a
//! checked address, so a name that changes its address between check and use (DNS rebinding) gains nothing.
//! `head` reads requests, `proxy` carries them out. TLS is passed through unseen.

mod head;
mod policy;
mod proxy;

use std::net::SocketAddr;
use std::sync::Arc;

use alula_runtime::{BoxFuture, Egress, EgressError};
use tokio::net::TcpStream;

pub(crate) use proxy::serve;

pub use policy::{EgressPolicy, Subnet, SubnetError};

/// The same way out for guests without a cell.
#[derive(Debug, Clone)]
pub struct CheckedEgress {
    policy: Arc<EgressPolicy>,
}

impl CheckedEgress {
    /// Keeps to `policy`.
    #[must_use]
    pub fn new(policy: EgressPolicy) -> Self {
        Self { policy: Arc::new(policy) }
    }
}

impl Egress for CheckedEgress {
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream, EgressError>> {
        Box::pin(proxy::connect(host, port, &self.policy))
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, EgressError>> {
        Box::pin(proxy::resolve(host, port, &self.policy))
    }
}
