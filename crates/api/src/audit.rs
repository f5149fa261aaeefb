//! Who did what, and whether the record of it is whole.

use alula_control::AuditLink;
use alula_model::Name;
use alula_wire::{AuditEntry, AuditList, AuditReport, query};
use axum::Json;
use axum::extract::State;

use crate::extract::{self, Query};
use crate::respond::Answer;
use crate::state::Api;

/// Shows who did what
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "platform",
    operation_id = "audit",
    params(query::Audit),
    responses((status = 200, description = "The audit record, newest first", body = AuditList))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Query(query): Query<query::Audit>,
) -> Answer<Json<AuditList>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let function = query.function.as_deref().map(|text| extract::name("function", text)).transpose()?;
    let limit = extract::limit(query.limit, query::LIMIT_MAX)?;
    let subject = function.as_ref().map(Name::as_str);
    let links = api.parts.control.audit(&namespace, subject, query.before, limit).await?;
    Ok(Json(AuditList { entries: links.iter().map(entry).collect() }))
}

/// Checks the record
///
/// Every entry names the hash of the one before it. What was changed, left out or put in is told.
#[utoipa::path(
    get,
    path = "/v1/audit/verification",
    tag = "platform",
    operation_id = "verify_audit",
    params(query::InNamespace),
    responses((status = 200, description = "What was found", body = AuditReport))
)]
pub(crate) async fn verify(
    State(api): State<Api>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<AuditReport>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let found = api.parts.control.verify_audit(&namespace).await?;
    Ok(Json(AuditReport {
        is_whole: found.fault.is_none(),
        entries: found.entries,
        first: found.first,
        last: found.last,
        head: found.head.map(|hash| hash.to_string()),
        fault: found.fault,
    }))
}

fn entry(link: &AuditLink) -> AuditEntry {
    AuditEntry {
        at_ms: link.entry.at.as_millis(),
        actor: link.entry.actor.clone(),
        action: link.entry.action.clone(),
        subject: link.entry.subject.clone(),
        detail: link.entry.detail.clone(),
        from: link.entry.from.clone(),
        number: link.number,
        previous: link.previous.to_string(),
        hash: link.hash.to_string(),
        before: link.entry.change.as_ref().map(|change| change.before.clone()),
        after: link.entry.change.as_ref().map(|change| change.after.clone()),
    }
}
