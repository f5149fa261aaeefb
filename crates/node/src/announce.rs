//! What the platform says when it is ready: where it is reached, and what this machine does not give it.
//!
//! The order is that of a reader in a hurry: what is missing and how to get it comes last, so that it stands at the
//! end of the screen. Nothing here decides anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::assembly::Platform;

/// The addresses that were bound.
pub(crate) struct Bound {
    pub(crate) data_plane: SocketAddr,
    pub(crate) control: SocketAddr,
    pub(crate) s3: Option<SocketAddr>,
}

/// Says it in the log.
pub(crate) fn announce(platform: &Platform, bound: &Bound) {
    let data_plane = base_url(bound.data_plane, platform.config.gateway.tls.is_some());
    let control = base_url(bound.control, false);
    let token = &platform.token;
    let made = if token.is_new { "made now, in" } else { "in" };
    tracing::info!("alula {} is ready", env!("CARGO_PKG_VERSION"));
    tracing::info!("functions at {data_plane}/function/NAME");
    tracing::info!("control API at {control}, its page at {control}/docs");
    if let Some(s3) = bound.s3 {
        tracing::info!("buckets for S3 clients at {}", base_url(s3, false));
    }
    tracing::info!("administrator's token {made} {}", token.path.display());
    tracing::info!("data directory {}", platform.config.data_dir.display());
    tracing::info!("runtimes {}", available(platform).join(", "));
    if !bound.control.ip().is_loopback() {
        tracing::warn!(
            "the control API listens on {}, without TLS: keep it off networks that you do not trust",
            bound.control
        );
    }
    warn_of_missing(platform);
}

fn available(platform: &Platform) -> Vec<&str> {
    let languages = platform.languages.iter().filter(|language| language.unavailable().is_none());
    languages.map(|language| language.name.as_str()).collect()
}

fn warn_of_missing(platform: &Platform) {
    for language in platform.languages.iter() {
        if let Some(remedy) = language.unavailable() {
            tracing::warn!("runtime {} is not available: {remedy}", language.name);
        }
    }
    let report = platform.launcher.report();
    for protection in report.protections.iter().filter(|protection| !protection.in_force) {
        tracing::warn!("protection missing: {}: {}", protection.name, protection.detail);
    }
}

/// An address that can be called from this machine: a listener on every address is reached on the loopback one.
pub(crate) fn base_url(listener: SocketAddr, has_tls: bool) -> String {
    let host = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if has_tls { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(host, listener.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_address_can_be_called() {
        let url = |listener: &str, has_tls| base_url(listener.parse().unwrap(), has_tls);
        assert_eq!(url("0.0.0.0:8080", false), "http://127.0.0.1:8080");
        assert_eq!(url("[::]:8443", true), "https://[::1]:8443");
        assert_eq!(url("10.1.2.3:80", false), "http://10.1.2.3:80");
    }
}
