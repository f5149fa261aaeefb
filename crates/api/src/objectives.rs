//! Objectives of functions: what was promised, what was reached, how fast the error budget goes.

use alula_alarm::slo::{self, Burn, Counted, Judged};
use alula_model::{Qualifier, SloSpec, VersionKey};
use alula_wire::{BurnRate, ObjectiveInfo, ObjectiveList, query};
use axum::Json;
use axum::extract::State;

use crate::extract::{self, Query};
use crate::respond::Answer;
use crate::state::Api;

/// Shows objectives and their error budgets
///
/// Of one function, or of every function of a namespace that states some. Counted are the calls of this node.
#[utoipa::path(
    get,
    path = "/v1/slos",
    tag = "runs",
    operation_id = "slos",
    params(query::Objectives),
    responses((status = 200, description = "The objectives", body = ObjectiveList))
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Query(query): Query<query::Objectives>,
) -> Answer<Json<ObjectiveList>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let function = query.function.as_deref().map(|text| extract::name("function", text)).transpose()?;
    let snapshot = api.parts.control.catalog().load();
    let asked = snapshot
        .functions(&namespace)
        .filter(|entry| function.as_ref().is_none_or(|name| *name == entry.function.name))
        .filter_map(|entry| entry.plan(&Qualifier::Latest).ok());
    let promised = asked.filter_map(|plan| Some((&plan.key, plan.spec.slo.as_ref()?)));
    Ok(Json(ObjectiveList { objectives: promised.flat_map(|(key, slo)| infos(&api, key, slo)).collect() }))
}

fn infos(api: &Api, key: &VersionKey, slo: &SloSpec) -> Vec<ObjectiveInfo> {
    let judged = slo::judge(&api.parts.signals, &key.namespace, &key.function, slo);
    judged.into_iter().map(|judged| info(key, slo, &judged)).collect()
}

fn info(key: &VersionKey, slo: &SloSpec, judged: &Judged) -> ObjectiveInfo {
    let Counted { calls, bad } = judged.window;
    ObjectiveInfo {
        namespace: key.namespace.to_string(),
        function: key.function.to_string(),
        objective: judged.name.to_owned(),
        target_percent: judged.target_percent,
        latency_ms: judged.latency_ms,
        window_days: slo.window_days,
        calls,
        bad,
        reached_percent: (calls > 0).then(|| (calls - bad) as f64 * 100.0 / calls as f64),
        budget_left_percent: judged.budget_left * 100.0,
        burn_rates: judged.burns.iter().map(burn_rate).collect(),
    }
}

fn burn_rate(burn: &Burn) -> BurnRate {
    BurnRate {
        long_minutes: burn.pair.long_minutes,
        short_minutes: burn.pair.short_minutes,
        long: burn.long,
        short: burn.short,
        limit: burn.limit,
        too_fast: burn.excess() > 1.0,
    }
}
