//! Addresses of brokers: variables filled in, user and password apart from the rest, and never shown.

use std::collections::BTreeMap;
use std::fmt;

use url::Url;

/// Where a broker is and who we are there. Its `Debug` and `Display` show neither user nor password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    url: Url,
    /// As the client libraries take it, with everything.
    text: String,
}

/// Why an address cannot be used. The text repeats nothing of it but names of variables and the scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// A variable is not there.
    #[error("${{{0}}} is not in the function's env")]
    NoVariable(String),
    /// The text is no address.
    #[error("the address cannot be read ({0}); allowed is {1}HOST[:PORT]")]
    Unreadable(url::ParseError, String),
    /// The scheme is another kind's.
    #[error("the address begins with {found}://, allowed is {allowed}")]
    Scheme {
        /// What is there.
        found: String,
        /// What may be there.
        allowed: String,
    },
    /// A password or token stands in it, where everybody sees it who sees the function.
    #[error(
        "the address holds a password or token; write it as ${{NAME}} and set NAME in the function's env"
    )]
    Clear,
    /// It names no host.
    #[error("the address names no host")]
    NoHost,
}

/// Replaces every `${NAME}` of `text` by the variable `NAME` of `env`.
pub(crate) fn fill(text: &str, env: &BTreeMap<String, String>) -> Result<String, AddressError> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        // What is not closed is not a variable and stands as it is.
        let Some((name, behind)) = after.split_once('}') else { break };
        filled.push_str(before);
        filled.push_str(env.get(name).ok_or_else(|| AddressError::NoVariable(name.to_owned()))?);
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

impl Address {
    /// Reads an address with one of these schemes.
    pub(crate) fn read(
        text: &str,
        schemes: &[&str],
        env: &BTreeMap<String, String>,
    ) -> Result<Self, AddressError> {
        if holds_secret(text) {
            return Err(AddressError::Clear);
        }
        let text = filled(text, env)?;
        let allowed = schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
        let url = Url::parse(&text).map_err(|error| AddressError::Unreadable(error, allowed.clone()))?;
        if !schemes.contains(&url.scheme()) {
            return Err(AddressError::Scheme { found: url.scheme().to_owned(), allowed });
        }
        match url.host_str() {
            None | Some("") => Err(AddressError::NoHost),
            Some(_) => Ok(Self { url, text }),
        }
    }

    /// The whole text, user and password included.
    pub(crate) fn secret_text(&self) -> &str {
        &self.text
    }

    /// The parsed form, user and password included.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The user, decoded.
    pub(crate) fn user(&self) -> Option<String> {
        Some(decoded(self.url.username())).filter(|user| !user.is_empty())
    }

    /// The password, decoded.
    pub(crate) fn password(&self) -> Option<String> {
        self.url.password().map(decoded)
    }

    /// The host as it stands in the address.
    pub(crate) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The host without the brackets of an IPv6 address.
    pub(crate) fn bare_host(&self) -> &str {
        self.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, or `default`.
    pub(crate) fn port(&self, default: u16) -> u16 {
        self.url.port().unwrap_or(default)
    }

    /// What stands behind the host, decoded and without the slash before it.
    pub(crate) fn path(&self) -> String {
        decoded(self.url.path().trim_start_matches('/'))
    }

    /// Whether the connection is encrypted, by the scheme.
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.url.scheme(), "tls" | "mqtts" | "amqps" | "rediss")
    }

    /// Texts that must not be in an error or a log: a client may repeat its address in its own words.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let encoded = self.url.password().map(str::to_owned);
        // A user without a password may be a token.
        let token = self.user().filter(|_| encoded.is_none());
        let mut secrets: Vec<_> = [Some(self.text.clone()), encoded, self.password(), token]
            .into_iter()
            .flatten()
            .filter(|secret| !secret.is_empty())
            .collect();
        secrets.dedup();
        secrets
    }
}

