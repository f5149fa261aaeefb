//! The port towards the outside network, for guests that an engine runs inside this process.
//!
//! Guests in a cell reach the outside through the proxy of their cell. A guest without a cell has no sockets at all:
//! what its engine does in its name goes through this port, which keeps to the same policy. Implemented by the
//! sandbox, which has the policy for cells. Deliberately absent: what is said over a connection.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::BoxFuture;

/// Opens connections to public addresses.
pub trait Egress: Send + Sync + std::fmt::Debug {
    /// Resolves `host`, checks every address of it against the policy and connects to one that was checked.
    fn connect<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream, EgressError>>;

    /// The addresses of `host`, each checked against the policy, for clients that connect by themselves. At least one.
    fn resolve<'a>(&'a self, host: &'a str, port: u16)
    -> BoxFuture<'a, Result<Vec<SocketAddr>, EgressError>>;
}

/// There is no connection.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// A rule forbids it.
    #[error("the rule {0} forbids it")]
    Refused(&'static str),
    /// The other side does not answer.
    #[error("it cannot be reached")]
    Unreachable(#[source] std::io::Error),
}

/// Reaches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEgress;

impl Egress for NoEgress {
    fn connect<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, Result<TcpStream, EgressError>> {
        Box::pin(std::future::ready(Err(EgressError::Refused("no_network"))))
    }

    fn resolve<'a>(
        &'a self,
        _host: &'a str,
        _port: u16,
    ) -> BoxFuture<'a, Result<Vec<SocketAddr>, EgressError>> {
        Box::pin(std::future::ready(Err(EgressError::Refused("no_network"))))
    }
}
