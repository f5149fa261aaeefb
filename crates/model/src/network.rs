//! What functions may reach outside: rules of a function, and ceilings that the operator sets.
//!
//! Both are lists of the same rules. A connection is made where a rule of the function and a rule of its namespace's ceiling
//! permit it; which addresses nobody reaches, whatever rules say, is the sandbox's policy.
//!
//! ```text
//! internet             public addresses, any port            internet:443
//! api.example.com      that name                             api.example.com:443
//! *.example.com        every name below it, not itself       *.example.com:443
//! 10.1.2.0/24:5432     addresses of a block                  [fd12::/16]:5432
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::limits::{HOST_LEN_MAX, LABEL_LEN_MAX, NETWORK_RULES_MAX};
use crate::name::Name;
use crate::subnet::Subnet;

/// What a function may reach beyond its own sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// Nothing: the sandbox has only its own loopback interface.
    #[default]
    None,
    /// Public addresses.
    Internet,
    /// What one of these rules permits.
    Rules(Vec<NetworkRule>),
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkRule {
    /// Where to.
    pub to: Target,
    /// On which port; any, without.
    pub port: Option<u16>,
}

/// Where a rule leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// Public addresses, by any name.
    Internet,
    /// A name.
    Host(HostName),
    /// Every name below a name.
    Below(HostName),
    /// A block of addresses, however they are named.
    Subnet(Subnet),
}

/// The name of a host as it is compared: lower case, ASCII, without a dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

/// A text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no network rule: {reason}")]
pub struct RuleError {
    text: String,
    reason: &'static str,
}

/// A place that somebody wants to reach.
#[derive(Debug, Clone, Copy)]
pub struct NetworkPlace<'a> {
    /// The name that was asked for; `None` where an address was.
    pub host: Option<&'a HostName>,
    /// The address that it was found at.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// What kind of address it is.
    pub kind: AddressKind,
}

/// What kind of address somebody wants to reach, among those that can be reached at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// Everybody's, or one that the operator counts as such.
    Public,
    /// Of a private network.
    Private,
    /// One that the operator gave a name (`network.extra_hosts`), whatever else it is.
    Named,
}

impl HostName {
    /// Checks a name. What could be read as an address in one of its many forms is none.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() || text.len() > HOST_LEN_MAX {
            return Err("a name has 1 to 253 characters");
        }
        if !text.is_ascii() {
            return Err("a name with other letters is written in its ASCII form, which begins with xn--");
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_label = |label: &str| {
            (1..=LABEL_LEN_MAX).contains(&label.len())
                && label.bytes().all(allowed)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !text.split('.').all(is_label) {
            return Err("names are letters, digits, `-` and `_` between dots; `*.` may stand before them");
        }
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        if is_number(last) || hexadecimal.is_some_and(|d| d.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            return Err("it is neither a name nor a whole address");
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it lies below `other`, and is not that itself.
    #[must_use]
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_suffix(&other.0).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NetworkRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let wrong = |reason| RuleError { text: text.to_owned(), reason };
        let (place, port) = split_port(text).map_err(wrong)?;
        let to = if place.eq_ignore_ascii_case("internet") {
            Target::Internet
        } else if let Ok(subnet) = place.parse::<Subnet>() {
            Target::Subnet(subnet)
        } else if place.contains(['/', ':', '%']) {
            return Err(wrong(
                "it has the form of an address, but is none; an IPv6 address with a port stands in [ ]",
            ));
        } else if let Some(name) = place.strip_prefix("*.") {
            Target::Below(HostName::new(name).map_err(wrong)?)
        } else {
            Target::Host(HostName::new(place).map_err(wrong)?)
        };
        Ok(Self { to, port })
    }
}

/// The place and its port: `host:port`, `[v6]:port`, `[v6/prefix]:port`, or no port.
fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let port = |digits: &str| match digits.parse() {
        Ok(port @ 1..) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(port)),
        _ => Err("a port is a number from 1 to 65535"),
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (place, after) = rest.split_once(']').ok_or("a `]` is missing")?;
        return match after.strip_prefix(':') {
            Some(digits) => Ok((place, port(digits)?)),
            None if after.is_empty() => Ok((place, None)),
            None => Err("after the `]` there is a colon and a port, or nothing"),
        };
    }
    match text.rsplit_once(':') {
        // More than one colon is an IPv6 address, which has no port here.
        Some((place, digits)) if !place.contains(':') => Ok((place, port(digits)?)),
        _ => Ok((text, None)),
    }
}

impl fmt::Display for NetworkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.to.to_string();
        match self.port {
            Some(port) if place.contains(':') => write!(f, "[{place}]:{port}"),
            Some(port) => write!(f, "{place}:{port}"),
            None => f.write_str(&place),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet => f.write_str("internet"),
            Self::Host(name) => name.fmt(f),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Subnet(subnet) => subnet.fmt(f),
        }
    }
}

impl NetworkRule {
    /// Whether a name, whatever its address, could be reached by this rule.
    fn names(&self, host: &HostName) -> bool {
        match &self.to {
            Target::Internet => true,
            Target::Host(name) => host == name,
            Target::Below(name) => host.is_below(name),
            Target::Subnet(_) => false,
        }
    }

