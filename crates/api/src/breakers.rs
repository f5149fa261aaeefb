//! Breakers: what they do and why, and what operators hold by hand.

use alula_guard::adaptive::AdaptiveView;
use alula_guard::breaker::{BreakerEvent, BreakerView, Counts, Hand, HandKey, Held, Scope};
use alula_model::{Name, Qualifier};
use alula_wire::{
    AdaptiveLimit, Breaker, BreakerChange, BreakerCounts, BreakerHand, BreakerHold, BreakerList,
    BreakerRequest, ErrorAnswer, query,
};
use axum::extract::State;
use tokio::time::Instant;

use crate::auth::Actor;
use crate::extract::{self, Json, Path, Query};
use crate::functions::not_found;
use crate::respond::{Answer, Problem};
use crate::state::Api;

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 500;

/// Lists the breakers
///
/// Of this node: what each does with calls and why, its changes, what operators hold by hand, and the limits that follow
/// latency.
#[utoipa::path(
    get,
    path = "/v1/breakers",
    tag = "functions",
    operation_id = "list_breakers",
    params(query::ListInstances),
    responses((status = 200, description = "The breakers", body = BreakerList))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Query(query): Query<query::ListInstances>,
) -> Answer<axum::Json<BreakerList>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let function = query.function.as_deref().map(|text| extract::name("function", text)).transpose()?;
    Ok(axum::Json(list_of(&api, &namespace, function.as_ref())))
}

/// Holds a breaker by hand
///
/// Open, closed, or open with the degraded answer; or lets it go again. It is durable and in force here when the answer
/// comes, and on other nodes within a second.
#[utoipa::path(
    put,
    path = "/v1/functions/{name}/breaker",
    tag = "functions",
    operation_id = "hold_breaker",
    params(("name" = String, Path, description = "The function"), query::InNamespace),
    request_body = BreakerRequest,
    responses(
        (status = 200, description = "The function's breakers, and what is held now", body = BreakerList),
        (status = 404, description = "No such function, version or alias", body = ErrorAnswer),
    )
)]
pub(crate) async fn hold(
    State(api): State<Api>,
    actor: Actor,
    Path(name): Path<Name>,
    Query(query): Query<query::InNamespace>,
    Json(request): Json<BreakerRequest>,
) -> Answer<axum::Json<BreakerList>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    if request.reason.chars().count() > REASON_CHARS_MAX {
        return Err(Problem::invalid(format!("reason: {REASON_CHARS_MAX} characters are allowed")));
    }
    let scope: Scope = request
        .qualifier
        .as_deref()
        .unwrap_or_default()
        .parse()
        .map_err(|error| Problem::invalid(format!("qualifier: {error}")))?;
    let held = match request.hold {
        BreakerHold::Auto => None,
        BreakerHold::Open => Some(Held::Open),
        BreakerHold::Closed => Some(Held::Closed),
        BreakerHold::Degraded => Some(Held::Degraded),
    };
    // What was held of something that is gone can be let go.
    if held.is_some() {
        check(&api, &namespace, &name, &scope, held)?;
    }
    let key = HandKey { namespace: namespace.clone(), function: name.clone(), scope };
    api.parts.hands.set(actor.by(), &key, held, &request.reason).await.map_err(unavailable)?;
    Ok(axum::Json(list_of(&api, &namespace, Some(&name))))
}

fn unavailable(error: alula_store::Error) -> Problem {
    tracing::warn!(%error, "what is held by hand could not be stored");
    let code = alula_model::ErrorCode::StoreUnavailable;
    Problem::from(alula_model::Fault::new(code, "the store does not take it now"))
}

/// Whether what is to be held is there, and has the answer that it needs.
fn check(api: &Api, namespace: &Name, name: &Name, scope: &Scope, held: Option<Held>) -> Answer<()> {
    let catalog = api.parts.control.catalog().load();
    let entry = catalog.function(namespace, name).ok_or_else(|| not_found(namespace, name))?;
    let plan = entry.plan(&match scope {
        Scope::All => Qualifier::Latest,
        Scope::Version(number) => Qualifier::Version(*number),
        Scope::Alias(alias) => Qualifier::Alias(alias.clone()),
    })?;
    if held == Some(Held::Degraded) && plan.spec.degraded.is_none() {
        let message =
            format!("{name} has no degraded answer: state one in [functions.{name}.degraded] of alula.toml");
        return Err(Problem::invalid(message));
    }
    Ok(())
}

/// What is known of a namespace's breakers, or of one function's.
pub(crate) fn list_of(api: &Api, namespace: &Name, function: Option<&Name>) -> BreakerList {
    let breakers = api.parts.hands.breakers();
    let is_meant = |of: &Name, name: &Name| of == namespace && function.is_none_or(|wanted| wanted == name);
    let hands = breakers.hands().into_iter();
    let hands = hands.filter(|(key, _)| is_meant(&key.namespace, &key.function));
    let functions = api.parts.invoker.guard().functions();
    let adaptive = functions.map(|functions| functions.adaptive().views()).unwrap_or_default();
    let adaptive = adaptive.iter().filter(|view| is_meant(&view.key.namespace, &view.key.function));
    let views = breakers.views(Some(namespace), function, Instant::now());
    BreakerList {
        breakers: views.iter().map(breaker).collect(),
        hands: hands.map(|(key, hand)| hand_of(&key, hand)).collect(),
        adaptive: adaptive.map(limit).collect(),
    }
}

fn breaker(view: &BreakerView) -> Breaker {
    Breaker {
        namespace: view.key.namespace.to_string(),
        function: view.key.function.to_string(),
        version: view.key.version,
        scope: view.scope.to_string(),
        state: view.state.as_str().to_owned(),
        refused_percent: (view.refused_share * 1_000.0).round() / 10.0,
        open_for_ms: view.open_for_ms,
        window: counts(view.counts),
        changes: view.events.iter().map(change).collect(),
    }
}

fn change(event: &BreakerEvent) -> BreakerChange {
    BreakerChange {
        at_ms: event.at.as_millis(),
        from: event.from.as_str().to_owned(),
        to: event.to.as_str().to_owned(),
        why: event.why.to_string(),
        counts: counts(event.counts),
    }
}

const fn counts(counts: Counts) -> BreakerCounts {
    let Counts { good, failed, slow, platform, refused } = counts;
    BreakerCounts { good, failed, slow, platform, refused }
}

fn hand_of(key: &HandKey, hand: Hand) -> BreakerHand {
    BreakerHand {
        namespace: key.namespace.to_string(),
        function: key.function.to_string(),
        scope: key.scope.to_string(),
        held: hand.held.as_str().to_owned(),
        by: hand.by,
        at_ms: hand.at.as_millis(),
        reason: hand.reason,
    }
}

fn limit(view: &AdaptiveView) -> AdaptiveLimit {
    AdaptiveLimit {
        namespace: view.key.namespace.to_string(),
        function: view.key.function.to_string(),
        version: view.key.version,
        limit: view.limit,
        in_flight: view.in_flight,
        usual_us: view.usual_us,
    }
}
