//! Blocks of internet addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A block of addresses: `10.0.0.0/8`, `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// The block with `prefix_bits` leading bits of `address`, all of them where there are fewer.
    #[must_use]
    pub fn around(address: IpAddr, prefix_bits: u8) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let prefix_bits = prefix_bits.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
                Self { address: Ipv4Addr::from_bits(v4.to_bits() & mask).into(), prefix_bits }
            }
            IpAddr::V6(v6) => {
                let prefix_bits = prefix_bits.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0);
                Self { address: Ipv6Addr::from_bits(v6.to_bits() & mask).into(), prefix_bits }
            }
        }
    }

    /// The same block, named by its first address.
    #[must_use]
    pub fn canonical(self) -> Self {
        Self::around(self.address, self.prefix_bits)
    }

    /// How many leading bits are the block's.
    #[must_use]
    pub const fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }

    /// Whether it is one of IPv4.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

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

impl FromStr for AddressBlock {
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
        block.to_string()
    }
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
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
    fn a_block_around_an_address_holds_it_and_is_named_by_its_first() {
        let around = |address: &str, bits| AddressBlock::around(address.parse().unwrap(), bits).to_string();
        assert_eq!(around("10.1.2.3", 8), "10.0.0.0/8");
        assert_eq!(around("10.1.2.3", 0), "0.0.0.0/0");
        assert_eq!(around("10.1.2.3", 200), "10.1.2.3/32");
        assert_eq!(around("2001:db8:1:2:3::4", 64), "2001:db8:1:2::/64");
        assert_eq!(block("10.1.2.3/8").canonical(), block("10.0.0.0/8"));
    }

    #[test]
    fn a_block_is_written_as_it_is_read() {
        for text in ["10.0.0.0/8", "fd00::/8"] {
            assert_eq!(block(text).to_string(), text);
        }
        assert_eq!(block("1.2.3.4").to_string(), "1.2.3.4/32");
    }
}
