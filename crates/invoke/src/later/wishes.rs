//! What a request asks for besides the call itself, in headers that every way in takes.
//!
//! | header | meaning |
//! |---|---|
//! | `Idempotency-Key` | sending the same request again is harmless |
//! | `X-Callback-Url` | the result is sent there |
//! | `X-Alula-Delay-Ms`, `X-Alula-At` | not before so many milliseconds, or this RFC 3339 time |
//! | `X-Alula-Ordering-Key` | calls of the function with the same key run one after another |
//!
//! They are the platform's to read, and do not reach the function.

use alula_model::{ErrorCode, Fault, Timestamp};
use http::header::{HeaderMap, HeaderName};

use super::{Callback, Deferred};

/// The preference of callers who do not wait (RFC 7240 4.1).
pub const RESPOND_ASYNC: &str = "respond-async";
const PREFER: HeaderName = HeaderName::from_static("prefer");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const CALLBACK_URL: HeaderName = HeaderName::from_static("x-callback-url");
const DELAY_MS: HeaderName = HeaderName::from_static("x-alula-delay-ms");
const AT: HeaderName = HeaderName::from_static("x-alula-at");
const ORDERING_KEY: HeaderName = HeaderName::from_static("x-alula-ordering-key");

/// What a request asks for besides the call itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    idempotency_key: Option<String>,
    callback: Option<Callback>,
    available_at: Option<Timestamp>,
    ordering_key: Option<String>,
}

/// Whether the caller prefers not to wait.
#[must_use]
pub fn prefers_async(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all(PREFER).into_iter().filter_map(|value| value.to_str().ok());
    let mut tokens = preferences.flat_map(|value| value.split(','));
    tokens.any(|token| token.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(RESPOND_ASYNC))
}

impl Wishes {
    /// Reads the wishes and takes them out of the headers.
    pub fn take(headers: &mut HeaderMap, now: Timestamp) -> Result<Self, Fault> {
        let mut text = |name: &HeaderName| match headers.remove(name) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Ok(text) => Ok(Some(text.trim().to_owned())),
                Err(_) => Err(invalid(name, "must be visible ASCII")),
            },
        };
        let idempotency_key = text(&IDEMPOTENCY_KEY)?;
        let ordering_key = text(&ORDERING_KEY)?;
        let callback = text(&CALLBACK_URL)?.map(callback).transpose()?;
        let available_at = match (text(&DELAY_MS)?, text(&AT)?) {
            (None, None) => None,
            (Some(delay), None) => Some(now.plus_millis(delay_ms(&delay)?)),
            (None, Some(at)) => Some(moment(&at)?),
            (Some(_), Some(_)) => return Err(invalid(&AT, "and X-Alula-Delay-Ms exclude each other")),
        };
        Ok(Self { idempotency_key, callback, available_at, ordering_key })
    }

    /// Puts them to a call.
    #[must_use]
    pub fn put_to(self, deferred: Deferred) -> Deferred {
        let Self { idempotency_key, callback, available_at, ordering_key } = self;
        Deferred { idempotency_key, callback, available_at, ordering_key, ..deferred }
    }
}

fn delay_ms(text: &str) -> Result<i64, Fault> {
    let millis = text.parse::<u64>().ok().and_then(|millis| i64::try_from(millis).ok());
    millis.ok_or_else(|| invalid(&DELAY_MS, "must be a number of milliseconds"))
}

fn moment(text: &str) -> Result<Timestamp, Fault> {
    let at: Result<jiff::Timestamp, _> = text.parse();
    at.map(|at| Timestamp(at.as_millisecond()))
        .map_err(|_| invalid(&AT, "must be an RFC 3339 time such as 2030-01-31T12:00:00Z"))
}

fn callback(url: String) -> Result<Callback, Fault> {
    let is_web = url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    match is_web {
        true => Ok(Callback { url }),
        false => Err(invalid(&CALLBACK_URL, "must be an http or https address")),
    }
}

fn invalid(name: &HeaderName, what: &str) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, format!("{name} {what}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn wishes(lines: &[(&'static str, &'static str)]) -> Result<(Wishes, usize), String> {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let mut headers: HeaderMap = lines.iter().map(pair).collect();
        let wishes = Wishes::take(&mut headers, Timestamp(1_000)).map_err(|fault| fault.message)?;
        Ok((wishes, headers.len()))
    }

    #[test]
    fn wishes_are_read_and_do_not_reach_the_function() {
        let (wishes, left) = wishes(&[
            ("idempotency-key", " order-7 "),
            ("x-callback-url", "https://a.test/done?x"),
            ("x-alula-delay-ms", "500"),
            ("x-alula-ordering-key", "customer 9"),
            ("x-own", "stays"),
        ])
        .unwrap();
        assert_eq!(left, 1);
        let expected = Wishes {
            idempotency_key: Some("order-7".to_owned()),
            callback: Some(Callback { url: "https://a.test/done?x".to_owned() }),
            available_at: Some(Timestamp(1_500)),
            ordering_key: Some("customer 9".to_owned()),
        };
        assert_eq!(wishes, expected);
    }

    #[test]
    fn a_time_is_read_as_rfc_3339() {
        let (wishes, _) = wishes(&[("x-alula-at", "2030-01-31T12:00:00+01:00")]).unwrap();
        assert_eq!(wishes.available_at, Some(Timestamp(1_896_087_600_000)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (name, value) in [
            ("x-alula-delay-ms", "-1"),
            ("x-alula-delay-ms", "soon"),
            ("x-alula-delay-ms", "99999999999999999999"),
            ("x-alula-at", "tomorrow"),
            ("x-callback-url", "ftp://a"),
            ("x-callback-url", "/relative"),
            ("idempotency-key", "caf\u{e9}"),
        ] {
            let reason = wishes(&[(name, value)]).unwrap_err();
            assert!(reason.starts_with(name), "{reason}");
        }
        assert!(wishes(&[("x-alula-at", "2030-01-01T00:00:00Z"), ("x-alula-delay-ms", "1")]).is_err());
    }

    #[test]
    fn a_preference_is_found_among_others() {
        let prefers = |values: &[&'static str]| {
            let pair = |value: &&'static str| (PREFER, HeaderValue::from_static(value));
            prefers_async(&values.iter().map(pair).collect())
        };
        assert!(prefers(&["respond-async"]) && prefers(&["return=minimal", "wait=5, Respond-Async; x=1"]));
        assert!(!prefers(&[]) && !prefers(&["respond-asynchronously"]) && !prefers(&["x=respond-async"]));
    }
}
