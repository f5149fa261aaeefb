//! The signature that receivers can tell the platform's requests by.
//!
//! `X-Alula-Signature: t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256 (RFC 2104) of `SECONDS.BODY` under the platform's
//! signing key, as the text that it is. The moment is signed with the body, so that a receiver can refuse what somebody
//! recorded and sends again.

use std::fmt;

use alula_model::Timestamp;
use aws_lc_rs::hmac;

/// The header.
pub(crate) const SIGNATURE: &str = "x-alula-signature";

/// The key that everything is signed with which is sent out.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(String);

impl SigningKey {
    /// The key with this text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Its text, for receivers.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The header's value for `body` sent at `now`.
    #[must_use]
    pub fn sign(&self, body: &[u8], now: Timestamp) -> String {
        let seconds = now.as_millis().div_euclid(1_000);
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes()));
        for part in [seconds.to_string().as_bytes(), b".", body] {
            mac.update(part);
        }
        let hex: String = mac.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("t={seconds},v1={hex}")
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_any_library_computes() {
        // python3 -c 'import hmac; print(hmac.new(b"key", b"1700000000.body", "sha256").hexdigest())'
        let expect = "t=1700000000,v1=47b6ce0fca59474308e2921c247cb2493dce6b8101d90ac05bd0c6a37d0e046e";
        let key = SigningKey::new("key".to_owned());
        assert_eq!(key.sign(b"body", Timestamp(1_700_000_000_999)), expect);
        assert_ne!(key.sign(b"body", Timestamp(1_700_000_001_000)), expect);
        assert_eq!(format!("{key:?}"), "SigningKey");
    }
}
