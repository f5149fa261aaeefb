//! Triggers: the list, what comes next, pausing and resuming.

use std::collections::HashMap;
use std::sync::Arc;

use alula_control::FunctionEntry;
use alula_model::trigger::{Source, Trigger};
use alula_model::{ErrorCode, Fault, Name, Qualifier};
use alula_trigger::schedule::{Filter, Readiness, ScheduleView, SkipReason};
use alula_trigger::{Pause, TriggerKey, describe};
use alula_wire::{
    ErrorAnswer, ScheduleState, SlotReadiness, SlotRun, SlotSkip, TriggerInfo, TriggerPage, TriggerPause,
    UpcomingSlot, UpcomingSlots, query,
};
use axum::Json;
use axum::extract::State;

use crate::auth::Actor;
use crate::extract::{self, Path, Query};
use crate::functions::not_found;
use crate::respond::{Answer, Problem, store_fault};
use crate::state::Api;

/// Lists triggers
///
/// Those of the versions in force, of all kinds, with where each stands.
#[utoipa::path(
    get,
    path = "/v1/triggers",
    tag = "triggers",
    operation_id = "list_triggers",
    params(query::ListTriggers),
    responses((status = 200, description = "Triggers in the order of their functions and names", body = TriggerPage))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Query(query): Query<query::ListTriggers>,
) -> Answer<Json<TriggerPage>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let limit = extract::limit(query.limit, query::LIMIT_MAX)?;
    let function = query.function.as_deref().map(|text| extract::name("function", text)).transpose()?;
    let behind = query.cursor.as_deref().map(cursor).transpose()?;
    let pauses = pauses(&api).await?;
    let snapshot = Arc::clone(&api.parts.control.catalog().load());
    let meant = |entry: &&Arc<FunctionEntry>| {
        let name = &entry.function.name;
        function.as_ref().is_none_or(|function| function == name)
            && behind.as_ref().is_none_or(|(function, _)| name >= function)
    };
    let stated = snapshot.functions(&namespace).filter(meant).flat_map(|entry| {
        let mut triggers = triggers_of(entry);
        triggers.sort_by(|a, b| a.name.cmp(&b.name));
        triggers.into_iter().map(move |trigger| (entry, trigger))
    });
    let mut rest = stated.filter(|(entry, trigger)| {
        let place = (&entry.function.name, &trigger.name);
        behind.as_ref().is_none_or(|(function, name)| place > (function, name))
    });
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let last = page.last().filter(|_| rest.next().is_some());
    let next = last.map(|(entry, trigger)| format!("{}/{}", entry.function.name, trigger.name));
    let triggers = page.iter().map(|(entry, trigger)| info(&api, entry, trigger, &pauses)).collect();
    Ok(Json(TriggerPage { triggers, next }))
}

/// Shows the coming slots of schedules
///
/// The next ones first, with whether an instance is ready and what became of the last slots. Paused schedules have none.
#[utoipa::path(
    get,
    path = "/v1/triggers/next",
    tag = "triggers",
    operation_id = "next_slots",
    params(query::NextSlots),
    responses((status = 200, description = "Slots to come, in their order", body = UpcomingSlots))
)]
pub(crate) async fn next(
    State(api): State<Api>,
    Query(query): Query<query::NextSlots>,
) -> Answer<Json<UpcomingSlots>> {
    let name = |parameter: &str, text: &Option<String>| {
        text.as_deref().map(|text| extract::name(parameter, text)).transpose()
    };
    let filter = Filter {
        namespace: Some(extract::namespace(query.namespace.as_deref())?),
        function: name("function", &query.function)?,
        trigger: name("trigger", &query.trigger)?,
    };
    let limit = extract::limit(query.limit, query::LIMIT_MAX)?;
    let upcoming = api.parts.schedules.next(&filter, limit);
    let snapshot = Arc::clone(&api.parts.control.catalog().load());
    let slots = upcoming.into_iter().filter_map(|upcoming| {
        let key = &upcoming.schedule.key;
        // What was removed a moment ago has no slots to come.
        let entry = snapshot.function(&key.namespace, &key.function)?;
        let trigger = triggers_of(entry).into_iter().find(|trigger| trigger.name == key.trigger)?;
        Some(UpcomingSlot {
            slot_ms: upcoming.slot.as_millis(),
            available_ms: upcoming.available_at.as_millis(),
            trigger: info_of(entry, trigger, Some(&upcoming.schedule), None),
        })
    });
    Ok(Json(UpcomingSlots { slots: slots.collect() }))
}

