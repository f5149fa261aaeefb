//! What every operation needs: one table of routes, and how a request is judged by it before its handler runs.
//!
//! What an operation is about is found in the path and the query. Where only the handler finds it, by an id or in a body,
//! the handler asks by itself ([`Api::judge`]); such rows say so. A route without a row is refused to everybody.

use alula_identity::{Place, Principal, Resource, Verb};
use alula_model::{ErrorCode, Fault, Name};
use axum::extract::MatchedPath;
use http::{Method, Uri};

use crate::auth::{Actor, METRICS_PATH};
use crate::extract;
use crate::respond::method_not_allowed;
use crate::state::Api;

/// Where it is found what an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// It is nobody's: whoever is known may ask.
    Nobody,
    /// The platform.
    Platform,
    /// The namespace of the query.
    Namespace,
    /// The namespace of the query, or any app of it: the handler shows or takes what is of those apps alone.
    Somewhere,
    /// The namespace of the query; without one, the platform.
    NamespaceOrPlatform,
    /// The function of this path parameter, or of the query where there is none of that name, in the namespace of the query.
    Function(&'static str),
    /// What the handler finds.
    Found,
}

use About::{Found, Function, Namespace, NamespaceOrPlatform, Nobody, Platform, Somewhere};
use Resource as R;
use Verb::{Delete, Operate, Read, Use, Write};

