//! The data plane over real sockets: raw bytes where the bytes matter, hyper's client for HTTP/2 and TLS.
//!
//! The function behind it is a closure. Limits are set to milliseconds where a test waits for one to strike.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod admission;
mod bodies;
mod calls;
mod events;
mod floods;
mod hostile;
#[allow(unreachable_pub, reason = "one module of a test binary")]
mod http2;
mod inside;
mod later;
mod limits;
mod shutdown;
#[allow(unreachable_pub, reason = "one module of a test binary")]
mod support;
mod tls;
mod upgrades;
