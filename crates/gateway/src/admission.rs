//! Whether a request is let in, before anything is done for it, and who it is from.
//!
//! What the identity crate decides is asked here with the parts of an HTTP request. What the platform was shown to be let in
//! by goes no further: its own token, the signature of an address. Tokens of other authorities, and whatever comes with a
//! call of a public function, are the function's affair and stay.

use alula_identity::Resource;
use alula_identity::calling::{Admitted, Asked, By, Credentials, Denied, SignedUrl};
use alula_model::{Caller, ErrorCode, Fault, FunctionRef, Name, Way};
use alula_runtime::Origin;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Uri};

use crate::connection::Connection;
use crate::inside::Guest;
use crate::ports::{Invoke, Routes};
use crate::topic::TopicName;

/// Longest claims that are handed to a function in a header, in bytes: what common servers take of one.
const CLAIMS_BYTES_MAX: usize = 6 * 1024;
/// Times that a request may wait for keys of issuers: one for each that its token could be from, within reason.
const LESSONS_MAX: usize = 3;

/// A request that was let in.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Who it is from.
    pub(crate) caller: Caller,
    /// What another authority says about that, as it is told to the function.
    pub(crate) claims: Option<HeaderValue>,
    /// Whether the address had a signature that the function is not to see.
    is_signed: bool,
}

/// What is asked for.
struct Wanted<'a> {
    namespace: &'a Name,
    name: &'a Name,
    resource: Resource,
}

impl Admission {
    const fn of(caller: Caller) -> Self {
        Self { caller, claims: None, is_signed: false }
    }

    /// The address as the function is to see it.
    pub(crate) fn own_uri(&self, uri: Uri) -> Uri {
        let own = |text: &str| {
            let query = SignedUrl::read(text)?.own_query();
            let path = text.split('?').next()?;
            let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
            PathAndQuery::try_from(text).ok()
        };
        let stripped = uri.path_and_query().filter(|_| self.is_signed).and_then(|text| own(text.as_str()));
        stripped.map_or(uri, Uri::from)
    }
}

/// Lets a call of `target` in, or says why not.
pub(crate) async fn to_function<I: Invoke, R: Routes, B>(
    connection: &Connection<I, R>,
    request: &mut Request<B>,
    target: &FunctionRef,
) -> Result<Admission, Fault> {
    let parts = &connection.shared.parts;
    if let Some(guest) = &connection.guest {
        return from_inside(guest, &parts.routes, request.headers(), target).map(Admission::of);
    }
    let [called, latest] = parts.routes.versions(target);
    let wanted = Wanted { namespace: &target.namespace, name: &target.name, resource: Resource::Function };
    let mut admitted = judge(connection, request, &wanted, called.as_ref().map(|plan| &plan.spec)).await?;
    if let Some(latest) = latest {
        admitted = judge(connection, request, &wanted, Some(&latest.spec)).await?;
    }
    Ok(used_up(admitted, request.headers_mut()))
}

/// Lets events for a topic in, or says why not.
pub(crate) async fn to_topic<I: Invoke, R: Routes, B>(
    connection: &Connection<I, R>,
    request: &mut Request<B>,
    topic: &TopicName,
) -> Result<Admission, Fault> {
    if let Some(guest) = &connection.guest {
        return Ok(Admission::of(name_of(
            &guest.visitors.origin(request.headers()),
            guest.visitors.namespace(),
        )));
    }
    let wanted = Wanted { namespace: &topic.namespace, name: &topic.topic, resource: Resource::Topic };
    let admitted = judge(connection, request, &wanted, None).await?;
    Ok(used_up(admitted, request.headers_mut()))
}

