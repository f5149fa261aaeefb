//! HTTP routes as data: a method, a host and a path pattern.
//!
//! `GET /users/{id}` matches one segment, `/files/{path*}` the rest of the path, a pattern without a method all
//! methods. `api.example.com/users` matches this host only, `*.example.com/` every host below that one, a pattern without a
//! host all hosts. Two routes conflict where the same request could match both and neither is more specific; the
//! matching itself is the gateway's.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A route that leads to a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Route {
    method: Option<String>,
    host: Option<Host>,
    segments: Vec<Segment>,
}

/// Which hosts a route is for. Names are in lower case, without port and final dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// This one.
    Is(String),
    /// Every one below this one, however deep, but not this one itself.
    Below(String),
}

/// One part of a route's path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// Matches itself.
    Literal(String),
    /// Matches one segment and names it.
    Parameter(String),
    /// Matches all that is left, at least one segment; only at the end.
    Rest(String),
}

/// Why a text is not a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route {text:?}: {reason}")]
pub struct RouteError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Route {
    /// Reads `[METHOD ][HOST]/path`.
    pub fn parse(text: &str) -> Result<Self, RouteError> {
        let refuse = |reason| Err(RouteError { text: text.to_owned(), reason });
        let (method, path) = match text.trim().split_once(' ') {
            Some((method, path)) => (Some(method.to_owned()), path.trim()),
            None => (None, text.trim()),
        };
        if method.as_ref().is_some_and(|m| m.is_empty() || !m.bytes().all(|b| b.is_ascii_uppercase())) {
            return refuse("the method must be upper-case letters");
        }
        let Some((host, rest)) = path.split_once('/') else {
            return refuse("the path must begin with /, behind a host name if there is one");
        };
        let host = match Host::parse(host) {
            Some(host) => host,
            None => {
                return refuse("a host is a name such as api.example.com or *.example.com, without a port");
            }
        };
        let mut segments = Vec::new();
        for part in rest.split('/') {
            if matches!(segments.last(), Some(Segment::Rest(_))) {
                return refuse("{name*} must be the last segment");
            }
            match Segment::parse(part) {
                Some(segment) => segments.push(segment),
                None => return refuse("a segment is text, {name} or {name*}, without ?, # or spaces"),
            }
        }
        Ok(Self { method, host, segments })
    }

    /// The method, or `None` for all.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// The host, or `None` for all.
    #[must_use]
    pub const fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// The parts of the path, in order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether some request matches both routes with equal specificity, so that neither could be preferred.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.method == other.method
            && self.host == other.host
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(|pair| match pair {
                (Segment::Literal(a), Segment::Literal(b)) => a == b,
                (Segment::Parameter(_), Segment::Parameter(_)) | (Segment::Rest(_), Segment::Rest(_)) => true,
                _ => false,
            })
    }
}

/// Longest name of a host (RFC 1035 2.3.4).
const HOST_LEN_MAX: usize = 253;

impl Host {
    /// Reads what stands before the path: nothing for all hosts. `None` where it is no host name.
    #[expect(clippy::option_option, reason = "a text is no host, all hosts, or one")]
    fn parse(text: &str) -> Option<Option<Self>> {
        if text.is_empty() {
            return Some(None);
        }
        let (name, is_below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        let name = name.to_ascii_lowercase();
        let is_label = |label: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !label.is_empty() && label.len() <= 63 && label.bytes().all(allowed)
        };
        let is_name = name.len() <= HOST_LEN_MAX && name.split('.').all(is_label);
        is_name.then_some(Some(if is_below { Self::Below(name) } else { Self::Is(name) }))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl Segment {
    fn parse(part: &str) -> Option<Self> {
        let named = |name: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            (!name.is_empty() && name.bytes().all(allowed)).then(|| name.to_owned())
        };
        match part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(inner) => match inner.strip_suffix('*') {
                Some(name) => named(name).map(Self::Rest),
                None => named(inner).map(Self::Parameter),
            },
            None => {
                let literal =
                    part.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'{' | b'}'));
                literal.then(|| Self::Literal(part.to_owned()))
            }
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, "{method} ")?;
        }
        if let Some(host) = &self.host {
            write!(f, "{host}")?;
        }
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Literal(text) => write!(f, "/{text}"),
            Segment::Parameter(name) => write!(f, "/{{{name}}}"),
            Segment::Rest(name) => write!(f, "/{{{name}*}}"),
        })
    }
}

impl TryFrom<String> for Route {
    type Error = RouteError;

    fn try_from(text: String) -> Result<Self, RouteError> {
        Self::parse(&text)
    }
}

impl From<Route> for String {
    fn from(route: Route) -> Self {
        route.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_survives() {
        for text in [
            "GET /",
            "/a",
            "POST /users/{id}",
            "/files/{path*}",
            "/a/",
            "DELETE /a.b/c-d",
            "GET api.example.com/",
            "*.example.com/{a*}",
        ] {
            assert_eq!(Route::parse(text).map(|r| r.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn refuses_what_cannot_match() {
        for text in [
            "",
            "a",
            "get /",
            "GET",
            "/{}",
            "/{a*}/b",
            "/a b",
            "/a?b",
            "/{a b}",
            "a.b",
            "a:80/",
            "*/",
            "a.*.b/",
            "a..b/",
            "http://a/",
        ] {
            assert!(Route::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn conflict_is_equal_shape() {
        let route = |text| Route::parse(text).unwrap();
        assert!(route("GET /u/{id}").conflicts_with(&route("GET /u/{name}")));
        assert!(!route("GET /u/{id}").conflicts_with(&route("GET /u/me")));
        assert!(!route("GET /u").conflicts_with(&route("POST /u")));
        assert!(!route("a.test/u").conflicts_with(&route("/u")));
        assert!(route("A.test/u").conflicts_with(&route("a.test/u")), "names have no case");
        assert!(!route("a.test/u").conflicts_with(&route("*.test/u")));
    }
}
