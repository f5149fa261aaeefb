//! Keys that tokens of other authorities are checked with (RFC 7517), each good for exactly one algorithm.
//!
//! What an algorithm is follows from the key, never from a token: a public RSA key cannot be taken for the secret of an
//! HMAC, and there is nothing that could stand for `none`.

use alula_model::{JwtAlgorithm, JwtSpec};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// Keys of one set that are looked at.
const KEYS_MAX: usize = 100;
/// Shortest secret: RFC 7518 3.2 asks for as many bits as the hash has.
const SECRET_BYTES_MIN: usize = 32;
/// Shortest modulus of an RSA key: RFC 7518 3.3 asks for 2048 bits.
const MODULUS_BYTES_MIN: usize = 256;

/// Keys of one issuer.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Vec<VerifyingKey>);

/// One key.
#[derive(Debug)]
pub(crate) struct VerifyingKey {
    pub(crate) id: Option<String>,
    pub(crate) algorithm: JwtAlgorithm,
    pub(crate) key: DecodingKey,
}

/// Whether secrets are among the keys that are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The owner of a function wrote them into its spec.
    Spec,
    /// They were published, so none of them is a secret.
    Published,
}

/// Why keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeySetError {
    /// It is no set of keys.
    #[error("it is no JSON Web Key Set: an object with a list `keys`")]
    Malformed,
    /// A key in a spec is none that could be used.
    #[error(
        "key {number} is none of RSA with 2048 bits or more, EC on P-256, OKP with Ed25519, oct with 256 bits or more"
    )]
    Unusable {
        /// Which, counted from one.
        number: usize,
    },
    /// A key in PEM is none of its algorithm.
    #[error("the PEM holds no public key for {0:?}")]
    BadPem(JwtAlgorithm),
}

impl KeySet {
    /// What an issuer published. Keys of other kinds are left out: they are for others.
    pub(crate) fn published(json: &[u8]) -> Result<Self, KeySetError> {
        let document: Value = serde_json::from_slice(json).map_err(|_| KeySetError::Malformed)?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or(KeySetError::Malformed)?;
        Ok(Self(
            keys.iter().take(KEYS_MAX).filter_map(|key| VerifyingKey::read(key, Origin::Published)).collect(),
        ))
    }

    /// The keys that stand in a spec. Each of them must be usable.
    pub(crate) fn stated(spec: &JwtSpec) -> Result<Self, KeySetError> {
        if let Some(pem) = &spec.pem {
            let algorithm = spec.algorithms.first().copied().unwrap_or(JwtAlgorithm::RS256);
            let key = match algorithm {
                JwtAlgorithm::RS256 => DecodingKey::from_rsa_pem(pem.as_bytes()),
                JwtAlgorithm::ES256 => DecodingKey::from_ec_pem(pem.as_bytes()),
                JwtAlgorithm::EdDSA => DecodingKey::from_ed_pem(pem.as_bytes()),
                JwtAlgorithm::HS256 => return Err(KeySetError::BadPem(algorithm)),
            };
            let key = key.map_err(|_| KeySetError::BadPem(algorithm))?;
            return Ok(Self(vec![VerifyingKey { id: None, algorithm, key }]));
        }
        let numbered = spec.keys.iter().zip(1..);
        let read =
            |(key, number)| VerifyingKey::read(key, Origin::Spec).ok_or(KeySetError::Unusable { number });
        numbered.map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The keys that a token with this `kid` and algorithm may be signed with.
    pub(crate) fn candidates<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: JwtAlgorithm,
    ) -> impl Iterator<Item = &'a VerifyingKey> {
        let is_meant = move |key: &&VerifyingKey| match (&key.id, id) {
            (Some(has), Some(wanted)) => has == wanted,
            _ => true,
        };
        self.0.iter().filter(move |key| key.algorithm == algorithm).filter(is_meant)
    }
}

impl VerifyingKey {
    fn read(jwk: &Value, origin: Origin) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok();
        if text("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        let (algorithm, key) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let modulus = bytes("n")?;
                if modulus.iter().skip_while(|byte| **byte == 0).count() < MODULUS_BYTES_MIN {
                    return None;
                }
                (JwtAlgorithm::RS256, DecodingKey::from_rsa_raw_components(&modulus, &bytes("e")?))
            }
            ("EC", Some("P-256")) => {
                (JwtAlgorithm::ES256, DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?)
            }
            ("OKP", Some("Ed25519")) => {
                (JwtAlgorithm::EdDSA, DecodingKey::from_ed_components(text("x")?).ok()?)
            }
            ("oct", _) if origin == Origin::Spec => {
                let secret = bytes("k").filter(|secret| secret.len() >= SECRET_BYTES_MIN)?;
                (JwtAlgorithm::HS256, DecodingKey::from_secret(&secret))
            }
            _ => return None,
        };
        let is_for = |stated: &str| {
            stated == format!("{algorithm:?}") || (stated == "Ed25519" && algorithm == JwtAlgorithm::EdDSA)
        };
        if text("alg").is_some_and(|stated| !is_for(stated)) {
            return None;
        }
        Some(Self { id: text("kid").map(str::to_owned), algorithm, key })
    }
}

/// The algorithm that a token's header names, if it is one that is taken here at all.
pub(crate) const fn known(algorithm: Algorithm) -> Option<JwtAlgorithm> {
    match algorithm {
        Algorithm::HS256 => Some(JwtAlgorithm::HS256),
        Algorithm::RS256 => Some(JwtAlgorithm::RS256),
        Algorithm::ES256 => Some(JwtAlgorithm::ES256),
        Algorithm::EdDSA => Some(JwtAlgorithm::EdDSA),
        _ => None,
    }
}
