//! The lineage of calls as it travels: signed, so that a function can hand it on but not make one up.
//!
//! ```text
//! X-Alula-Lineage: 1:a.default*3>b.default:MAC
//! ```
//!
//! The MAC is HMAC-SHA-256 (RFC 2104) over everything before its colon, cut to 128 bits, in base64url. Where a function calls
//! from inside its sandbox the platform knows the lineage and asks for no header ([`LineageSeal::behind`]).
//!
//! Every call carries one. That of a call which no function made is the same for all calls of a version, so it is signed
//! once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use alula_model::{Lineage, VersionKey};
use alula_runtime::Origin;
use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};

pub use alula_runtime::LINEAGE_HEADER;

/// What a signed text begins with: its format.
const FORMAT: &str = "1:";
/// Bytes of a MAC that are sent: half of it, as RFC 2104 allows; nobody finds 128 bits by trying.
const MAC_BYTES: usize = 16;
/// Longest header that is looked at: the longest chain that there can be, and some.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Versions whose signed first step is remembered; beyond, all are forgotten and signed again when they are called.
const FIRST_STEPS_MAX: usize = 100_000;

/// Signs lineages and tells signed ones from others. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct LineageSeal {
    key: Arc<hmac::Key>,
    first_steps: Arc<RwLock<HashMap<VersionKey, HeaderValue>>>,
}

impl LineageSeal {
    /// A seal with a secret of any length; 32 random bytes are right.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self { key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)), first_steps: Arc::default() }
    }

    /// Takes the lineage out of a request's headers; empty where there is none, or one that was not signed here.
    #[must_use]
    pub fn take(&self, headers: &mut HeaderMap) -> Lineage {
        let Some(value) = headers.remove(LINEAGE_HEADER) else { return Lineage::default() };
        self.open(&value).unwrap_or_else(|| {
            tracing::debug!("a lineage that was not signed here was left out");
            Lineage::default()
        })
    }

    /// The lineage of a request that came out of a sandbox. Of several calls that it may be from, the one behind the
    /// longest chain counts: then every chain grows with each of its steps, so that one without an end is found. Before
    /// the first call, while code is loaded, the function itself begins a chain.
    #[must_use]
    pub fn behind(&self, origin: &Origin) -> Lineage {
        let chains = origin.calls.iter().filter_map(|call| Some((self.open(call.lineage.as_ref()?)?, call)));
        let Some((chain, call)) = chains.max_by_key(|(chain, _)| chain.depth()) else {
            let first = origin.plans.first().map(|plan| &plan.key);
            return first
                .map_or_else(Lineage::default, |key| Lineage::default().with(&key.namespace, &key.function));
        };
        match origin.calls[..] {
            [_] => chain.led_by(call.id.clone()),
            _ => chain,
        }
    }

    /// The lineage in a header that was signed here.
    #[must_use]
    pub fn open(&self, value: &HeaderValue) -> Option<Lineage> {
        let text = value.to_str().ok().filter(|text| text.len() <= HEADER_BYTES_MAX)?;
        let (signed, mac) = text.rsplit_once(':')?;
        let lineage = signed.strip_prefix(FORMAT)?;
        constant_time::verify_slices_are_equal(self.mac(signed).as_bytes(), mac.as_bytes()).ok()?;
        lineage.parse().ok()
    }

    /// The header for `lineage`.
    #[must_use]
    pub fn sign(&self, lineage: &Lineage) -> HeaderValue {
        let signed = format!("{FORMAT}{lineage}");
        let text = format!("{signed}:{}", self.mac(&signed));
        // Names, digits and a few signs are all that a lineage has.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// The header for what a call of this version leads to that no function made.
    pub(crate) fn sign_first_step(&self, key: &VersionKey) -> HeaderValue {
        let known = self.first_steps.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(header) = known.get(key) {
            return header.clone();
        }
        drop(known);
        let header = self.sign(&Lineage::default().with(&key.namespace, &key.function));
        let mut known = self.first_steps.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= FIRST_STEPS_MAX {
            known.clear();
        }
        known.insert(key.clone(), header.clone());
        header
    }

    fn mac(&self, signed: &str) -> String {
        let tag = hmac::sign(&self.key, signed.as_bytes());
        URL_SAFE_NO_PAD.encode(tag.as_ref().get(..MAC_BYTES).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use alula_model::{InvocationId, Name};
    use alula_runtime::{RunningCall, VersionPlan, Waiters};

    use super::*;

    fn key() -> VersionKey {
        VersionKey { namespace: Name::default_namespace(), function: Name::new("a").unwrap(), version: 1 }
    }

    fn taken(seal: &LineageSeal, text: &str) -> Lineage {
        let mut headers = HeaderMap::from_iter([(LINEAGE_HEADER, HeaderValue::from_str(text).unwrap())]);
        let lineage = seal.take(&mut headers);
        assert!(headers.is_empty(), "it does not go on to the function as it came");
        lineage
    }

    #[test]
    fn what_was_signed_is_read_back_and_the_first_step_is_what_would_be_signed() {
        let seal = LineageSeal::new(b"secret");
        let lineage = Lineage::default().with(&key().namespace, &key().function);
        let header = seal.sign(&lineage);
        assert_eq!(taken(&seal, header.to_str().unwrap()), lineage);
        assert_eq!([seal.sign_first_step(&key()), seal.sign_first_step(&key())], [header.clone(), header]);
    }

    fn plan() -> Arc<VersionPlan> {
        let spec = alula_model::FunctionSpec::new("exec");
        Arc::new(VersionPlan::new(key(), spec, std::path::PathBuf::new()))
    }

    fn call(seal: &LineageSeal, id: &str, chain: &str) -> RunningCall {
        let id = InvocationId::new(id).unwrap();
        let lineage = Some(seal.sign(&chain.parse().unwrap()));
        RunningCall { id, lineage, traceparent: None, waiters: Waiters::default() }
    }

    #[test]
    fn what_comes_out_of_a_sandbox_has_the_chain_of_its_call_or_the_longest_there() {
        let seal = LineageSeal::new(b"secret");
        let behind = |calls: &[(&str, &str)]| {
            let calls = calls.iter().map(|(id, chain)| call(&seal, id, chain)).collect();
            seal.behind(&Origin { plans: vec![plan()], calls }).to_string()
        };
        assert_eq!(behind(&[]), "a.default");
        assert_eq!(behind(&[("1", "b.default>a.default")]), "b.default>a.default@1");
        assert_eq!(behind(&[("1", "a.default*3"), ("2", "a.default*9"), ("3", "a.default")]), "a.default*9");
    }

    #[test]
    fn what_a_function_makes_up_counts_for_nothing() {
        let seal = LineageSeal::new(b"secret");
        let chain: Lineage = "a.default*9>b.default".parse().unwrap();
        let genuine = seal.sign(&chain).to_str().unwrap().to_owned();
        let other = LineageSeal::new(b"another").sign(&chain).to_str().unwrap().to_owned();
        let (signed, mac) = genuine.rsplit_once(':').unwrap();
        let (signed, mac) = (signed.to_owned(), mac.to_owned());
        for forged in [
            genuine.replace("*9", "*2"),
            genuine.replace("1:", "2:"),
            genuine[..genuine.len() - 1].to_owned(),
            format!("{signed}:"),
            format!("{signed}:{mac}A"),
            signed,
            String::new(),
            "::::".to_owned(),
            "x".repeat(HEADER_BYTES_MAX + 1),
            other,
        ] {
            assert!(taken(&seal, &forged).is_empty(), "{forged}");
        }
        assert_eq!(taken(&seal, &genuine), chain);
    }
}
