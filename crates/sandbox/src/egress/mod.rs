//! Outbound traffic of cells with `Network::Internet`: an HTTP proxy on the cell's loopback interface.
//!
//! The cell has no route out at all. Its programs ask this proxy (`HTTP_PROXY`, `HTTPS_PROXY`), which runs in
//! the platform, resolves the name itself, checks every address against the `policy` and connects to a
//! checked address, so a name that changes its address between check and use (DNS rebinding) gains nothing.
//! `head` reads requests, `proxy` carries them out. TLS is passed through unseen.

mod head;
mod policy;
mod proxy;

pub(crate) use proxy::serve;

pub use policy::{EgressPolicy, Subnet, SubnetError};
