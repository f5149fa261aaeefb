//! Who may call a function from outside: what its owner states.
//!
//! Each entry is one way in, and whoever comes by any of them is let in. What is not stated is not let in. What a version
//! does not state, its namespace's default says, and then the installation's. Functions of the same namespace and the
//! function's own triggers are inside and are not asked.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::name::{Name, NameError};
use crate::spec::SpecError;

/// Ways in of one function: enough for every caller to have a name of its own.
const WAYS_MAX: usize = 200;
/// Issuers of tokens of one function.
const ISSUERS_MAX: usize = 10;
/// Keys that a spec holds itself, for one issuer.
const KEYS_MAX: usize = 10;
/// Claims that one issuer's tokens must have.
const CLAIMS_MAX: usize = 20;
/// Longest text of an issuer, an audience or an address.
const TEXT_BYTES_MAX: usize = 2_000;
/// Longest key in PEM: an RSA key of 8192 bits has about 1 500 characters.
const PEM_BYTES_MAX: usize = 8_000;
/// Most by which clocks may differ: more would make expired tokens good for long.
const LEEWAY_S_MAX: u32 = 300;
/// What clocks of machines with NTP differ at the very most.
const LEEWAY_S_DEFAULT: u32 = 60;

/// Who may call a function: `"public"`, a list of ways in, or a table with `allow` and `jwt`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessSpec {
    /// The ways in besides tokens of other authorities.
    pub allow: Vec<Way>,
    /// Whose tokens are let in.
    pub jwt: Vec<JwtSpec>,
}

/// One way in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Way {
    /// `public`: everybody.
    Public,
    /// `namespace`: a key or a session of somebody who may call functions of this namespace.
    Namespace,
    /// `inside`: nobody from outside.
    Inside,
    /// `signed-url`: whoever has an address that was signed for it.
    SignedUrl,
    /// `key:NAME`, `key:NAMESPACE/NAME`: one key, without a namespace of the function's own.
    Key {
        /// Whose key it is.
        namespace: Option<Name>,
        /// What it is called.
        name: Name,
    },
    /// `user:NAME`: one person.
    User(Name),
    /// `function:NAMESPACE/NAME`: one function of another namespace, from inside its sandbox.
    Function {
        /// Its namespace.
        namespace: Name,
        /// Its name.
        name: Name,
    },
}

/// Whose tokens are let in, and what must be in them (RFC 7519).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSpec {
    /// What `iss` must be.
    pub issuer: String,
    /// One of these must be in `aud`.
    pub audience: Vec<String>,
    /// Where the issuer publishes its keys (RFC 7517).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// The issuer's keys themselves, as JSON Web Keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Value>,
    /// The issuer's public key in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,
    /// How tokens may be signed. Without any: in every way that fits the key, and by a shared secret only where the keys
    /// stand in the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<JwtAlgorithm>,
    /// What else must be in a token: a value, or one of several. Where the token has a list, one of it must fit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Value>,
    /// By how much the issuer's clock may differ, in seconds.
    #[serde(default = "leeway_s_default", skip_serializing_if = "is_leeway_s_default")]
    pub leeway_s: u32,
}

/// How a token is signed (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// RSA PKCS #1 v1.5 with SHA-256.
    RS256,
    /// ECDSA over P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

/// A text is no way in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WayError {
    /// It is none of them.
    #[error(
        "{text:?} is no way in: there are public, namespace, inside, signed-url, key:NAME, user:NAME and \
         function:NAMESPACE/NAME"
    )]
    Unknown {
        /// The text.
        text: String,
    },
    /// It names nobody that could be.
    #[error("{text:?} names nobody")]
    BadName {
        /// The text.
        text: String,
        /// What is wrong with the name.
        #[source]
        source: NameError,
    },
}

