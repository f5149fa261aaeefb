//! Limits of requests, and what operators do at once against somebody who does harm.
//!
//! Administrators may all of it. Who operates a namespace may block and throttle its functions, and callers and addresses in
//! calls of them; such a protection says within which namespace it holds.

use std::num::NonZeroU32;

use alula_guard::protect::{self, Action, Ceiling, Protection, Subject, Target};
use alula_identity::{Place, Resource, Verb};
use alula_model::{ErrorCode, Fault, Limit, Name};
use alula_wire::{
    ErrorAnswer, LimitList, LimitSetting, NewProtection, ProtectionInfo, ProtectionList, RequestLimit,
    SetLimit, query,
};
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::auth::Actor;
use crate::extract::{self, NoQuery, Path, Query};
use crate::respond::Answer;
use crate::state::Api;

/// Longest time that a protection may be put in force for: a year.
const FOR_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// Lists who is blocked or throttled
#[utoipa::path(
    get,
    path = "/v1/protections",
    tag = "protection",
    operation_id = "list_protections",
    params(query::MaybeInNamespace),
    responses((status = 200, description = "Those of the namespace; without one, all", body = ProtectionList))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Query(query): Query<query::MaybeInNamespace>,
) -> Answer<Json<ProtectionList>> {
    let namespace = query.namespace.as_deref().map(|text| extract::name("namespace", text)).transpose()?;
    let (page, refused, now) = (api.parts.book.page(), api.parts.book.refused(), api.parts.clock.now());
    let is_shown = |it: &&Protection| {
        it.is_in_force(now) && namespace.as_ref().is_none_or(|of| namespace_of(it).as_ref() == Some(of))
    };
    let shown = page.protections.values().filter(is_shown);
    let mut protections: Vec<_> =
        shown.map(|it| info(it, refused.get(&it.id).copied().unwrap_or(0))).collect();
    protections.sort_by_key(|it| it.created_at_ms);
    Ok(Json(ProtectionList { protections }))
}

/// Blocks or throttles somebody
///
/// A caller, whoever comes from a network, a function, or a namespace. It is in force here when the answer comes, and within
/// a second on other nodes.
#[utoipa::path(
    post,
    path = "/v1/protections",
    tag = "protection",
    operation_id = "protect",
    request_body = NewProtection,
    responses((status = 201, description = "It is in force", body = ProtectionInfo))
)]
pub(crate) async fn create(
    State(api): State<Api>,
    actor: Actor,
    _no_query: NoQuery,
    extract::Json(request): extract::Json<NewProtection>,
) -> Answer<(StatusCode, Json<ProtectionInfo>)> {
    let new = read(&api, request)?;
    judge(&api, &actor, Verb::Write, &new.subject, new.within.as_ref())?;
    let made = api.parts.book.protect(&actor.by(), new).await?;
    Ok((StatusCode::CREATED, Json(info(&made, 0))))
}

/// Ends a protection
#[utoipa::path(
    delete,
    path = "/v1/protections/{id}",
    tag = "protection",
    operation_id = "lift_protection",
    params(("id" = String, Path, description = "The protection's id")),
    responses(
        (status = 204, description = "It is no longer in force"),
        (status = 404, description = "No such protection", body = ErrorAnswer),
    )
)]
pub(crate) async fn lift(
    State(api): State<Api>,
    actor: Actor,
    Path(id): Path<String>,
    _no_query: NoQuery,
) -> Answer<StatusCode> {
    let no_such = || Fault::new(ErrorCode::NotFound, format!("there is no protection {id:?}"));
    let page = api.parts.book.page();
    let known = page.protections.get(&id).ok_or_else(no_such)?;
    // Whoever may not see it is told what is told of what is not there.
    judge(&api, &actor, Verb::Read, &known.subject, known.within.as_ref()).map_err(|_| no_such())?;
    judge(&api, &actor, Verb::Write, &known.subject, known.within.as_ref())?;
    api.parts.book.lift(&actor.by(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists limits
#[utoipa::path(
    get,
    path = "/v1/limits",
    tag = "protection",
    operation_id = "list_limits",
    params(query::MaybeInNamespace),
    responses((status = 200, description = "Those of the namespace; without one, all", body = LimitList))
)]
pub(crate) async fn limits(
    State(api): State<Api>,
    Query(query): Query<query::MaybeInNamespace>,
) -> Answer<Json<LimitList>> {
    let namespace = query.namespace.as_deref().map(|text| extract::name("namespace", text)).transpose()?;
    let page = api.parts.book.page();
    let stated = api.parts.book.stated().into_iter().filter(|(target, _)| !page.limits.contains_key(target));
    let stated = stated.map(|(target, limit)| {
        let ceiling = Ceiling { limit, ..Ceiling::default() };
        (target.clone(), setting(&target, &ceiling, IsSet::No))
    });
    let set =
        page.limits.iter().map(|(target, ceiling)| (target.clone(), setting(target, ceiling, IsSet::Yes)));
    let mut all: Vec<_> = stated.chain(set).collect();
    all.retain(|(target, _)| namespace.as_ref().is_none_or(|of| target.namespace() == Some(of)));
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(Json(LimitList { limits: all.into_iter().map(|(_, setting)| setting).collect() }))
}

/// Sets a limit
///
/// It stands in for that of the configuration, is in force here when the answer comes, and within a second on other nodes.
#[utoipa::path(
    put,
    path = "/v1/limits",
    tag = "protection",
    operation_id = "set_limit",
    request_body = SetLimit,
    responses((status = 200, description = "What is in force now", body = LimitSetting))
)]
pub(crate) async fn set_limit(
    State(api): State<Api>,
    actor: Actor,
    _no_query: NoQuery,
    extract::Json(request): extract::Json<SetLimit>,
) -> Answer<Json<LimitSetting>> {
    let SetLimit { target, limit, instances_max, memory_mb_max } = request;
    let target = target_of(&target)?;
    let ceiling = Ceiling { limit: limit_of(&limit)?, instances_max, memory_mb_max };
    if ceiling == Ceiling::default() {
        return Err(invalid("limit: nothing is said; what is not stated would not be limited").into());
    }
    api.parts.book.set_limit(&actor.by(), target.clone(), ceiling).await?;
    Ok(Json(setting(&target, &ceiling, IsSet::Yes)))
}

