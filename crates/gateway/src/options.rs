//! The configuration of the data plane: every limit with its default and the reason for it.

use std::path::PathBuf;

use alula_model::AddressBlock;
use serde::{Deserialize, Serialize};

/// Connections at once: about 40 KB each when idle over TLS, so 400 MB at the worst.
const CONNECTIONS_MAX_DEFAULT: usize = 10_000;
/// Connections of one source address: a quarter of all, since many people may be behind one address.
const CONNECTIONS_PER_SOURCE_MAX_DEFAULT: usize = 2_500;
/// Request line and headers: what browsers with many cookies send, with room to spare.
const HEADER_BYTES_MAX_DEFAULT: usize = 64 * 1024;
/// hyper cannot parse with a smaller buffer.
pub(crate) const HEADER_BYTES_MAX_LEAST: usize = 8 * 1024;
/// Headers of one request: what hyper parses without allocating.
pub(crate) const HEADERS_MAX_DEFAULT: usize = 100;
/// Time for a TLS handshake, and for the headers of a request from their first byte.
const HEADER_TIMEOUT_MS_DEFAULT: u64 = 10_000;
/// Longer than the 60 s after which common load balancers close, so that they close first and nothing is lost.
const IDLE_TIMEOUT_MS_DEFAULT: u64 = 75_000;
/// A peer that takes no byte of its response for this long is gone.
const WRITE_TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// A peer that sends no byte of its request body for this long is gone.
const BODY_IDLE_TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// Bodies up to this size are read before an instance is asked for, so that a slow upload holds none.
const WHOLE_BODY_BYTES_MAX_DEFAULT: u64 = 64 * 1024;
/// Quiet time on an upgraded connection; chat protocols ping every 30 to 60 s.
const UPGRADE_IDLE_TIMEOUT_MS_DEFAULT: u64 = 300_000;
/// Time for running requests at a shutdown: the default timeout of a function.
const DRAIN_TIMEOUT_MS_DEFAULT: u64 = 30_000;
/// Streams at once on one HTTP/2 connection: RFC 9113 recommends at least 100.
const H2_STREAMS_MAX_DEFAULT: u32 = 128;
/// Streams that a peer opened and reset before they were looked at: against rapid reset.
const H2_RESET_STREAMS_MAX_DEFAULT: usize = 20;
/// A quiet HTTP/2 connection with open streams is pinged this often.
const H2_PING_INTERVAL_MS_DEFAULT: u64 = 20_000;
/// A ping that is not answered in this time means that the peer is gone.
const H2_PING_TIMEOUT_MS_DEFAULT: u64 = 10_000;

/// The configuration of one data-plane listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Connections at once; the next is answered 503 and closed.
    pub connections_max: usize,
    /// Connections at once from one address, of IPv6 from one /64; the next is answered 429 and closed. Trusted proxies may
    /// have any number.
    pub connections_per_source_max: usize,
    /// Bytes of a request line and its headers together.
    pub header_bytes_max: usize,
    /// Headers of one request.
    pub headers_max: usize,
    /// Time for the TLS handshake, for the first request of a connection and for the headers of each request. A
    /// connection is looked after in steps of the shortest timeout, so each may last up to twice as long.
    pub header_timeout_ms: u64,
    /// Time between two requests on one connection.
    pub idle_timeout_ms: u64,
    /// Time in which a peer must take at least one byte that waits for it.
    pub write_timeout_ms: u64,
    /// Time between two pieces of a request body.
    pub body_idle_timeout_ms: u64,
    /// Request bodies of a known length up to this many bytes are read before the function is called.
    pub whole_body_bytes_max: u64,
    /// Time without a byte either way on an upgraded connection (WebSocket).
    pub upgrade_idle_timeout_ms: u64,
    /// Time for running requests and upgraded connections at a shutdown.
    pub drain_timeout_ms: u64,
    /// Streams at once on one HTTP/2 connection.
    pub h2_streams_max: u32,
    /// Streams reset by the peer before they were accepted, on one HTTP/2 connection.
    pub h2_reset_streams_max: usize,
    /// Time after which a quiet HTTP/2 connection is pinged.
    pub h2_ping_interval_ms: u64,
    /// Time for the answer to such a ping.
    pub h2_ping_timeout_ms: u64,
    /// Peers whose `X-Forwarded-*` headers are believed, such as `10.0.0.0/8`.
    pub trusted_proxies: Vec<AddressBlock>,
    /// Whether failed calls carry the function's last log lines; by default only on a loopback listener.
    pub expose_function_logs: Option<bool>,
    /// Serves TLS instead of plain HTTP.
    pub tls: Option<TlsOptions>,
}

