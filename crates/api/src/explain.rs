//! Why a function has the instances that it has, in words.

use std::sync::Arc;

use alula_model::{Name, Qualifier};
use alula_pool::VersionStanding;
use alula_wire::{Decision, ErrorAnswer, Explanation, HeldSpan, VersionState, query};
use axum::Json;
use axum::extract::State;

use crate::breakers::list_of;
use crate::extract::{self, Path, Query};
use crate::functions::not_found;
use crate::respond::Answer;
use crate::state::Api;
use crate::system::ceiling_info;

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
    let catalog = Arc::clone(&api.parts.control.catalog().load());
    let entry = catalog.function(&namespace, &name).ok_or_else(|| not_found(&namespace, &name))?;
    let known = api.parts.pool.explain(&namespace, &name);
    let explanation = known.map(|known| explanation(&known)).unwrap_or_default();
    let standings = entry.plan(&Qualifier::Latest).map(|plan| api.parts.pool.standings_of(plan));
    let ceilings = standings.unwrap_or_default().iter().map(ceiling_info).collect();
    let breakers = list_of(&api, &namespace, Some(&name)).breakers;
    Ok(Json(Explanation { ceilings, breakers, ..explanation }))
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
        versions: known.versions.iter().map(version_state).collect(),
        ceilings: Vec::new(),
        breakers: Vec::new(),
        decisions: known.decisions.iter().map(decision).collect(),
    }
}

fn version_state(standing: &VersionStanding) -> VersionState {
    let (pause, code) = standing.pause.unzip();
    VersionState {
        version: standing.version,
        instances: standing.instances as u64,
        starting: standing.starting as u64,
        waiting: standing.waiting as u64,
        min_instances: standing.min_instances as u64,
        max_instances: standing.max_instances as u64,
        pause_ms: pause.and_then(|pause| u64::try_from(pause.as_millis()).ok()),
        pause_code: code.map(|code| code.to_string()),
    }
}