async fn judge<I: Invoke, R: Routes, B>(
    connection: &Connection<I, R>,
    request: &Request<B>,
    wanted: &Wanted<'_>,
    spec: Option<&alula_model::FunctionSpec>,
) -> Result<Admitted, Fault> {
    let gate = &connection.shared.parts.gate;
    let asked = Asked {
        method: request.method().as_str(),
        namespace: wanted.namespace,
        app: spec.and_then(|spec| spec.app.as_ref()),
        resource: wanted.resource,
        name: wanted.name,
        access: spec.and_then(|spec| spec.access.as_ref()),
        credentials: credentials(request),
    };
    for _ in 0..LESSONS_MAX {
        match gate.judge(&asked) {
            Ok(admitted) => return Ok(admitted),
            Err(Denied::KeysNeeded(url)) => gate.learn(&url).await,
            Err(Denied::Unknown(why)) => return Err(Fault::new(ErrorCode::Unauthenticated, why)),
            Err(Denied::Forbidden(why)) => return Err(Fault::new(ErrorCode::Forbidden, why)),
            Err(Denied::Unavailable(why)) => return Err(Fault::new(ErrorCode::StoreUnavailable, why)),
        }
    }
    let message = "the keys of the token's issuer cannot be fetched at the moment";
    Err(Fault::new(ErrorCode::StoreUnavailable, message))
}

/// What a request brings. One that comes with several tokens says nothing by them.
fn credentials<B>(request: &Request<B>) -> Credentials<'_> {
    let mut tokens = request.headers().get_all(AUTHORIZATION).iter();
    let bearer = match (tokens.next(), tokens.next()) {
        (Some(value), None) => bearer(value),
        _ => None,
    };
    let is_signed = request.uri().query().is_some_and(SignedUrl::is_in);
    let address = request.uri().path_and_query().filter(|_| is_signed);
    Credentials { bearer, signed: address.and_then(|address| SignedUrl::read(address.as_str())) }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Takes out of a request what was the platform's own of it.
fn used_up(admitted: Admitted, headers: &mut HeaderMap) -> Admission {
    let Admitted { caller, by } = admitted;
    match by {
        By::Nothing => Admission::of(caller),
        By::Token => {
            headers.remove(AUTHORIZATION);
            Admission::of(caller)
        }
        By::Address => Admission { is_signed: true, ..Admission::of(caller) },
        By::Jwt(claims) => {
            let claims = URL_SAFE_NO_PAD.encode(serde_json::Value::Object(claims).to_string());
            let claims = HeaderValue::try_from(claims).ok().filter(|claims| claims.len() <= CLAIMS_BYTES_MAX);
            Admission { claims, ..Admission::of(caller) }
        }
    }
}

/// Functions of a namespace call each other; those of another namespace are called where they are public, or name who calls.
fn from_inside(
    guest: &Guest,
    routes: &impl Routes,
    headers: &HeaderMap,
    target: &FunctionRef,
) -> Result<Caller, Fault> {
    let (origin, home) = (guest.visitors.origin(headers), guest.visitors.namespace());
    let versions = if target.namespace == *home { [None, None] } else { routes.versions(target) };
    let lets_in = |plan: &std::sync::Arc<alula_runtime::VersionPlan>| {
        let ways = plan.spec.access.as_ref().map_or(&[][..], |access| &access.allow);
        let is_named = |by: &std::sync::Arc<alula_runtime::VersionPlan>| {
            let way = Way::Function { namespace: by.key.namespace.clone(), name: by.key.function.clone() };
            ways.contains(&way)
        };
        ways.contains(&Way::Public) || (!origin.plans.is_empty() && origin.plans.iter().all(is_named))
    };
    let mut asked = versions.iter().flatten().peekable();
    let is_let_in = asked.peek().is_some() && asked.all(lets_in);
    if target.namespace == *home || is_let_in {
        return Ok(name_of(&origin, home));
    }
    let message = format!(
        "namespace {} is not reached from here: functions call those of their own namespace, {home}, those of others that \
         name them in `access`, and the rest at their public address",
        target.namespace
    );
    Err(Fault::new(ErrorCode::FunctionNotFound, message))
}

/// The function that a request came out of. Where several share a process and none is named, only their namespace is known.
fn name_of(origin: &Origin, home: &Name) -> Caller {
    let mut functions = origin.plans.iter().map(|plan| &plan.key.function);
    let name = match functions.next() {
        Some(first) if functions.all(|other| other == first) => format!("function:{home}/{first}"),
        _ => format!("function:{home}/*"),
    };
    Caller::Function(name.into())
}
