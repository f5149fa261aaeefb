//! The router and the OpenAPI document, made of the same list of handlers.

use std::sync::LazyLock;

use alula_wire::query::{LogMode, UsageBy};
use alula_wire::{DeployEvent, ErrorAnswer, LogLine, Overrides};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::get;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, PathItem, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use crate::state::Api;
use crate::{
    alarms, audit, auth, breakers, buckets, calling, calls, dead_letters, deploy, docs, explain, functions,
    health, invocations, keys, login, logs, members, namespaces, network, objectives, pointers, protect,
    queue, respond, runs, secrets, stats, system, topics, triggers, usage, versions,
};

/// The name of the way to authenticate.
const TOKEN: &str = "token";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Alula control API",
        description = "Deploy, call, watch and change functions. Points in time are milliseconds since the Unix \
            epoch; errors are `ErrorAnswer`, whose `code` is stable; unknown parameters are refused.",
    ),
    tags(
        (name = "functions", description = "What is deployed"),
        (name = "versions", description = "Versions and the names that point to them"),
        (name = "buckets", description = "Buckets, and the keys of S3 clients"),
        (name = "triggers", description = "What makes functions run besides callers"),
        (name = "topics", description = "Events: published once, handed to every function that listens"),
        (name = "runs", description = "Calls, what became of them, what they wrote"),
        (name = "calls", description = "Calls that nobody waits for: where they stand, the queue, what was given up"),
        (name = "secrets", description = "Secrets of namespaces: set, listed, never read back"),
        (name = "alarms", description = "What goes wrong, and who is told"),
        (name = "network", description = "What functions may reach outside"),
        (name = "access", description = "Who may do what: namespaces, people, keys, roles"),
        (name = "protection", description = "Limits of requests; who is blocked or throttled"),
        (name = "platform", description = "The platform itself"),
        (name = "health", description = "For probes, scrapers and tools"),
    ),
    components(schemas(DeployEvent, ErrorAnswer, LogLine, LogMode, Overrides, UsageBy)),
    security(("token" = [])),
    modifiers(&BearerToken),
)]
struct Base;

/// Bytes of any kind: how the document names a body that is not JSON.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it stands in the document only")]
pub(crate) struct Binary(Vec<u8>);

/// Whatever a function answers.
#[derive(Debug, ToSchema)]
#[schema(value_type = serde_json::Value)]
#[expect(dead_code, reason = "it stands in the document only")]
pub(crate) struct Anything(Vec<u8>);

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A token of the platform; the first start says where the admin token is stored.",
            ))
            .build();
        document.components.get_or_insert_default().add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
    }
}

/// Hands every documented route to `add`, one after the other: each comes with its part of the document, and all at once
/// would be megabytes.
fn each_operation(mut add: impl FnMut(UtoipaMethodRouter<Api>)) {
    add(routes!(deploy::deploy));
    add(routes!(functions::list));
    add(routes!(functions::describe, functions::remove));
    add(routes!(explain::explain));
    add(routes!(breakers::list));
    add(routes!(breakers::hold));
    add(routes!(versions::list));
    add(routes!(versions::describe));
    add(routes!(versions::build_log));
    add(routes!(versions::package));
    add(routes!(versions::diff));
    add(routes!(pointers::rollback));
    add(routes!(pointers::set_alias, pointers::remove_alias));
    add(routes!(buckets::list));
    add(routes!(buckets::create, buckets::delete));
    add(routes!(buckets::list_keys, buckets::create_key));
    add(routes!(buckets::delete_key));
    add(routes!(triggers::list));
    add(routes!(triggers::next));
    add(routes!(triggers::pause));
    add(routes!(triggers::resume));
    add(routes!(topics::list));
    add(routes!(topics::publish));
    add(routes!(topics::replay));
    add(routes!(invocations::invoke));
    add(routes!(calls::describe, calls::cancel));
    add(routes!(calls::wait));
    add(routes!(calls::result));
    add(routes!(dead_letters::content));
    add(routes!(dead_letters::list));
    add(routes!(dead_letters::redrive_all));
    add(routes!(dead_letters::purge_all));
    add(routes!(dead_letters::describe, dead_letters::purge));
    add(routes!(dead_letters::redrive));
    add(routes!(queue::queue));
    add(routes!(queue::set_flow));
    add(routes!(system::signing_key));
    add(routes!(logs::logs));
    add(routes!(runs::list));
    add(routes!(runs::describe));
    add(routes!(stats::stats));
    add(routes!(stats::node));
    add(routes!(objectives::list));
    add(routes!(usage::usage));
    add(routes!(alarms::list));
    add(routes!(alarms::history));
    add(routes!(alarms::describe));
    add(routes!(alarms::acknowledge));
    add(routes!(alarms::silences, alarms::silence));
    add(routes!(alarms::end_silence));
    add(routes!(alarms::test));
    each_operation_of_access(&mut add);
    add(routes!(system::info));
    add(routes!(system::runtimes));
    add(routes!(system::templates));
    add(routes!(system::doctor));
    add(routes!(system::instances));
    add(routes!(audit::list));
    add(routes!(audit::verify));
    add(routes!(health::livez));
    add(routes!(health::readyz));
    add(routes!(health::figures));
    add(routes!(docs::document));
}

