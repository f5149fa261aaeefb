//! Golden signals: success and latency over the windows up to now.

use alula_model::Name;
use alula_model::alarm::Window;
use alula_telemetry::signals::{End, Subject, Tally};
use alula_wire::{Stats, StatsList, StatsOf, WindowStats, query};
use axum::Json;
use axum::extract::State;

use crate::extract::{self, NoQuery, Query};
use crate::respond::{Answer, Problem};
use crate::state::Api;

/// Shows success and latency
///
/// Of a function; of an app and its functions; or of a namespace, its apps and its functions. What was not called within
/// the longest window that is asked for is left out.
#[utoipa::path(
    get,
    path = "/v1/stats",
    tag = "runs",
    operation_id = "stats",
    params(query::StatsQuery),
    responses((status = 200, description = "Success and latency", body = StatsList))
)]
pub(crate) async fn stats(
    State(api): State<Api>,
    Query(query): Query<query::StatsQuery>,
) -> Answer<Json<StatsList>> {
    let namespace = extract::namespace(query.namespace.as_deref())?;
    let named = |field: &str, text: &Option<String>| {
        text.as_deref().map(|text| extract::name(field, text)).transpose()
    };
    let (app, function) = (named("app", &query.app)?, named("function", &query.function)?);
    let windows = windows(query.window.as_deref())?;
    let is_meant = |subject: &Subject| match (subject, &app, &function) {
        (Subject::Function(of, name), _, Some(function)) => *of == namespace && name == function,
        (_, _, Some(_)) | (Subject::Node, ..) => false,
        (Subject::Function(of, name), Some(app), None) => *of == namespace && is_in(&api, of, name, app),
        (Subject::App(of, name), Some(app), None) => *of == namespace && name == app,
        (Subject::Namespace(_), Some(_), None) => false,
        (Subject::Function(of, _) | Subject::App(of, _) | Subject::Namespace(of), None, None) => {
            *of == namespace
        }
    };
    Ok(Json(StatsList { stats: collect(&api, &windows, is_meant) }))
}

/// Shows success and latency of the node
#[utoipa::path(
    get,
    path = "/v1/stats/node",
    tag = "runs",
    operation_id = "node_stats",
    responses((status = 200, description = "Success and latency of all namespaces together", body = StatsList))
)]
pub(crate) async fn node(State(api): State<Api>, _no_query: NoQuery) -> Json<StatsList> {
    Json(StatsList { stats: collect(&api, Window::ALL, |subject| *subject == Subject::Node) })
}

fn windows(asked: Option<&str>) -> Result<Vec<Window>, Problem> {
    let Some(asked) = asked else { return Ok(Window::ALL.to_vec()) };
    let found = Window::ALL.iter().find(|window| window.as_str() == asked);
    let unknown = || Problem::invalid(format!("window: {asked:?} is none: 1m, 5m, 1h or 24h"));
    found.map(|window| vec![*window]).ok_or_else(unknown)
}

fn is_in(api: &Api, namespace: &Name, function: &Name, app: &Name) -> bool {
    matches!(api.place(namespace.clone(), Some(function)), alula_identity::Place::App(_, of) if of == *app)
}

fn collect(api: &Api, windows: &[Window], is_meant: impl Fn(&Subject) -> bool) -> Vec<Stats> {
    let signals = &api.parts.signals;
    let longest = windows.last().copied().unwrap_or(Window::Day);
    let mut subjects: Vec<Subject> =
        signals.tallies(longest, is_meant).into_iter().map(|(subject, _)| subject).collect();
    subjects.sort_unstable();
    let of = |subject: Subject| {
        let windows =
            windows.iter().map(|window| window_stats(*window, &signals.tally(&subject, *window))).collect();
        let (of, namespace, app, function) = match subject {
            Subject::Node => (StatsOf::Node, None, None, None),
            Subject::Namespace(namespace) => (StatsOf::Namespace, Some(namespace), None, None),
            Subject::App(namespace, app) => (StatsOf::App, Some(namespace), Some(app), None),
            Subject::Function(namespace, function) => {
                (StatsOf::Function, Some(namespace), None, Some(function))
            }
        };
        let text = |name: Option<Name>| name.map(|name| name.to_string());
        Stats { of, namespace: text(namespace), app: text(app), function: text(function), windows }
    };
    subjects.into_iter().map(of).collect()
}

fn window_stats(window: Window, tally: &Tally) -> WindowStats {
    WindowStats {
        window: window.as_str().to_owned(),
        calls: tally.calls(),
        good: tally.ended(End::Good),
        caller_faults: tally.ended(End::Caller),
        throttled: tally.ended(End::Throttled),
        function_faults: tally.ended(End::Function),
        platform_faults: tally.ended(End::Platform),
        success_percent: tally.success().map(|share| share * 100.0),
        calls_per_second: tally.calls() as f64 / window.seconds(),
        p50_us: tally.quantile_us(0.5),
        p90_us: tally.quantile_us(0.9),
        p99_us: tally.quantile_us(0.99),
        mean_us: tally.mean_us(),
    }
}
