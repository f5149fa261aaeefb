//! What machines ask: is it alive, may it get work, what are its figures.

use alula_model::{ErrorCode, Fault};
use alula_telemetry::metrics;
use alula_wire::ErrorAnswer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use crate::extract::NoQuery;
use crate::respond::Answer;
use crate::state::Api;

/// Says that the process answers
#[utoipa::path(
    get,
    path = "/livez",
    tag = "health",
    operation_id = "livez",
    security(()),
    responses((status = 200, description = "It does", body = String, content_type = "text/plain"))
)]
pub(crate) async fn livez(_no_query: NoQuery) -> &'static str {
    "ok\n"
}

/// Says whether the platform takes work
///
/// It does once everything that is deployed is known, and until it begins to shut down.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    operation_id = "readyz",
    security(()),
    responses(
        (status = 200, description = "It does", body = String, content_type = "text/plain"),
        (status = 503, description = "It does not", body = ErrorAnswer),
    )
)]
pub(crate) async fn readyz(State(api): State<Api>, _no_query: NoQuery) -> Answer<&'static str> {
    // The catalog needs no check: there is no API before it is loaded.
    if api.parts.draining.is_cancelled() {
        return Err(Fault::new(ErrorCode::Draining, "the platform is shutting down").into());
    }
    Ok("ready\n")
}

/// Gives the platform's figures
///
/// Needs a token unless `control.metrics_open` is set in the configuration.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    operation_id = "metrics",
    responses((status = 200, description = "Figures in the OpenMetrics text format", body = String, content_type = "application/openmetrics-text"))
)]
pub(crate) async fn figures(State(api): State<Api>, _no_query: NoQuery) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], api.parts.metrics.render()).into_response()
}