/// The same for who may do what, and for what keeps tenants from each other.
fn each_operation_of_access(add: &mut impl FnMut(UtoipaMethodRouter<Api>)) {
    add(routes!(namespaces::whoami));
    add(routes!(namespaces::list));
    add(routes!(namespaces::create, namespaces::remove));
    add(routes!(members::list));
    add(routes!(members::give, members::take));
    add(routes!(members::users));
    add(routes!(members::create, members::remove));
    add(routes!(members::disable));
    add(routes!(members::enable));
    add(routes!(keys::list, keys::create));
    add(routes!(keys::rotate));
    add(routes!(keys::revoke));
    add(routes!(protect::list, protect::create));
    add(routes!(protect::lift));
    add(routes!(protect::limits, protect::set_limit, protect::unset_limit));
    add(routes!(login::log_in));
    add(routes!(login::log_out));
    add(routes!(login::change_password));
    add(routes!(login::reset_password, login::remove_password));
    add(routes!(login::sessions));
    add(routes!(login::end_session));
    add(routes!(calling::get, calling::set));
    add(routes!(calling::sign));
    add(routes!(calling::rotate));
    add(routes!(secrets::list));
    add(routes!(secrets::set, secrets::remove));
    add(routes!(secrets::rollback));
    add(routes!(secrets::rotate_master));
    add(routes!(network::show, network::set));
}

/// The OpenAPI document of the control API.
#[must_use]
pub fn document() -> Document {
    let mut router = OpenApiRouter::with_openapi(Base::openapi());
    each_operation(|operation| router = std::mem::take(&mut router).routes(operation));
    let mut document = router.into_openapi();
    for operation in document.paths.paths.values_mut().flat_map(operations_of) {
        document_refusals(operation);
    }
    document
}

/// The same as JSON, made once.
#[expect(clippy::expect_used, reason = "the document is made of plain data")]
pub(crate) fn document_json() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| document().to_json().expect("the document is JSON"));
    &JSON
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().filter_map(Option::as_mut)
}

/// What every operation may answer besides what its handler says.
fn document_refusals(operation: &mut Operation) {
    let mut add = |status: &str, description: &str| {
        let content = Content::new(Some(Ref::from_schema_name("ErrorAnswer")));
        let response =
            ResponseBuilder::new().description(description).content("application/json", content).build();
        operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.into());
    };
    add("400", "The request is malformed; the message names the part");
    add("429", "A limit of this API is reached; the answer says when to come again");
    add("503", "The platform cannot do it now");
    let is_open =
        operation.security.as_ref().is_some_and(|ways| ways.contains(&SecurityRequirement::default()));
    if !is_open {
        let mut add = add;
        add("401", "No token, or one that is not known");
        add("403", "The token's owner may not do this here");
    }
}

impl Api {
    /// The router of the control API, ready to be served.
    pub fn router(&self) -> Router {
        let mut router = Router::new();
        each_operation(|(_, described, methods)| {
            for path in described.paths.into_keys() {
                router = std::mem::take(&mut router).route(&path, methods.clone());
            }
        });
        router
            .route("/docs", get(docs::page))
            .route("/docs/app.js", get(docs::script))
            .route("/docs/style.css", get(docs::style))
            .fallback(respond::no_such_route)
            .method_not_allowed_fallback(respond::no_such_method)
            // Each body has a limit of its own, where it is read.
            .layer(DefaultBodyLimit::disable())
            .layer(middleware::from_fn_with_state(self.clone(), auth::require_token))
            .with_state(self.clone())
    }
}
