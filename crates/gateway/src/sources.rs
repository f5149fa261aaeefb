//! How many connections each source address has, so that none takes all that there are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alula_model::AddressBlock;

/// A network of IPv6 that counts as one source: what one subscriber has (RFC 6177).
const IPV6_PREFIX_BITS: u8 = 64;

/// Connections that are open, by source. As long as the connections themselves, so it needs no bound of its own.
#[derive(Debug)]
pub struct ConnectionsBySource {
    open: Mutex<HashMap<AddressBlock, usize>>,
    most: usize,
}

/// One connection of a source; no longer counted when it is dropped.
#[derive(Debug)]
pub struct OfSource {
    sources: Arc<ConnectionsBySource>,
    source: AddressBlock,
}

impl ConnectionsBySource {
    /// Up to `most` connections of each source.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), most })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<AddressBlock, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more connection from `address`, where its source may have it.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<OfSource> {
        let address = address.to_canonical();
        let source = AddressBlock::around(address, if address.is_ipv4() { 32 } else { IPV6_PREFIX_BITS });
        let mut open = self.open();
        let count = open.entry(source).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(OfSource { sources: Arc::clone(self), source })
    }
}

impl Drop for OfSource {
    fn drop(&mut self) {
        let mut open = self.sources.open();
        let Some(count) = open.get_mut(&self.source) else { return };
        *count -= 1;
        if *count == 0 {
            open.remove(&self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_own_and_nothing_is_left_of_who_is_gone() {
        let sources = ConnectionsBySource::new(2);
        let take = |address: &str| sources.take(address.parse().unwrap());
        let held = [take("192.0.2.1"), take("::ffff:192.0.2.1"), take("2001:db8::1"), take("2001:db8::2")];
        assert!(held.iter().all(Option::is_some));
        assert!(take("192.0.2.1").is_none() && take("2001:db8::3").is_none());
        assert!(take("192.0.2.2").is_some() && take("2001:db8:0:1::1").is_some());
        drop(held);
        assert!(take("192.0.2.1").is_some());
        assert!(sources.open().is_empty());
    }
}
