//! Whether a request from outside may call a function, judged by what lies in memory.
//!
//! ```text
//! what the version states, else its namespace's default, else the installation's
//!    └─ public ─────────────────────────────────────────────> anybody, nothing looked at
//!    └─ Authorization: Bearer alula_...   namespace, key:, user:  ──> Known
//!    └─ Authorization: Bearer a.b.c       jwt                     ──> Vouched
//!    └─ ...&alula-signature=...           signed-url              ──> Known
//! ```

use std::sync::Arc;

use alula_model::{AccessSpec, Caller, Name, Way};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::issuers::{FetchKeys, Issuers, Known};
use super::jwt::{self, BadToken};
use super::url::{Purpose, SignedUrl};
use crate::directory::Refusal;
use crate::grant::Place;
use crate::identity::Identity;
use crate::permission::{Resource, Verb};
use crate::principal::Principal;
use crate::tokens::Tokens;

/// What keys and sessions of this platform begin with.
const OWN_PREFIX: &str = "alula_";

/// What a request brings to be let in by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<&'a str>,
    /// The signature at the end of its address.
    pub signed: Option<SignedUrl<'a>>,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The namespace of what it asks for.
    pub namespace: &'a Name,
    /// The app of that, if it is of one.
    pub app: Option<&'a Name>,
    /// Functions are called, topics published to.
    pub resource: Resource,
    /// What it is called.
    pub name: &'a Name,
    /// Who may, as far as it says so itself.
    pub access: Option<&'a AccessSpec>,
    /// What the request brings.
    pub credentials: Credentials<'a>,
}

impl Asked<'_> {
    fn place(&self) -> Place {
        match self.app {
            Some(app) => Place::App(self.namespace.clone(), app.clone()),
            None => Place::Namespace(self.namespace.clone()),
        }
    }
}

/// A request that is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Who it is from.
    pub caller: Caller,
    /// By what.
    pub by: By,
}

/// By what a request was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Nothing was looked at.
    Nothing,
    /// The platform's own token, which is nobody else's business.
    Token,
    /// Another authority's token, which says this.
    Jwt(Map<String, Value>),
    /// The signature of its address.
    Address,
}

/// A request that is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// It is not known who it is from, and why.
    Unknown(String),
    /// It is known, and may not.
    Forbidden(String),
    /// The keys at this address must be fetched first; see [`Gate::learn`].
    KeysNeeded(String),
    /// It cannot be known at the moment, and why.
    Unavailable(String),
}

/// Judges requests from outside. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Gate {
    identity: Identity,
    tokens: Tokens,
    default: Arc<AccessSpec>,
    issuers: Issuers,
}

impl Gate {
    /// A gate before functions that state nothing and whose namespace does not either, so that `default` holds.
    #[must_use]
    pub fn new(identity: Identity, tokens: Tokens, default: AccessSpec, fetch: Arc<dyn FetchKeys>) -> Self {
        Self { identity, tokens, default: Arc::new(default), issuers: Issuers::new(fetch) }
    }

    /// What holds where neither a function nor its namespace says anything.
    #[must_use]
    pub fn default_access(&self) -> &AccessSpec {
        &self.default
    }

    /// What holds for a function that states this, or for a topic.
    #[must_use]
    pub fn in_force(&self, namespace: &Name, stated: Option<&AccessSpec>) -> AccessSpec {
        let own = stated.cloned().or_else(|| self.identity.default_access(namespace));
        own.unwrap_or_else(|| AccessSpec::clone(&self.default))
    }