/// An address with its variables. Those in the place of user and password stand as they are, whatever characters they have;
/// elsewhere, and where a whole address is one variable, they are a part of the address.
fn filled(text: &str, env: &BTreeMap<String, String>) -> Result<String, AddressError> {
    let Some((scheme, rest)) = text.split_once("://") else { return fill(text, env) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else { return fill(text, env) };
    let encoded = env.iter().map(|(name, value)| (name.clone(), percent_encoded(value))).collect();
    Ok(format!("{scheme}://{}{}", fill(&rest[..at], &encoded)?, fill(&rest[at..], env)?))
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Whether a password, or what stands in its place, is written out in an address.
fn holds_secret(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let Some((user, _)) = rest.split(['/', '?', '#']).next().unwrap_or_default().rsplit_once('@') else {
        return false;
    };
    // With nothing behind the user, NATS takes the user for a token.
    let secret = user.split_once(':').map_or(user, |(_, password)| password);
    let is_token = !user.contains(':') && matches!(text.split(':').next(), Some("nats" | "tls"));
    !secret.is_empty() && (user.contains(':') || is_token) && !secret.contains("${")
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.url.scheme(), self.host())?;
        self.url.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn decoded(text: &str) -> String {
    percent_decoded(text.as_bytes())
}

fn percent_decoded(bytes: &[u8]) -> String {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> BTreeMap<String, String> {
        BTreeMap::from([
            ("HOST".to_owned(), "broker.example".to_owned()),
            ("PASSWORD".to_owned(), "s3cret/@%40".to_owned()),
            ("URL".to_owned(), "redis://me:s3cret%40@h".to_owned()),
        ])
    }

    #[test]
    fn variables_are_filled_in_and_a_missing_one_is_named() {
        assert_eq!(fill("a ${HOST} ${HOST}b", &env()).unwrap(), "a broker.example broker.exampleb");
        assert_eq!(fill("nothing $HOST ${", &env()).unwrap(), "nothing $HOST ${");
        assert_eq!(fill("${NO}", &env()).unwrap_err().to_string(), "${NO} is not in the function's env");
    }

    #[test]
    fn user_and_password_are_taken_apart_and_never_shown() {
        let address = Address::read("redis://me:${PASSWORD}@${HOST}:7000/2", &["redis", "rediss"], &env());
        let address = address.unwrap();
        assert_eq!(
            (address.user().as_deref(), address.password().as_deref()),
            (Some("me"), Some("s3cret/@%40"))
        );
        assert_eq!((address.host(), address.port(6379)), ("broker.example", 7000));
        for shown in [format!("{address}"), format!("{address:?}")] {
            assert!(!shown.contains("s3cret") && !shown.contains("me:"), "{shown}");
        }
        assert!(address.secrets().contains(&"s3cret/@%40".to_owned()));
        let whole = Address::read("${URL}", &["redis"], &env()).unwrap();
        assert_eq!(whole.password().as_deref(), Some("s3cret@"));
    }

    #[test]
    fn a_password_that_is_written_out_is_refused() {
        let read = |text: &str| Address::read(text, &["redis", "nats", "postgres"], &env()).map(drop);
        for text in ["redis://me:pw@h", "redis://:pw@h/1", "nats://token@h", "postgres://a:b@c@h/db"] {
            assert_eq!(read(text), Err(AddressError::Clear), "{text}");
        }
        for text in ["redis://me:${PASSWORD}@h", "redis://h", "nats://${PASSWORD}@h", "postgres://me@h/a:b@c"]
        {
            assert_eq!(read(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_of_the_kind_is_refused_without_repeating_it() {
        for (text, expected) in [
            ("http://u@h", "begins with http://, allowed is redis://"),
            ("pw", "cannot be read"),
            ("redis:///2", "no host"),
        ] {
            let error = Address::read(text, &["redis"], &env()).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("pw"), "{text}: {error}");
        }
    }
}