type Row = (Method, &'static str, Verb, Resource, About);

/// Every operation.
const ROWS: &[Row] = &[
    (Method::GET, METRICS_PATH, Read, R::Platform, Platform),
    (Method::GET, "/v1/access", Read, R::Access, Namespace),
    (Method::PUT, "/v1/access", Write, R::Access, Namespace),
    (Method::GET, "/v1/alarm-silences", Read, R::Alarm, NamespaceOrPlatform),
    (Method::POST, "/v1/alarm-silences", Operate, R::Alarm, Found),
    (Method::DELETE, "/v1/alarm-silences/{id}", Operate, R::Alarm, Found),
    (Method::POST, "/v1/alarm-test", Operate, R::Platform, Platform),
    (Method::GET, "/v1/alarms", Read, R::Alarm, NamespaceOrPlatform),
    (Method::GET, "/v1/alarms/history", Read, R::Alarm, NamespaceOrPlatform),
    (Method::GET, "/v1/alarms/{id}", Read, R::Alarm, Found),
    (Method::POST, "/v1/alarms/{id}/acknowledge", Operate, R::Alarm, Found),
    (Method::GET, "/v1/audit", Read, R::Audit, Function("function")),
    (Method::GET, "/v1/audit/verification", Read, R::Audit, Namespace),
    (Method::GET, "/v1/breakers", Read, R::Function, Function("function")),
    (Method::GET, "/v1/bucket-keys", Read, R::Key, Namespace),
    (Method::POST, "/v1/bucket-keys", Write, R::Key, Namespace),
    (Method::DELETE, "/v1/bucket-keys/{id}", Delete, R::Key, Namespace),
    (Method::GET, "/v1/buckets", Read, R::Bucket, Namespace),
    (Method::PUT, "/v1/buckets/{bucket}", Write, R::Bucket, Namespace),
    (Method::DELETE, "/v1/buckets/{bucket}", Delete, R::Bucket, Namespace),
    (Method::GET, "/v1/dead-letters", Read, R::DeadLetter, Function("function")),
    (Method::POST, "/v1/dead-letters/purge", Delete, R::DeadLetter, Namespace),
    (Method::POST, "/v1/dead-letters/redrive", Operate, R::DeadLetter, Namespace),
    (Method::GET, "/v1/dead-letters/{id}", Read, R::DeadLetter, Found),
    (Method::DELETE, "/v1/dead-letters/{id}", Delete, R::DeadLetter, Found),
    (Method::POST, "/v1/dead-letters/{id}/redrive", Operate, R::DeadLetter, Found),
    (Method::POST, "/v1/deploy", Write, R::Function, Somewhere),
    (Method::GET, "/v1/doctor", Read, R::Platform, Platform),
    (Method::GET, "/v1/functions", Read, R::Function, Somewhere),
    (Method::GET, "/v1/functions/{name}", Read, R::Function, Function("name")),
    (Method::DELETE, "/v1/functions/{name}", Delete, R::Function, Function("name")),
    (Method::PUT, "/v1/functions/{name}/aliases/{alias}", Write, R::Function, Function("name")),
    (Method::DELETE, "/v1/functions/{name}/aliases/{alias}", Write, R::Function, Function("name")),
    (Method::PUT, "/v1/functions/{name}/breaker", Operate, R::Function, Function("name")),
    (Method::GET, "/v1/functions/{name}/diff", Read, R::Function, Function("name")),
    (Method::GET, "/v1/functions/{name}/explanation", Read, R::Function, Function("name")),
    (Method::POST, "/v1/functions/{name}/invocations", Use, R::Function, Function("name")),
    (Method::POST, "/v1/functions/{name}/rollback", Operate, R::Function, Function("name")),
    (Method::POST, "/v1/functions/{name}/signed-urls", Use, R::Function, Function("name")),
    (Method::GET, "/v1/functions/{name}/versions", Read, R::Function, Function("name")),
    (Method::GET, "/v1/functions/{name}/versions/{version}", Read, R::Function, Function("name")),
    (Method::GET, "/v1/functions/{name}/versions/{version}/build-log", Read, R::Function, Function("name")),
    (Method::GET, "/v1/functions/{name}/versions/{version}/package", Read, R::Function, Function("name")),
    (Method::GET, "/v1/info", Read, R::Platform, Nobody),
    (Method::GET, "/v1/instances", Read, R::Run, Function("function")),
    (Method::GET, "/v1/invocations/{id}", Read, R::Call, Found),
    (Method::DELETE, "/v1/invocations/{id}", Operate, R::Call, Found),
    (Method::GET, "/v1/invocations/{id}/content", Read, R::Call, Found),
    (Method::GET, "/v1/invocations/{id}/result", Read, R::Call, Found),
    (Method::GET, "/v1/invocations/{id}/wait", Read, R::Call, Found),
    (Method::GET, "/v1/keys", Read, R::Key, Found),
    (Method::POST, "/v1/keys", Write, R::Key, Found),
    (Method::DELETE, "/v1/keys/{id}", Delete, R::Key, Found),
    (Method::POST, "/v1/keys/{id}/rotate", Write, R::Key, Found),
    (Method::GET, "/v1/limits", Read, R::Limit, NamespaceOrPlatform),
    (Method::PUT, "/v1/limits", Write, R::Limit, Platform),
    (Method::DELETE, "/v1/limits", Delete, R::Limit, Platform),
    (Method::POST, "/v1/logout", Write, R::Session, Nobody),
    (Method::GET, "/v1/logs", Read, R::Log, Function("function")),
    (Method::GET, "/v1/members", Read, R::Member, Namespace),
    (Method::PUT, "/v1/members/{user}/{role}", Write, R::Member, Found),
    (Method::DELETE, "/v1/members/{user}/{role}", Delete, R::Member, Found),
    (Method::GET, "/v1/namespaces", Read, R::Namespace, Nobody),
    (Method::PUT, "/v1/namespaces/{name}", Write, R::Namespace, Platform),
    (Method::DELETE, "/v1/namespaces/{name}", Delete, R::Namespace, Platform),
    (Method::GET, "/v1/protections", Read, R::Protection, NamespaceOrPlatform),
    (Method::POST, "/v1/protections", Write, R::Protection, Found),
    (Method::DELETE, "/v1/protections/{id}", Write, R::Protection, Found),
    (Method::GET, "/v1/queue", Read, R::Queue, NamespaceOrPlatform),
    (Method::POST, "/v1/master-key/rotate", Operate, R::Platform, Platform),
    (Method::GET, "/v1/network", Read, R::Namespace, Namespace),
    (Method::PUT, "/v1/network", Write, R::Namespace, Platform),
    (Method::POST, "/v1/queue/flow", Operate, R::Queue, Found),
    (Method::GET, "/v1/runs", Read, R::Run, Function("function")),
    (Method::GET, "/v1/runs/{id}", Read, R::Run, Found),
    (Method::GET, "/v1/runtimes", Read, R::Platform, Nobody),
    (Method::GET, "/v1/secrets", Read, R::Secret, Namespace),
    (Method::PUT, "/v1/secrets/{secret}", Write, R::Secret, Namespace),
    (Method::DELETE, "/v1/secrets/{secret}", Delete, R::Secret, Namespace),
    (Method::POST, "/v1/secrets/{secret}/rollback", Write, R::Secret, Namespace),
    (Method::GET, "/v1/sessions", Read, R::Session, Found),
    (Method::DELETE, "/v1/sessions/{id}", Delete, R::Session, Found),
    (Method::GET, "/v1/signing-key", Operate, R::Platform, Platform),
    (Method::GET, "/v1/slos", Read, R::Run, Function("function")),
    (Method::GET, "/v1/stats", Read, R::Run, Function("function")),
    (Method::GET, "/v1/stats/node", Read, R::Platform, Platform),
    (Method::GET, "/v1/templates", Read, R::Platform, Nobody),
    (Method::GET, "/v1/topics", Read, R::Topic, Namespace),
    (Method::POST, "/v1/topics/{topic}/events", Use, R::Topic, Namespace),
    (Method::POST, "/v1/topics/{topic}/replay", Operate, R::Topic, Namespace),
    (Method::GET, "/v1/triggers", Read, R::Trigger, Function("function")),
    (Method::GET, "/v1/triggers/next", Read, R::Trigger, Function("function")),
    (Method::POST, "/v1/triggers/{function}/{trigger}/pause", Operate, R::Trigger, Function("function")),
    (Method::POST, "/v1/triggers/{function}/{trigger}/resume", Operate, R::Trigger, Function("function")),
    (Method::GET, "/v1/usage", Read, R::Usage, NamespaceOrPlatform),
    (Method::POST, "/v1/url-keys/rotate", Write, R::Key, Namespace),
    (Method::GET, "/v1/users", Read, R::User, Platform),
    (Method::PUT, "/v1/users/{name}", Write, R::User, Platform),
    (Method::DELETE, "/v1/users/{name}", Delete, R::User, Platform),
    (Method::POST, "/v1/users/{name}/password", Write, R::User, Platform),
    (Method::DELETE, "/v1/users/{name}/password", Write, R::User, Platform),
    (Method::POST, "/v1/users/{name}/disable", Write, R::User, Platform),
    (Method::POST, "/v1/users/{name}/enable", Write, R::User, Platform),
    (Method::GET, "/v1/whoami", Read, R::Platform, Nobody),
];

/// Judges a request by its route, its path and its query.
pub(crate) fn admit(
    api: &Api,
    who: &Principal,
    method: &Method,
    uri: &Uri,
    route: &MatchedPath,
) -> Result<(), Fault> {
    // HEAD is answered by the handler of GET.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let row = ROWS.iter().find(|(of, path, ..)| of == method && *path == route.as_str());
    let Some((_, _, verb, resource, about)) = row else {
        // Whether the route has the method or only has no row: nobody gets through.
        return Err(method_not_allowed());
    };
    let query = |name: &str| query_parameter(uri, name);
    let namespace = || extract::namespace(query("namespace").as_deref());
    let may = match about {
        Nobody | Found => return Ok(()),
        Platform => who.may(*verb, *resource, &Place::Platform),
        NamespaceOrPlatform if query("namespace").is_none() => who.may(*verb, *resource, &Place::Platform),
        Somewhere => who.may_somewhere(*verb, *resource, &namespace()?),
        Namespace | NamespaceOrPlatform => who.may(*verb, *resource, &Place::Namespace(namespace()?)),
        Function(parameter) => {
            let named = path_parameter(route.as_str(), uri.path(), parameter).or_else(|| query(parameter));
            let named = named.map(|text| extract::name(parameter, &text)).transpose()?;
            who.may(*verb, *resource, &api.place(namespace()?, named.as_ref()))
        }
    };
    if may { Ok(()) } else { Err(forbidden(who, *verb, *resource)) }
}

impl Api {
    /// Where a function is, or would be: in its app, or in its namespace where it has none or is not there.
    pub(crate) fn place(&self, namespace: Name, function: Option<&Name>) -> Place {
        let snapshot = self.parts.control.catalog().load();
        let entry = function.and_then(|function| snapshot.function(&namespace, function));
        let plan = entry.and_then(|entry| entry.plan(&alula_model::Qualifier::Latest).ok());
        match plan.and_then(|plan| plan.spec.app.clone()) {
            Some(app) => Place::App(namespace, app),
            None => Place::Namespace(namespace),
        }
    }

    /// For what only a handler can find: whether `actor` has a verb on a resource that belongs to a function. Who may not
    /// even look is told what is told of what is not there.
    pub(crate) fn judge(
        &self,
        actor: &Actor,
        (verb, resource): (Verb, Resource),
        (namespace, function): (&Name, Option<&Name>),
        not_there: impl FnOnce() -> Fault,
    ) -> Result<(), Fault> {
        let place = self.place(namespace.clone(), function);
        let who = actor.principal();
        if who.may(verb, resource, &place) {
            return Ok(());
        }
        if who.may(Read, resource, &place) { Err(forbidden(who, verb, resource)) } else { Err(not_there()) }
    }
}

fn forbidden(who: &Principal, verb: Verb, resource: Resource) -> Fault {
    let (verb, resource) = (format!("{verb:?}").to_lowercase(), format!("{resource:?}").to_lowercase());
    let message = format!("{} may not {verb} a {resource} here; `alula whoami` tells what it may", who.name);
    Fault::new(ErrorCode::Forbidden, message)
}

/// The value of a query parameter, as the handlers read it; they refuse one that is there twice.
fn query_parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs: Vec<(String, String)> = axum::extract::Query::try_from_uri(uri).ok()?.0;
    pairs.into_iter().find(|(is, _)| is == name).map(|(_, value)| value)
}

/// What stands in the path where the route has `{parameter}`. Names need no decoding: what is encoded is no name.
fn path_parameter(route: &str, path: &str, parameter: &str) -> Option<String> {
    let wanted = format!("{{{parameter}}}");
    let place = route.split('/').position(|segment| segment == wanted)?;
    path.split('/').nth(place).map(str::to_owned)
}

#[cfg(test)]
pub(crate) fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROWS.iter().map(|(method, path, ..)| (method.as_str(), *path))
}