    fn has_port(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    /// Whether everything that `other` permits this one does too.
    fn covers(&self, other: &Self) -> bool {
        let has_ports = self.port.is_none() || self.port == other.port;
        has_ports
            && match (&self.to, &other.to) {
                (Target::Internet, Target::Subnet(subnet)) => subnet.is_public(),
                (Target::Internet, _) => true,
                (Target::Host(own), Target::Host(name)) => own == name,
                (Target::Below(own), Target::Host(name)) => name.is_below(own),
                (Target::Below(own), Target::Below(name)) => name == own || name.is_below(own),
                (Target::Subnet(own), Target::Subnet(subnet)) => own.covers(subnet),
                _ => false,
            }
    }
}

impl Network {
    /// What these rules permit.
    #[must_use]
    pub fn of(rules: Vec<NetworkRule>) -> Self {
        match rules.as_slice() {
            [] => Self::None,
            [NetworkRule { to: Target::Internet, port: None }] => Self::Internet,
            _ => Self::Rules(rules),
        }
    }

    /// Whether nothing can be reached.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[NetworkRule] {
        const INTERNET: &[NetworkRule] = &[NetworkRule { to: Target::Internet, port: None }];
        match self {
            Self::None => &[],
            Self::Internet => INTERNET,
            Self::Rules(rules) => rules,
        }
    }

    /// Whether a function with these rules may reach a place. A name that it names may have a private address: whether that
    /// is reached is the ceiling's to say.
    #[must_use]
    pub fn permits(&self, to: &NetworkPlace<'_>) -> bool {
        self.rules().iter().filter(|rule| rule.has_port(to.port)).any(|rule| match &rule.to {
            Target::Internet => to.kind == AddressKind::Public,
            Target::Subnet(subnet) => subnet.contains(to.address),
            Target::Host(_) | Target::Below(_) => to.host.is_some_and(|host| rule.names(host)),
        })
    }

    /// Whether a namespace with this ceiling may reach a place. A private address is reached where a block of the ceiling
    /// has it; by its name only where the operator gave it the name, since anybody can give a name such an address.
    #[must_use]
    pub fn permits_as_ceiling(&self, to: &NetworkPlace<'_>) -> bool {
        self.rules().iter().filter(|rule| rule.has_port(to.port)).any(|rule| match &rule.to {
            Target::Internet => to.kind == AddressKind::Public,
            Target::Subnet(subnet) => subnet.contains(to.address),
            Target::Host(_) | Target::Below(_) => {
                to.kind != AddressKind::Private && to.host.is_some_and(|host| rule.names(host))
            }
        })
    }

    /// Whether some port of a name could be reached.
    #[must_use]
    pub fn names(&self, host: &HostName) -> bool {
        self.rules().iter().any(|rule| rule.names(host))
    }

    /// The ports of a name that rules state; and whether any port is meant.
    #[must_use]
    pub fn ports_of(&self, host: &HostName) -> (Vec<u16>, bool) {
        let rules =
            || self.rules().iter().filter(|rule| rule.names(host) || matches!(rule.to, Target::Subnet(_)));
        let mut ports: Vec<u16> = rules().filter_map(|rule| rule.port).collect();
        ports.sort_unstable();
        ports.dedup();
        (ports, rules().any(|rule| rule.port.is_none()))
    }

    /// The first rule that `ceiling` does not cover. A rule for a name is covered by a block of addresses too: what its
    /// address is shows when it is reached.
    #[must_use]
    pub fn first_beyond(&self, ceiling: &Self) -> Option<&NetworkRule> {
        let is_name = |rule: &NetworkRule| matches!(rule.to, Target::Host(_) | Target::Below(_));
        let could_be = |own: &NetworkRule, rule: &NetworkRule| {
            matches!(own.to, Target::Subnet(_))
                && (own.port.is_none() || own.port == rule.port)
                && is_name(rule)
        };
        self.rules()
            .iter()
            .find(|rule| !ceiling.rules().iter().any(|own| own.covers(rule) || could_be(own, rule)))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Internet => f.write_str("internet"),
            Self::Rules(rules) => {
                let texts: Vec<_> = rules.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join(", "))
            }
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None | Self::Internet => serializer.collect_str(self),
            Self::Rules(rules) => serializer.collect_seq(rules.iter().map(ToString::to_string)),
        }
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NetworkVisitor)
    }
}

struct NetworkVisitor;

impl<'de> Visitor<'de> for NetworkVisitor {
    type Value = Network;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"none\", \"internet\" or a list of rules")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Network, E> {
        match text {
            "none" => Ok(Network::None),
            "internet" => Ok(Network::Internet),
            _ => Err(E::custom(format!(
                "unknown variant `{text}`, expected `none`, `internet` or a list of rules"
            ))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Network, A::Error> {
        let mut rules: Vec<NetworkRule> = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            let rule: NetworkRule = text.parse().map_err(de::Error::custom)?;
            if rules.len() == NETWORK_RULES_MAX {
                return Err(de::Error::custom(format!("at most {NETWORK_RULES_MAX} rules are allowed")));
            }
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        Ok(Network::of(rules))
    }
}

/// What the functions of each namespace may reach at the most.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkCeilings {
    /// Of namespaces that have none of their own.
    pub usual: Network,
    /// Of single namespaces.
    pub namespaces: BTreeMap<Name, Network>,
}

impl NetworkCeilings {
    /// That of a namespace.
    #[must_use]
    pub fn of(&self, namespace: &Name) -> &Network {
        self.namespaces.get(namespace).unwrap_or(&self.usual)
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