const fn leeway_s_default() -> u32 {
    LEEWAY_S_DEFAULT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_leeway_s_default(leeway_s: &u32) -> bool {
    *leeway_s == LEEWAY_S_DEFAULT
}

impl AccessSpec {
    /// One way in and no other.
    #[must_use]
    pub fn only(way: Way) -> Self {
        Self { allow: vec![way], jwt: Vec::new() }
    }

    /// Whether everybody is let in.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.allow.contains(&Way::Public)
    }

    /// Checks what can be told without looking at keys.
    pub fn validate(&self) -> Result<(), SpecError> {
        let refuse = |reason: String| Err(SpecError { field: "access", reason });
        if self.allow.is_empty() && self.jwt.is_empty() {
            return refuse("it lets nobody in; write access = \"inside\" if that is meant".to_owned());
        }
        if self.allow.len() > WAYS_MAX {
            return refuse(format!("{} ways in, at most {WAYS_MAX} are allowed", self.allow.len()));
        }
        let ways = self.allow.len() + self.jwt.len();
        if self.allow.contains(&Way::Inside) && ways > 1 {
            return refuse("inside means nobody from outside, so it stands alone".to_owned());
        }
        if self.jwt.len() > ISSUERS_MAX {
            return refuse(format!("jwt: {} issuers, at most {ISSUERS_MAX} are allowed", self.jwt.len()));
        }
        self.jwt.iter().try_for_each(JwtSpec::check).or_else(|reason| refuse(format!("jwt: {reason}")))
    }
}

impl JwtSpec {
    fn check(&self) -> Result<(), String> {
        let texts = self.audience.iter().chain([&self.issuer]).chain(&self.jwks_url);
        if let Some(text) = texts.into_iter().find(|text| text.is_empty() || text.len() > TEXT_BYTES_MAX) {
            return Err(format!("{text:?} is empty or longer than {TEXT_BYTES_MAX} bytes"));
        }
        if self.audience.is_empty() {
            return Err(
                "audience: without it tokens for others would be let in; name at least one".to_owned()
            );
        }
        let sources = [self.jwks_url.is_some(), !self.keys.is_empty(), self.pem.is_some()];
        if sources.iter().filter(|is_there| **is_there).count() != 1 {
            return Err("exactly one of jwks_url, keys and pem says with what tokens are checked".to_owned());
        }
        if let Some(url) = self.jwks_url.as_ref().filter(|url| !url.starts_with("https://")) {
            return Err(format!(
                "jwks_url: {url:?} is no https address: whoever can change keys on the way is the issuer"
            ));
        }
        if self.keys.len() > KEYS_MAX || self.pem.as_ref().is_some_and(|pem| pem.len() > PEM_BYTES_MAX) {
            return Err(format!("at most {KEYS_MAX} keys and {PEM_BYTES_MAX} bytes of PEM are allowed"));
        }
        if self.pem.is_some() && self.algorithms.len() != 1 {
            return Err("algorithms: with pem, name the one that the key is for".to_owned());
        }
        if self.pem.is_none() && self.keys.is_empty() && self.algorithms.contains(&JwtAlgorithm::HS256) {
            return Err(
                "algorithms: HS256 needs the key in the spec: what is published is no secret".to_owned()
            );
        }
        if self.pem.is_some() && self.algorithms.contains(&JwtAlgorithm::HS256) {
            return Err("algorithms: HS256 takes a secret, and pem is a public key".to_owned());
        }
        if self.claims.len() > CLAIMS_MAX {
            return Err(format!("claims: at most {CLAIMS_MAX} are allowed"));
        }
        if self.leeway_s > LEEWAY_S_MAX {
            return Err(format!(
                "leeway_s: {} is out of bounds, allowed is 0 to {LEEWAY_S_MAX}",
                self.leeway_s
            ));
        }
        Ok(())
    }
}

impl std::str::FromStr for Way {
    type Err = WayError;

    fn from_str(text: &str) -> Result<Self, WayError> {
        let unknown = || WayError::Unknown { text: text.to_owned() };
        let name =
            |of: &str| Name::new(of).map_err(|source| WayError::BadName { text: text.to_owned(), source });
        match text {
            "public" => return Ok(Self::Public),
            "namespace" => return Ok(Self::Namespace),
            "inside" => return Ok(Self::Inside),
            "signed-url" => return Ok(Self::SignedUrl),
            _ => {}
        }
        match text.split_once(':').ok_or_else(unknown)? {
            ("key", of) => {
                let (namespace, key) = match of.split_once('/') {
                    Some((namespace, key)) => (Some(name(namespace)?), key),
                    None => (None, of),
                };
                Ok(Self::Key { namespace, name: name(key)? })
            }
            ("user", of) => Ok(Self::User(name(of)?)),
            ("function", of) => {
                let (namespace, function) = of.split_once('/').ok_or_else(unknown)?;
                Ok(Self::Function { namespace: name(namespace)?, name: name(function)? })
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::Namespace => f.write_str("namespace"),
            Self::Inside => f.write_str("inside"),
            Self::SignedUrl => f.write_str("signed-url"),
            Self::Key { namespace: None, name } => write!(f, "key:{name}"),
            Self::Key { namespace: Some(namespace), name } => write!(f, "key:{namespace}/{name}"),
            Self::User(name) => write!(f, "user:{name}"),
            Self::Function { namespace, name } => write!(f, "function:{namespace}/{name}"),
        }
    }
}

impl Serialize for Way {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Way {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|error| de::Error::custom(spelled_out(&error)))
    }
}