    /// Fetches keys of issuers again before they are old, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        self.issuers.run(shutdown).await;
    }

    /// Fetches the keys at an address that [`Denied::KeysNeeded`] named. What could not be had is told by judging again.
    pub async fn learn(&self, url: &str) {
        self.issuers.learn(url).await;
    }

    /// Whether a request is let in, by what is known now.
    pub fn judge(&self, asked: &Asked<'_>) -> Result<Admitted, Denied> {
        if let Some(access) = asked.access {
            return self.judge_by(access, asked);
        }
        let directory = self.identity.directory();
        match directory.calling(asked.namespace).and_then(|calling| calling.default.as_ref()) {
            Some(access) => self.judge_by(access, asked),
            None => self.judge_by(&self.default, asked),
        }
    }

    fn judge_by(&self, access: &AccessSpec, asked: &Asked<'_>) -> Result<Admitted, Denied> {
        if access.is_public() {
            return Ok(Admitted { caller: Caller::Public, by: By::Nothing });
        }
        let Credentials { bearer, signed } = asked.credentials;
        let by_token = match bearer {
            Some(token) if token.starts_with(OWN_PREFIX) => Some(self.judge_token(token, access, asked)),
            Some(token) if !access.jwt.is_empty() => Some(self.judge_jwt(token, access)),
            Some(_) => Some(Err(Denied::Unknown("the token is none of this platform's".to_owned()))),
            None => None,
        };
        if let Some(Ok(admitted)) = by_token {
            return Ok(admitted);
        }
        let by_address = signed
            .filter(|_| access.allow.contains(&Way::SignedUrl))
            .map(|signed| self.judge_address(signed, asked));
        match (by_token, by_address) {
            (_, Some(Ok(admitted))) | (Some(Ok(admitted)), _) => Ok(admitted),
            (Some(Err(denied)), _) | (None, Some(Err(denied))) => Err(denied),
            (None, None) => Err(Denied::Unknown(nobody(access))),
        }
    }

    fn judge_token(&self, token: &str, access: &AccessSpec, asked: &Asked<'_>) -> Result<Admitted, Denied> {
        let who = match self.tokens.identify(token) {
            Some(administrator) => administrator,
            None => self.identity.identify(token).map_err(|refusal| match refusal {
                Refusal::Unsure | Refusal::Stale => Denied::Unavailable(refusal.to_string()),
                refusal => Denied::Unknown(refusal.to_string()),
            })?,
        };
        if !access.allow.iter().any(|way| lets_in(way, &who, asked)) {
            let message = format!("{} is known and may not call this", who.name);
            return Err(Denied::Forbidden(message));
        }
        Ok(Admitted { caller: Caller::Known(who.caller), by: By::Token })
    }

    /// The first issuer that vouches for it counts; of the others' reasons the one that says most is told.
    fn judge_jwt(&self, token: &str, access: &AccessSpec) -> Result<Admitted, Denied> {
        let now = self.identity.now();
        let mut denied = None;
        for spec in &access.jwt {
            let known = self.issuers.keys(spec).map_err(|error| Denied::Unavailable(error.to_string()))?;
            let keys = match (known, &spec.jwks_url) {
                (Known::Keys(keys), _) => keys,
                (Known::Missing, Some(url)) => return Err(Denied::KeysNeeded(url.clone())),
                (Known::Missing | Known::Unreachable, _) => {
                    let message = format!("the keys of {} cannot be fetched at the moment", spec.issuer);
                    denied = Some(Denied::Unavailable(message));
                    continue;
                }
            };
            match jwt::check(token, spec, &keys, now) {
                Ok(vouched) => {
                    spec.jwks_url.iter().for_each(|url| self.issuers.note_use(url));
                    let caller = Caller::Vouched(format!("jwt:{}", vouched.subject).into());
                    return Ok(Admitted { caller, by: By::Jwt(vouched.claims) });
                }
                Err(BadToken::UnknownKey) => {
                    if let Some(url) = spec.jwks_url.as_ref().filter(|url| self.issuers.may_have_more(url)) {
                        return Err(Denied::KeysNeeded(url.clone()));
                    }
                    denied.get_or_insert(Denied::Unknown(BadToken::UnknownKey.to_string()));
                }
                Err(BadToken::Claim(name)) => {
                    denied = Some(Denied::Forbidden(BadToken::Claim(name).to_string()));
                }
                Err(error) => {
                    denied.get_or_insert(Denied::Unknown(error.to_string()));
                }
            }
        }
        Err(denied.unwrap_or_else(|| Denied::Unknown(BadToken::Issuer.to_string())))
    }

    fn judge_address(&self, signed: SignedUrl<'_>, asked: &Asked<'_>) -> Result<Admitted, Denied> {
        let now = self.identity.now();
        let directory = self.identity.directory();
        let key = directory.calling(asked.namespace).and_then(|calling| calling.url_key(signed.key(), now));
        let purpose = Purpose { method: asked.method, namespace: asked.namespace, function: asked.name };
        let Some(key) = key.filter(|key| signed.is_signed(purpose, &key.secret)) else {
            return Err(Denied::Unknown("the signature of the address is wrong".to_owned()));
        };
        if signed.is_over(now) {
            return Err(Denied::Unknown("the time of the signed address is over".to_owned()));
        }
        let caller = Caller::Known(format!("url:{}/{}", asked.namespace, key.id).into());
        Ok(Admitted { caller, by: By::Address })
    }
}

fn lets_in(way: &Way, who: &Principal, asked: &Asked<'_>) -> bool {
    let named = |kind: &str| who.caller.strip_prefix(kind);
    match way {
        Way::Namespace => who.may(Verb::Use, asked.resource, &asked.place()),
        Way::User(name) => named("user:") == Some(name.as_str()),
        Way::Key { namespace, name } => {
            let namespace = namespace.as_ref().unwrap_or(asked.namespace);
            named("key:").and_then(|key| key.split_once('/')) == Some((namespace.as_str(), name.as_str()))
        }
        Way::Public | Way::Inside | Way::SignedUrl | Way::Function { .. } => false,
    }
}

/// What somebody is told who brought nothing.
fn nobody(access: &AccessSpec) -> String {
    let takes_tokens = !access.jwt.is_empty()
        || access.allow.iter().any(|way| matches!(way, Way::Namespace | Way::Key { .. } | Way::User(_)));
    match (takes_tokens, access.allow.contains(&Way::SignedUrl)) {
        (true, _) => "this is not public: send a token, Authorization: Bearer TOKEN".to_owned(),
        (false, true) => "this is not public: it is called at signed addresses".to_owned(),
        (false, false) => "this is not public: it is called from inside the platform".to_owned(),
    }
}
