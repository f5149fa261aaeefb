//! Alarms: listing, acknowledging, silencing, testing.
//!
//! Who has a role in a namespace sees the alarms of that namespace; those of the node are the administrators'.

use alula_alarm::{Alarm, Matcher, Occurrence, Silence, State as AlarmState};
use alula_identity::{Place, Resource, Verb};
use alula_model::{ErrorCode, Fault, Name};
use alula_wire::{
    AlarmEvent, AlarmHistory, AlarmInfo, AlarmList, AlarmTestList, AlarmTestOutcome, ErrorAnswer, NewSilence,
    SilenceInfo, SilenceList, query,
};
use axum::Json;
use axum::extract::State;

use crate::auth::Actor;
use crate::extract::{self, NoQuery, Path, Query};
use crate::respond::{Answer, Problem, store_fault};
use crate::state::Api;

/// Longest silence: who wants more switches the rule off.
const SILENCE_MS_MAX: u64 = 90 * 24 * 3_600_000;
/// Longest reason of a silence, in characters.
const REASON_LEN_MAX: usize = 500;

/// Shows alarms
///
/// Those that fire, those that may soon, and those that are over since a few minutes.
#[utoipa::path(
    get,
    path = "/v1/alarms",
    tag = "alarms",
    operation_id = "list_alarms",
    params(query::Alarms),
    responses((status = 200, description = "The alarms", body = AlarmList))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Query(query): Query<query::Alarms>,
) -> Answer<Json<AlarmList>> {
    let whose = Whose::of(&query)?;
    let limit = extract::limit(query.limit, query::LIMIT_MAX)?;
    let mut alarms = api.parts.alarms.list();
    alarms.retain(|(alarm, _)| {
        whose.is_meant(alarm.subject.namespace.as_ref(), alarm.subject.function.as_ref())
    });
    let rank = |state: AlarmState| match state {
        AlarmState::Firing => 0,
        AlarmState::Pending => 1,
        AlarmState::Resolved => 2,
    };
    alarms.sort_by_key(|(alarm, _)| (rank(alarm.state), std::cmp::Reverse(alarm.severity), alarm.since));
    let alarms = alarms.iter().take(limit).map(|(alarm, silence)| info(alarm, silence.as_ref())).collect();
    Ok(Json(AlarmList { alarms }))
}

/// Shows what has happened to alarms
#[utoipa::path(
    get,
    path = "/v1/alarms/history",
    tag = "alarms",
    operation_id = "alarm_history",
    params(query::Alarms),
    responses((status = 200, description = "What has happened, newest first", body = AlarmHistory))
)]
pub(crate) async fn history(
    State(api): State<Api>,
    Query(query): Query<query::Alarms>,
) -> Answer<Json<AlarmHistory>> {
    let whose = Whose::of(&query)?;
    let limit = extract::limit(query.limit, query::LIMIT_MAX)?;
    let is_meant =
        |one: &Occurrence| whose.is_meant(one.subject.namespace.as_ref(), one.subject.function.as_ref());
    Ok(Json(AlarmHistory { events: api.parts.alarms.history(is_meant, limit).iter().map(event).collect() }))
}

