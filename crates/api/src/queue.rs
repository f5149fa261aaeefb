//! The queue of asynchronous calls: what is in it, and pausing or draining it.

use alula_identity::{Place, PrincipalKind, Resource, Verb};
use alula_invoke::later::{self, FlowKey};
use alula_model::{ErrorCode, Fault, Name};
use alula_wire::{ErrorAnswer, Flow, QueueFlow, QueueInfo, QueueLane, QueueTotals, query};
use axum::Json;
use axum::extract::State;

use crate::auth::Actor;
use crate::extract::{self, NoQuery, Query};
use crate::functions::not_found;
use crate::respond::Answer;
use crate::state::Api;

/// Shows the queue
///
/// How much waits, how old it is, how fast it goes, and whether everything that was accepted is accounted for.
#[utoipa::path(
    get,
    path = "/v1/queue",
    tag = "calls",
    operation_id = "queue",
    params(query::Queue),
    responses((status = 200, description = "The queue", body = QueueInfo))
)]
pub(crate) async fn queue(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::Queue>,
) -> Answer<Json<QueueInfo>> {
    let namespace = query.namespace.as_deref().map(|text| extract::name("namespace", text)).transpose()?;
    let function = query.function.as_deref().map(|text| extract::name("function", text)).transpose()?;
    let info = api.parts.calls.queue().await?;
    let is_shown = |lane: &&later::LaneInfo| {
        namespace.as_ref().is_none_or(|name| *name == lane.lane.namespace)
            && function.as_ref().is_none_or(|name| *name == lane.lane.function)
    };
    // Of the rest of the platform a tenant sees only what holds for them too.
    let is_administrator = actor.principal().kind == PrincipalKind::Administrator;
    let concerns = |key: &FlowKey| match key {
        FlowKey::All => true,
        FlowKey::Namespace(of) | FlowKey::Function(of, _) => {
            is_administrator || namespace.as_ref() == Some(of)
        }
    };
    let flows = info.flows.iter().filter(|(key, _)| concerns(key));
    let mut flows: Vec<QueueFlow> = flows.map(|(key, flow)| queue_flow(key, *flow)).collect();
    flows.sort_unstable_by(|a, b| (&a.namespace, &a.function).cmp(&(&b.namespace, &b.function)));
    Ok(Json(QueueInfo {
        totals: is_administrator.then(|| queue_totals(&info.totals)),
        lanes: info.lanes.iter().filter(is_shown).map(queue_lane).collect(),
        flows,
    }))
}

/// Pauses, drains or opens
///
/// For a function, for a namespace, or for everything. It is in force when the answer comes; what runs is not stopped.
#[utoipa::path(
    post,
    path = "/v1/queue/flow",
    tag = "calls",
    operation_id = "set_flow",
    request_body = QueueFlow,
    responses(
        (status = 200, description = "What is in force now", body = QueueFlow),
        (status = 404, description = "No such function", body = ErrorAnswer),
    )
)]
pub(crate) async fn set_flow(
    State(api): State<Api>,
    actor: Actor,
    _no_query: NoQuery,
    extract::Json(request): extract::Json<QueueFlow>,
) -> Answer<Json<QueueFlow>> {
    judge(&api, &actor, &request)?;
    let key = flow_key(&api, &request)?;
    let (flow, action) = match request.flow {
        Flow::Open => (later::Flow::Open, "queue.resume"),
        Flow::Paused => (later::Flow::Paused, "queue.pause"),
        Flow::Draining => (later::Flow::Draining, "queue.drain"),
    };
    api.parts.calls.set_flow(&key, flow).await?;
    let (subject, detail) = match &key {
        // The record is kept by namespace.
        FlowKey::All => (Name::default_namespace().to_string(), "every namespace"),
        FlowKey::Namespace(namespace) => (namespace.to_string(), "the whole namespace"),
        FlowKey::Function(namespace, function) => (format!("{namespace}/{function}"), ""),
    };
    api.parts.control.note(actor.by(), action, &subject, detail.to_owned()).await?;
    Ok(Json(queue_flow(&key, flow)))
}

/// What is nobody's own is the administrators' business.
fn judge(api: &Api, actor: &Actor, request: &QueueFlow) -> Result<(), Fault> {
    let name = |field: &str, text: Option<&str>| text.map(|text| extract::name(field, text)).transpose();
    let function = name("function", request.function.as_deref())?;
    let namespace = match (name("namespace", request.namespace.as_deref())?, &function) {
        (Some(namespace), _) => Some(namespace),
        (None, function) => function.as_ref().map(|_| Name::default_namespace()),
    };
    let place = namespace.map_or(Place::Platform, |namespace| api.place(namespace, function.as_ref()));
    let resource = if place == Place::Platform { Resource::Platform } else { Resource::Queue };
    let refused =
        || Fault::new(ErrorCode::Forbidden, format!("{} may not pause or open this", actor.as_str()));
    actor.principal().may(Verb::Operate, resource, &place).then_some(()).ok_or_else(refused)
}

fn flow_key(api: &Api, request: &QueueFlow) -> Result<FlowKey, Fault> {
    let namespace = request.namespace.as_deref().map(|text| extract::name("namespace", text)).transpose()?;
    let function = request.function.as_deref().map(|text| extract::name("function", text)).transpose()?;
    let (namespace, function) = match (namespace, function) {
        (None, None) => return Ok(FlowKey::All),
        (Some(namespace), None) => return Ok(FlowKey::Namespace(namespace)),
        (namespace, Some(function)) => (namespace.unwrap_or_else(Name::default_namespace), function),
    };
    // What was set for a function that is gone can be taken back.
    let is_known = api.parts.control.catalog().load().function(&namespace, &function).is_some();
    if request.flow != Flow::Open && !is_known {
        return Err(not_found(&namespace, &function));
    }
    Ok(FlowKey::Function(namespace, function))
}

fn queue_flow(key: &FlowKey, flow: later::Flow) -> QueueFlow {
    let (namespace, function) = match key {
        FlowKey::All => (None, None),
        FlowKey::Namespace(namespace) => (Some(namespace.to_string()), None),
        FlowKey::Function(namespace, function) => (Some(namespace.to_string()), Some(function.to_string())),
    };
    let flow = match flow {
        later::Flow::Open => Flow::Open,
        later::Flow::Paused => Flow::Paused,
        later::Flow::Draining => Flow::Draining,
    };
    QueueFlow { flow, namespace, function }
}

fn queue_totals(totals: &alula_store::Totals) -> QueueTotals {
    QueueTotals {
        accepted: totals.accepted,
        done: totals.done,
        cancelled: totals.cancelled,
        purged: totals.purged,
        waiting: totals.waiting,
        running: totals.claimed,
        dead: totals.dead,
        imbalance: totals.imbalance(),
    }
}

fn queue_lane(info: &later::LaneInfo) -> QueueLane {
    let later::LaneInfo { lane, stats, oldest_ms, ended_per_second } = info;
    QueueLane {
        namespace: lane.namespace.to_string(),
        function: lane.function.to_string(),
        class: lane.class.as_str().to_owned(),
        available: stats.available,
        delayed: stats.delayed,
        held_back: stats.held_back,
        running: stats.claimed,
        dead: stats.dead,
        oldest_ms: *oldest_ms,
        ended_per_second: *ended_per_second,
    }
}
