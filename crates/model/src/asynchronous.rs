//! What an owner states about calls that nobody waits for: how they are tried again, where their results go, who is told.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::name::Name;
use crate::retry::Retry;
use crate::spec::SpecError;

/// The table `async` of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AsyncSpec {
    /// When a failed call is tried again.
    pub retry: Retry,
    /// What becomes of an ordered message whose last attempt failed.
    pub poison: Poison,
    /// Calls of this function that run from the queue at once; what its instances can take where it is not stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Calls of this function that are taken from the queue in a second, at the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_second: Option<u32>,
    /// Share of the queue's work beside other functions of its namespace.
    pub weight: u32,
    /// Whether it has places of its own to run, which no other function takes.
    pub dedicated: bool,
    /// How long the result of a call can be asked for, in milliseconds.
    pub result_keep_ms: u64,
    /// Where the record of a call goes that succeeded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_success: Vec<Destination>,
    /// Where the record of a call goes that was given up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_failure: Vec<Destination>,
    /// Who is told when calls begin to be given up: addresses `mailto:`, `https:`, `slack:`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<Contact>,
    /// What happens where a call has come from this very function too often.
    pub loops: LoopPolicy,
}

/// What becomes of an ordered message whose last attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Poison {
    /// It is kept as a dead letter and the next one of its key runs.
    #[default]
    Park,
    /// It stays where it is, nothing of its key runs, and the owner is told until somebody acts.
    Stop,
}

/// What happens where a call has come from this very function too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoopPolicy {
    /// It is stopped after [`limits::LOOP_REPEATS_MAX`] repeats.
    #[default]
    Detect,
    /// It is stopped after this many repeats.
    Allow(u32),
    /// Only the depth of the whole chain is bounded.
    Off,
}

/// Where the record of a finished call goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Destination {
    /// An asynchronous call of a function of the same namespace, `function:NAME[:QUALIFIER]`.
    Function {
        /// The function.
        name: Name,
        /// Which version; the latest where it is left out.
        qualifier: Option<String>,
    },
    /// A topic of the same namespace, `topic:NAME`.
    Topic(Name),
    /// A request with the record as its body, `https://...` or `http://...`.
    Url(String),
}

/// Whom to tell.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Contact {
    /// A mail, `mailto:ADDRESS`.
    Mail(String),
    /// A request with a JSON body, `https://...` or `http://...`.
    Webhook(String),
    /// A message in the form that Slack's incoming webhooks take, `slack:https://...`.
    Slack(String),
}

/// A text is neither a destination nor a contact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct AddressError {
    text: String,
    expected: &'static str,
}

impl Default for AsyncSpec {
    fn default() -> Self {
        Self {
            retry: Retry::default(),
            poison: Poison::default(),
            concurrency: None,
            rate_per_second: None,
            weight: limits::ASYNC_WEIGHT_DEFAULT,
            dedicated: false,
            result_keep_ms: limits::RESULT_KEEP_MS_DEFAULT,
            on_success: Vec::new(),
            on_failure: Vec::new(),
            notify: Vec::new(),
            loops: LoopPolicy::default(),
        }
    }
}

impl AsyncSpec {
    /// Checks every field against its bounds and names the first that is outside.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.retry.policy().validate().map_err(|(field, reason)| SpecError { field, reason })?;
        let within = |field, value: u64, min: u64, max: u64| match (min..=max).contains(&value) {
            true => Ok(()),
            false => Err(SpecError {
                field,
                reason: format!("{value} is out of bounds, allowed is {min} to {max}"),
            }),
        };
        within(
            "async.concurrency",
            self.concurrency.unwrap_or(1).into(),
            1,
            limits::ASYNC_CONCURRENCY_MAX.into(),
        )?;
        within("async.rate_per_second", self.rate_per_second.unwrap_or(1).into(), 1, 1_000_000)?;
        within("async.weight", self.weight.into(), 1, limits::ASYNC_WEIGHT_MAX.into())?;
        within("async.result_keep_ms", self.result_keep_ms, 0, limits::RESULT_KEEP_MS_MAX)?;
        for (field, length) in [
            ("async.on_success", self.on_success.len()),
            ("async.on_failure", self.on_failure.len()),
            ("async.notify", self.notify.len()),
        ] {
            within(field, length as u64, 0, limits::DESTINATIONS_MAX as u64)?;
        }
        match self.loops {
            LoopPolicy::Allow(times) => {
                within("async.loops.allow", times.into(), 1, limits::LOOP_ALLOW_MAX.into())
            }
            LoopPolicy::Detect | LoopPolicy::Off => Ok(()),
        }
    }
}

