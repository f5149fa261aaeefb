//! Which addresses a function may reach: public ones, unless an exception allows more. No I/O but asking for
//! the machine's own addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use alula_model::{AddressKind, Subnet};

/// Which addresses can be reached at all, before any rule is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Blocks that count as public although they are not.
    pub allow: Vec<Subnet>,
}

impl EgressPolicy {
    /// What kind of address it is, or the rule by which nobody reaches it. `own` are the machine's interface addresses.
    pub(super) fn kind(&self, address: IpAddr, own: &[IpAddr]) -> Result<AddressKind, &'static str> {
        match self.check(address, own) {
            Ok(()) => Ok(AddressKind::Public),
            // The machine's own address in a private network is its own first.
            Err("private") if own.iter().any(|own| plain(*own) == plain(address)) => Err("own_address"),
            Err("private") => Ok(AddressKind::Private),
            Err(rule) => Err(rule),
        }
    }

    /// Allows the address, or names the rule that refuses it. `own` are the machine's interface addresses.
    fn check(&self, address: IpAddr, own: &[IpAddr]) -> Result<(), &'static str> {
        let address = plain(address);
        if self.allow.iter().any(|subnet| subnet.contains(address)) {
            return Ok(());
        }
        match address {
            IpAddr::V4(v4) => check_v4(v4)?,
            IpAddr::V6(v6) => check_v6(v6)?,
        }
        if own.iter().any(|own| plain(*own) == address) { Err("own_address") } else { Ok(()) }
    }
}

/// The IPv4 address that an IPv6 address carries, where it carries one: mapped, compatible, 6to4 or NAT64.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let carried = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => carried(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => carried(high, low),
        [0x2002, high, low, ..] => carried(high, low),
        _ => address,
    }
}

fn check_v4(v4: Ipv4Addr) -> Result<(), &'static str> {
    let [a, b, c, _] = v4.octets();
    match (a, b, c) {
        (0, ..) => Err("unspecified"),
        (127, ..) => Err("loopback"),
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Err("private"),
        (169, 254, _) => Err("link_local_and_metadata"),
        (100, 64..=127, _) => Err("shared_carrier"),
        // The networks of documentation are nobody's, so there is nothing to protect there; gateways that stand for
        // outside hosts answer under them.
        (192, 0, 0) | (198, 18..=19, _) => Err("reserved"),
        (224..=239, ..) => Err("multicast"),
        (240..=255, ..) => Err("reserved"),
        _ => Ok(()),
    }
}

fn check_v6(v6: Ipv6Addr) -> Result<(), &'static str> {
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Err("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Err("loopback"),
        [0xfc00..=0xfdff, ..] => Err("private"),
        [0xfe80..=0xfebf, ..] => Err("link_local_and_metadata"),
        [0xfec0..=0xfeff, ..] => Err("private"),
        [0xff00..=0xffff, ..] => Err("multicast"),
        // Only this eighth of the addresses is given out; documentation and tunnels are carved out of it.
        [0x2001, 0x0000 | 0x0db8, ..] => Err("reserved"),
        [0x2000..=0x3fff, ..] => Ok(()),
        _ => Err("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str) -> Result<(), &'static str> {
        EgressPolicy::default().check(address.parse().unwrap(), &["8.8.4.4".parse().unwrap()])
    }

    #[test]
    fn public_addresses_pass() {
        for address in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert_eq!(check(address), Ok(()), "{address}");
        }
    }

    #[test]
    fn addresses_inside_are_refused_in_every_disguise() {
        let cases = [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("127.0.0.1", "loopback"),
            ("127.8.8.8", "loopback"),
            ("10.0.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.1.1", "private"),
            ("169.254.169.254", "link_local_and_metadata"),
            ("100.64.0.1", "shared_carrier"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("8.8.4.4", "own_address"),
            ("::ffff:8.8.4.4", "own_address"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "link_local_and_metadata"),
            ("::127.0.0.1", "loopback"),
            ("64:ff9b::10.0.0.1", "private"),
            ("2002:7f00:0001::1", "loopback"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link_local_and_metadata"),
            ("ff02::1", "multicast"),
            ("2001:db8::1", "reserved"),
            ("2001::1", "reserved"),
            ("4000::1", "reserved"),
        ];
        for (address, rule) in cases {
            assert_eq!(check(address), Err(rule), "{address}");
        }
    }

    #[test]
    fn an_exception_allows_its_block_and_no_more() {
        let policy = EgressPolicy { allow: vec!["10.1.0.0/16".parse().unwrap()] };
        let check = |address: &str| policy.check(address.parse().unwrap(), &[]);
        assert_eq!(check("10.1.255.1"), Ok(()));
        assert_eq!(check("::ffff:10.1.0.9"), Ok(()));
        assert_eq!(check("10.2.0.1"), Err("private"));
    }

    #[test]
    fn blocks_are_read_and_bad_ones_refused() {
        assert!("10.0.0.0/8".parse::<Subnet>().unwrap().contains("10.255.0.1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Subnet>().unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(!"0.0.0.0/0".parse::<Subnet>().unwrap().contains("::1".parse().unwrap()));
        assert_eq!("fd00::/8".parse::<Subnet>().unwrap().to_string(), "fd00::/8");
        assert_eq!("10.0.0.1".parse::<Subnet>().unwrap().to_string(), "10.0.0.1/32");
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "a/8", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }
}