/// Takes a limit back
///
/// What the configuration says is in force again.
#[utoipa::path(
    delete,
    path = "/v1/limits",
    tag = "protection",
    operation_id = "unset_limit",
    params(query::OfTarget),
    responses(
        (status = 204, description = "The configuration's limit is in force"),
        (status = 404, description = "None was set", body = ErrorAnswer),
    )
)]
pub(crate) async fn unset_limit(
    State(api): State<Api>,
    actor: Actor,
    Query(query): Query<query::OfTarget>,
) -> Answer<StatusCode> {
    api.parts.book.unset_limit(&actor.by(), &target_of(&query.target)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(ErrorCode::InvalidRequest, message)
}

fn target_of(text: &str) -> Result<Target, Fault> {
    text.parse().map_err(|error| invalid(format!("target: {error}")))
}

fn read(api: &Api, request: NewProtection) -> Result<protect::NewProtection, Fault> {
    let NewProtection { subject, within, throttle, reason, for_ms } = request;
    let subject: Subject = subject.parse().map_err(|error| invalid(format!("subject: {error}")))?;
    let within = within.map(|text| extract::name("within", &text)).transpose()?;
    if within.is_some() && !matches!(subject, Subject::Caller(_) | Subject::Source(_)) {
        return Err(invalid("within: only callers and sources are told by where they call"));
    }
    let action = match throttle {
        None => Action::Block,
        Some(limit) if limit == RequestLimit::default() => {
            return Err(invalid("throttle: requests_per_second or in_flight is needed"));
        }
        Some(limit) => Action::Throttle(limit_of(&limit)?),
    };
    let until = match for_ms {
        None => None,
        Some(ms @ 1..=FOR_MS_MAX) => {
            Some(api.parts.clock.now().plus_millis(i64::try_from(ms).unwrap_or(i64::MAX)))
        }
        Some(ms) => {
            return Err(invalid(format!("for_ms: {ms} is out of bounds, allowed is 1 to {FOR_MS_MAX}")));
        }
    };
    Ok(protect::NewProtection { subject, within, action, reason, until })
}

fn limit_of(limit: &RequestLimit) -> Result<Limit, Fault> {
    let number = |field: &str, value: Option<u32>| match value.map(NonZeroU32::new) {
        Some(None) => Err(invalid(format!("{field}: 0 would let nobody through; block them instead"))),
        number => Ok(number.flatten()),
    };
    Ok(Limit {
        requests_per_second: number("requests_per_second", limit.requests_per_second)?,
        burst: number("burst", limit.burst)?,
        in_flight: number("in_flight", limit.in_flight)?,
    })
}

fn judge(
    api: &Api,
    actor: &Actor,
    verb: Verb,
    subject: &Subject,
    within: Option<&Name>,
) -> Result<(), Fault> {
    let place = match (subject, within) {
        (Subject::Function(namespace, function), _) => api.place(namespace.clone(), Some(function)),
        (Subject::Caller(_) | Subject::Source(_), Some(namespace)) => Place::Namespace(namespace.clone()),
        (Subject::Namespace(_) | Subject::Caller(_) | Subject::Source(_), _) => Place::Platform,
    };
    if actor.principal().may(verb, Resource::Protection, &place) {
        return Ok(());
    }
    let message = format!(
        "{} may not block or throttle {subject} here; who operates a namespace may for its functions, and for callers \
         and sources within it",
        actor.as_str()
    );
    Err(Fault::new(ErrorCode::Forbidden, message))
}

/// The namespace whose operators see it.
fn namespace_of(protection: &Protection) -> Option<Name> {
    match (&protection.within, &protection.subject) {
        (Some(namespace), _) | (None, Subject::Namespace(namespace) | Subject::Function(namespace, _)) => {
            Some(namespace.clone())
        }
        (None, _) => None,
    }
}

fn info(protection: &Protection, refused: u64) -> ProtectionInfo {
    let throttle = match &protection.action {
        Action::Block => None,
        Action::Throttle(limit) => Some(request_limit(limit)),
    };
    ProtectionInfo {
        id: protection.id.clone(),
        subject: protection.subject.to_string(),
        within: protection.within.as_ref().map(ToString::to_string),
        throttle,
        reason: protection.reason.clone(),
        by: protection.by.clone(),
        created_at_ms: protection.created_at.as_millis(),
        until_ms: protection.until.map(|until| until.as_millis()),
        refused,
    }
}

/// Where a limit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IsSet {
    Yes,
    No,
}

fn setting(target: &Target, ceiling: &Ceiling, is_set: IsSet) -> LimitSetting {
    LimitSetting {
        target: target.to_string(),
        limit: request_limit(&ceiling.limit),
        instances_max: ceiling.instances_max,
        memory_mb_max: ceiling.memory_mb_max,
        is_set: is_set == IsSet::Yes,
    }
}

fn request_limit(limit: &Limit) -> RequestLimit {
    let number = |value: Option<NonZeroU32>| value.map(NonZeroU32::get);
    RequestLimit {
        requests_per_second: number(limit.requests_per_second),
        burst: number(limit.burst),
        in_flight: number(limit.in_flight),
    }
}
