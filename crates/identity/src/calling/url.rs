//! Addresses that are signed: who has one may make the one request that it is for, until it ends.
//!
//! ```text
//! /function/report.shop/today?format=pdf&alula-expires=1790000000&alula-key=0123456789ab&alula-signature=HEX
//! ```
//!
//! The signature is the HMAC-SHA256, with a key of the function's namespace, of the lines
//!
//! ```text
//! alula-url-1
//! METHOD
//! NAMESPACE/FUNCTION
//! path and query as they are sent, to the end of alula-key
//! ```
//!
//! so whatever a function is told by path and query is covered. The host is not, since an installation may have several
//! names, and neither are headers and body. The function sees the address without the three parameters.

use alula_model::{Name, Timestamp};
use aws_lc_rs::hmac;

const FORMAT: &str = "alula-url-1";
const EXPIRES: &str = "alula-expires=";
const KEY: &str = "alula-key=";
const SIGNATURE: &str = "alula-signature=";

/// A request's address with a signature at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedUrl<'a> {
    /// Path and query up to the signature, as they were sent.
    covered: &'a str,
    /// The query as the function is to see it; `None` where nothing is left of it.
    own_query: Option<&'a str>,
    /// When it ends, in seconds since the Unix epoch.
    expires_s: i64,
    /// With which key it was signed.
    key: &'a str,
    /// The signature, in hexadecimal digits.
    signature: &'a str,
}

/// What an address is signed for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose<'a> {
    pub(crate) method: &'a str,
    pub(crate) namespace: &'a Name,
    pub(crate) function: &'a Name,
}

impl<'a> SignedUrl<'a> {
    /// Whether a query looks signed, whatever it is worth.
    #[must_use]
    pub fn is_in(query: &str) -> bool {
        query.rsplit('&').next().is_some_and(|last| last.starts_with(SIGNATURE))
    }

    /// The signature at the end of `path_and_query`; `None` where there is none, or not in this form.
    #[must_use]
    pub fn read(path_and_query: &'a str) -> Option<Self> {
        let (path, query) = path_and_query.split_once('?')?;
        let signature_at = query.rfind(SIGNATURE).filter(|at| query[..*at].ends_with('&'))?;
        let signature = &query[signature_at + SIGNATURE.len()..];
        let signed_query = &query[..signature_at - 1];
        let (rest, key) = last_of(signed_query, KEY)?;
        let (own_query, expires) = last_of(rest?, EXPIRES)?;
        let covered = &path_and_query[..path.len() + 1 + signed_query.len()];
        Some(Self { covered, own_query, expires_s: expires.parse().ok()?, key, signature })
    }

    /// The query as the function is to see it.
    #[must_use]
    pub const fn own_query(&self) -> Option<&'a str> {
        self.own_query
    }

    /// With which key it says it was signed.
    pub(crate) const fn key(&self) -> &'a str {
        self.key
    }

    /// Whether its time is over.
    pub(crate) const fn is_over(&self, now: Timestamp) -> bool {
        now.as_millis() >= self.expires_s.saturating_mul(1_000)
    }

    /// Whether it was signed for this with `secret`. Takes the same time however much of it is right.
    pub(crate) fn is_signed(&self, purpose: Purpose<'_>, secret: &str) -> bool {
        let Some(signature) = from_hex(self.signature) else { return false };
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::verify(&key, text(purpose, self.covered).as_bytes(), &signature).is_ok()
    }
}

/// Path and query with a signature until `expires_s`.
pub(crate) fn sign(
    purpose: Purpose<'_>,
    path_and_query: &str,
    expires_s: i64,
    (key, secret): (&str, &str),
) -> String {
    let joint = if path_and_query.contains('?') { '&' } else { '?' };
    let covered = format!("{path_and_query}{joint}{EXPIRES}{expires_s}&{KEY}{key}");
    let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&hmac_key, text(purpose, &covered).as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{covered}&{SIGNATURE}{hex}")
}

fn text(purpose: Purpose<'_>, covered: &str) -> String {
    let Purpose { method, namespace, function } = purpose;
    format!("{FORMAT}\n{method}\n{namespace}/{function}\n{covered}")
}

/// What stands before the last parameter of a query, which must be `name`, and its value.
fn last_of<'a>(query: &'a str, name: &str) -> Option<(Option<&'a str>, &'a str)> {
    match query.rsplit_once('&') {
        Some((rest, last)) => Some((Some(rest), last.strip_prefix(name)?)),
        None => Some((None, query.strip_prefix(name)?)),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn names() -> (Name, Name) {
        (Name::new("shop").unwrap(), Name::new("report").unwrap())
    }

    fn signed(path_and_query: &str) -> String {
        let (namespace, function) = names();
        let purpose = Purpose { method: "GET", namespace: &namespace, function: &function };
        sign(purpose, path_and_query, 2_000, ("0123456789ab", SECRET))
    }

    fn is_good(method: &str, url: &str) -> bool {
        let (namespace, function) = names();
        let purpose = Purpose { method, namespace: &namespace, function: &function };
        SignedUrl::read(url)
            .is_some_and(|read| read.key() == "0123456789ab" && read.is_signed(purpose, SECRET))
    }

    #[test]
    fn what_was_signed_is_good_and_the_function_sees_its_own_query() {
        for (own, query) in
            [("/function/report.shop", None), ("/x/%2F?a=1&b=%20", Some("a=1&b=%20")), ("/?", Some(""))]
        {
            let url = signed(own);
            assert!(SignedUrl::is_in(url.split_once('?').unwrap().1));
            assert!(is_good("GET", &url), "{url}");
            assert_eq!(SignedUrl::read(&url).unwrap().own_query(), query, "{url}");
        }
    }

    #[test]
    fn it_ends_when_it_says() {
        let url = signed("/x");
        let read = SignedUrl::read(&url).unwrap();
        assert!(!read.is_over(Timestamp(1_999_999)) && read.is_over(Timestamp(2_000_000)));
    }

    #[test]
    fn whatever_is_covered_cannot_be_changed() {
        let url = signed("/x?a=1");
        assert!(!is_good("POST", &url));
        for (from, to) in [
            ("/x", "/y"),
            ("a=1", "a=2"),
            ("?a=1&", "?"),
            ("expires=2000", "expires=9000"),
            ("key=0123456789ab", "key=0123456789ac"),
            ("signature=", "signature=00"),
            ("?a=1", "?b=2&a=1"),
            ("&alula-key", "&c=3&alula-key"),
        ] {
            let forged = url.replace(from, to);
            assert_ne!(forged, url);
            assert!(!is_good("GET", &forged), "{forged}");
        }
        for cut in 1..url.len() {
            assert!(!is_good("GET", &url[..cut]), "{}", &url[..cut]);
        }
        assert!(!is_good("GET", &format!("{url}&d=4")));
        assert!(!is_good("GET", &format!("{url}zz")));
    }

    #[test]
    fn one_signed_for_another_function_is_not_good_here() {
        let (namespace, function) = names();
        let other = Name::new("other").unwrap();
        for purpose in [
            Purpose { method: "GET", namespace: &other, function: &function },
            Purpose { method: "GET", namespace: &namespace, function: &other },
        ] {
            assert!(!is_good("GET", &sign(purpose, "/x", 2_000, ("0123456789ab", SECRET))));
        }
    }
}
