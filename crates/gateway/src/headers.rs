//! Which headers belong to one hop, to the platform, or to a proxy that may not be trusted.
//!
//! One pass over the names decides what goes; most requests lose nothing and cost no allocation.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Names the invocation on every response.
pub(crate) const INVOCATION_ID: HeaderName = HeaderName::from_static("x-alula-invocation-id");
/// Names the version that answered.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("x-alula-version");
/// Names the error code of a response that the platform made.
pub(crate) const ERROR: HeaderName = HeaderName::from_static("x-alula-error");
/// Says that another answer was given in a function's place, and why.
pub(crate) const DEGRADED: HeaderName = HeaderName::from_static("x-alula-degraded");
/// Where the time of a call went.
pub(crate) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// The limit that a request ran into, as draft-ietf-httpapi-ratelimit-headers-10 has it.
pub(crate) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of that limit.
pub(crate) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The trace that a request belongs to.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Everything that the platform says by itself begins with this; nobody else may.
const PLATFORM_PREFIX: &str = "x-alula-";

/// Whether a peer's own statements about where a request came from are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provenance {
    /// The peer is a trusted proxy.
    Kept,
    /// Anybody may have written them.
    Dropped,
}

/// Leaves what the function should see of a request's headers.
pub(crate) fn strip_request(headers: &mut HeaderMap, provenance: Provenance) {
    let says_origin = |name: &str| {
        provenance == Provenance::Dropped
            && (name.starts_with("x-forwarded-") || name == "forwarded" || name == "x-real-ip")
    };
    strip(headers, |name| *name == header::EXPECT || says_origin(name.as_str()));
}

/// Leaves what the caller should see of an answer's headers.
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    strip(headers, |_| false);
}

fn strip(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    let named = named_by_connection(headers);
    let goes = |name: &&HeaderName| {
        is_hop_by_hop(name)
            || name.as_str().starts_with(PLATFORM_PREFIX)
            || also(name)
            || named.contains(name)
    };
    let doomed: Vec<HeaderName> = headers.keys().filter(goes).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let tokens = headers.get_all(header::CONNECTION).into_iter().flat_map(tokens);
    let usual = |token: &&[u8]| !matches!(*token, b"keep-alive" | b"close" | b"");
    tokens.filter(usual).filter_map(|token| HeaderName::from_bytes(token).ok()).collect()
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
            | header::TE
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Whether a comma-separated list in any of the `name` headers has `token`, in any case of letters.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).into_iter().flat_map(tokens).any(|part| part.eq_ignore_ascii_case(token.as_bytes()))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn what_belongs_to_the_hop_goes_and_the_rest_stays() {
        let mut headers = map(&[
            ("connection", "Keep-Alive, X-Secret-Hop"),
            ("connection", "x-other"),
            ("x-secret-hop", "1"),
            ("x-other", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic x"),
            ("expect", "100-continue"),
            ("x-alula-invocation-id", "forged"),
            ("accept", "a"),
            ("accept", "b"),
            ("authorization", "Bearer x"),
        ]);
        strip_request(&mut headers, Provenance::Dropped);
        assert_eq!(headers, map(&[("accept", "a"), ("accept", "b"), ("authorization", "Bearer x")]));
    }

    #[test]
    fn only_a_trusted_peer_may_say_where_a_request_came_from() {
        let sent =
            map(&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-prefix", "/a"), ("forwarded", "for=x")]);
        let mut headers = sent.clone();
        strip_request(&mut headers, Provenance::Kept);
        assert_eq!(headers, sent);
        strip_request(&mut headers, Provenance::Dropped);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_malformed_connection_header_names_nothing() {
        let mut headers = map(&[("connection", "a b, \"x\", ,close"), ("accept", "a")]);
        strip_response(&mut headers);
        assert_eq!(headers, map(&[("accept", "a")]));
    }
}