/// Shows one alarm
#[utoipa::path(
    get,
    path = "/v1/alarms/{id}",
    tag = "alarms",
    operation_id = "describe_alarm",
    params(("id" = String, Path, description = "The alarm's id")),
    responses(
        (status = 200, description = "The alarm", body = AlarmInfo),
        (status = 404, description = "No such alarm", body = ErrorAnswer),
    )
)]
pub(crate) async fn describe(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<Json<AlarmInfo>> {
    let (alarm, silence) = found(&api, &actor, &id, Verb::Read)?;
    Ok(Json(info(&alarm, silence.as_ref())))
}

/// Says that somebody knows
///
/// It is not told again while it fires; that it is over is.
#[utoipa::path(
    post,
    path = "/v1/alarms/{id}/acknowledge",
    tag = "alarms",
    operation_id = "acknowledge_alarm",
    params(("id" = String, Path, description = "The alarm's id")),
    responses(
        (status = 200, description = "The alarm", body = AlarmInfo),
        (status = 404, description = "No such alarm", body = ErrorAnswer),
        (status = 409, description = "It does not fire", body = ErrorAnswer),
    )
)]
pub(crate) async fn acknowledge(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<Json<AlarmInfo>> {
    let (_, silence) = found(&api, &actor, &id, Verb::Operate)?;
    let acknowledged = api.parts.alarms.acknowledge(&id, actor.as_str());
    let quiet = || Fault::new(ErrorCode::Conflict, format!("alarm {id} does not fire"));
    Ok(Json(info(&acknowledged.ok_or_else(quiet)?, silence.as_ref())))
}

/// Lists silences
#[utoipa::path(
    get,
    path = "/v1/alarm-silences",
    tag = "alarms",
    operation_id = "list_silences",
    params(query::InNamespace),
    responses((status = 200, description = "The silences in force", body = SilenceList))
)]
pub(crate) async fn silences(
    State(api): State<Api>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<SilenceList>> {
    let namespace = query.namespace.as_deref().map(|text| extract::name("namespace", text)).transpose()?;
    let mut silences = api.parts.alarms.silences();
    silences
        .retain(|one| namespace.as_ref().is_none_or(|name| one.matcher.namespace() == Some(name.as_str())));
    silences.sort_by_key(|silence| silence.until);
    Ok(Json(SilenceList { silences: silences.iter().map(silence_info).collect() }))
}

/// Silences alarms for a while
///
/// They go on being evaluated and shown. Who is no administrator names a namespace in the matcher.
#[utoipa::path(
    post,
    path = "/v1/alarm-silences",
    tag = "alarms",
    operation_id = "silence_alarms",
    request_body = NewSilence,
    responses((status = 200, description = "The silence", body = SilenceInfo))
)]
pub(crate) async fn silence(
    State(api): State<Api>,
    actor: Actor,
    _no_query: NoQuery,
    extract::Json(request): extract::Json<NewSilence>,
) -> Answer<Json<SilenceInfo>> {
    let matcher: Matcher =
        request.matcher.try_into().map_err(|error| Problem::invalid(format!("matcher: {error}")))?;
    judge(&actor, &matcher, || Fault::new(ErrorCode::Forbidden, not_all(&actor)))?;
    if !(1..=SILENCE_MS_MAX).contains(&request.for_ms) {
        return Err(Problem::invalid(format!("for_ms: allowed is 1 to {SILENCE_MS_MAX}")));
    }
    if request.reason.is_empty() || request.reason.chars().count() > REASON_LEN_MAX {
        return Err(Problem::invalid(format!("reason: 1 to {REASON_LEN_MAX} characters are expected")));
    }
    let until = api.parts.clock.now().plus_millis(i64::try_from(request.for_ms).unwrap_or(i64::MAX));
    let detail = format!("{matcher}: {}", request.reason);
    let why = (request.reason, actor.as_str().to_owned());
    let made = api.parts.alarms.silence(matcher, until, why).await.map_err(|error| store_fault(&error))?;
    let too_many = || {
        let (most, fixed) = (alula_alarm::SILENCES_MAX, "fixed in this version");
        let message = format!("{most} silences are in force already");
        Fault::limit(ErrorCode::ConcurrencyExceeded, message, "silences_max", most as u64, fixed)
    };
    let made = made.ok_or_else(too_many)?;
    note(&api, &actor, "alarm.silence", &made, detail).await?;
    Ok(Json(silence_info(&made)))
}

/// Ends a silence
#[utoipa::path(
    delete,
    path = "/v1/alarm-silences/{id}",
    tag = "alarms",
    operation_id = "end_silence",
    params(("id" = String, Path, description = "The silence's id")),
    responses(
        (status = 204, description = "It is ended"),
        (status = 404, description = "No such silence", body = ErrorAnswer),
    )
)]
pub(crate) async fn end_silence(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<http::StatusCode> {
    let unknown = || Fault::new(ErrorCode::NotFound, format!("no silence {id:?} is in force"));
    let silence =
        api.parts.alarms.silences().into_iter().find(|silence| silence.id == id).ok_or_else(unknown)?;
    judge(&actor, &silence.matcher, unknown)?;
    api.parts.alarms.end_silence(&id).await.map_err(|error| store_fault(&error))?;
    note(&api, &actor, "alarm.unsilence", &silence, silence.matcher.to_string()).await?;
    Ok(http::StatusCode::NO_CONTENT)
}

/// Sends a test to the receivers of the configuration
///
/// The answer comes when each has taken it or has not.
#[utoipa::path(
    post,
    path = "/v1/alarm-test",
    tag = "alarms",
    operation_id = "test_alarms",
    params(query::AlarmTest),
    responses((status = 200, description = "What became of each", body = AlarmTestList))
)]
pub(crate) async fn test(
    State(api): State<Api>,
    Query(query): Query<query::AlarmTest>,
) -> Answer<Json<AlarmTestList>> {
    let outcomes = api.parts.alarms.test(query.receiver.as_deref()).await;
    let outcome =
        |one: alula_alarm::TestOutcome| AlarmTestOutcome { receiver: one.receiver, failure: one.failure };
    Ok(Json(AlarmTestList { outcomes: outcomes.into_iter().map(outcome).collect() }))
}

