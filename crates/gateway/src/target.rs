//! From a request's path to what it asks for.
//!
//! `/function/NAME[.NAMESPACE][:QUALIFIER][/rest]` reaches a function by name, `/async-function/` in the same form has it
//! run later, `/topic/NAME[.NAMESPACE]` publishes, `/webhook/NAMESPACE/FUNCTION/TRIGGER` takes signed requests, `/_alula/` is
//! the platform's own, every other path is looked up among the routes. Only the part with a function's name is decoded; the
//! rest and the query go to the function as they were sent.

use alula_model::{ErrorCode, Fault, FunctionRef, Name};
use alula_trigger::TriggerKey;
use http::header::{self, HeaderMap};
use http::uri::PathAndQuery;
use http::{Method, Uri};

use crate::ports::Routes;
use crate::topic::TopicName;
use crate::webhook::Hook;

/// Paths below it name a function.
const FUNCTIONS: &str = "/function/";
/// Paths below it name a function that is to run later.
const ASYNC_FUNCTIONS: &str = "/async-function/";
/// Paths below it name a topic.
const TOPICS: &str = "/topic/";
/// Paths below it name a trigger that takes signed requests.
const WEBHOOKS: &str = "/webhook/";
/// Paths below it are answered by the gateway itself.
const PLATFORM: &str = "/_alula/";

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A function.
    Function {
        target: FunctionRef,
        /// Path and query as the function sees them.
        uri: Uri,
        /// Values of the route's parameters.
        parameters: Vec<(String, String)>,
        /// Whether the path asks for the call to be made now.
        when: When,
    },
    /// Events for a topic.
    Topic(TopicName),
    /// A signed request.
    Webhook(Hook),
    /// Whether the gateway runs.
    Livez,
    /// Whether the gateway takes requests.
    Readyz,
}

/// Whether somebody waits for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The caller waits for the answer.
    Now,
    /// The caller waits until the call is durable.
    Later,
}

