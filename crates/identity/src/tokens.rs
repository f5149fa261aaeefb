//! The tokens of administrators that the configuration brings, known by their SHA-256 only.

use std::fmt;
use std::sync::Arc;

use alula_model::Digest;
use subtle::ConstantTimeEq as _;

use crate::key::digest_of;
use crate::principal::Principal;

/// The tokens of administrators that the configuration brings, with the names that the audit record uses for their holders.
#[derive(Clone, Default)]
pub struct Tokens(Vec<Token>);

#[derive(Clone)]
struct Token {
    name: Arc<str>,
    digest: Digest,
}

impl Tokens {
    /// Adds the token whose SHA-256 is `digest`; what its holder does is recorded under `name`.
    #[must_use]
    pub fn with(mut self, name: &str, digest: Digest) -> Self {
        self.0.push(Token { name: name.into(), digest });
        self
    }

    /// What a token is known by.
    #[must_use]
    pub fn digest_of(token: &str) -> Digest {
        digest_of(token)
    }

    /// Whose token `presented` is. Takes the same time whichever token comes close.
    #[must_use]
    pub fn identify(&self, presented: &str) -> Option<Principal> {
        let digest = digest_of(presented);
        let mut found = None;
        for token in &self.0 {
            if bool::from(token.digest.as_bytes().ct_eq(digest.as_bytes())) {
                found = Some(Principal::administrator(&token.name));
            }
        }
        found
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|token| &token.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash() {
        let tokens = Tokens::default()
            .with("admin", Tokens::digest_of("secret"))
            .with("ci", Tokens::digest_of("other"));
        let name = |text: &str| tokens.identify(text).map(|admin| admin.name.to_string());
        assert_eq!(name("secret").as_deref(), Some("admin"));
        assert_eq!(name("other").as_deref(), Some("ci"));
        for text in ["", "secre", "secret2", " secret"] {
            assert_eq!(name(text), None, "{text}");
        }
        assert_eq!(Tokens::default().identify(""), None);
    }

    #[test]
    fn the_debug_form_holds_no_hash() {
        let tokens = Tokens::default().with("admin", Tokens::digest_of("secret"));
        assert_eq!(format!("{tokens:?}"), "[\"admin\"]");
    }
}