/// Where the certificate is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    /// PEM file with the certificate and its chain, leaf first.
    pub certificate: PathBuf,
    /// PEM file with the private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX_DEFAULT,
            connections_per_source_max: CONNECTIONS_PER_SOURCE_MAX_DEFAULT,
            header_bytes_max: HEADER_BYTES_MAX_DEFAULT,
            headers_max: HEADERS_MAX_DEFAULT,
            header_timeout_ms: HEADER_TIMEOUT_MS_DEFAULT,
            idle_timeout_ms: IDLE_TIMEOUT_MS_DEFAULT,
            write_timeout_ms: WRITE_TIMEOUT_MS_DEFAULT,
            body_idle_timeout_ms: BODY_IDLE_TIMEOUT_MS_DEFAULT,
            whole_body_bytes_max: WHOLE_BODY_BYTES_MAX_DEFAULT,
            upgrade_idle_timeout_ms: UPGRADE_IDLE_TIMEOUT_MS_DEFAULT,
            drain_timeout_ms: DRAIN_TIMEOUT_MS_DEFAULT,
            h2_streams_max: H2_STREAMS_MAX_DEFAULT,
            h2_reset_streams_max: H2_RESET_STREAMS_MAX_DEFAULT,
            h2_ping_interval_ms: H2_PING_INTERVAL_MS_DEFAULT,
            h2_ping_timeout_ms: H2_PING_TIMEOUT_MS_DEFAULT,
            trusted_proxies: Vec::new(),
            expose_function_logs: None,
            tls: None,
        }
    }
}

impl Options {
    /// Names the first option that is outside its bounds, with what is allowed.
    pub(crate) fn validate(&self) -> Result<(), (&'static str, String)> {
        let least = |name, value: u64, least: u64| {
            if value >= least {
                Ok(())
            } else {
                Err((name, format!("{value} is too small, the least is {least}")))
            }
        };
        least("connections_max", self.connections_max as u64, 1)?;
        least("connections_per_source_max", self.connections_per_source_max as u64, 1)?;
        least("header_bytes_max", self.header_bytes_max as u64, HEADER_BYTES_MAX_LEAST as u64)?;
        least("headers_max", self.headers_max as u64, 1)?;
        least("header_timeout_ms", self.header_timeout_ms, 1)?;
        least("idle_timeout_ms", self.idle_timeout_ms, 1)?;
        least("write_timeout_ms", self.write_timeout_ms, 1)?;
        least("body_idle_timeout_ms", self.body_idle_timeout_ms, 1)?;
        least("upgrade_idle_timeout_ms", self.upgrade_idle_timeout_ms, 1)?;
        least("h2_streams_max", self.h2_streams_max.into(), 1)?;
        least("h2_ping_interval_ms", self.h2_ping_interval_ms, 1)?;
        least("h2_ping_timeout_ms", self.h2_ping_timeout_ms, 1)?;
        if self.connections_max > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(("connections_max", format!("the most is {}", tokio::sync::Semaphore::MAX_PERMITS)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_the_first_bad_option_is_named() {
        assert_eq!(Options::default().validate(), Ok(()));
        let options = Options { header_bytes_max: 100, ..Options::default() };
        assert_eq!(options.validate().map_err(|(name, _)| name), Err("header_bytes_max"));
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(
            serde_json::from_str::<Options>("{\"connections_max\": 5}").is_ok_and(|o| o.connections_max == 5)
        );
        assert!(serde_json::from_str::<Options>("{\"conections_max\": 5}").is_err());
    }
}