/// Whose alarms are asked for.
struct Whose {
    namespace: Option<Name>,
    function: Option<Name>,
}

impl Whose {
    fn of(query: &query::Alarms) -> Result<Self, Problem> {
        let named = |field: &str, text: &Option<String>| {
            text.as_deref().map(|text| extract::name(field, text)).transpose()
        };
        Ok(Self {
            namespace: named("namespace", &query.namespace)?,
            function: named("function", &query.function)?,
        })
    }

    fn is_meant(&self, namespace: Option<&Name>, function: Option<&Name>) -> bool {
        let is =
            |asked: &Option<Name>, of: Option<&Name>| asked.as_ref().is_none_or(|asked| of == Some(asked));
        is(&self.namespace, namespace) && is(&self.function, function)
    }
}

/// The alarm of this id, where `actor` has `verb` on it.
fn found(api: &Api, actor: &Actor, id: &str, verb: Verb) -> Result<(Alarm, Option<Silence>), Fault> {
    let unknown = || Fault::new(ErrorCode::NotFound, format!("no alarm {id:?}"));
    let found = api.parts.alarms.get(id).ok_or_else(unknown)?;
    let subject = &found.0.subject;
    match &subject.namespace {
        Some(namespace) => {
            api.judge(actor, (verb, Resource::Alarm), (namespace, subject.function.as_ref()), unknown)?;
        }
        None if actor.principal().may(verb, Resource::Alarm, &Place::Platform) => {}
        None => return Err(unknown()),
    }
    Ok(found)
}

/// Who is no administrator decides about the namespaces in which they may.
fn judge(actor: &Actor, matcher: &Matcher, refused: impl FnOnce() -> Fault) -> Result<(), Fault> {
    let namespace = matcher.namespace().and_then(|text| Name::new(text).ok());
    let place = namespace.map_or(Place::Platform, Place::Namespace);
    actor.principal().may(Verb::Operate, Resource::Alarm, &place).then_some(()).ok_or_else(refused)
}

fn not_all(actor: &Actor) -> String {
    format!(
        "{} may not silence this: name a namespace of yours in the matcher, namespace=NAME",
        actor.as_str()
    )
}

async fn note(
    api: &Api,
    actor: &Actor,
    action: &str,
    silence: &Silence,
    detail: String,
) -> Result<(), Fault> {
    let namespace =
        silence.matcher.namespace().map_or_else(|| Name::default_namespace().to_string(), str::to_owned);
    api.parts.control.note(actor.by(), action, &namespace, detail).await
}

fn info(alarm: &Alarm, silence: Option<&Silence>) -> AlarmInfo {
    let text = |name: &Option<Name>| name.as_ref().map(ToString::to_string);
    let millis = |at: alula_model::Timestamp| at.as_millis();
    AlarmInfo {
        id: alarm.id.clone(),
        rule: alarm.rule.to_string(),
        state: alarm.state.as_str().to_owned(),
        severity: alarm.severity.to_string(),
        about: alarm.subject.to_string(),
        namespace: text(&alarm.subject.namespace),
        app: text(&alarm.subject.app),
        function: text(&alarm.subject.function),
        part: alarm.subject.part.clone(),
        signal: alarm.signal.to_string(),
        value: alarm.value,
        bound: alarm.bound.clone(),
        detail: alarm.detail.clone(),
        advice: alarm.advice.clone(),
        to: alarm.to.to_string(),
        since_ms: millis(alarm.since),
        raised_ms: alarm.raised_at.map(millis),
        resolved_ms: alarm.resolved_at.map(millis),
        acknowledged_by: alarm.acknowledged.as_ref().map(|by| by.by.clone()),
        silenced_by: silence.map(|silence| silence.id.clone()),
    }
}

fn event(one: &Occurrence) -> AlarmEvent {
    let text = |name: &Option<Name>| name.as_ref().map(ToString::to_string);
    AlarmEvent {
        at_ms: one.at.as_millis(),
        alarm: one.alarm.clone(),
        event: one.event.as_str().to_owned(),
        rule: one.rule.to_string(),
        severity: one.severity.to_string(),
        about: one.subject.to_string(),
        namespace: text(&one.subject.namespace),
        function: text(&one.subject.function),
        value: one.value,
        detail: one.detail.clone(),
    }
}

fn silence_info(silence: &Silence) -> SilenceInfo {
    SilenceInfo {
        id: silence.id.clone(),
        matcher: silence.matcher.to_string(),
        until_ms: silence.until.as_millis(),
        reason: silence.reason.clone(),
        by: silence.by.clone(),
        created_ms: silence.created_at.as_millis(),
    }
}
