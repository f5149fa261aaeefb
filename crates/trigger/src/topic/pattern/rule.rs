//! One rule over one value.

use std::net::IpAddr;

use serde_json::Value;

/// What a value must be like.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rule {
    /// Exactly this text, number, truth value or null.
    Is(Value),
    /// Text like this.
    Text(Text),
    /// A number within all of these.
    Numeric(Vec<(Comparison, f64)>),
    /// An address in this block.
    Cidr(Block),
    /// There, or not there.
    Exists(bool),
    /// There, and nothing of this.
    AnythingBut(Vec<Rule>),
}

/// What a text must be like.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Text {
    /// It begins so.
    Prefix(String),
    /// It ends so.
    Suffix(String),
    /// It begins so, in whatever case; stored in lower case.
    PrefixIgnoringCase(String),
    /// It ends so, in whatever case; stored in lower case.
    SuffixIgnoringCase(String),
    /// It is this, in whatever case; stored in lower case.
    EqualsIgnoringCase(String),
    /// It has these parts in this order, with anything between them.
    Wildcard(Vec<String>),
}

/// How a number compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    first: IpAddr,
    prefix_bits: u8,
}

impl Rule {
    /// Whether it holds of something that is not there.
    pub(super) const fn allows_absence(&self) -> bool {
        matches!(self, Self::Exists(false))
    }

    pub(super) fn matches(&self, value: &Value) -> bool {
        match self {
            Self::Is(expected) => is_same(expected, value),
            Self::Text(text) => value.as_str().is_some_and(|value| text.matches(value)),
            Self::Numeric(bounds) => {
                value.as_f64().is_some_and(|value| bounds.iter().all(|(how, bound)| how.holds(value, *bound)))
            }
            Self::Cidr(block) => {
                value.as_str().and_then(|text| text.parse().ok()).is_some_and(|address| block.has(address))
            }
            // What may exist is a value; an object is only a way to values.
            Self::Exists(exists) => *exists && !value.is_object(),
            Self::AnythingBut(rules) => !value.is_object() && !rules.iter().any(|rule| rule.matches(value)),
        }
    }
}

/// Numbers are the same where their values are: `300`, `300.0` and `3.0e2` are one number.
fn is_same(expected: &Value, value: &Value) -> bool {
    match (expected, value) {
        (Value::Number(expected), Value::Number(value)) => {
            expected == value || expected.as_f64() == value.as_f64()
        }
        _ => expected == value,
    }
}

impl Text {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Prefix(prefix) => value.starts_with(prefix),
            Self::Suffix(suffix) => value.ends_with(suffix),
            Self::PrefixIgnoringCase(prefix) => value.to_lowercase().starts_with(prefix),
            Self::SuffixIgnoringCase(suffix) => value.to_lowercase().ends_with(suffix),
            Self::EqualsIgnoringCase(expected) => value.to_lowercase() == *expected,
            Self::Wildcard(parts) => has_parts(parts, value),
        }
    }
}

/// Whether `value` is the parts in this order with anything between them. The first place where a part is found is as
/// good as any later one, so nothing is tried twice.
fn has_parts(parts: &[String], value: &str) -> bool {
    let [first, middle @ .., last] = parts else {
        return parts.first().is_some_and(|only| only == value);
    };
    let Some(mut rest) = value.strip_prefix(first.as_str()) else { return false };
    for part in middle {
        match rest.find(part.as_str()) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last.as_str())
}

impl Comparison {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "=" => Some(Self::Equal),
            "<" => Some(Self::Less),
            "<=" => Some(Self::LessOrEqual),
            ">" => Some(Self::Greater),
            ">=" => Some(Self::GreaterOrEqual),
            _ => None,
        }
    }

    #[expect(clippy::float_cmp, reason = "the owner asked for this very number")]
    fn holds(self, value: f64, bound: f64) -> bool {
        match self {
            Self::Equal => value == bound,
            Self::Less => value < bound,
            Self::LessOrEqual => value <= bound,
            Self::Greater => value > bound,
            Self::GreaterOrEqual => value >= bound,
        }
    }
}

impl Block {
    /// Reads `10.0.0.0/24` or `2001:db8::/32`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (first, bits) = text.split_once('/')?;
        let first: IpAddr = first.parse().ok()?;
        let bits_max = if first.is_ipv4() { 32 } else { 128 };
        let prefix_bits = bits.parse().ok().filter(|bits| *bits <= bits_max)?;
        Some(Self { first, prefix_bits })
    }

    fn has(self, address: IpAddr) -> bool {
        let differs = match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                u128::from(first.to_bits() ^ address.to_bits()) << (128 - 32)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => first.to_bits() ^ address.to_bits(),
            _ => return false,
        };
        differs.leading_zeros() >= u32::from(self.prefix_bits)
    }
}