/// Pauses a trigger
///
/// When the answer comes it fires no more, on whichever node, until it is resumed. What runs is not touched.
#[utoipa::path(
    post,
    path = "/v1/triggers/{function}/{trigger}/pause",
    tag = "triggers",
    operation_id = "pause_trigger",
    params(
        ("function" = String, Path, description = "The function"),
        ("trigger" = String, Path, description = "The trigger"),
        query::InNamespace,
    ),
    responses(
        (status = 200, description = "The trigger as it is now", body = TriggerInfo),
        (status = 404, description = "No such function or trigger", body = ErrorAnswer),
    )
)]
pub(crate) async fn pause(
    State(api): State<Api>,
    actor: Actor,
    Path((function, trigger)): Path<(Name, Name)>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<TriggerInfo>> {
    let key = existing(&api, query.namespace.as_deref(), function, trigger)?;
    api.parts.schedules.pause(&key, actor.as_str()).await.map_err(|error| store_fault(&error))?;
    api.parts.brokers.pauses_changed();
    note(&api, &actor, "trigger.pause", &key).await?;
    one(&api, &key).await
}

/// Resumes a trigger
///
/// It goes on with what comes from now on: slots of a schedule that came during the pause are skipped.
#[utoipa::path(
    post,
    path = "/v1/triggers/{function}/{trigger}/resume",
    tag = "triggers",
    operation_id = "resume_trigger",
    params(
        ("function" = String, Path, description = "The function"),
        ("trigger" = String, Path, description = "The trigger"),
        query::InNamespace,
    ),
    responses(
        (status = 200, description = "The trigger as it is now", body = TriggerInfo),
        (status = 404, description = "No such function or trigger", body = ErrorAnswer),
    )
)]
pub(crate) async fn resume(
    State(api): State<Api>,
    actor: Actor,
    Path((function, trigger)): Path<(Name, Name)>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<TriggerInfo>> {
    let key = existing(&api, query.namespace.as_deref(), function, trigger)?;
    api.parts.schedules.resume(&key).await.map_err(|error| store_fault(&error))?;
    api.parts.brokers.pauses_changed();
    note(&api, &actor, "trigger.resume", &key).await?;
    one(&api, &key).await
}

async fn note(api: &Api, actor: &Actor, action: &str, key: &TriggerKey) -> Result<(), Fault> {
    let subject = format!("{}/{}", key.namespace, key.function);
    api.parts.control.note(actor.by(), action, &subject, key.trigger.to_string()).await
}

/// The triggers in force of a function.
fn triggers_of(entry: &FunctionEntry) -> Vec<&Trigger> {
    entry.plan(&Qualifier::Latest).map(|plan| plan.spec.triggers.iter().collect()).unwrap_or_default()
}

fn existing(
    api: &Api,
    namespace: Option<&str>,
    function: Name,
    trigger: Name,
) -> Result<TriggerKey, Problem> {
    let namespace = extract::namespace(namespace)?;
    let snapshot = api.parts.control.catalog().load();
    let entry = snapshot.function(&namespace, &function).ok_or_else(|| not_found(&namespace, &function))?;
    let triggers = triggers_of(entry);
    if triggers.iter().any(|known| known.name == trigger) {
        return Ok(TriggerKey { namespace, function, trigger });
    }
    let known: Vec<_> = triggers.iter().map(|trigger| trigger.name.as_str()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let message = format!("function {function} has no trigger {trigger} in force; it has {known}");
    Err(Fault::new(ErrorCode::NotFound, message).into())
}

async fn one(api: &Api, key: &TriggerKey) -> Answer<Json<TriggerInfo>> {
    let pauses = pauses(api).await?;
    let snapshot = Arc::clone(&api.parts.control.catalog().load());
    let entry = snapshot.function(&key.namespace, &key.function);
    let found = entry.and_then(|entry| {
        let trigger = triggers_of(entry).into_iter().find(|trigger| trigger.name == key.trigger)?;
        Some(info(api, entry, trigger, &pauses))
    });
    found.map(Json).ok_or_else(|| not_found(&key.namespace, &key.function).into())
}

async fn pauses(api: &Api) -> Result<HashMap<TriggerKey, Pause>, Problem> {
    let all = api.parts.schedules.pauses().all().await.map_err(|error| store_fault(&error))?;
    Ok(all.into_iter().collect())
}

fn cursor(text: &str) -> Result<(Name, Name), Fault> {
    let (function, trigger) = text.split_once('/').unwrap_or((text, ""));
    Ok((extract::name("cursor", function)?, extract::name("cursor", trigger)?))
}

fn info(
    api: &Api,
    entry: &FunctionEntry,
    trigger: &Trigger,
    pauses: &HashMap<TriggerKey, Pause>,
) -> TriggerInfo {
    let (namespace, function) = (entry.function.namespace.clone(), entry.function.name.clone());
    let key = TriggerKey { namespace, function, trigger: trigger.name.clone() };
    let view = matches!(trigger.source, Source::Schedule(_)).then(|| api.parts.schedules.get(&key)).flatten();
    let (problem, broker) = (api.parts.folders.problem(&key), api.parts.brokers.state(&key));
    TriggerInfo { problem, broker, ..info_of(entry, trigger, view.as_ref(), pauses.get(&key)) }
}

fn info_of(
    entry: &FunctionEntry,
    trigger: &Trigger,
    view: Option<&ScheduleView>,
    pause: Option<&Pause>,
) -> TriggerInfo {
    TriggerInfo {
        namespace: entry.function.namespace.to_string(),
        function: entry.function.name.to_string(),
        name: trigger.name.to_string(),
        kind: trigger.source.kind().to_owned(),
        watches: describe(trigger),
        version: entry.function.latest,
        qualifier: trigger.qualifier.clone().unwrap_or_else(|| Qualifier::Latest.to_string()),
        enabled: trigger.enabled,
        paused: pause.map(|pause| TriggerPause { at_ms: pause.at.as_millis(), by: pause.by.clone() }),
        schedule: view.map(schedule_state),
        problem: None,
        broker: None,
    }
}

fn schedule_state(view: &ScheduleView) -> ScheduleState {
    let (readiness, not_ready) = match &view.readiness {
        Readiness::Unknown => (SlotReadiness::Unknown, None),
        Readiness::Asked => (SlotReadiness::Asked, None),
        Readiness::Ready => (SlotReadiness::Ready, None),
        Readiness::NotReady { reason } => (SlotReadiness::NotReady, Some(reason.clone())),
    };
    ScheduleState {
        next_ms: view.next.map(alula_model::Timestamp::as_millis),
        last_run: view.last_run.as_ref().map(|run| SlotRun {
            slot_ms: run.slot.as_millis(),
            admitted_ms: run.at.as_millis(),
            invocation_id: run.id.to_string(),
        }),
        last_skip: view.last_skip.as_ref().map(|skip| SlotSkip {
            first_ms: skip.first.as_millis(),
            last_ms: skip.last.as_millis(),
            decided_ms: skip.at.as_millis(),
            reason: skip.reason.as_str().to_owned(),
            message: skip_message(&skip.reason),
        }),
        readiness,
        not_ready,
        problem: view.problem.clone(),
    }
}

fn skip_message(reason: &SkipReason) -> String {
    match reason {
        SkipReason::Missed => "the platform was not there for it".to_owned(),
        SkipReason::Overlap { running } => format!("invocation {running} of the slot before had not ended"),
        SkipReason::Refused { code, message } => format!("{code}: {message}"),
    }
}
