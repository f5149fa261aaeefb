//! The port towards the outside network, for guests that an engine runs inside this process and for what the platform does
//! in the name of functions.
//!
//! Guests in a cell reach the outside through the listeners of their cell. A guest without a cell has no sockets at all:
//! what its engine does in its name goes through this port, which keeps to the same policy. Implemented by the
//! sandbox, which has the policy for cells. Deliberately absent: what is said over a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use alula_model::{Name, Network};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{BoxFuture, VersionPlan};

/// In whose name something is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Behalf {
    /// Whose ceiling and limits hold; none where the platform acts for itself.
    pub namespace: Option<Name>,
    /// The function, where it is one.
    pub function: Option<Name>,
    /// The function's rules; `None` where somebody else has named the place, so that only the ceiling holds.
    pub network: Option<Network>,
}

impl Behalf {
    /// An instance of a version.
    #[must_use]
    pub fn of(plan: &VersionPlan) -> Self {
        let key = &plan.key;
        let (namespace, function) = (Some(key.namespace.clone()), Some(key.function.clone()));
        Self { namespace, function, network: Some(plan.spec.network.clone()) }
    }

    /// The platform, for a place that a function of the namespace names in its spec.
    #[must_use]
    pub fn namespace(namespace: &Name) -> Self {
        Self { namespace: Some(namespace.clone()), function: None, network: None }
    }
}

/// A connection to the outside: bytes both ways. It counts as open until it is dropped, and ends with an error when it is not
/// permitted any more.
pub trait Connection: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> Connection for T {}

/// Opens connections to places that are permitted.
pub trait Egress: Send + Sync + std::fmt::Debug {
    /// Resolves `host`, checks every address of it against the policy and connects to one that was checked.
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, EgressError>>;

    /// The addresses of `host`, each checked against the policy, for clients that connect by themselves. At least one.
    fn resolve<'a>(&'a self, host: &'a str, port: u16)
    -> BoxFuture<'a, Result<Vec<SocketAddr>, EgressError>>;

    /// The way out in somebody's name, where that makes a difference.
    fn on_behalf(&self, _by: Behalf) -> Option<Arc<dyn Egress>> {
        None
    }
}

/// There is no connection.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// A rule forbids it.
    #[error("the rule {0} forbids it")]
    Refused(&'static str),
    /// There are as many connections as there may be.
    #[error("{limit} connections are open already ({name})")]
    Limit {
        /// The limit's name.
        name: &'static str,
        /// Its value.
        limit: usize,
        /// Where it is set.
        setting: &'static str,
    },
    /// The other side does not answer.
    #[error("it cannot be reached")]
    Unreachable(#[source] std::io::Error),
}

/// Reaches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEgress;

impl Egress for NoEgress {
    fn connect<'a>(
        &'a self,
        _host: &'a str,
        _port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, EgressError>> {
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