fn is_web_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && text.bytes().all(|b| b.is_ascii_graphic())
}

impl TryFrom<String> for Destination {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        let expected = "a destination: function:NAME[:QUALIFIER], topic:NAME, or a web address";
        let refuse = |text: String| Err(AddressError { text, expected });
        if is_web_address(&text) {
            return Ok(Self::Url(text));
        }
        let parsed = match text.split_once(':') {
            Some(("topic", name)) => Name::new(name).ok().map(Self::Topic),
            Some(("function", rest)) => {
                let (name, qualifier) = match rest.split_once(':') {
                    Some((name, qualifier)) => (name, Some(qualifier)),
                    None => (rest, None),
                };
                let is_qualifier = qualifier.is_none_or(|text| text.parse::<crate::Qualifier>().is_ok());
                let name = Name::new(name).ok().filter(|_| is_qualifier);
                name.map(|name| Self::Function { name, qualifier: qualifier.map(str::to_owned) })
            }
            _ => None,
        };
        parsed.map_or_else(|| refuse(text), Ok)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function { name, qualifier: None } => write!(f, "function:{name}"),
            Self::Function { name, qualifier: Some(qualifier) } => write!(f, "function:{name}:{qualifier}"),
            Self::Topic(name) => write!(f, "topic:{name}"),
            Self::Url(address) => f.write_str(address),
        }
    }
}

impl TryFrom<String> for Contact {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        if let Some(address) = text.strip_prefix("mailto:") {
            let is_address =
                address.split_once('@').is_some_and(|(who, host)| !who.is_empty() && !host.is_empty());
            if is_address && address.bytes().all(|b| b.is_ascii_graphic()) {
                return Ok(Self::Mail(address.to_owned()));
            }
        } else if let Some(address) = text.strip_prefix("slack:").filter(|address| is_web_address(address)) {
            return Ok(Self::Slack(address.to_owned()));
        } else if is_web_address(&text) {
            return Ok(Self::Webhook(text));
        }
        Err(AddressError {
            text,
            expected: "a contact: mailto:ADDRESS, a web address, or slack: and a web address",
        })
    }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail(address) => write!(f, "mailto:{address}"),
            Self::Webhook(address) => f.write_str(address),
            Self::Slack(address) => write!(f, "slack:{address}"),
        }
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

impl From<Contact> for String {
    fn from(contact: Contact) -> Self {
        contact.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_and_contacts_survive_their_text_form() {
        for text in ["function:a", "function:a:live", "function:a:3", "topic:orders", "https://a.test/x?y"] {
            assert_eq!(Destination::try_from(text.to_owned()).map(String::from).as_deref(), Ok(text));
        }
        for text in ["mailto:a@b.test", "https://a.test", "slack:https://hooks.test/x"] {
            assert_eq!(Contact::try_from(text.to_owned()).map(String::from).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in
            ["", "a", "function:", "function:A", "function:a:", "topic:", "https://", "ftp://a", "http:///x"]
        {
            assert!(Destination::try_from(text.to_owned()).is_err(), "{text}");
        }
        for text in
            ["", "mailto:", "mailto:a", "mailto:@b", "slack:", "slack:x", "https://a b", "mailto:a@b\r\nx"]
        {
            assert!(Contact::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
