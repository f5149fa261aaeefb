//! Who is at the other end of a connection, and what a proxy in between may say about it.

use std::net::IpAddr;

use crate::headers::Provenance;
use alula_model::AddressBlock;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How the peer reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// The other end of one connection. What every request of it needs is formatted once.
#[derive(Debug)]
pub(crate) struct Peer {
    address: IpAddr,
    text: HeaderValue,
    scheme: Scheme,
    pub(crate) provenance: Provenance,
}

impl Peer {
    pub(crate) fn new(address: IpAddr, scheme: Scheme, trusted: &[AddressBlock]) -> Self {
        let address = address.to_canonical();
        let text = HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        let is_trusted = trusted.iter().any(|block| block.contains(address));
        let provenance = if is_trusted { Provenance::Kept } else { Provenance::Dropped };
        Self { address, text, scheme, provenance }
    }

    /// The address that a request with these headers really came from.
    pub(crate) fn source(&self, headers: &HeaderMap, trusted: &[AddressBlock]) -> IpAddr {
        if self.provenance == Provenance::Dropped {
            return self.address;
        }
        let chain = self.chain(headers);
        let origin = chain.iter().rev().find(|hop| !trusted.iter().any(|block| block.contains(**hop)));
        origin.or(chain.first()).copied().unwrap_or(self.address)
    }

    /// Completes the `X-Forwarded-*` headers of a request, whose untrusted ones are gone already, and tells the
    /// address that the request really came from. `Host` must be set.
    pub(crate) fn forward(&self, headers: &mut HeaderMap, trusted: &[AddressBlock]) -> IpAddr {
        let proto = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        if self.provenance == Provenance::Dropped {
            headers.insert(FORWARDED_FOR, self.text.clone());
            headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
            if let Some(host) = headers.get(header::HOST).cloned() {
                headers.insert(FORWARDED_HOST, host);
            }
            return self.address;
        }
        let origin = self.source(headers, trusted);
        headers.append(FORWARDED_FOR, self.text.clone());
        headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static(proto));
        if let Some(host) = headers.get(header::HOST).cloned() {
            headers.entry(FORWARDED_HOST).or_insert(host);
        }
        origin
    }

    /// The addresses that a trusted peer names, oldest first, and then the peer. What lies before something that
    /// is not an address cannot be believed.
    fn chain(&self, headers: &HeaderMap) -> Vec<IpAddr> {
        let mut chain = Vec::new();
        for value in headers.get_all(FORWARDED_FOR) {
            for hop in value.to_str().unwrap_or("?").split(',') {
                match hop.trim().parse::<IpAddr>() {
                    Ok(address) => chain.push(address.to_canonical()),
                    Err(_) => chain.clear(),
                }
            }
        }
        chain.push(self.address);
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> AddressBlock {
        text.parse().unwrap()
    }

    #[test]
    fn the_origin_is_the_last_hop_that_is_not_a_trusted_proxy() {
        let trusted = [block("10.0.0.0/8")];
        let check = |peer: &str, sent: &str| {
            let peer = Peer::new(peer.parse().unwrap(), Scheme::Http, &trusted);
            let mut headers = HeaderMap::new();
            if peer.provenance == Provenance::Kept {
                headers.insert(FORWARDED_FOR, HeaderValue::from_str(sent).unwrap());
            }
            peer.forward(&mut headers, &trusted).to_string()
        };
        assert_eq!(check("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.9"), "1.2.3.4");
        assert_eq!(check("10.0.0.1", "10.0.0.8"), "10.0.0.8");
        assert_eq!(check("10.0.0.1", "1.2.3.4, rubbish"), "10.0.0.1");
        assert_eq!(check("9.9.9.9", "1.2.3.4"), "9.9.9.9");
        assert_eq!(check("::ffff:9.9.9.9", ""), "9.9.9.9");
    }
}