/// With its cause, since what is read from a manifest has one line.
fn spelled_out(error: &WayError) -> String {
    match error {
        WayError::BadName { source, .. } => format!("{error}: {source}"),
        WayError::Unknown { .. } => error.to_string(),
    }
}

/// The table.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow: Vec<Way>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    jwt: Vec<JwtSpec>,
}

impl Serialize for AccessSpec {
    /// In the shortest form that says it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (&self.allow[..], &self.jwt[..]) {
            ([way], []) => way.serialize(serializer),
            (ways, []) => ways.serialize(serializer),
            (ways, issuers) => Table { allow: ways.to_vec(), jwt: issuers.to_vec() }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AccessSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyForm)
    }
}

struct AnyForm;

impl<'de> Visitor<'de> for AnyForm {
    type Value = AccessSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a way in, a list of them, or a table with `allow` and `jwt`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<AccessSpec, E> {
        text.parse().map(AccessSpec::only).map_err(|error| E::custom(spelled_out(&error)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AccessSpec, A::Error> {
        let mut allow = Vec::new();
        while let Some(way) = list.next_element()? {
            allow.push(way);
        }
        Ok(AccessSpec { allow, jwt: Vec::new() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AccessSpec, A::Error> {
        let Table { allow, jwt } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(AccessSpec { allow, jwt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<AccessSpec, String> {
        let spec: AccessSpec = serde_json::from_str(json).map_err(|error| error.to_string())?;
        spec.validate().map_err(|error| error.to_string())?;
        Ok(spec)
    }

    #[test]
    fn every_form_is_read_and_written_as_it_was_meant() {
        for json in [
            r#""public""#,
            r#""inside""#,
            r#"["namespace","signed-url","key:ci","key:bank/ci","user:anna","function:bank/pay"]"#,
            r#"{"jwt":[{"issuer":"https://a.test","audience":["shop"],"jwks_url":"https://a.test/keys"}]}"#,
            r#"{"allow":["namespace"],"jwt":[{"issuer":"a","audience":["b"],"keys":[{"k":"AA","kty":"oct"}],"algorithms":["HS256"],"claims":{"scope":"x"},"leeway_s":5}]}"#,
        ] {
            let spec = read(json).unwrap();
            assert_eq!(serde_json::to_string(&spec).unwrap(), json);
        }
    }

    #[test]
    fn what_would_let_in_too_many_or_nobody_is_refused_with_a_reason() {
        let refused = |json: &str, why: &str| {
            let error = read(json).expect_err(json);
            assert!(error.contains(why), "{json}: {error}");
        };
        refused("[]", "lets nobody in");
        refused("{}", "lets nobody in");
        refused(r#"["inside","public"]"#, "stands alone");
        refused(r#""everybody""#, "is no way in");
        refused(r#""key:A""#, "names nobody");
        refused(r#""function:pay""#, "is no way in");
        refused(r#"{"alow": ["public"]}"#, "alow");
        refused("7", "a way in");
        let jwt = |rest: &str| format!(r#"{{"jwt": [{{"issuer": "https://a.test", {rest}}}]}}"#);
        refused(&jwt(r#""jwks_url": "https://a.test/keys""#), "audience");
        refused(&jwt(r#""audience": [], "jwks_url": "https://a.test/keys""#), "audience");
        refused(&jwt(r#""audience": ["a"]"#), "exactly one of");
        refused(&jwt(r#""audience": ["a"], "jwks_url": "http://a.test/keys""#), "no https address");
        refused(
            &jwt(r#""audience": ["a"], "jwks_url": "https://a.test/k", "algorithms": ["HS256"]"#),
            "HS256",
        );
        refused(&jwt(r#""audience": ["a"], "pem": "x", "algorithms": ["HS256"]"#), "HS256");
        refused(&jwt(r#""audience": ["a"], "pem": "x""#), "with pem");
        refused(&jwt(r#""audience": ["a"], "jwks_url": "https://a.test/k", "algorithms": ["none"]"#), "none");
        refused(&jwt(r#""audience": ["a"], "jwks_url": "https://a.test/k", "leeway_s": 900"#), "leeway_s");
    }
}
