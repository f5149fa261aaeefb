//! Heads on their way to a server and back: what belongs to one hop is taken off, and who asked is added.

use std::fmt::Write as _;

use http::Request;
use http::header::{CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};

use super::Outgoing;
use crate::Call;
use crate::process::one_hop;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const INVOCATION_ID: HeaderName = HeaderName::from_static("x-alula-invocation-id");
const DEADLINE_MS: HeaderName = HeaderName::from_static("x-alula-deadline-ms");
/// The request that the server gets. An upgrade that the caller asks for is passed on.
pub(super) fn request(call: Call) -> Outgoing {
    let Call { id, method, target, mut headers, body, remote, deadline_at, .. } = call;
    let upgrade = headers.get(UPGRADE).cloned();
    one_hop::remove(&mut headers);
    // The platform has read the head already and answers this itself.
    headers.remove(EXPECT);
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let host = headers.entry(HOST).or_insert(HeaderValue::from_static("localhost")).clone();
    headers.entry(FORWARDED_HOST).or_insert(host);
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(remote) = remote {
        append_to_list(&mut headers, FORWARDED_FOR, &remote.to_string());
    }
    headers.insert(DEADLINE_MS, deadline_at.as_millis().into());
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert(INVOCATION_ID, id);
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.headers_mut() = headers;
    request
}

/// The headers of an answer for the caller.
pub(super) fn answered(mut headers: HeaderMap) -> HeaderMap {
    one_hop::remove(&mut headers);
    headers
}

/// The headers of an answer that switches protocols: those of the upgrade go to the caller.
pub(super) fn answered_upgrade(mut headers: HeaderMap) -> HeaderMap {
    let upgrade = headers.get(UPGRADE).cloned();
    one_hop::remove(&mut headers);
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    headers
}

/// Appends to the list in `name`, and makes one line of several.
fn append_to_list(headers: &mut HeaderMap, name: HeaderName, item: &str) {
    let mut list = String::new();
    for earlier in headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()) {
        let _ = write!(list, "{earlier}, ");
    }
    list.push_str(item);
    if let Ok(list) = HeaderValue::from_str(&list) {
        headers.insert(name, list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(header).collect()
    }

    #[test]
    fn headers_of_one_hop_stay_behind() {
        let headers = map(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("content-type", "text/plain"),
        ]);
        assert_eq!(answered(headers), map(&[("content-type", "text/plain")]));
    }

    #[test]
    fn an_upgrade_passes() {
        let headers = map(&[("connection", "Upgrade"), ("upgrade", "websocket"), ("te", "trailers")]);
        assert_eq!(answered_upgrade(headers), map(&[("upgrade", "websocket"), ("connection", "upgrade")]));
    }

    #[test]
    fn the_peer_is_appended_to_those_before_it() {
        let mut headers = map(&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "5.6.7.8")]);
        append_to_list(&mut headers, FORWARDED_FOR, "9.9.9.9");
        assert_eq!(headers, map(&[("x-forwarded-for", "1.2.3.4, 5.6.7.8, 9.9.9.9")]));
    }
}
