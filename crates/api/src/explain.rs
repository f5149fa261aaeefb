//! Why a function has the instances that it has, in words.

use alula_model::Name;
use alula_wire::{Decision, ErrorAnswer, Explanation, HeldSpan, query};
use axum::Json;
use axum::extract::State;

use crate::extract::{self, Path, Query};
use crate::functions::not_found;
use crate::respond::Answer;
use crate::state::Api;

/// Explains what the pool decided about a function
///
/// Its habits as the pool has learned them, while an instance is held, and the last decisions with their reasons.
#[utoipa::path(
    get,
    path = "/v1/functions/{name}/explanation",
    tag = "functions",
    operation_id = "explain_function",
    params(("name" = String, Path, description = "The function"), query::InNamespace),
    responses(
        (status = 200, description = "What was decided, when and why", body = Explanation),
        (status = 404, description = "No such function", body = ErrorAnswer),
    )
)]
pub(crate) async fn explain(
    State(api): State<Api>,
    Path(name): Path<Name>,
    Query(query): Query<query::InNamespace>,
) -> Answer<Json<Explanation>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    if api.parts.control.catalog().load().function(&namespace, &name).is_none() {
        return Err(not_found(&namespace, &name).into());
    }
    let known = api.parts.pool.explain(&namespace, &name);
    Ok(Json(known.map(|known| explanation(&known)).unwrap_or_default()))
}

fn explanation(known: &alula_pool::Explanation) -> Explanation {
    let decision = |decision: &alula_pool::Decision| Decision {
        at_ms: decision.at.as_millis(),
        version: decision.version,
        times: decision.times,
        text: decision.what.to_string(),
    };
    let spans = known.windows.spans().iter();
    Explanation {
        remembered: known.remembered,
        period_ms: known.period.and_then(|period| u64::try_from(period.as_millis()).ok()),
        last_end_ms: known.last_end.map(alula_model::Timestamp::as_millis),
        held: spans.map(|span| HeldSpan { from_s: span.from_s, until_s: span.until_s }).collect(),
        decisions: known.decisions.iter().map(decision).collect(),
    }
}
