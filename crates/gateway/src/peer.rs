//! Who is at the other end of a connection, and what a proxy in between may say about it.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::headers::Provenance;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A block of addresses: `10.0.0.0/8`, `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressBlock {
    address: IpAddr,
    prefix_bits: u8,
}

/// A text is not a block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address or a block of addresses such as 10.0.0.0/8")]
pub struct AddressBlockError {
    text: String,
}

impl AddressBlock {
    /// Whether `address` lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(block), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix_bits);
                (block.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(block), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix_bits);
                (block.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl std::str::FromStr for AddressBlock {
    type Err = AddressBlockError;

    fn from_str(text: &str) -> Result<Self, AddressBlockError> {
        let error = || AddressBlockError { text: text.to_owned() };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| error())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = prefix.unwrap_or(whole);
        if prefix_bits > whole { Err(error()) } else { Ok(Self { address, prefix_bits }) }
    }
}

impl TryFrom<String> for AddressBlock {
    type Error = AddressBlockError;

    fn try_from(text: String) -> Result<Self, AddressBlockError> {
        text.parse()
    }
}

impl From<AddressBlock> for String {
    fn from(block: AddressBlock) -> Self {
        format!("{}/{}", block.address, block.prefix_bits)
    }
}

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
        let chain = self.chain(headers);
        let origin = chain.iter().rev().find(|hop| !trusted.iter().any(|block| block.contains(**hop)));
        let origin = origin.or(chain.first()).copied().unwrap_or(self.address);
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
    fn blocks_contain_what_their_prefix_says() {
        let check = |text: &str, address: &str| block(text).contains(address.parse().unwrap());
        assert!(check("10.0.0.0/8", "10.255.0.1"));
        assert!(!check("10.0.0.0/8", "11.0.0.1"));
        assert!(check("0.0.0.0/0", "1.2.3.4"));
        assert!(check("127.0.0.1", "127.0.0.1"));
        assert!(!check("127.0.0.1", "127.0.0.2"));
        assert!(check("fd00::/8", "fd12::1"));
        assert!(check("::/0", "::1"));
        assert!(!check("::/0", "1.2.3.4"));
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "10.0.0.0/"] {
            assert!(text.parse::<AddressBlock>().is_err(), "{text}");
        }
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