/// Finds what a request with these parts asks for.
pub(crate) fn find(
    routes: &impl Routes,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Target, Fault> {
    let path = uri.path();
    if let Some(below) = path.strip_prefix(FUNCTIONS) {
        return by_name(FUNCTIONS, below, uri, When::Now, None);
    }
    if let Some(below) = path.strip_prefix(ASYNC_FUNCTIONS) {
        return by_name(ASYNC_FUNCTIONS, below, uri, When::Later, None);
    }
    if let Some(below) = path.strip_prefix(TOPICS) {
        return topic(below, None).map(Target::Topic).ok_or_else(|| nothing_at(path));
    }
    if let Some(below) = path.strip_prefix(WEBHOOKS) {
        return hook(below, uri).map(Target::Webhook).ok_or_else(|| nothing_at(path));
    }
    if let Some(below) = path.strip_prefix(PLATFORM) {
        return platform(below).ok_or_else(|| nothing_at(path));
    }
    let host = host_of(uri, headers);
    let found = routes.route(method.as_str(), host, path).ok_or_else(|| nothing_at(path))?;
    let uri = Uri::from(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    Ok(Target::Function { target: found.target, uri, parameters: found.parameters, when: When::Now })
}

/// Finds what a request from inside a sandbox asks for, whose function's namespace is `home`.
pub(crate) fn find_within(home: &Name, uri: &Uri) -> Result<Target, Fault> {
    let path = uri.path();
    let found = if let Some(below) = path.strip_prefix(FUNCTIONS) {
        return by_name(FUNCTIONS, below, uri, When::Now, Some(home));
    } else if let Some(below) = path.strip_prefix(ASYNC_FUNCTIONS) {
        return by_name(ASYNC_FUNCTIONS, below, uri, When::Later, Some(home));
    } else if let Some(below) = path.strip_prefix(TOPICS) {
        topic(below, Some(home)).map(Target::Topic)
    } else {
        path.strip_prefix(PLATFORM).and_then(platform)
    };
    let message =
        "there are /function/NAME, /async-function/NAME, /topic/NAME, and signed requests for buckets";
    found.ok_or_else(|| Fault::new(ErrorCode::NotFound, message))
}

/// What the gateway answers itself.
fn platform(below: &str) -> Option<Target> {
    match below {
        "livez" => Some(Target::Livez),
        "readyz" => Some(Target::Readyz),
        _ => None,
    }
}

/// The host that a request is for. The authority of HTTP/2 and of absolute-form targets outranks a `Host` header.
fn host_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let authority = uri.authority().map(|authority| authority.as_str());
    let host = authority.or_else(|| headers.get(header::HOST)?.to_str().ok())?;
    host.rsplit('@').next()
}

fn by_name(prefix: &str, below: &str, uri: &Uri, when: When, home: Option<&Name>) -> Result<Target, Fault> {
    let name = below.split('/').next().unwrap_or_default();
    if name.is_empty() {
        return Err(nothing_at(uri.path()));
    }
    let invalid = |reason: String| Fault::new(ErrorCode::InvalidRequest, reason);
    let parse = |name: &str| match home {
        Some(home) => FunctionRef::parse_in(home, name),
        None => name.parse(),
    };
    let target = match name.contains('%') {
        false => parse(name),
        true => parse(&decode(name).ok_or_else(|| invalid(format!("{name:?} is not percent-encoded text")))?),
    };
    let target = target.map_err(|error| invalid(error.to_string()))?;
    let uri = rest_of(uri, prefix.len() + name.len()).map_err(|error| invalid(error.to_string()))?;
    Ok(Target::Function { target, uri, parameters: Vec::new(), when })
}

/// `NAME[.NAMESPACE]`.
fn topic(below: &str, home: Option<&Name>) -> Option<TopicName> {
    let (topic, namespace) = match below.split_once('.') {
        Some((topic, namespace)) => (topic, Name::new(namespace).ok()?),
        None => (below, home.cloned().unwrap_or_else(Name::default_namespace)),
    };
    Some(TopicName { namespace, topic: Name::new(topic).ok()? })
}

/// `NAMESPACE/FUNCTION/TRIGGER[/rest]`.
fn hook(below: &str, uri: &Uri) -> Option<Hook> {
    let mut parts = below.splitn(4, '/');
    let mut name = || Name::new(parts.next()?).ok();
    let trigger = TriggerKey { namespace: name()?, function: name()?, trigger: name()? };
    let names_bytes = trigger.to_string().len();
    Some(Hook { trigger, uri: rest_of(uri, WEBHOOKS.len() + names_bytes).ok()? })
}

/// Path and query without the first `prefix_bytes` of the path.
fn rest_of(uri: &Uri, prefix_bytes: usize) -> Result<Uri, http::Error> {
    let whole = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = whole.get(prefix_bytes..).unwrap_or_default();
    let path_and_query = match rest.as_bytes().first() {
        None => PathAndQuery::from_static("/"),
        Some(b'/') => PathAndQuery::try_from(rest)?,
        Some(_) => PathAndQuery::try_from(format!("/{rest}"))?,
    };
    Ok(Uri::from(path_and_query))
}

/// Resolves percent-encoding; `None` where it is malformed or the result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn nothing_at(path: &str) -> Fault {
    /// As much of a path as an error message repeats.
    const SHOWN_CHARS: usize = 200;
    let shown: String = path.chars().take(SHOWN_CHARS).collect();
    Fault::new(ErrorCode::NotFound, format!("no function has a route for {shown:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alula_control::RouteMatch;

    struct OneRoute;

    impl Routes for OneRoute {
        fn route(&self, method: &str, host: Option<&str>, path: &str) -> Option<RouteMatch> {
            let id = path.strip_prefix("/users/").filter(|_| method == "GET")?;
            assert_eq!(host, Some("b.test:80"));
            let parameters = vec![("id".to_owned(), id.to_owned())];
            Some(RouteMatch { target: "users".parse().unwrap(), parameters })
        }

        fn versions(&self, _target: &FunctionRef) -> [Option<std::sync::Arc<alula_runtime::VersionPlan>>; 2] {
            [None, None]
        }
    }

    fn check(uri: &str) -> Result<String, ErrorCode> {
        let headers = HeaderMap::from_iter([(header::HOST, http::HeaderValue::from_static("b.test:80"))]);
        match find(&OneRoute, &Method::GET, &uri.parse().unwrap(), &headers) {
            Ok(Target::Function { target, uri, parameters, when }) => {
                let later = if when == When::Later { " later" } else { "" };
                Ok(format!("{target} {uri} {parameters:?}{later}"))
            }
            Ok(other) => Ok(format!("{other:?}")),
            Err(fault) => Err(fault.code),
        }
    }

    #[test]
    fn a_name_in_the_path_reaches_a_function() {
        let ok = |uri: &str, expect: &str| assert_eq!(check(uri).as_deref(), Ok(expect), "{uri}");
        ok("/function/hello", "hello.default:latest / []");
        ok("/function/hello/", "hello.default:latest / []");
        ok("/function/hello?a=/b&c", "hello.default:latest /?a=/b&c []");
        ok("/function/hello.shop:3/a%2Fb/../c?q=%20", "hello.shop:3 /a%2Fb/../c?q=%20 []");
        ok("/function/hello%3Alive//x", "hello.default:live //x []");
        ok("http://example.test/function/hello/x", "hello.default:latest /x []");
        ok("/users/7?x=1", "users.default:latest /users/7?x=1 [(\"id\", \"7\")]");
        ok("/async-function/hello.shop:3/a?q", "hello.shop:3 /a?q [] later");
        ok("/topic/orders.shop", &format!("{:?}", Target::Topic(topic("orders.shop", None).unwrap())));
        let hook = format!(
            "{:?}",
            Target::Webhook(
                hook("shop/pay/stripe/x", &"/webhook/shop/pay/stripe/x?y".parse().unwrap()).unwrap()
            )
        );
        ok("/webhook/shop/pay/stripe/x?y", &hook);
        assert!(hook.contains("uri: /x?y"), "{hook}");
        ok("/_alula/livez", "Livez");
    }

    #[test]
    fn what_is_no_name_is_refused_and_what_is_nowhere_is_not_found() {
        let err = |uri: &str, expect: ErrorCode| assert_eq!(check(uri), Err(expect), "{uri}");
        let long = format!("/function/{}", "a".repeat(5_000));
        for uri in
            ["/function/Hello", "/function/a.b.c", "/function/a:", "/function/%2e%2e", "/function/a%2Fb"]
        {
            err(uri, ErrorCode::InvalidRequest);
        }
        for uri in ["/function/%", "/function/%4", "/function/%zz", "/function/%ff", &long] {
            err(uri, ErrorCode::InvalidRequest);
        }
        for uri in [
            "/",
            "/function",
            "/function/",
            "/function//x",
            "/_alula/",
            "/_alula/livez/x",
            "/topic/",
            "/topic/A",
            "/topic/a/b",
            "/webhook/a/b",
            "/webhook/a/b/",
            "/webhook//a/b",
            "/Function/a",
            "*",
        ] {
            err(uri, ErrorCode::NotFound);
        }
    }
}
